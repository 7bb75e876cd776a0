package bench

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/go-chi/httprate"
	"github.com/sethvargo/go-limiter"
	"github.com/sethvargo/go-limiter/memorystore"
	"github.com/throttled/throttled/v2"
	"github.com/throttled/throttled/v2/store/memstore"
	ulule "github.com/ulule/limiter/v3"
	"github.com/ulule/limiter/v3/drivers/store/memory"

	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// The limiters here read the clock themselves.

// goLimiter is github.com/sethvargo/go-limiter with its memorystore.
func goLimiter(b *testing.B, l limits, pairs int) decider {
	open := func(limit ratelimit.Limit) limiter.Store {
		if limit == wide {
			// After an idle spell it hands out interval/tokens of its tokens, in nanoseconds, so
			// that many in a short interval become few. These are 32 million a second.
			limit = ratelimit.Limit{Requests: 32, Window: 1000 * time.Nanosecond}
		}
		s, err := memorystore.New(&memorystore.Config{Tokens: uint64(limit.Requests), Interval: limit.Window, InitialAlloc: pairs})
		if err != nil {
			b.Fatal(err)
		}
		return s
	}
	ips, organizations := open(l.ip), open(l.organization)
	return decider{name: "go-limiter", caller: func() func(*pair, time.Time) bool {
		return func(p *pair, _ time.Time) bool {
			_, _, _, first, err := ips.Take(context.Background(), p.ip)
			_, _, _, second, err2 := organizations.Take(context.Background(), p.organization)
			if err != nil || err2 != nil {
				b.Error(err, err2)
			}
			return first && second
		}
	}}
}

// throttledGCRA is github.com/throttled/throttled/v2 with its memstore without
// a bound, which is the faster of its two.
func throttledGCRA(b *testing.B, l limits, _ int) decider {
	open := func(limit ratelimit.Limit) *throttled.GCRARateLimiterCtx {
		store, err := memstore.NewCtx(0)
		if err != nil {
			b.Fatal(err)
		}
		g, err := throttled.NewGCRARateLimiterCtx(store, throttled.RateQuota{
			MaxRate: throttled.PerDuration(limit.Requests, limit.Window), MaxBurst: limit.Requests - 1,
		})
		if err != nil {
			b.Fatal(err)
		}
		g.SetMaxCASAttemptsLimit(1000) // it gives up after 10 lost races
		return g
	}
	ips, organizations := open(l.ip), open(l.organization)
	return decider{name: "throttled", caller: func() func(*pair, time.Time) bool {
		return func(p *pair, _ time.Time) bool {
			first, _, err := ips.RateLimitCtx(context.Background(), p.ip, 1)
			second, _, err2 := organizations.RateLimitCtx(context.Background(), p.organization, 1)
			if err != nil || err2 != nil {
				b.Error(err, err2)
			}
			return !first && !second
		}
	}}
}

// ululeMemory is github.com/ulule/limiter/v3 with its memory store, a fixed window.
func ululeMemory(b *testing.B, l limits, _ int) decider {
	open := func(limit ratelimit.Limit) *ulule.Limiter {
		return ulule.New(memory.NewStoreWithOptions(ulule.StoreOptions{}), ulule.Rate{Period: limit.Window, Limit: int64(limit.Requests)})
	}
	ips, organizations := open(l.ip), open(l.organization)
	return decider{name: "ulule", caller: func() func(*pair, time.Time) bool {
		return func(p *pair, _ time.Time) bool {
			first, err := ips.Get(context.Background(), p.ip)
			second, err2 := organizations.Get(context.Background(), p.organization)
			if err != nil || err2 != nil {
				b.Error(err, err2)
			}
			return !first.Reached && !second.Reached
		}
	}}
}

// httprateMemory is github.com/go-chi/httprate, a two-bucket window. It decides on
// an HTTP request only, and writes headers.
func httprateMemory(_ *testing.B, l limits, _ int) decider {
	ips := httprate.NewRateLimiter(l.ip.Requests, l.ip.Window)
	organizations := httprate.NewRateLimiter(l.organization.Requests, l.organization.Window)
	return decider{name: "httprate", caller: func() func(*pair, time.Time) bool {
		r, w := &http.Request{Method: http.MethodGet}, discard{http.Header{}}
		return func(p *pair, _ time.Time) bool {
			first, second := ips.OnLimit(w, r, p.ip), organizations.OnLimit(w, r, p.organization)
			return !first && !second
		}
	}}
}

// discard is an answer that nobody reads.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}
