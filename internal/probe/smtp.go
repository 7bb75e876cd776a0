package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/smtp"
	"net/textproto"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/internal/netguard"
)

const (
	smtpTimeout = 10 * time.Second // for the whole dialogue
	smtpMaxRead = 64 << 10         // bytes from the server, TLS included
)

// Dialer opens the connection to a mail server; a *netguard.Dialer is one.
type Dialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// MailPorts are the ports that a dialer for [SMTP] must allow, and no others: a
// tester must not scan ports.
func MailPorts() []uint16 { return []uint16{25, 465, 587, 2525} }

// SMTP signs in to a mail server with the fields of the service smtp (host,
// port or 587, user, pass) and sends nothing: greeting, EHLO, STARTTLS (TLS from
// the start on port 465), AUTH PLAIN or LOGIN (RFC 4954), QUIT. The password
// goes over TLS with a certificate that roots verify (the system's when nil), or
// not at all. The dialogue takes at most 10 s and 64 KiB. It gives the outcome,
// the time it took, and a cause for the log when no reply to AUTH came.
func SMTP(ctx context.Context, dialer Dialer, roots *x509.CertPool, fields map[string]string) (catalog.Outcome, time.Duration, error) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, smtpTimeout)
	defer cancel()
	d := &dialogue{
		host: fields["host"],
		user: fields["user"],
		pass: fields["pass"],
		tls:  &tls.Config{ServerName: fields["host"], MinVersion: tls.VersionTLS12, RootCAs: roots},
	}
	port := fields["port"]
	if port == "" {
		port = "587"
	}
	outcome, err := d.run(ctx, dialer, port)
	return outcome, time.Since(start), err
}

// dialogue is one conversation with a mail server.
type dialogue struct {
	host, user, pass string
	tls              *tls.Config
	client           *smtp.Client
}

func (d *dialogue) run(ctx context.Context, dialer Dialer, port string) (catalog.Outcome, error) {
	raw, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(d.host, port))
	if errors.Is(err, netguard.ErrForbiddenPort) {
		return indeterminate("Only mail servers on ports 25, 465, 587 and 2525 are tested; nothing was sent."), errNotAllowed
	}
	if err != nil {
		return noAnswer(err)
	}
	defer func() { _ = raw.Close() }() // after QUIT, or given up
	deadline, _ := ctx.Deadline()
	if err := raw.SetDeadline(deadline); err != nil {
		return noAnswer(err)
	}
	// A caller that leaves ends the dialogue at once.
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	var conn net.Conn = &limitedConn{Conn: raw, left: smtpMaxRead}
	if port == "465" {
		conn = tls.Client(conn, d.tls)
	}
	if d.client, err = smtp.NewClient(conn, d.host); err != nil {
		return d.broken(ctx, "greeting", err)
	}
	if outcome, err := d.secure(ctx); err != nil {
		return outcome, err
	}
	return d.signIn(ctx)
}

// secure says EHLO and makes sure of TLS. A non-nil error ends the dialogue.
func (d *dialogue) secure(ctx context.Context) (catalog.Outcome, error) {
	if err := d.client.Hello("localhost"); err != nil {
		return d.broken(ctx, "EHLO", err)
	}
	if _, encrypted := d.client.TLSConnectionState(); encrypted {
		return catalog.Outcome{}, nil
	}
	if ok, _ := d.client.Extension("STARTTLS"); !ok {
		return catalog.Outcome{Result: catalog.Misconfigured, Detail: "The mail server offers no TLS on this port; the password was not sent."},
			errors.New("probe: smtp: no STARTTLS")
	}
	if err := d.client.StartTLS(d.tls); err != nil {
		return d.broken(ctx, "STARTTLS", err)
	}
	return catalog.Outcome{}, nil
}

func (d *dialogue) signIn(ctx context.Context) (catalog.Outcome, error) {
	_, offered := d.client.Extension("AUTH")
	mechanisms := strings.Fields(strings.ToUpper(offered))
	var auth smtp.Auth
	switch {
	case slices.Contains(mechanisms, "PLAIN"):
		auth = smtp.PlainAuth("", d.user, d.pass, d.host)
	case slices.Contains(mechanisms, "LOGIN"):
		auth = &loginAuth{answers: []string{d.user, d.pass}}
	default:
		return catalog.Outcome{Result: catalog.Misconfigured, Detail: "The mail server takes no password on this port."},
			errors.New("probe: smtp: neither AUTH PLAIN nor LOGIN")
	}
	err := d.client.Auth(auth)
	var reply *textproto.Error
	switch {
	case err == nil:
		_ = d.client.Quit()
		return catalog.ReadSMTP(235, ""), nil
	case errors.As(err, &reply):
		_ = d.client.Quit()
		return catalog.ReadSMTP(reply.Code, enhancedCode(reply.Msg)), nil
	}
	return d.broken(ctx, "AUTH", err)
}

// broken reads an error before the reply to AUTH.
func (d *dialogue) broken(ctx context.Context, step string, err error) (catalog.Outcome, error) {
	var reply *textproto.Error
	if errors.As(err, &reply) {
		return indeterminate("The mail server turns this client away at the moment; test again later."),
			fmt.Errorf("probe: smtp: %s answered %d", step, reply.Code)
	}
	if errors.Is(context.Cause(ctx), context.Canceled) {
		err = context.Canceled
	}
	outcome, cause := noAnswer(err)
	return outcome, fmt.Errorf("%w (smtp %s)", cause, step)
}

// enhancedCode gives the status code of RFC 2034 that a reply's text starts
// with, such as 5.7.8, or "".
func enhancedCode(text string) string {
	first, _, _ := strings.Cut(text, " ")
	parts := strings.Split(first, ".")
	if len(parts) != 3 || len(first) > 9 {
		return ""
	}
	for _, p := range parts {
		if p == "" || strings.Trim(p, "0123456789") != "" {
			return ""
		}
	}
	return first
}

// loginAuth is AUTH LOGIN: the user name, then the password, each asked for by
// a prompt whose words vary between servers.
type loginAuth struct{ answers []string }

func (*loginAuth) Start(server *smtp.ServerInfo) (string, []byte, error) {
	if !server.TLS {
		return "", nil, errors.New("probe: smtp: no TLS")
	}
	return "LOGIN", nil, nil
}

func (a *loginAuth) Next(_ []byte, more bool) ([]byte, error) {
	if !more {
		return nil, nil
	}
	if len(a.answers) == 0 {
		return nil, errors.New("probe: smtp: the server asks for more than a user name and a password")
	}
	answer := a.answers[0]
	a.answers = a.answers[1:]
	return []byte(answer), nil
}

// limitedConn ends after a number of bytes read, since net/textproto would keep
// a line of any length.
type limitedConn struct {
	net.Conn
	left int
}

func (c *limitedConn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	if len(p) > c.left {
		p = p[:c.left]
	}
	n, err := c.Conn.Read(p)
	c.left -= n
	return n, err
}
