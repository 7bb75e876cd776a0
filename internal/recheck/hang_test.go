package recheck_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-io/gatehouse/internal/recheck"
)

// The bounds of the package.
const (
	patience = 500 * time.Millisecond
	lookTime = 4 * time.Second
	promise  = 5 * time.Second
)

// frozen is a database that can stand still: a look then waits for its end, or for the
// database to go on.
type frozen struct {
	mu      sync.Mutex
	going   chan struct{} // closed while it goes
	lost    bool          // what began while it stood still is never answered
	refuses bool          // while it stands still, at once
	values  [4]int
	changed [4][]time.Time // when value n of the key came
	up      time.Time      // since when it goes
	looks   atomic.Int64
	random  *rand.Rand
	slowest time.Duration // that an answer may take
}

func newFrozen(seed uint64, slowest time.Duration) *frozen {
	f := &frozen{going: make(chan struct{}), up: time.Now(), random: rand.New(rand.NewPCG(seed, 1)), slowest: slowest}
	close(f.going)
	for key := range f.changed {
		f.changed[key] = []time.Time{time.Now()}
	}
	return f
}

func (f *frozen) stop(lost, refuses bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.going, f.lost, f.refuses, f.up = make(chan struct{}), lost, refuses, time.Time{}
}

func (f *frozen) resume() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.going)
	f.up = time.Now()
}

func (f *frozen) change(key int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.values[key]++
	f.changed[key] = append(f.changed[key], time.Now())
}

func (f *frozen) load(ctx context.Context, key int) (int, error) {
	f.mu.Lock()
	going, lost, refuses, up := f.going, f.lost, f.refuses, !f.up.IsZero()
	f.looks.Add(1)
	f.mu.Unlock()
	if !up && refuses {
		return 0, errAway
	}
	if !up && lost {
		going = nil
	}
	select {
	case <-going:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	f.mu.Lock()
	takes := time.Duration(f.random.Int64N(int64(f.slowest)))
	value := f.values[key] // what was asked for when the database had it
	f.mu.Unlock()
	time.Sleep(takes)
	return value, nil
}

func newHanging() *recheck.Cache[int, int] {
	return recheck.New[int, int](recheck.Options{Size: 100, Fresh: fresh, StaleMax: staleMax, Stale: func(err error) bool {
		return errors.Is(err, errAway) || errors.Is(err, context.DeadlineExceeded)
	}})
}

func (f *frozen) get(t *testing.T, c *recheck.Cache[int, int], key int) (value int, took time.Duration, err error) {
	t.Helper()
	start := time.Now()
	value, err = c.Get(t.Context(), key, func(ctx context.Context) (int, error) { return f.load(ctx, key) })
	return value, time.Since(start), err
}

// While the database hangs nobody waits longer than until the first look has failed, and then
// nobody at all; the look for a value is one at a time, and only a value that nobody has is waited for.
func TestDatabaseThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, f := newHanging(), newFrozen(0, 100*time.Millisecond)
		for key := range 2 {
			if _, _, err := f.get(t, c, key); err != nil {
				t.Fatal(err)
			}
		}
		answered := time.Now().Add(-100 * time.Millisecond)
		time.Sleep(fresh)
		f.stop(true, false)
		f.looks.Store(0)
		stopped := time.Now()
		for n := 0; time.Since(answered) < staleMax-2*time.Second; n++ {
			known := time.Since(stopped) >= lookTime // that it hangs
			v, took, err := f.get(t, c, n%2)
			if v != 0 || err != nil || known && took > 0 || time.Since(answered) < promise && took > patience || took > lookTime {
				t.Fatalf("call %d gave %d, %v after %v", n, v, err, took)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if looks := f.looks.Load(); looks < 20 || looks > 32 {
			t.Errorf("%d looks in %v for two keys, each of which takes four seconds", looks, staleMax)
		}
		if _, took, err := f.get(t, c, 3); err == nil || took < time.Second || took > 5*time.Second {
			t.Errorf("a value that nobody has: %v after %v", err, took)
		}
		time.Sleep(2*time.Second - time.Since(answered) + staleMax)
		if _, took, err := f.get(t, c, 0); err == nil || took > 5*time.Second {
			t.Errorf("a value that is too old: %v after %v", err, took)
		}
		f.change(0)
		f.resume()
		time.Sleep(5 * time.Second)
		if v, _, err := f.get(t, c, 0); v != 1 || err != nil {
			t.Errorf("once the database is back: %d, %v", v, err)
		}
	})
}

// A database that is slow, and answers others, is waited for.
func TestSlowIsNotAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newHanging()
		slow := func(value int, takes time.Duration) func(context.Context) (int, error) {
			return func(context.Context) (int, error) { time.Sleep(takes); return value, nil }
		}
		if _, err := c.Get(t.Context(), 0, slow(1, 0)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Second)
		var others sync.WaitGroup
		for n := range 8 {
			others.Go(func() { _, _ = c.Get(t.Context(), 100+n, slow(1, time.Duration(n)*300*time.Millisecond)) })
		}
		if v, err := c.Get(t.Context(), 0, slow(2, 2*time.Second)); v != 2 || err != nil {
			t.Errorf("Get = %d, %v; want what the database says", v, err)
		}
		others.Wait()
	})
}

// Whatever the database does, and whoever asks when: what is served is no older than it may be,
// a change holds five seconds after it where the database has answered since, and nobody
// waits long who can be served.
func TestHangsAtRandom(t *testing.T) {
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 0))
			// A slow database hangs never, so that nothing excuses an old value.
			slowest := []time.Duration{100 * time.Millisecond, 400 * time.Millisecond, 3900 * time.Millisecond}[seed%3]
			c, f := newHanging(), newFrozen(seed, slowest)
			var callers sync.WaitGroup
			for range 400 {
				switch n := r.IntN(40); {
				case n == 0 && !f.up.IsZero() && slowest < patience:
					f.stop(r.IntN(2) == 0, r.IntN(3) == 0)
				case n <= 2 && f.up.IsZero():
					f.resume()
				case n < 8:
					f.change(r.IntN(4))
				default:
					key := r.IntN(4)
					callers.Go(func() { f.checked(t, c, key, seed) })
				}
				time.Sleep(time.Duration(r.ExpFloat64() * float64([]time.Duration{20 * time.Millisecond, 300 * time.Millisecond, 3 * time.Second}[r.IntN(3)])))
			}
			callers.Wait()
			time.Sleep(5 * time.Second) // looks behind
		})
	}
}

// checked asks for key and checks the answer.
func (f *frozen) checked(t *testing.T, c *recheck.Cache[int, int], key int, seed uint64) {
	asked := time.Now()
	v, took, err := f.get(t, c, key)
	f.mu.Lock()
	defer f.mu.Unlock()
	up := !f.up.IsZero() && asked.Sub(f.up) >= 5*time.Second
	if err != nil {
		if up {
			t.Errorf("seed %d: %v of a database that is there", seed, err)
		}
		return
	}
	if v+1 < len(f.changed[key]) {
		old := time.Since(f.changed[key][v+1]) // since it was not so any more
		if old > staleMax+100*time.Millisecond || up && old > 5*time.Second+100*time.Millisecond {
			t.Errorf("seed %d: a value was served that was changed %v ago; the database goes: %v", seed, old, up)
		}
	}
	if up && took > f.slowest+time.Second {
		t.Errorf("seed %d: %v for an answer of a database that is there", seed, took)
	}
}

// A database that answers, if slowly, is heard: what it says may be that a token was revoked long ago.
func TestOneSlowAnswerIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, revoked := newHanging(), errors.New("revoked")
		if _, err := c.Get(t.Context(), 0, func(context.Context) (int, error) { return 1, nil }); err != nil {
			t.Fatal(err)
		}
		time.Sleep(staleMax / 2)
		_, err := c.Get(t.Context(), 0, func(context.Context) (int, error) {
			time.Sleep(lookTime - time.Millisecond)
			return 0, revoked
		})
		if !errors.Is(err, revoked) {
			t.Errorf("%v, want what the database says", err)
		}
	})
}
