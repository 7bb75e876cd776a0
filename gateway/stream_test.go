package gateway_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gateway"
)

const eventStream = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"

// scripted is an upstream whose every connection reads one request and then
// runs script.
func scripted(t testing.TB, script func(conn net.Conn)) string {
	t.Helper()
	return "http://" + listen(t, func(conn net.Conn) {
		r, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		script(conn)
	})
}

func chunk(conn net.Conn, text string) {
	_, _ = fmt.Fprintf(conn, "%x\r\n%s\r\n", len(text), text)
}

// open sends a request and gives the answer before its body is read.
func (f *front) open(ctx context.Context, t testing.TB, path string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, "POST", f.URL+path, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := noRedirect().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = answer.Body.Close() })
	return answer
}

// Each event reaches the caller before the upstream makes the next: it waits
// until the one before was read.
func TestEveryChunkIsFlushed(t *testing.T) {
	for name, test := range map[string]struct {
		head string
		text string
	}{
		"events":        {eventStream, "data: %d\n\n"},
		"chunked JSON":  {"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n", `{"n":%d}`},
		"until closing": {"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n", "%d\n"},
	} {
		t.Run(name, func(t *testing.T) {
			next := make(chan struct{})
			f := serve(t, scripted(t, func(conn net.Conn) {
				_, _ = io.WriteString(conn, test.head)
				if test.head == eventStream {
					<-next // the header alone is flushed
				}
				for i := range 20 {
					if name == "until closing" {
						_, _ = fmt.Fprintf(conn, test.text, i)
					} else {
						chunk(conn, fmt.Sprintf(test.text, i))
					}
					<-next
				}
				if name != "until closing" {
					chunk(conn, "")
				}
			}))
			answer := f.open(t.Context(), t, "/api/chat/up/v1")
			if test.head == eventStream {
				next <- struct{}{}
			}
			for i := range 20 {
				want := fmt.Sprintf(test.text, i)
				got := make([]byte, len(want))
				if _, err := io.ReadFull(answer.Body, got); err != nil || string(got) != want {
					t.Fatalf("chunk %d: %q %v", i, got, err)
				}
				next <- struct{}{}
			}
			if rest, err := io.ReadAll(answer.Body); err != nil || len(rest) != 0 {
				t.Errorf("the rest: %q %v", rest, err)
			}
			if r := f.result(t); r.Outcome != audit.Success || r.BytesOut == 0 || r.Abort {
				t.Errorf("%+v", r)
			}
		})
	}
}

// However the network cuts a stream, the same bytes arrive.
func TestLinesCutByTheNetwork(t *testing.T) {
	long := "data: " + strings.Repeat("x", 100_000) + "\n\n"
	text := "event: a\ndata: {\"é\":1}\n\n: comment\r\n\r\ndata: cr\r\rdata: 2\n\n" + long + "data: [DONE]\n\nno end"
	for _, size := range []int{1, 2, 3, 7, 1000, 40_000, len(text)} {
		f := serve(t, scripted(t, func(conn net.Conn) {
			_, _ = io.WriteString(conn, eventStream)
			out := bufio.NewWriter(conn)
			for rest := text; rest != ""; {
				n := min(size, len(rest))
				_, _ = fmt.Fprintf(out, "%x\r\n%s\r\n", n, rest[:n])
				if size > 100 || len(rest)%97 == 0 {
					_ = out.Flush()
				}
				rest = rest[n:]
			}
			_, _ = io.WriteString(out, "0\r\n\r\n")
			_ = out.Flush()
		}))
		_, got := f.call(t, "POST", "/api/chat/up/v1", "{}")
		if got != text {
			t.Errorf("in pieces of %d: %d bytes, want %d", size, len(got), len(text))
		}
		if r := f.result(t); r.BytesOut != int64(len(text)) || r.Outcome != audit.Success {
			t.Errorf("%+v", r)
		}
	}
}

const (
	interruptedEvent = "\n" + `data: {"error":{"message":"The service closed the stream before it was complete.","type":"upstream_error","code":"upstream_interrupted"}}` + "\n\n"
	googleEvent      = "\n" + `data: {"error":{"code":503,"message":"The service closed the stream before it was complete.","status":"UNAVAILABLE","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"upstream_interrupted","domain":"gatehouse"}]}}` + "\n\n"
	anthropicEvent   = "\nevent: error\n" + `data: {"type":"error","error":{"type":"api_error","message":"The service closed the stream before it was complete.","code":"upstream_interrupted"}}` + "\n\n"
)

func TestACallerWhoLeavesCancelsTheUpstream(t *testing.T) {
	for name, begun := range map[string]bool{"inside a stream": true, "before the answer": false} {
		t.Run(name, func(t *testing.T) {
			asked, received, gone := make(chan struct{}), make(chan struct{}), make(chan struct{})
			f := serve(t, scripted(t, func(conn net.Conn) {
				if begun {
					_, _ = io.WriteString(conn, eventStream)
					chunk(conn, "data: 1\n\n")
				}
				close(asked)
				_, _ = io.Copy(io.Discard, conn) // until the gateway hangs up
				close(gone)
			}))
			ctx, leave := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				r, _ := http.NewRequestWithContext(ctx, "POST", f.URL+"/api/chat/up/v1", strings.NewReader("{}"))
				if answer, err := noRedirect().Do(r); err == nil {
					_, _ = io.ReadFull(answer.Body, make([]byte, 9))
					close(received)
					_, _ = io.Copy(io.Discard, answer.Body)
					_ = answer.Body.Close()
				}
			}()
			<-asked
			if begun {
				<-received
			}
			leave()
			select {
			case <-gone:
			case <-time.After(10 * time.Second):
				t.Fatal("the upstream is still being read")
			}
			<-done
			r := f.result(t)
			if r.Reason != "client_closed" || r.Outcome != audit.Partial {
				t.Errorf("%+v", r)
			}
			if want := map[bool]int{true: 200, false: gateway.StatusClientClosed}[begun]; r.Status != want {
				t.Errorf("status %d, want %d", r.Status, want)
			}
		})
	}
}

func TestACallerWhoDoesNotReadIsGivenUp(t *testing.T) {
	event := "data: " + strings.Repeat("x", 8000) + "\n\n"
	f := serve(t, scripted(t, func(conn net.Conn) {
		_, _ = io.WriteString(conn, eventStream)
		for {
			if _, err := fmt.Fprintf(conn, "%x\r\n%s\r\n", len(event), event); err != nil {
				return
			}
		}
	}), func(o *gateway.Options) { o.WriteTimeout, o.Idle = 1500*time.Millisecond, 500*time.Millisecond })
	conn, err := net.Dial("tcp", f.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = io.WriteString(conn, "POST /api/chat/up/v1 HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}")
	// The idle timeout is the shorter one, but it is not the upstream who is slow.
	if r := f.result(t); r.Reason != "client_slow" || r.Outcome != audit.Partial || !r.Abort {
		t.Errorf("%+v", r)
	}
}

// A write has its time from when there is something to write.
func TestAPauseLongerThanAWriteMayTake(t *testing.T) {
	f := serve(t, scripted(t, func(conn net.Conn) {
		_, _ = io.WriteString(conn, eventStream)
		for range 2 {
			chunk(conn, "data: 1\n\n")
			time.Sleep(400 * time.Millisecond)
		}
		chunk(conn, "")
	}), func(o *gateway.Options) { o.WriteTimeout = 200 * time.Millisecond })
	if _, text := f.call(t, "POST", "/api/chat/up/v1", "{}"); text != "data: 1\n\ndata: 1\n\n" {
		t.Errorf("%q", text)
	}
	if r := f.result(t); r.Outcome != audit.Success {
		t.Errorf("%+v", r)
	}
}

func TestASilentUpstream(t *testing.T) {
	quick := func(o *gateway.Options) {
		o.FirstByte, o.Idle = 100*time.Millisecond, 100*time.Millisecond
	}
	silent := func(head string) string {
		return scripted(t, func(conn net.Conn) {
			_, _ = io.WriteString(conn, head)
			_, _ = io.Copy(io.Discard, conn)
		})
	}
	t.Run("no answer", func(t *testing.T) {
		f := serve(t, silent(""), quick)
		answer, _ := f.call(t, "POST", "/api/chat/up/v1", "{}")
		if answer.StatusCode != 504 || answer.Header.Get("Gatehouse-Error") != "upstream_timeout" {
			t.Error(answer.StatusCode, answer.Header)
		}
		if r := f.result(t); r.Reason != "upstream_timeout" || r.Outcome != audit.Failure {
			t.Errorf("%+v", r)
		}
	})
	t.Run("inside a small answer", func(t *testing.T) {
		f := serve(t, silent("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"), quick)
		if answer, _ := f.call(t, "POST", "/api/chat/up/v1", "{}"); answer.StatusCode != 504 {
			t.Error(answer.StatusCode)
		}
	})
	t.Run("inside a stream", func(t *testing.T) {
		f := serve(t, silent(eventStream+"9\r\ndata: 1\n\n\r\n"), quick)
		_, text := f.call(t, "POST", "/api/chat/up/v1", "{}")
		if !strings.HasPrefix(text, "data: 1\n\n") || !strings.Contains(text, `"code":"upstream_idle"`) {
			t.Errorf("%q", text)
		}
		if r := f.result(t); r.Reason != "upstream_idle" || r.Outcome != audit.Partial {
			t.Errorf("%+v", r)
		}
	})
	t.Run("slow but not silent", func(t *testing.T) {
		f := serve(t, scripted(t, func(conn net.Conn) {
			_, _ = io.WriteString(conn, eventStream)
			for range 30 { // past both timeouts in all
				chunk(conn, "data: 1\n\n")
				time.Sleep(50 * time.Millisecond)
			}
			chunk(conn, "")
		}), func(o *gateway.Options) { o.FirstByte, o.Idle = time.Second, time.Second })
		_, text := f.call(t, "POST", "/api/chat/up/v1", "{}")
		if n := strings.Count(text, "data: 1\n\n"); n != 30 || len(text) != 30*9 {
			t.Errorf("%d events: %.200q", n, text)
		}
	})
}

func TestStop(t *testing.T) {
	stop, cancel := context.WithCancel(t.Context())
	begun := make(chan struct{}, 2)
	f := serve(t, scripted(t, func(conn net.Conn) {
		_, _ = io.WriteString(conn, eventStream)
		chunk(conn, "data: 1\n\ndata: {\"half")
		begun <- struct{}{}
		_, _ = io.Copy(io.Discard, conn)
	}), func(o *gateway.Options) { o.Stop = stop })
	streams := []*http.Response{f.open(t.Context(), t, "/api/chat/up/v1"), f.open(t.Context(), t, "/api/chat/anthropic/v1/messages")}
	for range streams {
		<-begun
	}
	for _, answer := range streams {
		if _, err := io.ReadFull(answer.Body, make([]byte, 9)); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	for _, answer := range streams {
		text, err := io.ReadAll(answer.Body)
		if err != nil || !strings.Contains(string(text), `"code":"server_stopping"`) || strings.Contains(string(text), "half") {
			t.Errorf("%q %v", text, err)
		}
		if r := f.result(t); r.Reason != "server_stopping" || r.Outcome != audit.Partial || r.Abort {
			t.Errorf("%+v", r)
		}
	}
	for _, path := range []string{"/api/chat/up/v1", "/api/chat/echo/v1/chat/completions"} {
		answer, _ := f.call(t, "POST", path, `{"stream":true,"messages":[{"content":"x"}]}`)
		if answer.StatusCode != 503 || answer.Header.Get("Gatehouse-Error") != "server_stopping" {
			t.Errorf("%s: %d", path, answer.StatusCode)
		}
		f.result(t)
	}
}

// A line longer than the buffer goes on in pieces, and the key may stand where one
// piece ends.
func TestTheKeyWhereALongLineIsCut(t *testing.T) {
	const password = "sk-0123456789abcdefghijks" // ends as it begins
	for _, before := range []int{32<<10 - 40, 32<<10 - 20, 32<<10 - 7, 32<<10 - len(password), 64<<10 - 30, 96<<10 - 21} {
		line := "data: " + strings.Repeat("x", before-6) + password + strings.Repeat("y", 40<<10) + password[:9]
		f := serve(t, scripted(t, func(conn net.Conn) {
			_, _ = io.WriteString(conn, eventStream)
			chunk(conn, line)
			chunk(conn, "\n\n")
			_, _ = io.WriteString(conn, "0\r\n\r\n")
		}), func(o *gateway.Options) { o.Opener = basicKeys{"agent", password} })
		answer := f.open(t.Context(), t, "/api/chat/custom/v1")
		text, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if want := strings.ReplaceAll(line, password, removedMark) + "\n\n"; err != nil || string(text) != want {
			t.Errorf("at %d: %d bytes, want %d: %q, %v", before, len(text), len(want), text[max(0, before-10):min(len(text), before+40)], err)
		}
		if r := f.result(t); r.Scrubbed != 1 {
			t.Errorf("at %d: %+v", before, r)
		}
	}
}

func TestTrailers(t *testing.T) {
	f := serve(t, rawUpstream(t, "HTTP/1.1 200 OK\r\nTrailer: X-Sum, Set-Cookie, X-Leak, X-Sum-Key, X-Sum-"+injectedKey+"\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n"+
		"X-Sum: 7\r\nSet-Cookie: a=b\r\nX-Leak: x\r\nX-Sum-Key: <"+strings.Replace(injectedKey, "-", "%2D", 1)+">\r\nX-Sum-"+injectedKey+": 1\r\n"+
		"Content-Length: 1\r\nContent-Type: text/html\r\nLocation: http://198.51.100.1/\r\nLink: <http://198.51.100.1/>; rel=\"next\"\r\n\r\n"))
	answer := f.open(t.Context(), t, "/api/chat/up/v1")
	if _, err := io.ReadAll(answer.Body); err != nil {
		t.Fatal(err)
	}
	if got := answer.Trailer; len(got) != 2 || got.Get("X-Sum") != "7" || got.Get("X-Sum-Key") != "<[removed by Gatehouse]>" {
		t.Errorf("trailers %v", got)
	}
	if r := f.result(t); r.Scrubbed != 2 {
		t.Errorf("%+v", r)
	}
}

func TestInformationalAnswersStayHere(t *testing.T) {
	f := serve(t, rawUpstream(t, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
	if answer, text := f.call(t, "POST", "/api/chat/up/v1", "{}"); answer.StatusCode != 200 || text != "ok" || answer.Header.Get("Link") != "" {
		t.Errorf("%d %q %v", answer.StatusCode, text, answer.Header)
	}
}
