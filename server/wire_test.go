package server_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// A wire is a listener that keeps every byte sent to it.
type wire struct {
	net.Listener
	mu    sync.Mutex
	got   bytes.Buffer
	conns int
}

func newWire(t *testing.T) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return &wire{Listener: l}
}

// Accept implements [net.Listener].
func (w *wire) Accept() (net.Conn, error) {
	conn, err := w.Listener.Accept()
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conns++
	return wired{conn, w}, nil
}

// take gives what came since the last take, and over how many connections in all.
func (w *wire) take() (string, int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer w.got.Reset()
	return w.got.String(), w.conns
}

type wired struct {
	net.Conn
	wire *wire
}

func (c wired) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.wire.mu.Lock()
	defer c.wire.mu.Unlock()
	c.wire.got.Write(b[:n])
	return n, err
}

// A tapped is a whole server, its provider and somebody else, both of whom keep
// every byte that reaches them.
type tapped struct {
	*instancetest.Server
	token     string
	provider  *wire
	bystander *wire
}

const tappedKey = "sk-tapped-0123456789abcdefghijklmnopqrstuv"

func tap(t *testing.T) tapped {
	t.Helper()
	p := tapped{provider: newWire(t), bystander: newWire(t)}
	serve := func(l net.Listener) {
		hs := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"answer":42}`)
		}), ErrorLog: quietLog()}
		t.Cleanup(func() { _ = hs.Close() })
		go func() { _ = hs.Serve(l) }()
	}
	serve(p.provider)
	serve(p.bystander)
	p.Server = instancetest.Serve(t, map[string]string{
		"CHAT_HOSTS": "up=http://" + p.provider.Addr().String(), "CHAT_IP_LIMIT": "100000/1m", "CHAT_ORG_LIMIT": "100000/1h",
	})
	c := as(t, p.Server, "acme", "u1", access.Owner)
	c.store("up", map[string]string{"apiKey": tappedKey})
	p.token = c.token
	return p
}

// send writes text to the server as it is, and gives the statuses of all answers
// until the server closes the connection, or falls silent, and what it said. Where
// half is true the caller closes its side behind the text.
func (p tapped) send(t *testing.T, text string, half bool) (statuses []int, said string) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() {
		_, _ = io.WriteString(conn, text)
		if half {
			_ = conn.(*net.TCPConn).CloseWrite()
		}
	}()
	var all bytes.Buffer
	in := bufio.NewReader(io.TeeReader(conn, &all))
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	for {
		answer, err := http.ReadResponse(in, nil)
		if err != nil {
			return statuses, all.String()
		}
		statuses = append(statuses, answer.StatusCode)
		_, _ = io.Copy(io.Discard, answer.Body)
		_ = conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond)) // one that nobody expects
	}
}

// check looks at what came over both wires since the last check: want requests
// at the provider, each with the key once, none with anything of the caller's
// token or of a smuggled request; nothing at all at the bystander; and the key not
// in what the caller got.
func (p tapped) check(t *testing.T, want int, said string) {
	t.Helper()
	sent, _ := p.provider.take()
	requests := strings.Count(sent, " HTTP/1.1\r\n")
	if keys := strings.Count(sent, tappedKey); requests != want || keys != want {
		t.Errorf("the provider saw %d requests with %d keys, want %d: %.600q", requests, keys, want, sent)
	}
	for _, never := range []string{p.token, "smuggled", "evil", "Transfer-Encoding", "Upgrade", "Trailer", "Expect"} {
		if strings.Contains(sent, never) {
			t.Errorf("the provider saw %q: %.600q", never, sent)
		}
	}
	if other, conns := p.bystander.take(); conns != 0 {
		t.Errorf("the bystander saw %d connections: %q", conns, other)
	}
	if strings.Contains(said, tappedKey) {
		t.Errorf("the caller saw the key: %.600q", said)
	}
}

// request gives a POST with the caller's token; the lines and the body come after.
func (p tapped) request(target, rest string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: gatehouse.example\r\nAuthorization: Bearer %s\r\n%s", target, p.token, rest)
}
