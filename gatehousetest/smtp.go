package gatehousetest

import (
	"bufio"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// An SMTPServer is a fake mail submission server on 127.0.0.1. It logs in and takes no mail. Its methods may be called from any goroutine.
type SMTPServer struct {
	Host string // "127.0.0.1"
	Port int
	User string

	t        testing.TB
	listener net.Listener
	tls      *tls.Config // nil where STARTTLS is not offered
	done     sync.WaitGroup

	mu       sync.Mutex
	password string
	closed   bool
	conns    map[net.Conn]bool
	scripted map[string][]string // replies to come, by verb
	commands []string
}

// SMTP starts a mail server that speaks EHLO, STARTTLS, AUTH PLAIN, AUTH LOGIN, NOOP, RSET and QUIT until the test ends. [User]
// and [Key] name who may log in. With [TLS] it offers STARTTLS and takes AUTH only after it (538); without, AUTH goes in the clear.
//
// Sources: RFC 5321, RFC 3207 (STARTTLS), RFC 4954 (AUTH), RFC 4616 (PLAIN), RFC 3463 (enhanced codes).
func SMTP(t testing.TB, opts ...Option) *SMTPServer {
	t.Helper()
	c := newConfig(opts)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("gatehousetest: %v", err)
	}
	s := &SMTPServer{Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port, User: c.user, t: t, listener: l,
		password: rand.Text(), conns: map[net.Conn]bool{}, scripted: map[string][]string{}}
	if len(c.keys) > 0 {
		s.password = c.keys[0]
	}
	if c.ca != nil {
		s.tls = &tls.Config{Certificates: []tls.Certificate{c.ca.Certificate(append([]string{"127.0.0.1", "localhost"}, c.names...)...)}}
	}
	s.done.Go(s.accept)
	t.Cleanup(s.close)
	return s
}

// Addr is host:port.
func (s *SMTPServer) Addr() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// Password is the one that logs in.
func (s *SMTPServer) Password() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.password
}

// SetPassword replaces it.
func (s *SMTPServer) SetPassword(password string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.password = password
}

// Reply scripts the answer to the next command of that verb ("EHLO", "AUTH", ...; "" is the greeting), such as "454 4.7.0
// Temporary authentication failure". The command is then not carried out. An empty reply closes the connection instead.
func (s *SMTPServer) Reply(verb, reply string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scripted[verb] = append(s.scripted[verb], reply)
}

// Commands gives the command lines seen so far, of all connections, in order. The credentials of AUTH are left out: "AUTH PLAIN".
func (s *SMTPServer) Commands() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.commands)
}

func (s *SMTPServer) close() {
	_ = s.listener.Close()
	s.mu.Lock()
	s.closed = true
	for conn := range s.conns {
		_ = conn.Close()
	}
	s.mu.Unlock()
	s.done.Wait()
}

func (s *SMTPServer) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return // closed
		}
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			_ = conn.Close()
			return
		}
		s.conns[conn] = true
		s.mu.Unlock()
		s.done.Go(func() {
			session := &smtpSession{server: s, conn: conn, lines: bufio.NewReader(conn)}
			session.run()
			_ = session.conn.Close()
			s.mu.Lock()
			delete(s.conns, conn)
			s.mu.Unlock()
		})
	}
}

// script takes the next scripted reply to verb.
func (s *SMTPServer) script(verb string) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	replies := s.scripted[verb]
	if len(replies) == 0 {
		return "", false
	}
	s.scripted[verb] = replies[1:]
	return replies[0], true
}

type smtpSession struct {
	server *SMTPServer
	conn   net.Conn
	lines  *bufio.Reader
	secure bool
	hello  bool
	user   bool // logged in
	over   bool
}

// reply sends one line, or several where text holds more, as RFC 5321 section 4.2.1 has it.
func (c *smtpSession) reply(code int, text ...string) {
	var b strings.Builder
	for i, line := range text {
		separator := "-"
		if i == len(text)-1 {
			separator = " "
		}
		b.WriteString(strconv.Itoa(code) + separator + line + "\r\n")
	}
	c.write(b.String())
}

func (c *smtpSession) write(text string) {
	if _, err := c.conn.Write([]byte(text)); err != nil {
		c.over = true
	}
}

func (c *smtpSession) read() (string, bool) {
	_ = c.conn.SetReadDeadline(time.Now().Add(time.Minute))
	line, err := c.lines.ReadString('\n')
	if err != nil || len(line) > 12288 { // the bound of RFC 4954, section 4
		c.over = true
		return "", false
	}
	return strings.TrimRight(line, "\r\n"), true
}

// scripted sends the scripted reply to verb, where there is one.
func (c *smtpSession) scripted(verb string) bool {
	reply, ok := c.server.script(verb)
	if !ok {
		return false
	}
	if reply == "" {
		c.over = true
	} else {
		c.write(reply + "\r\n")
	}
	return true
}

func (c *smtpSession) run() {
	if !c.scripted("") {
		c.reply(220, "fake.example.com ESMTP")
	}
	for !c.over {
		line, ok := c.read()
		if !ok {
			return
		}
		verb, argument, _ := strings.Cut(line, " ")
		verb = strings.ToUpper(verb)
		seen := line
		if verb == "AUTH" {
			mechanism, _, _ := strings.Cut(argument, " ")
			seen = verb + " " + mechanism
		}
		c.server.mu.Lock()
		c.server.commands = append(c.server.commands, seen)
		c.server.mu.Unlock()
		if !c.scripted(verb) {
			c.command(verb, argument)
		}
	}
}

func (c *smtpSession) command(verb, argument string) {
	switch verb {
	case "EHLO":
		c.hello = true
		extensions := []string{"fake.example.com greets " + argument, "8BITMIME", "ENHANCEDSTATUSCODES"}
		if c.server.tls != nil && !c.secure {
			extensions = append(extensions, "STARTTLS")
		} else {
			extensions = append(extensions, "AUTH PLAIN LOGIN")
		}
		c.reply(250, extensions...)
	case "HELO":
		c.hello = true
		c.reply(250, "fake.example.com")
	case "STARTTLS":
		c.startTLS()
	case "AUTH":
		c.auth(argument)
	case "NOOP", "RSET":
		c.reply(250, "2.0.0 OK")
	case "MAIL":
		if c.user {
			c.reply(550, "5.7.1 This server takes no mail")
		} else {
			c.reply(530, "5.7.0 Authentication required")
		}
	case "QUIT":
		c.reply(221, "2.0.0 Bye")
		c.over = true
	default:
		c.reply(500, "5.5.1 Command unrecognized")
	}
}

func (c *smtpSession) startTLS() {
	if c.server.tls == nil || c.secure {
		c.reply(502, "5.5.1 Command not implemented")
		return
	}
	c.reply(220, "2.0.0 Ready to start TLS")
	secured := tls.Server(c.conn, c.server.tls)
	_ = secured.SetDeadline(time.Now().Add(time.Minute))
	if err := secured.Handshake(); err != nil {
		c.over = true
		return
	}
	_ = secured.SetDeadline(time.Time{})
	// All that was known from before the handshake is forgotten, input already read too (RFC 3207, section 4.2).
	c.conn, c.lines, c.secure, c.hello = secured, bufio.NewReader(secured), true, false
}

func (c *smtpSession) auth(argument string) {
	mechanism, initial, _ := strings.Cut(argument, " ")
	switch {
	case !c.hello || c.user:
		c.reply(503, "5.5.1 Bad sequence of commands")
		return
	case c.server.tls != nil && !c.secure:
		c.reply(538, "5.7.11 Encryption required for requested authentication mechanism")
		return
	}
	var user, password string
	var ok bool
	switch strings.ToUpper(mechanism) {
	case "PLAIN":
		var message string
		if message, ok = c.answer("", initial); ok {
			parts := strings.Split(message, "\x00") // authzid, authcid, password
			if ok = len(parts) == 3; ok {
				user, password = parts[1], parts[2]
			}
		}
	case "LOGIN":
		if user, ok = c.answer("Username:", initial); ok {
			password, ok = c.answer("Password:", "")
		}
	default:
		c.reply(504, "5.5.4 Unrecognized authentication type")
		return
	}
	switch {
	case c.over:
	case !ok:
		c.reply(501, "5.5.2 Cannot decode the response, or it was cancelled")
	case user == c.server.User && password == c.server.Password():
		c.user = true
		c.reply(235, "2.7.0 Authentication successful")
	default:
		c.reply(535, "5.7.8 Authentication credentials invalid")
	}
}

// answer decodes the initial response or, without one, asks for it by prompt.
func (c *smtpSession) answer(prompt, initial string) (string, bool) {
	switch initial {
	case "":
		c.reply(334, base64.StdEncoding.EncodeToString([]byte(prompt)))
		var ok bool
		if initial, ok = c.read(); !ok || initial == "*" {
			return "", false
		}
	case "=":
		return "", true // an empty initial response
	}
	b, err := base64.StdEncoding.DecodeString(initial)
	return string(b), err == nil
}
