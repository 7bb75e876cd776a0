package ratelimit_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/ratelimit"
)

func TestTakeAllocatesNothing(t *testing.T) {
	m := ratelimit.NewMemory(ratelimit.MemoryOptions{})
	subjects := []ratelimit.Subject{subject("ip", "203.0.113.7", "10/1s", "100/1m"), subject("organization", "acme", "1000/1h")}
	var d ratelimit.Decision
	now := epoch
	decide := func() {
		now = now.Add(37 * time.Millisecond)
		if err := m.Take(t.Context(), now, subjects, &d); err != nil {
			t.Fatal(err)
		}
		if err := m.Peek(t.Context(), now, subjects, &d); err != nil {
			t.Fatal(err)
		}
	}
	for range 10_000 {
		decide()
	}
	if n := testing.AllocsPerRun(10_000, decide); n != 0 {
		t.Errorf("%v allocations a decision", n)
	}
}

// A key with a short name takes at most 100 bytes, and 8 for each request that
// counts, however full its table is just then.
func TestBytesOfAKey(t *testing.T) {
	if raced {
		t.Skip("the race detector's allocator rounds otherwise")
	}
	for _, keys := range []int{5000, 14_000, 16_000, 18_000, 20_000} {
		names := make([]string, keys)
		for i := range names {
			names[i] = fmt.Sprintf("10.%d.%d.%d", i>>16&255, i>>8&255, i&255)
		}
		before := heap()
		m := ratelimit.NewMemory(ratelimit.MemoryOptions{MaxKeys: 40_000})
		s := []ratelimit.Subject{subject("ip", "", "50/1m")}
		var d ratelimit.Decision
		for counted := 1; counted <= 24; counted++ {
			for _, s[0].Key = range names {
				if err := m.Take(t.Context(), epoch, s, &d); err != nil || !d.Admitted {
					t.Fatal(d, err)
				}
			}
			if grown, bound := heap()-before, int64(keys*(100+8*counted)); grown > bound {
				t.Errorf("%d keys of %d requests take %d bytes, want at most %d", keys, counted, grown, bound)
			}
		}
		runtime.KeepAlive(m)
	}
}

// Keys come, go, are reset and swept; through all of it the answers are the
// oracle's.
func TestManyKeysAnswerLikeOracle(t *testing.T) {
	const seed = 20261123
	random := rand.New(rand.NewPCG(seed, seed))
	want, m := newOracle(), ratelimit.NewMemory(ratelimit.MemoryOptions{})
	now := epoch
	var d ratelimit.Decision
	for i := range 12_000 {
		now = now.Add(time.Duration(random.IntN(20)) * time.Millisecond)
		if random.IntN(1500) == 0 {
			now = now.Add(2 * time.Minute) // nothing counts, and the grace has passed
		}
		s := step{now: now, reset: random.IntN(50) == 0, subjects: []ratelimit.Subject{
			subject("ip", fmt.Sprint(random.IntN(1000)), "2/10s"), subject("organization", fmt.Sprint(random.IntN(30)), "20/1s"),
		}}
		expected := want.perform(s)
		if err := perform(t.Context(), m, s, &d); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(expected, d, answer); diff != "" {
			t.Fatalf("step %d %+v (-oracle +memory):\n%s", i, s, diff)
		}
	}
}

func TestIdleKeysAreSwept(t *testing.T) {
	m := ratelimit.NewMemory(ratelimit.MemoryOptions{})
	for i := range 5_000 {
		take(t, m, epoch, subject("ip", fmt.Sprint(i), "5/1s"))
	}
	later := epoch.Add(10 * time.Minute)
	for i := range 5_000 {
		take(t, m, later, subject("ip", fmt.Sprint("new", i), "5/1s"))
	}
	if n := m.Stats().Keys; n > 6_000 {
		t.Errorf("%d keys, 5000 in use", n)
	}
	// Also where there are no new keys.
	much := later.Add(10 * time.Minute)
	for i := range 5_000 * 64 {
		take(t, m, much, subject("ip", fmt.Sprint("new", i%500), "5/1s"))
	}
	if n := m.Stats().Keys; n > 2_000 {
		t.Errorf("%d keys, 500 in use", n)
	}
	if n := m.Stats().PushedOut; n != 0 {
		t.Errorf("%d keys pushed out", n)
	}
}

func TestKeysAreBounded(t *testing.T) {
	m := ratelimit.NewMemory(ratelimit.MemoryOptions{MaxKeys: 1000})
	limited := []ratelimit.Subject{subject("ip", "limited 1", "1/1h"), subject("ip", "limited 2", "2/1h", "1/30m")}
	for _, s := range limited {
		take(t, m, epoch, s)
	}
	for i := range 20_000 {
		if d := take(t, m, epoch.Add(time.Duration(i)*time.Millisecond), subject("ip", fmt.Sprint(i), "5/1h")); !d.Admitted {
			t.Fatalf("new key %d: %+v", i, d)
		}
	}
	if s := m.Stats(); s.Keys != 1000 || s.PushedOut != 20_000+2-1000 {
		t.Errorf("%+v", s)
	}
	for _, s := range limited {
		if d := take(t, m, epoch.Add(time.Minute), s); d.Admitted {
			t.Errorf("%s was pushed out", s.Key)
		}
	}
}

// A million addresses, each asking twice, neither grow memory past its bound nor
// push out who is limited.
func TestMillionKeysAreBounded(t *testing.T) {
	before := heap()
	m := ratelimit.NewMemory(ratelimit.MemoryOptions{MaxKeys: 20_000})
	limited := make([]ratelimit.Subject, 1000)
	for i := range limited {
		limited[i] = subject("organization", fmt.Sprint(i), "1/1h")
		take(t, m, epoch, limited[i])
	}
	limits := subject("ip", "", "5/1m").Limits
	var d ratelimit.Decision
	addresses := 1_000_000
	if raced {
		addresses = 60_000
	}
	for i := range addresses {
		s := []ratelimit.Subject{{Type: "ip", Key: fmt.Sprintf("2001:db8:%x:%x::/64", i>>16, i&0xffff), Limits: limits}}
		for range 2 {
			if err := m.Take(t.Context(), epoch.Add(time.Duration(i)*time.Microsecond), s, &d); err != nil || !d.Admitted {
				t.Fatalf("address %d: %+v, %v", i, d, err)
			}
		}
	}
	if n := m.Stats().Keys; n > 21_000 {
		t.Errorf("%d keys, want about 20,000", n)
	}
	if grown := heap() - before; grown > 5<<20 {
		t.Errorf("%d bytes for 20,000 keys", grown)
	}
	for _, s := range limited {
		if take(t, m, epoch.Add(time.Minute), s).Admitted {
			t.Fatalf("%s was pushed out", s.Key)
		}
	}
	runtime.KeepAlive(m)
}

func TestFullOfLimitedKeys(t *testing.T) {
	m := ratelimit.NewMemory(ratelimit.MemoryOptions{MaxKeys: 100})
	for i := range 99 {
		take(t, m, epoch, subject("ip", fmt.Sprint(i), "1/1h"))
	}
	// Room for one, asked by two: neither is counted.
	a, b := subject("ip", "a", "1/1h"), subject("ip", "b", "1/1h")
	var d ratelimit.Decision
	if err := m.Take(t.Context(), epoch, []ratelimit.Subject{a, b}, &d); !errors.Is(err, ratelimit.ErrFull) {
		t.Fatalf("%v, want ErrFull", err)
	}
	if d := take(t, m, epoch, a); !d.Admitted {
		t.Errorf("a was counted: %+v", d)
	}
	if err := m.Take(t.Context(), epoch, []ratelimit.Subject{b}, &d); !errors.Is(err, ratelimit.ErrFull) {
		t.Errorf("%v, want ErrFull", err)
	}
	if d := peek(t, m, epoch, b); !d.Admitted {
		t.Errorf("b was counted: %+v", d)
	}
	if d := take(t, m, epoch.Add(time.Hour), b); !d.Admitted {
		t.Errorf("an hour later: %+v", d)
	}
	if s := m.Stats(); s.Keys > 100 || s.PushedOut != 0 {
		t.Errorf("%+v", s)
	}
}

// What a burst needed is given back while its key is in use.
func TestRingsShrink(t *testing.T) {
	m := ratelimit.NewMemory(ratelimit.MemoryOptions{MaxKeys: 10, MaxExact: 100_000})
	s := subject("ip", "a", "100000/1s")
	before := heap()
	for range 100_000 {
		take(t, m, epoch, s)
	}
	burst := heap() - before
	now := epoch.Add(2 * time.Minute)
	for range 10_000 {
		now = now.Add(100 * time.Millisecond)
		take(t, m, now, s)
	}
	if after := heap() - before; burst < 500<<10 || after > 100<<10 {
		t.Errorf("%d bytes after a burst, %d after it", burst, after)
	}
	if d := peek(t, m, now, s); d.Statuses[0].Used != 10 {
		t.Errorf("%+v", d)
	}
	runtime.KeepAlive(m)
}

// What counts is kept when a ring shrinks.
func TestRingsKeepWhatCounts(t *testing.T) {
	want, m := newOracle(), ratelimit.NewMemory(ratelimit.MemoryOptions{MaxKeys: 10, MaxExact: 5000})
	s := subject("ip", "a", "5000/10m")
	var d ratelimit.Decision
	for i := range 6000 {
		at := epoch.Add(time.Duration(i/1000) * 4 * time.Minute)
		if i%1000 >= 200 && i >= 1000 {
			continue
		}
		next := step{now: at, subjects: []ratelimit.Subject{s}}
		expected := want.perform(next)
		if err := perform(t.Context(), m, next, &d); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(expected, d, answer); diff != "" {
			t.Fatalf("request %d (-oracle +memory):\n%s", i, diff)
		}
	}
}

// A clock set back by less than a minute finds every key as it was.
func TestClockStepsBackAfterASweep(t *testing.T) {
	m := ratelimit.NewMemory(ratelimit.MemoryOptions{MaxKeys: 1000})
	ip := subject("ip", "a", "1/10s")
	take(t, m, epoch, ip)
	for i := range 900 {
		take(t, m, epoch.Add(60*time.Second), subject("ip", fmt.Sprint(i), "1/10s"))
	}
	if d := take(t, m, epoch.Add(5*time.Second), ip); d.Admitted {
		t.Errorf("forgotten: %+v", d)
	}
}
