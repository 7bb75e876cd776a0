package bench

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-chi/httprate"
	"github.com/throttled/throttled/v2"
	"github.com/throttled/throttled/v2/store/memstore"
	"github.com/ulule/limiter/v3"
	"github.com/ulule/limiter/v3/drivers/store/memory"

	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// candidate is a limiter in the table. open gives what decides on one request of
// one key.
type candidate struct {
	name    string
	open    func(*testing.T, ratelimit.Limit) func() bool
	ours    bool // no false admissions
	mayDeny bool // false denials, though
}

// candidates are libraries where they are to be had in Go, and their formula in a
// few lines otherwise. All of them read the clock of the test.
func candidates() []candidate {
	return []candidate{
		{name: "Gatehouse", open: exactWindow(0), ours: true},
		{name: "Gatehouse, as for limits above 4,096", open: exactWindow(1), ours: true, mayDeny: true},
		{name: "fixed window, formula (Envoy's ratelimit)", open: fixedWindow},
		{name: "fixed window, ulule/limiter", open: ululeFixed},
		{name: "two-bucket window, formula (Cloudflare, Upstash)", open: twoBuckets},
		{name: "two-bucket window, go-chi/httprate", open: httprateWindow},
		{name: "GCRA, throttled", open: throttledCell},
		{name: "token bucket, golang.org/x/time/rate", open: tokenBucket},
	}
}

// exactWindow is Gatehouse; limits of more than exact requests are counted in
// sub-buckets.
func exactWindow(exact int) func(*testing.T, ratelimit.Limit) func() bool {
	return func(t *testing.T, l ratelimit.Limit) func() bool {
		m := ratelimit.NewMemory(ratelimit.MemoryOptions{MaxExact: exact})
		subjects := []ratelimit.Subject{{Type: "ip", Key: "203.0.113.7", Limits: []ratelimit.Limit{l}}}
		var d ratelimit.Decision
		return func() bool {
			if err := m.Take(t.Context(), time.Now(), subjects, &d); err != nil {
				t.Fatal(err)
			}
			return d.Admitted
		}
	}
}

// fixedWindow counts what falls into a window of the clock on the wall.
func fixedWindow(_ *testing.T, l ratelimit.Limit) func() bool {
	var window time.Time
	counted := 0
	return func() bool {
		if current := time.Now().Truncate(l.Window); current != window {
			window, counted = current, 0
		}
		if counted >= l.Requests {
			return false
		}
		counted++
		return true
	}
}

// twoBuckets weighs the window before by how much of it a sliding window still
// covers: https://blog.cloudflare.com/counting-things-a-lot-of-different-things/.
// Like Upstash's it counts what it admits only.
func twoBuckets(_ *testing.T, l ratelimit.Limit) func() bool {
	var window time.Time
	before, counted := 0, 0
	return func() bool {
		now := time.Now()
		switch current := now.Truncate(l.Window); current.Sub(window) {
		case 0:
		case l.Window:
			window, before, counted = current, counted, 0
		default:
			window, before, counted = current, 0, 0
		}
		covered := 1 - float64(now.Sub(window))/float64(l.Window)
		if int(float64(before)*covered)+counted >= l.Requests {
			return false
		}
		counted++
		return true
	}
}

func ululeFixed(t *testing.T, l ratelimit.Limit) func() bool {
	store := memory.NewStoreWithOptions(limiter.StoreOptions{})
	made := limiter.New(store, limiter.Rate{Period: l.Window, Limit: int64(l.Requests)})
	return func() bool {
		c, err := made.Get(t.Context(), "203.0.113.7")
		if err != nil {
			t.Fatal(err)
		}
		return !c.Reached
	}
}

func httprateWindow(_ *testing.T, l ratelimit.Limit) func() bool {
	made := httprate.NewRateLimiter(l.Requests, l.Window)
	r, w := httptest.NewRequest(http.MethodGet, "/", nil), httptest.NewRecorder()
	return func() bool { return !made.OnLimit(w, r, "203.0.113.7") }
}

func throttledCell(t *testing.T, l ratelimit.Limit) func() bool {
	store, err := memstore.NewCtx(0)
	if err != nil {
		t.Fatal(err)
	}
	made, err := throttled.NewGCRARateLimiterCtx(store, throttled.RateQuota{
		MaxRate: throttled.PerDuration(l.Requests, l.Window), MaxBurst: l.Requests - 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	return func() bool {
		limited, _, err := made.RateLimitCtx(t.Context(), "203.0.113.7", 1)
		if err != nil {
			t.Fatal(err)
		}
		return !limited
	}
}

func tokenBucket(_ *testing.T, l ratelimit.Limit) func() bool {
	made := newXTime(l)
	return func() bool { return made.AllowN(time.Now(), 1) }
}
