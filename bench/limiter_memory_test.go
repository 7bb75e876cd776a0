package bench

import (
	"context"
	"fmt"
	"hash/maphash"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// BenchmarkMemoryDecision is the decision of a chat request, on its address and
// its organization: one Take of two subjects beside two checks of each other
// limiter, one after the other. The clock is read once where the limiter takes an
// instant, and as often as it likes where it does not. "instant passed" leaves the
// clock out for those that take one: a server has read it for the request anyway.
//
// The others promise less: none of them decides on both subjects as one, or
// holds an exact window, and only go-limiter, throttled and ulule say what remains
// and when to come back.
func BenchmarkMemoryDecision(b *testing.B) {
	both := func(b *testing.B, turn int, keys []pair, made []decider, clock clock, admitted bool) {
		for _, goroutines := range []int{1, 2} {
			if goroutines > 1 && clock.pace > 0 {
				continue // two goroutines cannot keep one pace
			}
			b.Run("goroutines="+strconv.Itoa(goroutines), func(b *testing.B) {
				decide(b, work{goroutines: goroutines, turn: turn, rounds: 10, allocs: true}, keys, made, clock, admitted)
			})
		}
	}
	hot := func(l limits, clock clock, admitted bool) func(*testing.B) {
		return func(b *testing.B) { both(b, 5000, pairKeys(1), deciders(b, l, 1), clock, admitted) }
	}
	b.Run("hot pair denied", hot(chat, clock{}, false)) // but for the first hundred
	b.Run("hot pair denied, instant passed", hot(chat, clock{passed: true}, false))
	b.Run("hot pair admitted", hot(limits{wide, wide}, clock{}, true))
	// A request every four seconds: what came before leaves the windows one by one.
	// Those that read the clock themselves have a limit that admits.
	b.Run("hot pair admitted, instant passed", hot(chat, clock{passed: true, pace: 4 * time.Second}, true))
	b.Run("a million pairs", func(b *testing.B) {
		keys := pairKeys(1_000_000)
		made := deciders(b, chat, len(keys))
		for _, d := range made {
			fill(d, keys, 1)
		}
		runtime.GC()
		// All that Gatehouse holds of a request is its instant. Room for more than the first
		// two is made as they come, so that a later request of a key may allocate. What the
		// others hold of a key does not depend on how many came before.
		b.Run("second request", func(b *testing.B) { both(b, 1000, keys, made, clock{}, true) })
		fill(made[0], keys, 5)
		runtime.GC()
		b.Run("later request", func(b *testing.B) { both(b, 1000, keys, made, clock{}, true) })
	})
}

// chat is what a chat route has.
var chat = limits{ip: ratelimit.Limit{Requests: 100, Window: time.Minute}, organization: ratelimit.Limit{Requests: 1000, Window: time.Hour}}

// clock is where instants come from: the clock, or, where they are passed, an
// instant that is there already, and moves on by pace.
type clock struct {
	passed bool
	pace   time.Duration
}

// decide compares the deciders on the same walk over the pairs. As with a server,
// each request has its keys in memory of its own, which was written just now: a
// decider that kept the strings it was first asked with cannot tell a key by its
// address.
func decide(b *testing.B, w work, keys []pair, made []decider, clock clock, admitted bool) {
	var sides []side
	var requests []pair
	w.ready = func(i, n int) {
		requests = requests[:0]
		for range n {
			// A prime: neighbours in time are none in memory.
			k := &keys[made[i].at*7919%len(keys)]
			requests = append(requests, pair{strings.Clone(k.ip), strings.Clone(k.organization)})
			made[i].at++
		}
	}
	for i := range made {
		d := &made[i]
		if clock.pace > 0 && d.paced != nil {
			d = d.paced
		}
		d.now = time.Now()
		run := func(goroutines, n int) {
			now := d.now
			d.now = now.Add(time.Duration(n) * clock.pace)
			spread(goroutines, n, func(worker, n int) {
				decide, denied, now := d.caller(), 0, now
				requests := requests[worker*n:][:n]
				for i := range requests {
					if !clock.passed && d.instant {
						now = time.Now()
					}
					if !decide(&requests[i], now) {
						denied++
					}
					now = now.Add(clock.pace)
				}
				// A goroutine that was off the processor for a while asks GCRA with an old instant.
				if admitted && denied > n/1000 {
					b.Errorf("%s denied %d of %d decisions that were to be admitted", d.name, denied, n)
				}
			})
		}
		sides = append(sides, side{d.name, run})
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
	name    string
	instant bool // it takes the instant, and reads no clock itself
	caller  func() func(*pair, time.Time) bool
	at      int       // how far the walk over the pairs has come
	now     time.Time // the instant, where instants are passed
	paced   *decider  // stands in where instants are passed at a pace that it cannot follow
}

// fill shows every pair to a decider.
func fill(d decider, keys []pair, times int) {
	decide := d.caller()
	for range times {
		for i := range keys {
			decide(&keys[i], time.Now())
		}
	}
}

// deciders gives Gatehouse's limiter first.
func deciders(b *testing.B, l limits, pairs int) []decider {
	made := []decider{
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
		xTime("xtime-sharded", l, shardedXTime),
	}
	for _, own := range []func(*testing.B, limits, int) decider{goLimiter, throttledGCRA, ululeMemory, httprateMemory} {
		d := own(b, l, pairs)
		if pairs == 1 {
			admits := own(b, limits{wide, wide}, pairs)
			d.paced = &admits
		}
		made = append(made, d)
	}
	return made
}

func gatehouseMemory(b *testing.B, l limits, pairs int) decider {
	m := ratelimit.NewMemory(ratelimit.MemoryOptions{MaxKeys: max(3*pairs, ratelimit.DefaultMaxKeys)})
	ip, organization := []ratelimit.Limit{l.ip}, []ratelimit.Limit{l.organization}
	return decider{name: "gatehouse", instant: true, caller: func() func(*pair, time.Time) bool {
		var d ratelimit.Decision
		subjects := make([]ratelimit.Subject, 2)
		return func(p *pair, now time.Time) bool {
			subjects[0] = ratelimit.Subject{Type: "ip", Key: p.ip, Limits: ip}
			subjects[1] = ratelimit.Subject{Type: "org", Key: p.organization, Limits: organization}
			if err := m.Take(context.Background(), now, subjects, &d); err != nil {
				b.Error(err)
			}
			return d.Admitted
		}
	}}
}

// xTime is golang.org/x/time/rate with a limiter for each key out of a table.
func xTime(name string, l limits, table func(ratelimit.Limit) func(string) *rate.Limiter) decider {
	ips, organizations := table(l.ip), table(l.organization)
	return decider{name: name, instant: true, caller: func() func(*pair, time.Time) bool {
		return func(p *pair, now time.Time) bool {
			first, second := ips(p.ip).AllowN(now, 1), organizations(p.organization).AllowN(now, 1)
			return first && second
		}
	}}
}

// shardedXTime is a table of 256 shards.
func shardedXTime(limit ratelimit.Limit) func(string) *rate.Limiter {
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
}

func newXTime(l ratelimit.Limit) *rate.Limiter {
	return rate.NewLimiter(rate.Limit(float64(l.Requests)/l.Window.Seconds()), l.Requests)
}
