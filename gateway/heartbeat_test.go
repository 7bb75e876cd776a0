package gateway_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gateway"
)

// While the upstream is silent between two events the caller gets comments, and
// nothing of the events changes.
func TestHeartbeats(t *testing.T) {
	next := make(chan struct{})
	f := serve(t, scripted(t, func(conn net.Conn) {
		_, _ = io.WriteString(conn, eventStream)
		for _, text := range []string{"data: 1\n\n", "event: x\ndata: 2\n", "\n", "data: 3\r\n\r\n", "data: 4\r\r"} {
			chunk(conn, text)
			<-next
		}
		chunk(conn, "")
	}), func(o *gateway.Options) {
		o.Services = map[string]gateway.Bounds{"up": {Heartbeat: 10 * time.Millisecond}}
	})
	answer := f.open(t.Context(), t, "/api/chat/up/v1")
	lines := bufio.NewReader(answer.Body)
	var text strings.Builder
	read := func(want string) {
		t.Helper()
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				t.Fatalf("waiting for %q: %v", want, err)
			}
			if line == want {
				return
			}
			text.WriteString(line)
		}
	}
	read(": \n")
	next <- struct{}{}
	read("data: 2\n")
	next <- struct{}{} // inside an event there are none
	read(": \n")
	read(": \n")
	next <- struct{}{}
	read("data: 3\r\n")
	read(": \n")
	next <- struct{}{}
	read("data: 4\r\r: \n")
	next <- struct{}{}
	if _, err := io.ReadAll(lines); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(text.String(), "event: x\n:") {
		t.Errorf("a comment inside an event: %q", text.String())
	}
	if r := f.result(t); r.Outcome != audit.Success || r.BytesOut < 50 {
		t.Errorf("%+v", r)
	}
}

// Only event streams that we can read get heartbeats, and only where they are on.
func TestNoHeartbeats(t *testing.T) {
	for name, test := range map[string]struct {
		path, head, body string
	}{
		"off":             {"/api/chat/anthropic/v1/messages", eventStream, "data: 1\n\n"},
		"JSON":            {"/api/chat/up/v1", "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n", "[1,\n\n"},
		"compressed":      {"/api/chat/up/v1", "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: br\r\nTransfer-Encoding: chunked\r\n\r\n", "\n\n"},
		"inside an event": {"/api/chat/up/v1", eventStream, "event: x\n"},
		// Google's Go SDK ends a stream at a comment.
		"Gemini": {"/api/chat/up/v1beta/models/g:streamGenerateContent?alt=sse", eventStream, "data: 1\n\n"},
	} {
		f := serve(t, scripted(t, func(conn net.Conn) {
			_, _ = io.WriteString(conn, test.head)
			chunk(conn, test.body)
			time.Sleep(100 * time.Millisecond)
			chunk(conn, "")
		}), func(o *gateway.Options) {
			o.Heartbeat = 5 * time.Millisecond
			o.Services = map[string]gateway.Bounds{"anthropic": {Heartbeat: -1}}
		})
		if _, text := f.call(t, "POST", test.path, "{}"); text != test.body {
			t.Errorf("%s: %q", name, text)
		}
	}
}

// A caller who went away, of whom nothing tells but a write, is found by a
// heartbeat; one who does not read is given up.
func TestAHeartbeatThatIsNotTaken(t *testing.T) {
	gone := make(chan struct{})
	f := serve(t, scripted(t, func(conn net.Conn) {
		_, _ = io.WriteString(conn, eventStream)
		chunk(conn, "data: 1\n\n")
		_, _ = io.Copy(io.Discard, conn)
		close(gone)
	}), func(o *gateway.Options) { o.Heartbeat = 5 * time.Millisecond })
	conn, err := net.Dial("tcp", f.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	// A byte too many: the server takes it for the next request and no longer watches the connection.
	_, _ = io.WriteString(conn, "POST /api/chat/up/v1 HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}G")
	if _, err := bufio.NewReader(conn).ReadString(':'); err != nil {
		t.Fatal(err)
	}
	_ = conn.(*net.TCPConn).SetLinger(0)
	_ = conn.Close()
	<-gone
	if r := f.result(t); r.Reason != "client_closed" || r.Outcome != audit.Partial || !r.Abort {
		t.Errorf("%+v", r)
	}
}

// Everything a request takes together has a bound, however busy it is.
func TestTotalTimeout(t *testing.T) {
	slow := func(o *gateway.Options) {
		o.Services = map[string]gateway.Bounds{"up": {Total: 200 * time.Millisecond}}
	}
	busy := func(conn net.Conn) {
		_, _ = io.WriteString(conn, eventStream)
		for {
			if _, err := io.WriteString(conn, "9\r\ndata: 1\n\n\r\n"); err != nil {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	t.Run("a stream", func(t *testing.T) {
		f := serve(t, scripted(t, busy), slow)
		_, text := f.call(t, "POST", "/api/chat/up/v1", "{}")
		if !strings.HasPrefix(text, "data: 1\n\n") || !strings.HasSuffix(text, `"code":"upstream_too_long"}}`+"\n\n") {
			t.Errorf("%.300q", text)
		}
		if r := f.result(t); r.Reason != "upstream_too_long" || r.Outcome != audit.Partial {
			t.Errorf("%+v", r)
		}
	})
	t.Run("before an answer", func(t *testing.T) {
		f := serve(t, scripted(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }), slow)
		answer, _ := f.call(t, "POST", "/api/chat/up/v1", "{}")
		if answer.StatusCode != 504 || answer.Header.Get("Gatehouse-Error") != "upstream_too_long" {
			t.Errorf("%d %v", answer.StatusCode, answer.Header)
		}
	})
	t.Run("another service", func(t *testing.T) {
		f := serve(t, scripted(t, busy), slow)
		ctx, leave := context.WithCancel(t.Context())
		answer := f.open(ctx, t, "/api/chat/anthropic/v1/messages")
		if _, err := io.ReadFull(answer.Body, make([]byte, 9*60)); err != nil { // 300 ms of it
			t.Error(err)
		}
		leave()
	})
}
