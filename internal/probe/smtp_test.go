package probe_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/internal/netguard"
	"github.com/gatehouse-io/gatehouse/internal/probe"
)

const (
	mailUser = "mailer@example.com"
	mailPass = "correct horse battery"
)

// mailServer speaks as much of RFC 5321, 3207 and 4954 as a client that only
// signs in needs.
type mailServer struct {
	greeting   string // 220 unless said
	mechanisms string // "PLAIN LOGIN" unless said; "-" for no AUTH at all
	noTLS      bool
	implicit   bool   // TLS from the start
	reply      string // in place of 235 or 535
	extra      string // sent in plain right behind the reply to STARTTLS
	endless    bool   // the greeting never ends
	hangUp     bool   // after the greeting

	addr  string
	roots *x509.CertPool
	cert  tls.Certificate

	mu       sync.Mutex
	commands []string // with "tls " in front where encrypted
	done     chan struct{}
}

func (s *mailServer) start(t *testing.T) *mailServer {
	t.Helper()
	certified := httptest.NewTLSServer(nil) // lends its certificate, for example.com
	s.cert = certified.TLS.Certificates[0]
	s.roots = x509.NewCertPool()
	s.roots.AddCert(certified.Certificate())
	certified.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = listener.Addr().String()
	s.done = make(chan struct{})
	go func() {
		defer close(s.done)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		s.serve(conn)
	}()
	t.Cleanup(func() { _ = listener.Close(); <-s.done })
	return s
}

func (s *mailServer) serve(conn net.Conn) {
	encrypted := ""
	if s.implicit {
		conn, encrypted = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{s.cert}}), "tls "
	}
	in := bufio.NewReader(conn)
	say := func(lines ...string) { _, _ = fmt.Fprint(conn, strings.Join(lines, "\r\n")+"\r\n") }
	hear := func() (string, bool) {
		line, err := in.ReadString('\n')
		line = strings.TrimRight(line, "\r\n")
		if err != nil {
			return "", false
		}
		s.mu.Lock()
		s.commands = append(s.commands, encrypted+line)
		s.mu.Unlock()
		return line, true
	}
	for s.endless {
		if _, err := fmt.Fprint(conn, "220-", strings.Repeat("x", 1000), "\r\n"); err != nil {
			return
		}
	}
	if s.greeting == "" {
		s.greeting = "220 mail.example.com ESMTP"
	}
	say(s.greeting)
	if s.hangUp {
		return
	}
	for {
		line, ok := hear()
		if !ok {
			return
		}
		verb, rest, _ := strings.Cut(line, " ")
		switch strings.ToUpper(verb) {
		case "EHLO":
			lines := []string{"250-mail.example.com", "250-SIZE 1000000"}
			if !s.noTLS && encrypted == "" {
				lines = append(lines, "250-STARTTLS")
			}
			switch s.mechanisms {
			case "-":
			case "":
				lines = append(lines, "250-AUTH PLAIN LOGIN")
			default:
				lines = append(lines, "250-AUTH "+s.mechanisms)
			}
			say(append(lines, "250 HELP")...)
		case "STARTTLS":
			say("220 2.0.0 Go ahead" + s.extra)
			conn, encrypted = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{s.cert}}), "tls "
			in = bufio.NewReader(conn)
		case "AUTH":
			var user, pass string
			if mechanism, response, _ := strings.Cut(rest, " "); mechanism == "PLAIN" {
				parts := strings.Split(decode(response)+"\x00\x00", "\x00")
				user, pass = parts[1], parts[2]
			} else {
				say("334 VXNlcm5hbWU6")
				line, _ := hear()
				user = decode(line)
				say("334 UGFzc3dvcmQ6")
				line, _ = hear()
				pass = decode(line)
			}
			switch {
			case s.reply != "":
				say(s.reply)
			case user == mailUser && pass == mailPass:
				say("235 2.7.0 Authentication successful")
			default:
				say("535-5.7.8 Error: authentication failed for "+user+" with "+pass, "535 5.7.8 "+base64.StdEncoding.EncodeToString([]byte(pass)))
			}
		case "QUIT":
			say("221 2.0.0 Bye")
			return
		default:
			say("500 5.5.2 Unknown command")
		}
	}
}

func decode(s string) string {
	b, _ := base64.StdEncoding.DecodeString(s)
	return string(b)
}

// heard gives the commands of a dialogue that has ended.
func (s *mailServer) heard() []string {
	<-s.done
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.commands
}

// to dials one address whatever it is asked for, so that the certificate's name
// and the well-known ports can be used.
type to string

func (a to) DialContext(ctx context.Context, network, _ string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, network, string(a))
}

func mailFields(change ...string) map[string]string {
	fields := map[string]string{"host": "example.com", "port": "587", "user": mailUser, "pass": mailPass}
	for i := 0; i < len(change); i += 2 {
		fields[change[i]] = change[i+1]
	}
	return fields
}

func TestSMTP(t *testing.T) {
	for _, test := range []struct {
		name   string
		server *mailServer
		fields map[string]string
		want   catalog.Result
		code   string
		failed bool
	}{
		{"plain", &mailServer{}, mailFields(), catalog.Valid, "", false},
		{"login", &mailServer{mechanisms: "LOGIN XOAUTH2"}, mailFields(), catalog.Valid, "", false},
		{"lower-case mechanism", &mailServer{mechanisms: "login plain"}, mailFields(), catalog.Valid, "", false},
		{"port 465", &mailServer{implicit: true}, mailFields("port", "465"), catalog.Valid, "", false},
		{"wrong password", &mailServer{}, mailFields("pass", "wrong password"), catalog.Invalid, "5.7.8", false},
		{"wrong password by login", &mailServer{mechanisms: "LOGIN"}, mailFields("pass", "wrong password"), catalog.Invalid, "5.7.8", false},
		{"app password needed", &mailServer{reply: "534 5.7.9 Application-specific password required"}, mailFields(), catalog.Misconfigured, "5.7.9", false},
		{"turned off", &mailServer{reply: "535 5.7.139 Authentication unsuccessful"}, mailFields(), catalog.Misconfigured, "5.7.139", false},
		{"busy", &mailServer{reply: "454 4.7.0 Temporary authentication failure"}, mailFields(), catalog.Indeterminate, "4.7.0", false},
		{"no enhanced code", &mailServer{reply: "530 Must issue a STARTTLS command first"}, mailFields(), catalog.Indeterminate, "", false},
		{"asks for more", &mailServer{mechanisms: "LOGIN", reply: "334 VG9rZW46"}, mailFields(), catalog.Indeterminate, "", true},
		{"no STARTTLS", &mailServer{noTLS: true}, mailFields(), catalog.Misconfigured, "", true},
		{"no AUTH", &mailServer{mechanisms: "-"}, mailFields(), catalog.Misconfigured, "", true},
		{"unknown AUTH", &mailServer{mechanisms: "XOAUTH2 GSSAPI"}, mailFields(), catalog.Misconfigured, "", true},
		{"another host's certificate", &mailServer{}, mailFields("host", "mail.other.test"), catalog.Misconfigured, "", true},
		{"another host's certificate on 465", &mailServer{implicit: true}, mailFields("host", "mail.other.test", "port", "465"), catalog.Misconfigured, "", true},
		{"turned away", &mailServer{greeting: "554 5.7.1 Go away"}, mailFields(), catalog.Indeterminate, "", true},
		{"no SMTP", &mailServer{greeting: "HTTP/1.1 400 Bad Request"}, mailFields(), catalog.Indeterminate, "", true},
		{"hangs up", &mailServer{hangUp: true}, mailFields(), catalog.Indeterminate, "", true},
		{"endless greeting", &mailServer{endless: true}, mailFields(), catalog.Indeterminate, "", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := test.server.start(t)
			outcome, latency, err := probe.SMTP(t.Context(), to(server.addr), server.roots, test.fields)
			if outcome.Result != test.want || outcome.Code != test.code || outcome.Detail == "" || latency <= 0 || (err != nil) != test.failed {
				t.Errorf("%+v after %v: %v", outcome, latency, err)
			}
			for _, secret := range []string{test.fields["pass"], base64.StdEncoding.EncodeToString([]byte(test.fields["pass"])), mailUser} {
				if strings.Contains(fmt.Sprintf("%+v %v", outcome, err), secret) {
					t.Errorf("%q came back: %+v %v", secret, outcome, err)
				}
			}
			for _, command := range server.heard() {
				if !strings.HasPrefix(command, "tls ") && command != "EHLO localhost" && command != "STARTTLS" && command != "QUIT" {
					t.Errorf("sent in plain: %s", command)
				}
			}
		})
	}
}

func TestSMTPSendsNothingButTheSignIn(t *testing.T) {
	server := (&mailServer{}).start(t)
	_, _, _ = probe.SMTP(t.Context(), to(server.addr), server.roots, mailFields())
	plain := base64.StdEncoding.EncodeToString([]byte("\x00" + mailUser + "\x00" + mailPass))
	want := []string{"EHLO localhost", "STARTTLS", "tls EHLO localhost", "tls AUTH PLAIN " + plain, "tls QUIT"}
	if got := server.heard(); !slices.Equal(got, want) {
		t.Errorf("sent %q, want %q", got, want)
	}
}

// Plain text that is sent ahead of the handshake must not count as an answer
// over TLS (CVE-2011-0411 and its kin).
func TestSMTPIgnoresWhatWasInjectedBeforeTLS(t *testing.T) {
	server := (&mailServer{extra: "\r\n250-evil\r\n250 AUTH PLAIN\r\n235 2.7.0 ok", mechanisms: "-"}).start(t)
	outcome, _, _ := probe.SMTP(t.Context(), to(server.addr), server.roots, mailFields())
	if outcome.Result == catalog.Valid {
		t.Errorf("%+v", outcome)
	}
}

func TestSMTPWhereItMayNotGo(t *testing.T) {
	server := (&mailServer{}).start(t)
	guarded, err := netguard.NewDialer(netguard.Options{Ports: probe.MailPorts()})
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(server.addr)
	for _, c := range []struct {
		fields map[string]string
		want   catalog.Result
	}{
		{mailFields("host", "127.0.0.1"), catalog.Misconfigured},
		{mailFields("host", "169.254.169.254"), catalog.Misconfigured},
		{mailFields("host", "127.0.0.1", "port", port), catalog.Indeterminate},
		{mailFields("host", "mail.example", "port", port), catalog.Indeterminate}, // whatever the host
	} {
		outcome, _, err := probe.SMTP(t.Context(), guarded, server.roots, c.fields)
		if outcome.Result != c.want || err == nil || (c.want == catalog.Indeterminate) != strings.Contains(outcome.Detail, "2525") {
			t.Errorf("%+v %v", outcome, err)
		}
	}
	server.mu.Lock()
	defer server.mu.Unlock()
	if len(server.commands) > 0 {
		t.Errorf("the server heard %q", server.commands)
	}
}

func TestSMTPUsesPort587UnlessSaid(t *testing.T) {
	var dialled string
	dialer := dialerFunc(func(address string) { dialled = address })
	fields := mailFields()
	delete(fields, "port")
	outcome, _, err := probe.SMTP(t.Context(), dialer, nil, fields)
	if dialled != "example.com:587" || outcome.Result != catalog.Indeterminate || err == nil {
		t.Errorf("dialled %s: %+v %v", dialled, outcome, err)
	}
}

type dialerFunc func(address string)

func (f dialerFunc) DialContext(_ context.Context, _, address string) (net.Conn, error) {
	f(address)
	return nil, &net.OpError{Op: "dial", Err: errors.New("refused")}
}

func TestSMTPEndsWhenTheCallerLeaves(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	ctx, leave := context.WithCancel(t.Context())
	go func() {
		conn, err := listener.Accept() // and never greet
		if err == nil {
			defer func() { _ = conn.Close() }()
		}
		leave()
		<-t.Context().Done()
	}()
	outcome, _, err := probe.SMTP(ctx, to(listener.Addr().String()), nil, mailFields())
	if outcome.Result != catalog.Indeterminate || err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Errorf("%+v %v", outcome, err)
	}
}
