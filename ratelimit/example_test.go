package ratelimit_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"time"

	"github.com/gatehouse-io/gatehouse/ratelimit"
)

func ExampleParseLimit() {
	limit, err := ratelimit.ParseLimit("1000/60m")
	fmt.Println(limit.Requests, limit.Window, err)
	fmt.Println(limit)

	_, err = ratelimit.ParseLimit("1000/hour")
	fmt.Println(err)
	// Output:
	// 1000 1h0m0s <nil>
	// 1000/1h
	// invalid limit: the window is not a duration with units, such as 30s, 1m or 24h
}

func ExampleMemory() {
	limiter := ratelimit.NewMemory(ratelimit.MemoryOptions{})
	subjects := []ratelimit.Subject{
		{Type: "ip", Key: "203.0.113.7", Limits: []ratelimit.Limit{{Requests: 2, Window: time.Second}}},
		{Type: "organization", Key: "acme", Limits: []ratelimit.Limit{{Requests: 1000, Window: time.Hour}}},
	}
	now := time.Date(2026, 11, 23, 8, 41, 0, 0, time.UTC)
	var d ratelimit.Decision // used again for each decision
	for range 3 {
		if err := limiter.Take(context.Background(), now, subjects, &d); err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(d.Admitted, d.Statuses[0].Remaining, d.Statuses[1].Remaining, d.RetryAfter)
		now = now.Add(100 * time.Millisecond)
	}
	// Output:
	// true 1 999 0s
	// true 0 998 0s
	// false 0 998 800ms
}

func ExampleMemory_Peek() {
	limiter := ratelimit.NewMemory(ratelimit.MemoryOptions{})
	subjects := []ratelimit.Subject{{
		Type: "user", Key: "ada",
		Limits: []ratelimit.Limit{{Requests: 10, Window: time.Hour}, {Requests: 3, Window: time.Second}},
	}}
	now := time.Date(2026, 11, 23, 8, 41, 0, 0, time.UTC)
	var d ratelimit.Decision
	_ = limiter.Take(context.Background(), now, subjects, &d)
	_ = limiter.Peek(context.Background(), now, subjects, &d)
	s := d.Statuses[0]
	fmt.Println(s.Limit, "used", s.Used, "reset", s.Reset.Format(time.TimeOnly))

	_ = limiter.Reset(context.Background(), "user", "ada")
	_ = limiter.Peek(context.Background(), now, subjects, &d)
	fmt.Println(d.Statuses[0].Limit, "used", d.Statuses[0].Used)
	// Output:
	// 3/1s used 1 reset 08:41:01
	// 3/1s used 0
}

func ExampleMiddleware() {
	limit := ratelimit.Middleware(ratelimit.HTTPOptions{
		Limiter: ratelimit.NewMemory(ratelimit.MemoryOptions{}),
		Subjects: func(r *http.Request, subjects []ratelimit.Subject) []ratelimit.Subject {
			peer, _ := netip.ParseAddrPort(r.RemoteAddr)
			return append(subjects, ratelimit.Subject{
				Type: "ip", Key: ratelimit.AddressKey(peer.Addr(), 64),
				Limits: []ratelimit.Limit{{Requests: 2, Window: time.Minute}},
			})
		},
	})
	handler := limit(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }))
	for range 3 {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
		fmt.Println(w.Code, w.Header().Get("RateLimit-Policy"))
	}
	// Output:
	// 200 "ip";q=2;w=60
	// 200 "ip";q=2;w=60
	// 429 "ip";q=2;w=60
}

func ExampleOffenders() {
	limiter, offenders := ratelimit.NewMemory(ratelimit.MemoryOptions{}), ratelimit.NewOffenders(time.Hour, 1000)
	subjects := []ratelimit.Subject{{Type: "ip", Key: "203.0.113.7", Limits: []ratelimit.Limit{{Requests: 2, Window: time.Minute}}}}
	now := time.Date(2026, 11, 23, 8, 41, 0, 0, time.UTC)
	var d ratelimit.Decision
	for range 10 {
		_ = limiter.Take(context.Background(), now, subjects, &d)
		offenders.Add(now, subjects, &d)
	}
	for _, o := range offenders.Top(now, 5) {
		fmt.Println(o.Type, o.Key, "denied", o.Denied)
	}
	// Output:
	// ip 203.0.113.7 denied 8
}
