package gateway_test

import (
	"context"
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-io/gatehouse/gateway"
	"github.com/gatehouse-io/gatehouse/internal/fault"
)

func setRetryAfter(h http.Header, err error) {
	if f, ok := fault.As(err); ok && f.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int((f.RetryAfter+time.Second-1)/time.Second)))
	}
}

// open is a service that is out of order three times, so that acme's breaker opens.
func opened(t *testing.T, turned *[]string) *bubble {
	b := newBubble(t, &named{}, func(o *gateway.Options) {
		o.Observe.BreakerTurned = func(to string) { *turned = append(*turned, to) }
	})
	b.answer = status(503)
	for range 3 {
		if w, _ := b.visit(t.Context(), "acme", "", "POST"); w.Code != 503 || w.Header().Get("Gatehouse-Error") != "" {
			t.Fatalf("answered %d %v", w.Code, w.Header())
		}
	}
	return b
}

func TestABreakerOpensAndCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var turned []string
		b := opened(t, &turned)
		time.Sleep(4 * time.Second)
		w, r := b.visit(t.Context(), "acme", "", "POST")
		if w.Code != 503 || w.Header().Get("Gatehouse-Error") != "upstream_unavailable" || w.Header().Get("Retry-After") != "6" || r.Reason != "upstream_unavailable" {
			t.Errorf("answered %d %v, %+v", w.Code, w.Header(), r)
		}
		if len(b.asked) != 3 || b.gateway.OpenBreakers() != 1 {
			t.Errorf("asked %d times, %d breakers are open", len(b.asked), b.gateway.OpenBreakers())
		}

		// Another credential, another organization and another host have their own.
		for _, v := range [][3]string{{"up", "acme", "second"}, {"up", "globex", ""}, {"down", "acme", ""}} {
			if w, _ := b.visitService(t.Context(), v[0], v[1], v[2], "POST"); w.Header().Get("Gatehouse-Error") != "" {
				t.Errorf("%v: %d %v", v, w.Code, w.Header())
			}
		}

		// After the pause one request is let pass. Others wait for its end.
		time.Sleep(6*time.Second + time.Millisecond)
		probing := make(chan struct{})
		b.answer = func(w http.ResponseWriter, r *http.Request) {
			close(probing)
			time.Sleep(time.Second)
			status(503)(w, r)
		}
		go b.visit(t.Context(), "acme", "", "POST")
		<-probing
		if w, _ := b.visit(t.Context(), "acme", "", "POST"); w.Header().Get("Gatehouse-Error") != "upstream_unavailable" || w.Header().Get("Retry-After") != "1" {
			t.Errorf("beside the probe: %d %v", w.Code, w.Header())
		}
		time.Sleep(2 * time.Second) // it failed: open again
		if w, _ := b.visit(t.Context(), "acme", "", "POST"); w.Header().Get("Gatehouse-Error") != "upstream_unavailable" {
			t.Errorf("after a probe that failed: %d", w.Code)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		b.answer = status(200)
		for range 5 {
			if w, _ := b.visit(t.Context(), "acme", "", "POST"); w.Code != 200 {
				t.Errorf("after a probe that did not: %d", w.Code)
			}
		}
		want := []string{"open", "half-open", "open", "half-open", "closed"}
		if len(turned) != len(want) {
			t.Fatalf("turned to %v", turned)
		}
		for i := range want {
			if turned[i] != want[i] {
				t.Errorf("turned to %v", turned)
			}
		}
	})
}

// A probe whose caller leaves says nothing: the next request is the probe.
func TestAnAbortedProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var turned []string
		b := opened(t, &turned)
		time.Sleep(11 * time.Second)
		b.answer = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, r := b.visit(ctx, "acme", "", "POST"); r.Reason != "client_closed" {
			t.Errorf("%+v", r)
		}
		synctest.Wait()
		b.answer = status(200)
		if w, _ := b.visit(t.Context(), "acme", "", "POST"); w.Code != 200 {
			t.Errorf("answered %d", w.Code)
		}
	})
}

// What is no fault of the service's never opens a breaker.
func TestWhatABreakerDoesNotCount(t *testing.T) {
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		leaves bool
	}{
		"400": {answer: status(400)}, "401": {answer: status(401)}, "402": {answer: status(402)}, "403": {answer: status(403)}, "404": {answer: status(404)},
		"408": {answer: status(408)}, "429": {answer: status(429)}, "500": {answer: status(500)}, "501": {answer: status(501)},
		"the caller leaves": {leaves: true, answer: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBubble(t, &named{})
				b.answer = test.answer
				for range 20 {
					ctx, cancel := t.Context(), func() {}
					if test.leaves {
						ctx, cancel = context.WithTimeout(ctx, time.Millisecond)
					}
					b.visit(ctx, "acme", "", "POST")
					cancel()
				}
				if b.gateway.OpenBreakers() != 0 {
					t.Error("the breaker is open")
				}
			})
		})
	}
}

func TestWhatABreakerCounts(t *testing.T) {
	for name, change := range map[string]func(*bubble){
		"502": func(b *bubble) { b.answer = status(502) }, "503": func(b *bubble) { b.answer = status(503) },
		"504": func(b *bubble) { b.answer = status(504) }, "529": func(b *bubble) { b.answer = status(529) },
		"silence":      func(b *bubble) { b.answer = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() } },
		"breaking off": func(b *bubble) { b.answer = func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) } },
		"closed ports": func(b *bubble) { b.refuse = true },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBubble(t, &named{}, func(o *gateway.Options) { o.FirstByte, o.Retries = time.Second, 0 })
				change(b)
				for range 3 {
					b.visit(t.Context(), "acme", "", "POST")
				}
				if b.gateway.OpenBreakers() != 1 {
					t.Error("the breaker is not open")
				}
			})
		})
	}
}

// Few failures among many requests, or spread over time, open nothing.
func TestFailuresThatAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, &named{}, func(o *gateway.Options) { o.Retries = 0 })
		for i := range 60 {
			b.answer = status(200)
			if i%3 == 2 {
				b.answer = status(503)
			}
			b.visit(t.Context(), "acme", "", "POST")
		}
		b.answer = status(503)
		for range 10 {
			time.Sleep(6 * time.Second)
			b.visit(t.Context(), "globex", "", "POST")
		}
		if b.gateway.OpenBreakers() != 0 {
			t.Error("a breaker is open")
		}
	})
}
