package gateway_test

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-io/gatehouse/gateway"
)

func TestWhatIsSentAgain(t *testing.T) {
	once := func(first http.HandlerFunc) func(*bubble) {
		return func(b *bubble) {
			b.answer = func(w http.ResponseWriter, r *http.Request) {
				if len(b.asked) == 1 {
					first(w, r)
					return
				}
				status(200)(w, r)
			}
		}
	}
	abort := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	hang := func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(503)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
	for name, test := range map[string]struct {
		method string
		header []string
		first  func(*bubble)
		want   int
		asked  int
		most   time.Duration
	}{
		"a GET, 503":                               {method: "GET", first: once(status(503)), want: 200, asked: 2, most: 100 * time.Millisecond},
		"a GET, 502":                               {method: "GET", first: once(status(502)), want: 200, asked: 2, most: 100 * time.Millisecond},
		"a GET, 504":                               {method: "GET", first: once(status(504)), want: 200, asked: 2, most: 100 * time.Millisecond},
		"a DELETE, 503":                            {method: "DELETE", first: once(status(503)), want: 200, asked: 2, most: 100 * time.Millisecond},
		"a GET, 503 without an end":                {method: "GET", first: once(hang), want: 200, asked: 2, most: 200 * time.Millisecond},
		"a GET, broken off":                        {method: "GET", first: once(abort), want: 200, asked: 2, most: 100 * time.Millisecond},
		"a POST, 503":                              {method: "POST", first: once(status(503)), want: 503, asked: 1},
		"a POST, broken off":                       {method: "POST", first: once(abort), want: 502, asked: 1},
		"a PATCH, 503":                             {method: "PATCH", first: once(status(503)), want: 503, asked: 1},
		"a POST with a key, 503":                   {method: "POST", header: []string{"Idempotency-Key", "k"}, first: once(status(503)), want: 200, asked: 2, most: 100 * time.Millisecond},
		"a POST with an empty key, 503":            {method: "POST", header: []string{"Idempotency-Key", ""}, first: once(status(503)), want: 503, asked: 1},
		"a POST with a key that is taken off, 503": {method: "POST", header: []string{"Idempotency-Key", "k", "Connection", "Idempotency-Key"}, first: once(status(503)), want: 503, asked: 1},
		"a POST with a key that is the token, 503": {method: "POST", header: []string{"Idempotency-Key", callerToken, "X-Api-Key", callerToken}, first: once(status(503)), want: 503, asked: 1},
		"a POST with another service's key, 503":   {method: "POST", header: []string{"I-Twilio-Idempotency-Token", "k"}, first: once(status(503)), want: 503, asked: 1},
		"a GET, 500":                               {method: "GET", first: once(status(500)), want: 500, asked: 1},
		"a GET, 429":                               {method: "GET", first: once(status(429)), want: 429, asked: 1},
		"a GET, 529":                               {method: "GET", first: once(status(529)), want: 529, asked: 1},
		"a GET, 503, in a second":                  {method: "GET", first: once(status(503, "Retry-After", "1")), want: 200, asked: 2, most: 1100 * time.Millisecond},
		"a GET, 503, in milliseconds":              {method: "GET", first: once(status(503, "Retry-After-Ms", "1500")), want: 200, asked: 2, most: 1600 * time.Millisecond},
		"a GET, 503, in a minute":                  {method: "GET", first: once(status(503, "Retry-After", "60")), want: 503, asked: 1},
		"a GET, 503, not to be asked again":        {method: "GET", first: once(status(503, "X-Should-Retry", "false")), want: 503, asked: 1},
		"a GET, 503, an unreadable wait":           {method: "GET", first: once(status(503, "Retry-After", "soon")), want: 200, asked: 2, most: 100 * time.Millisecond},
		"a GET that is refused for good, 503":      {method: "GET", first: func(b *bubble) { b.answer = status(503) }, want: 503, asked: 2, most: 100 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBubble(t, &named{})
				test.first(b)
				var code int
				var result gateway.Result
				took := elapsed(func() {
					w, r := b.visit(t.Context(), "acme", "", test.method, test.header...)
					code, result = w.Code, r
				})
				if code != test.want || len(b.asked) != test.asked || result.Retries != test.asked-1 || took > test.most {
					t.Errorf("answered %d after %d requests and %v, %+v", code, len(b.asked), took, result)
				}
			})
		})
	}
}

// Nothing was sent where no connection was made, so anything may be sent again.
func TestARefusedConnectionIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, &named{}, func(o *gateway.Options) {
			dial, first := o.DialContext, true
			o.DialContext = func(ctx context.Context, network, address string) (c net.Conn, err error) {
				if first {
					first = false
					return nil, errRefused
				}
				return dial(ctx, network, address)
			}
		})
		b.answer = status(200)
		if w, r := b.visit(t.Context(), "acme", "", "POST"); w.Code != 200 || r.Retries != 1 {
			t.Errorf("answered %d, %+v", w.Code, r)
		}
		b.refuse = true
		b.gateway.Close()
		if w, r := b.visit(t.Context(), "acme", "", "POST"); w.Code != 502 || r.Reason != "upstream_unreachable" || r.Retries != 1 {
			t.Errorf("answered %d, %+v", w.Code, r)
		}
	})
}

// The time for retries begins when the upstream is asked, so that a caller with a slow
// line has as many as any other, and its upload is not told as the provider's time.
func TestASlowUploadLeavesTheRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, &named{}, func(o *gateway.Options) { o.FirstByte = 10 * time.Second })
		b.answer = func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Second)
			status(503)(w, r)
			b.answer = status(200)
		}
		r := httptest.NewRequestWithContext(t.Context(), "PUT", "/api/chat/up/v1/x", slowly{strings.NewReader("{}")})
		w := httptest.NewRecorder()
		result := b.serve(w, r, "up", "acme", "")
		if w.Code != 200 || result.Retries != 1 {
			t.Errorf("answered %d, %+v", w.Code, result)
		}
		if result.FirstByte < time.Second || result.FirstByte > 2*time.Second || result.Duration < 9*time.Second {
			t.Errorf("the first byte came after %v of %v", result.FirstByte, result.Duration)
		}
	})
}

// slowly reads a body that takes its time to come.
type slowly struct{ io.Reader }

func (s slowly) Read(p []byte) (int, error) {
	time.Sleep(4 * time.Second)
	return s.Reader.Read(p)
}

// An upstream that closes each kept connection without an answer is not asked on all of them: by
// itself, net/http would.
func TestKeptConnectionsThatCloseAreNotAllTried(t *testing.T) {
	const kept = 12
	var dies atomic.Bool
	var asked atomic.Int32
	together := make(chan struct{}, kept)
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if dies.Load() {
			asked.Add(1)
			panic(http.ErrAbortHandler)
		}
		together <- struct{}{}
		for len(together) < kept { // so that each has a connection of its own
			time.Sleep(time.Millisecond)
		}
		_, _ = io.WriteString(w, "{}")
	}))
	t.Cleanup(up.Close)
	up.Config.ErrorLog = log.New(io.Discard, "", 0)
	for name, test := range map[string]struct {
		method string
		header []string
		most   int32
	}{
		"a GET":             {"GET", nil, 3}, // the last on a connection of its own
		"a POST with a key": {"POST", []string{"Idempotency-Key", "k"}, 3},
		"a POST":            {"POST", nil, 1},
	} {
		f := serve(t, up.URL)
		dies.Store(false)
		var all sync.WaitGroup
		for range kept {
			all.Go(func() { f.call(t, "POST", "/api/chat/up/v1", "{}") })
		}
		all.Wait()
		for range kept {
			f.result(t)
			<-together
		}
		dies.Store(true)
		asked.Store(0)
		answer, _ := f.call(t, test.method, "/api/chat/up/v1", "", test.header...)
		if n := asked.Load(); answer.StatusCode != 502 || answer.Header.Get("Gatehouse-Error") != "upstream_interrupted" || n < 1 || n > test.most {
			t.Errorf("%s: answered %d %s, asked %d times, want at most %d", name, answer.StatusCode, answer.Header.Get("Gatehouse-Error"), n, test.most)
		}
		f.result(t)
	}
}

// Where all kept connections were tried, the transport's new one is the last, and is made once.
func TestTheTransportsNewConnectionIsUsed(t *testing.T) {
	const kept = 2
	var dies atomic.Bool
	var asked, made atomic.Int32
	together := make(chan struct{}, kept)
	up := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if dies.Load() {
			asked.Add(1)
			panic(http.ErrAbortHandler)
		}
		together <- struct{}{}
		for len(together) < kept {
			time.Sleep(time.Millisecond)
		}
	}))
	up.Config.ErrorLog = log.New(io.Discard, "", 0)
	up.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			made.Add(1)
		}
	}
	up.Start()
	t.Cleanup(up.Close)
	f := serve(t, up.URL)
	var all sync.WaitGroup
	for range kept {
		all.Go(func() { f.call(t, "GET", "/api/chat/up/v1", "") })
	}
	all.Wait()
	for range kept {
		f.result(t)
	}
	dies.Store(true)
	answer, _ := f.call(t, "GET", "/api/chat/up/v1", "")
	if f.result(t); answer.StatusCode != 502 || asked.Load() != kept+1 || made.Load() != kept+1 {
		t.Errorf("answered %d, asked %d times, on %d connections", answer.StatusCode, asked.Load(), made.Load())
	}
}

// After an upstream was restarted, connections that were kept to it die when they are used and
// new ones work: no request that may be done twice fails for it.
func TestKeptConnectionsThatDiedFailNobody(t *testing.T) {
	const kept = 12
	type connection struct{}
	var restarted atomic.Bool
	together := make(chan struct{}, kept)
	up := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Context().Value(connection{}) != restarted.Load() {
			panic(http.ErrAbortHandler)
		}
		if !restarted.Load() {
			together <- struct{}{}
			for len(together) < kept {
				time.Sleep(time.Millisecond)
			}
		}
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	}))
	up.Config.ErrorLog = log.New(io.Discard, "", 0)
	up.Config.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
		return context.WithValue(ctx, connection{}, restarted.Load())
	}
	up.Start()
	t.Cleanup(up.Close)
	f := serve(t, up.URL)
	var all sync.WaitGroup
	for range kept {
		all.Go(func() { f.call(t, "POST", "/api/chat/up/v1", "{}") })
	}
	all.Wait()
	restarted.Store(true)
	for range kept {
		if answer, text := f.call(t, "POST", "/api/chat/up/v1", `{"n":1}`, "Idempotency-Key", "k"); answer.StatusCode != 200 || text != `{"n":1}` {
			t.Errorf("after a restart: %d %q", answer.StatusCode, text)
		}
	}
}

// What an earlier attempt sent may have been done, whatever became of the later ones.
func TestUnreachableOnlyBeforeAnythingWasSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, &named{}, func(o *gateway.Options) { o.BreakerFailures = 0 })
		b.answer = func(http.ResponseWriter, *http.Request) {
			b.refuse = true
			panic(http.ErrAbortHandler)
		}
		if w, r := b.visit(t.Context(), "acme", "", "POST", "Idempotency-Key", "k"); w.Code != 502 || r.Reason != "upstream_interrupted" || r.Retries != 1 {
			t.Errorf("answered %d, %+v", w.Code, r)
		}
		if w, r := b.visit(t.Context(), "acme", "", "POST", "Idempotency-Key", "k"); w.Code != 502 || r.Reason != "upstream_unreachable" {
			t.Errorf("the next, which reached nobody: %d, %+v", w.Code, r)
		}
	})
}

// A service that is down gets a tenth more requests, and not twice as many.
func TestTheBudgetOfRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, &named{}, func(o *gateway.Options) { o.BreakerFailures = 0 })
		b.answer = status(503)
		const requests = 200
		for range requests {
			b.visit(t.Context(), "acme", "", "GET")
		}
		if retries := len(b.asked) - requests; retries < requests/10 || retries > requests/10+10 {
			t.Errorf("%d requests were sent again of %d", retries, requests)
		}
		before := len(b.asked)
		if _, r := b.visit(t.Context(), "globex", "", "GET"); r.Retries != 1 || len(b.asked) != before+2 {
			t.Error("another organization pays for it")
		}
	})
}

// A caller that leaves while a retry waits ends it.
func TestLeavingBeforeARetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, &named{})
		b.answer = status(503, "Retry-After", "2")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var result gateway.Result
		took := elapsed(func() { _, result = b.visit(ctx, "acme", "", "GET") })
		if took > time.Second || result.Reason != "client_closed" || len(b.asked) != 1 {
			t.Errorf("%+v after %v", result, took)
		}
	})
}
