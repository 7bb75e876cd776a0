package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/gateway"
)

func TestBodiesOfEverySizeArriveWhole(t *testing.T) {
	upstream, got := recorder(t, nil)
	const bound = 3 << 20
	f := serve(t, upstream, func(o *gateway.Options) { o.MaxBody = bound })
	client := noRedirect()
	for _, size := range []int{0, 1, 4095, 4096, 4097, 64 << 10, 64<<10 + 1, 128 << 10, 1 << 20, bound - 1, bound, bound + 1} {
		for _, chunked := range []bool{false, true} {
			body := make([]byte, size)
			_, _ = rand.Read(body)
			r, err := http.NewRequestWithContext(t.Context(), "POST", f.URL+"/api/chat/up/v1", bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			if chunked && size > 0 {
				r.ContentLength = -1
			}
			answer, err := client.Do(r)
			if err != nil {
				t.Fatalf("%d bytes, chunked %v: %v", size, chunked, err)
			}
			_ = answer.Body.Close()
			result := f.result(t)
			if size > bound {
				if answer.StatusCode != 413 || answer.Header.Get("Gatehouse-Error") != "body_too_large" || result.Reason != "body_too_large" {
					t.Errorf("%d bytes, chunked %v: %d %+v", size, chunked, answer.StatusCode, result)
				}
				continue
			}
			if answer.StatusCode != 200 || result.BytesIn != int64(size) {
				t.Errorf("%d bytes, chunked %v: %d %+v", size, chunked, answer.StatusCode, result)
				continue
			}
			if r := <-got; r.Body != string(body) || r.Length != int64(size) {
				t.Errorf("%d bytes, chunked %v: the upstream saw %d of %d", size, chunked, len(r.Body), r.Length)
			}
		}
	}
}

// The default bound is refused by its Content-Length alone: nothing of the body
// has to be sent.
func TestTooLargeIsSaidEarly(t *testing.T) {
	upstream, _ := recorder(t, nil)
	f := serve(t, upstream)
	if status := rawPost(t, f, "Content-Length: 10485761\r\nExpect: 100-continue\r\n\r\n", false); status != 413 {
		t.Errorf("status %d", status)
	}
}

func TestABodyThatStopsHalfWay(t *testing.T) {
	upstream, got := recorder(t, nil)
	f := serve(t, upstream, func(o *gateway.Options) { o.BodyTimeout = 500 * time.Millisecond })
	for name, test := range map[string]struct {
		send string
		end  bool // the caller closes its side, instead of falling silent
		code string
	}{
		"ends":             {"Content-Length: 10\r\n\r\nhalf", true, "body_incomplete"},
		"ends in a chunk":  {"Transfer-Encoding: chunked\r\n\r\n5\r\nhe", true, "body_incomplete"},
		"ends in chunks":   {"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", true, "body_incomplete"},
		"no chunk":         {"Transfer-Encoding: chunked\r\n\r\nzz\r\n", false, "body_incomplete"},
		"silent":           {"Content-Length: 10\r\n\r\nhalf", false, "body_timeout"},
		"silent in chunks": {"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", false, "body_timeout"},
	} {
		if status := rawPost(t, f, test.send, test.end); status != 400 {
			t.Errorf("%s: status %d", name, status)
		}
		if r := f.result(t); r.Reason != test.code {
			t.Errorf("%s: %+v", name, r)
		}
	}
	select {
	case r := <-got:
		t.Errorf("the upstream saw %+v", r)
	default:
	}
}

// rawPost sends the rest of a POST after its request line and gives the status
// of the answer.
func rawPost(t *testing.T, f *front, rest string, end bool) int {
	t.Helper()
	conn, err := net.Dial("tcp", f.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = io.WriteString(conn, "POST /api/chat/up/v1 HTTP/1.1\r\nHost: h\r\n"+rest)
	if end {
		_ = conn.(*net.TCPConn).CloseWrite()
	}
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	if !answer.Close {
		t.Error("the connection stays open behind a body that was not read")
	}
	return answer.StatusCode
}

func TestAConnectionIsUsedAgainAfterABody(t *testing.T) {
	upstream, got := recorder(t, nil)
	f := serve(t, upstream, func(o *gateway.Options) { o.BodyTimeout, o.WriteTimeout = 200*time.Millisecond, 200*time.Millisecond })
	conn, err := net.Dial("tcp", f.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	answers := bufio.NewReader(conn)
	for range 3 {
		_, _ = io.WriteString(conn, "POST /api/chat/up/v1 HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}")
		answer, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		<-got
		time.Sleep(250 * time.Millisecond) // past both deadlines
	}
}

// sendHalf sends the beginning of a body of a length, and gives what ends it there, and
// how that visit ended.
func (f *front) sendHalf(text string, length int64) (giveUp func() gateway.Result) {
	holding, release := make(chan struct{}), make(chan struct{})
	body := io.MultiReader(strings.NewReader(text), readerFunc(func([]byte) (int, error) {
		close(holding)
		<-release
		return 0, io.ErrUnexpectedEOF
	}))
	done := make(chan gateway.Result)
	go func() {
		r := httptest.NewRequest("POST", "/", body)
		r.URL.Host, r.ContentLength = "", length
		done <- f.Gateway.Serve(httptest.NewRecorder(), r, gateway.Visit{Route: gateway.Chat, Service: "up", Path: "v1"})
	}()
	<-holding
	return func() gateway.Result {
		close(release)
		return <-done
	}
}

func TestLargeBodiesAreBoundedTogether(t *testing.T) {
	upstream, _ := recorder(t, nil)
	f := serve(t, upstream, func(o *gateway.Options) { o.MaxBody, o.MaxBuffered = 1<<20, 1<<20 })
	// One body holds the memory while it waits for its rest.
	giveUp := f.sendHalf(strings.Repeat("x", 600<<10), 1<<20)
	large := strings.Repeat("y", 900<<10)
	if answer, _ := f.call(t, "POST", "/api/chat/up/v1", large); answer.StatusCode != 503 || answer.Header.Get("Gatehouse-Error") != "too_busy" {
		t.Errorf("%d %v", answer.StatusCode, answer.Header)
	}
	if answer, _ := f.call(t, "POST", "/api/chat/up/v1", "small"); answer.StatusCode != 200 {
		t.Errorf("a small body: %d", answer.StatusCode)
	}
	if r := giveUp(); r.Reason != "body_incomplete" {
		t.Errorf("%+v", r)
	}
	if answer, _ := f.call(t, "POST", "/api/chat/up/v1", large); answer.StatusCode != 200 {
		t.Errorf("after the memory is free: %d", answer.StatusCode)
	}
}

// One organization's large bodies take nothing from another's.
func TestLargeBodiesOfOneOrganization(t *testing.T) {
	upstream, _ := recorder(t, nil)
	f := serve(t, upstream, func(o *gateway.Options) { o.MaxBody, o.MaxBuffered = 1<<20, 8<<20 })
	release := make(chan struct{})
	var all sync.WaitGroup
	for range 6 { // a quarter of 8 MiB is room for two
		holding := make(chan struct{})
		held := io.MultiReader(strings.NewReader(strings.Repeat("x", 900<<10)), readerFunc(func([]byte) (int, error) {
			close(holding)
			<-release
			return 0, io.ErrUnexpectedEOF
		}))
		done := make(chan struct{})
		all.Go(func() {
			defer close(done)
			r := httptest.NewRequest("POST", "/", held)
			r.URL.Host, r.ContentLength = "", 1<<20
			f.Gateway.Serve(httptest.NewRecorder(), r, gateway.Visit{
				Route: gateway.Chat, Service: "up", Path: "v1", Caller: access.NewCaller("greedy", access.User, "u_9", access.Owner),
			})
		})
		select {
		case <-holding:
		case <-done: // refused
		}
	}
	for range 2 {
		if answer, _ := f.call(t, "POST", "/api/chat/up/v1", strings.Repeat("y", 900<<10)); answer.StatusCode != 200 {
			t.Errorf("another organization: %d %v", answer.StatusCode, answer.Header)
		}
	}
	close(release)
	all.Wait()
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// An upstream that closes an idle connection just as it is used again: a
// request that may be repeated is, with its whole body; another is not, since
// the upstream may have done half of it.
func TestAStaleConnection(t *testing.T) {
	bodies := make(chan string, 16)
	address := listen(t, func(conn net.Conn) {
		in := bufio.NewReader(conn)
		for first := true; ; first = false {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			body, _ := io.ReadAll(r.Body)
			bodies <- string(body)
			if !first {
				return // without an answer
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	f := serve(t, "http://"+address)
	for _, test := range []struct {
		header []string
		status int
		sent   int // times
	}{
		{nil, 200, 1}, // a fresh connection
		{[]string{"Idempotency-Key", "k"}, 200, 2},
		{nil, 502, 1},
	} {
		answer, text := f.call(t, "POST", "/api/chat/up/v1", "hello", test.header...)
		if answer.StatusCode != test.status {
			t.Errorf("%v: %d %q", test, answer.StatusCode, text)
		}
		for range test.sent {
			if body := <-bodies; body != "hello" {
				t.Errorf("%v: the upstream saw %q", test, body)
			}
		}
		if len(bodies) != 0 {
			t.Errorf("%v: sent more often", test)
		}
	}
}

// One organization's prompt must never stand in another's request, also where
// an upstream answers before it has read the body.
func TestBodiesAreNotMixedUp(t *testing.T) {
	var early atomic.Bool
	bodies := make(chan string, 4096)
	address := listen(t, func(conn net.Conn) {
		in := bufio.NewReader(conn)
		for {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			if early.Load() {
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			}
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return // cut off by the transport
			}
			bodies <- string(body)
			if !early.Load() {
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			}
		}
	})
	f := serve(t, "http://"+address)
	early.Store(true)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			body := strings.Repeat(string(rune('a'+i)), 200<<10)
			for range 10 {
				r, _ := http.NewRequest("POST", f.URL+"/api/chat/up/v1", strings.NewReader(body))
				if answer, err := http.DefaultClient.Do(r); err == nil {
					_, _ = io.Copy(io.Discard, answer.Body)
					_ = answer.Body.Close()
				}
			}
		})
	}
	wg.Wait()
	for {
		select {
		case body := <-bodies:
			if len(body) > 0 && strings.Count(body, body[:1]) != len(body) {
				t.Fatal("a body holds bytes of two requests")
			}
		default:
			return
		}
	}
}

// modelKeys opens a key whose scope names models.
type modelKeys struct{ keys }

func (k modelKeys) OpenForUse(ctx context.Context, caller access.Caller, service *catalog.Service, name string, _ bool) (gateway.Credential, error) {
	c, err := k.keys.OpenForUse(ctx, caller, service, name, true)
	c.Scope = &catalog.Scope{Paths: []string{"/**"}, Models: []string{"small"}}
	return c, err
}

// What is not looked into since memory is short is no denial: the same request is
// taken a moment later. One that is too long for it is told so.
func TestABodyThatNobodyLookedInto(t *testing.T) {
	upstream, got := recorder(t, nil)
	f := serve(t, upstream, func(o *gateway.Options) {
		o.Opener, o.SpoolDir, o.MemoryBody, o.MaxBody, o.MaxBuffered = modelKeys{}, t.TempDir(), 1<<20, 4<<20, 1<<20
	})
	giveUp := f.sendHalf(strings.Repeat("x", 600<<10), 1<<20)
	prompt := func(size int) string { return `{"model":"small","x":"` + strings.Repeat("y", size) + `"}` }
	for _, path := range []string{"/api/chat/up/v1", "/api/chat/echo/v1/chat/completions"} {
		answer, text := f.call(t, "POST", path, prompt(900<<10), "Content-Type", "application/json")
		if answer.StatusCode != 503 || answer.Header.Get("Gatehouse-Error") != "too_busy" {
			t.Errorf("%s without room: %d %s", path, answer.StatusCode, text)
		}
		if r := f.result(t); r.Scope != "" {
			t.Errorf("%s without room: %+v", path, r)
		}
	}
	giveUp()
	if answer, text := f.call(t, "POST", "/api/chat/up/v1", prompt(900<<10), "Content-Type", "application/json"); answer.StatusCode != 200 {
		t.Errorf("with room: %d %s", answer.StatusCode, text)
	}
	<-got
	for path, want := range map[string]string{"/api/chat/up/v1": "403 scope_denied", "/api/chat/echo/v1/chat/completions": "413 body_too_large"} {
		answer, text := f.call(t, "POST", path, prompt(2<<20), "Content-Type", "application/json")
		if fmt.Sprint(answer.StatusCode, " ", answer.Header.Get("Gatehouse-Error")) != want || !strings.Contains(text, "1 MiB") {
			t.Errorf("%s, long: %d %s", path, answer.StatusCode, text)
		}
	}
	answer, text := f.call(t, "POST", "/api/chat/up/v1", prompt(5<<20))
	if answer.StatusCode != 413 || !strings.Contains(text, "4 MiB") || !strings.Contains(text, "REQUEST_BODY_MIB") {
		t.Errorf("too long: %d %s", answer.StatusCode, text)
	}
}
