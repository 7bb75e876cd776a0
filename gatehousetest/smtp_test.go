package gatehousetest_test

import (
	"crypto/tls"
	"net/smtp"
	"net/textproto"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/google/go-cmp/cmp"
)

// loginAuth is AUTH LOGIN, which net/smtp leaves out.
type loginAuth struct{ user, password string }

func (a loginAuth) Start(*smtp.ServerInfo) (string, []byte, error) { return "LOGIN", nil, nil }

func (a loginAuth) Next(prompt []byte, more bool) ([]byte, error) {
	switch {
	case !more:
		return nil, nil
	case strings.HasPrefix(string(prompt), "User"):
		return []byte(a.user), nil
	default:
		return []byte(a.password), nil
	}
}

func TestSMTP(t *testing.T) {
	t.Parallel()
	ca := gatehousetest.NewCA(t)
	for _, c := range []struct {
		name     string
		opts     []gatehousetest.Option
		startTLS bool
		wrong    bool
		login    bool
		script   string
		code     int // of the refusal; 0 for none
	}{
		{name: "plain in the clear"},
		{name: "login in the clear", login: true},
		{name: "plain under TLS", opts: []gatehousetest.Option{gatehousetest.TLS(ca)}, startTLS: true},
		{name: "login under TLS", opts: []gatehousetest.Option{gatehousetest.TLS(ca)}, startTLS: true, login: true},
		{name: "TLS left out", opts: []gatehousetest.Option{gatehousetest.TLS(ca)}, code: 538},
		{name: "wrong password", wrong: true, code: 535},
		{name: "wrong password by login", wrong: true, login: true, code: 535},
		{name: "temporary failure", script: "454 4.7.0 Temporary authentication failure", code: 454},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := gatehousetest.SMTP(t, append(c.opts, gatehousetest.Key("secret"))...)
			if c.script != "" {
				s.Reply("AUTH", c.script)
			}
			client, err := smtp.Dial(s.Addr())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = client.Close() }()
			if c.startTLS {
				if err := client.StartTLS(&tls.Config{RootCAs: ca.Pool(), ServerName: "localhost"}); err != nil {
					t.Fatal(err)
				}
			}
			password := "secret"
			if c.wrong {
				password = "wrong"
			}
			auth := smtp.PlainAuth("", s.User, password, "127.0.0.1")
			if c.login {
				auth = loginAuth{s.User, password}
			}
			err = client.Auth(auth)
			code := 0
			if refused, ok := err.(*textproto.Error); ok {
				code = refused.Code
			} else if err != nil {
				t.Fatal(err)
			}
			if code != c.code {
				t.Errorf("AUTH: %v, want code %d", err, c.code)
			}
			if strings.Contains(strings.Join(s.Commands(), "\n"), password) {
				t.Error("the recorded commands hold the password")
			}
		})
	}
}

func TestSMTPCommands(t *testing.T) {
	t.Parallel()
	s := gatehousetest.SMTP(t)
	client, err := smtp.Dial(s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Hello("client.example.com"); err != nil {
		t.Fatal(err)
	}
	if err := client.Mail("a@example.com"); err == nil {
		t.Error("mail without a login")
	}
	if err := client.Quit(); err != nil {
		t.Fatal(err)
	}
	s.Reply("", "") // the next connection is closed before the greeting
	if client, err := smtp.Dial(s.Addr()); err == nil {
		_ = client.Close()
		t.Error("a greeting where none was to come")
	}
	want := []string{"EHLO client.example.com", "MAIL FROM:<a@example.com> BODY=8BITMIME", "QUIT"}
	if diff := cmp.Diff(want, s.Commands()); diff != "" {
		t.Errorf("commands (-want +got):\n%s", diff)
	}
}
