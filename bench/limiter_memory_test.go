package bench

import (
	"context"
	"fmt"
	"hash/maphash"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/sethvargo/go-limiter"
	"github.com/sethvargo/go-limiter/memorystore"
	"github.com/throttled/throttled/v2"
	"github.com/throttled/throttled/v2/store/memstore"
	"golang.org/x/time/rate"

	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// BenchmarkMemoryDecision is the decision of a chat request, on its address and
// its organization: one Take of two subjects beside two checks of each other
// limiter, one after the other. The clock is read once where the limiter takes an
// instant, and as often as it likes where it does not.
//
// The others promise less: none of them decides on both subjects as one, or
// holds an exact window, and only go-limiter and throttled say what remains and
// when to come back.
func BenchmarkMemoryDecision(b *testing.B) {
	chat := limits{ip: ratelimit.Limit{Requests: 100, Window: time.Minute}, organization: ratelimit.Limit{Requests: 1000, Window: time.Hour}}
	both := func(b *testing.B, turn int, keys []pair, made []decider, admitted bool) {
		for _, goroutines := range []int{1, 2} {
			b.Run("goroutines="+strconv.Itoa(goroutines), func(b *testing.B) {
				decide(b, work{goroutines: goroutines, turn: turn, rounds: 10, allocs: true}, keys, made, admitted)
			})
		}
	}
	hot := func(l limits, admitted bool) func(*testing.B) {
		return func(b *testing.B) { both(b, 20_000, pairKeys(1), deciders(b, l, 1), admitted) }
	}
	b.Run("hot pair denied", hot(chat, false)) // but for the first hundred
	b.Run("hot pair admitted", hot(limits{wide, wide}, true))
	b.Run("a million pairs", func(b *testing.B) {
		keys := pairKeys(1_000_000)
		made := deciders(b, chat, len(keys))
		for _, d := range made {
			fill(d, keys, 1)
		}
		runtime.GC()
		// All that Gatehouse holds of a request is its instant. Room for these is made as
		// they come, so that the second request of a key allocates and a later one does so
		// less often. What the others hold of a key does not depend on how many came before.
		b.Run("second request", func(b *testing.B) { both(b, 3000, keys, made, true) })
		fill(made[0], keys, 5)
		runtime.GC()
		b.Run("later request", func(b *testing.B) { both(b, 3000, keys, made, true) })
	})
}

// decide compares the deciders on the same walk over the pairs.
func decide(b *testing.B, w work, keys []pair, made []decider, admitted bool) {
	var sides []side
	for i := range made {
		d := &made[i]
		sides = append(sides, side{d.name, func(goroutines, n int) {
			from := d.at
			d.at += n
			spread(goroutines, n, func(worker, n int) {
				decide, denied := d.caller(), 0
				for i := range n {
					// A prime: neighbours in time are none in memory.
					if !decide(&keys[(from+worker*n+i)*7919%len(keys)]) {
						denied++
					}
				}
				// A goroutine that was off the processor for a while asks GCRA with an old instant.
				if admitted && denied > n/1000 {
					b.Errorf("%s denied %d of %d decisions that were to be admitted", d.name, denied, n)
				}
			})
		}})
	}
	outcomes := compare(b, w, sides)
	fastest := outcomes[1].ns
	for _, o := range outcomes[2:] {
		if median(o.ns) < median(fastest) {
			fastest = o.ns
		}
	}
	b.ReportMetric(ratio(outcomes[0].ns, fastest), "x_fastest")
}

// wide is a limit that no machine reaches.
var wide = ratelimit.Limit{Requests: 1_000_000, Window: time.Millisecond}

type limits struct{ ip, organization ratelimit.Limit }

type pair struct{ ip, organization string }

func pairKeys(n int) []pair {
	keys := make([]pair, n)
	for i := range keys {
		keys[i] = pair{fmt.Sprintf("10.%d.%d.%d", i>>16&255, i>>8&255, i&255), "org_" + strconv.Itoa(i)}
	}
	return keys
}

// decider is a limiter. caller gives what one goroutine calls.
type decider struct {
	name   string
	caller func() func(*pair) bool
	at     int // how far the walk over the pairs has come
}

// fill shows every pair to a decider.
func fill(d decider, keys []pair, times int) {
	decide := d.caller()
	for range times {
		for i := range keys {
			decide(&keys[i])
		}
	}
}

// deciders gives Gatehouse's limiter first.
func deciders(b *testing.B, l limits, pairs int) []decider {
	return []decider{
		gatehouseMemory(b, l, pairs),
		xTime("xtime-syncmap", l, func(limit ratelimit.Limit) func(string) *rate.Limiter {
			var known sync.Map
			return func(key string) *rate.Limiter {
				if found, ok := known.Load(key); ok {
					return found.(*rate.Limiter)
				}
				found, _ := known.LoadOrStore(key, newXTime(limit))
				return found.(*rate.Limiter)
			}
		}),
		xTime("xtime-sharded", l, func(limit ratelimit.Limit) func(string) *rate.Limiter {
			var shards [256]struct {
				sync.RWMutex
				known map[string]*rate.Limiter
			}
			for i := range shards {
				shards[i].known = make(map[string]*rate.Limiter)
			}
			seed := maphash.MakeSeed()
			return func(key string) *rate.Limiter {
				s := &shards[maphash.String(seed, key)%uint64(len(shards))]
				s.RLock()
				found, ok := s.known[key]
				s.RUnlock()
				if ok {
					return found
				}
				s.Lock()
				defer s.Unlock()
				if found, ok = s.known[key]; !ok {
					found = newXTime(limit)
					s.known[key] = found
				}
				return found
			}
		}),
		goLimiter(b, l, pairs),
		throttledGCRA(b, l),
	}
}

func gatehouseMemory(b *testing.B, l limits, pairs int) decider {
	m := ratelimit.NewMemory(ratelimit.MemoryOptions{MaxKeys: max(3*pairs, ratelimit.DefaultMaxKeys)})
	ip, organization := []ratelimit.Limit{l.ip}, []ratelimit.Limit{l.organization}
	return decider{name: "gatehouse", caller: func() func(*pair) bool {
		var d ratelimit.Decision
		subjects := make([]ratelimit.Subject, 2)
		return func(p *pair) bool {
			subjects[0] = ratelimit.Subject{Type: "ip", Key: p.ip, Limits: ip}
			subjects[1] = ratelimit.Subject{Type: "org", Key: p.organization, Limits: organization}
			if err := m.Take(context.Background(), time.Now(), subjects, &d); err != nil {
				b.Error(err)
			}
			return d.Admitted
		}
	}}
}

// xTime is golang.org/x/time/rate with a limiter for each key out of a table.
func xTime(name string, l limits, table func(ratelimit.Limit) func(string) *rate.Limiter) decider {
	ips, organizations := table(l.ip), table(l.organization)
	return decider{name: name, caller: func() func(*pair) bool {
		return func(p *pair) bool {
			now := time.Now()
			first, second := ips(p.ip).AllowN(now, 1), organizations(p.organization).AllowN(now, 1)
			return first && second
		}
	}}
}

func newXTime(l ratelimit.Limit) *rate.Limiter {
	return rate.NewLimiter(rate.Limit(float64(l.Requests)/l.Window.Seconds()), l.Requests)
}

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
	return decider{name: "go-limiter", caller: func() func(*pair) bool {
		return func(p *pair) bool {
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
func throttledGCRA(b *testing.B, l limits) decider {
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
	return decider{name: "throttled", caller: func() func(*pair) bool {
		return func(p *pair) bool {
			first, _, err := ips.RateLimitCtx(context.Background(), p.ip, 1)
			second, _, err2 := organizations.RateLimitCtx(context.Background(), p.organization, 1)
			if err != nil || err2 != nil {
				b.Error(err, err2)
			}
			return !first && !second
		}
	}}
}
