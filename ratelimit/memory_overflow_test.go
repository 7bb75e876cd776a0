package ratelimit_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// network is the group of the keys in these tests: what is before the last dot.
func network(s ratelimit.Subject) string {
	return s.Key[:max(0, strings.LastIndexByte(s.Key, '.'))]
}

// elsewhere is a subject whose network's bucket counts nothing. There are few buckets for few keys, so that a
// network may share one with another.
func elsewhere(t *testing.T, m *ratelimit.Memory, at time.Time) ratelimit.Subject {
	t.Helper()
	for i := range 1000 {
		s := subject("ip", fmt.Sprintf("10.99.%d.1", i), "3/1m")
		if peek(t, m, at, s).Statuses[0].Used == 0 {
			return s
		}
	}
	t.Fatal("all networks share one bucket")
	return ratelimit.Subject{}
}

// crowded is a memory in which every key is limited for an hour.
func crowded(t testing.TB, keys int) (*ratelimit.Memory, []ratelimit.Subject) {
	m := ratelimit.NewMemory(ratelimit.MemoryOptions{MaxKeys: keys, Overflow: network})
	var limited []ratelimit.Subject
	for i := range keys * 2 { // some shards are full earlier
		s := subject("limited", fmt.Sprint(i), "1/1h")
		if d := take(t, m, epoch, s); d.Admitted && !d.Statuses[0].Shared {
			limited = append(limited, s)
		}
	}
	return m, limited
}

func TestNewcomersShareABucket(t *testing.T) {
	m, limited := crowded(t, 100)
	a, b := subject("ip", "10.0.0.1", "3/1m"), subject("ip", "10.0.0.2", "3/1m")
	at := func(s int) time.Time { return epoch.Add(time.Duration(s) * time.Second) }

	take(t, m, at(0), a)
	if d := take(t, m, at(1), b); !d.Admitted || d.Statuses[0].Used != 2 || !d.Statuses[0].Shared || !d.Statuses[0].Reset.Equal(at(60)) {
		t.Fatalf("the second of three: %+v", d)
	}
	take(t, m, at(2), a)
	// Looking says what asking would say, also for one who never asked.
	for _, s := range []ratelimit.Subject{a, b, subject("ip", "10.0.0.3", "3/1m")} {
		for _, d := range []ratelimit.Decision{peek(t, m, at(3), s), take(t, m, at(3), s)} {
			if st := d.Statuses[0]; d.Admitted || st.Used != 3 || !st.Full || !st.Shared || d.RetryAfter != 57*time.Second {
				t.Fatalf("the bucket is full: %s: %+v", s.Key, d)
			}
		}
	}
	if d := take(t, m, at(3), elsewhere(t, m, at(3))); !d.Admitted || d.Statuses[0].Used != 1 {
		t.Errorf("another network: %+v", d)
	}
	// Another window counts for itself, and so does another type.
	for _, s := range []ratelimit.Subject{subject("ip", "10.0.0.1", "3/1m", "9/1h"), subject("organization", "10.0.0.1", "3/1m")} {
		if d := take(t, m, at(3), s); !d.Admitted || d.Statuses[0].Used != 1 {
			t.Errorf("%s %v: %+v", s.Type, s.Limits, d)
		}
	}
	if d := take(t, m, at(60), b); !d.Admitted || d.Statuses[0].Used != 3 {
		t.Errorf("one came free: %+v", d)
	}
	for _, s := range limited {
		if d := take(t, m, at(61), s); d.Admitted || d.Statuses[0].Shared {
			t.Fatalf("%s was pushed out: %+v", s.Key, d)
		}
	}
	if s := m.Stats(); s.Keys != len(limited) || s.Buckets != 5 || s.PushedOut != 0 {
		t.Errorf("%+v, %d limited", s, len(limited))
	}
}

// Where there is room again, a key begins with what its bucket counts: nobody is
// admitted by both.
func TestNewcomersTakeTheirCountAlong(t *testing.T) {
	m, _ := crowded(t, 100)
	a, b := subject("ip", "10.0.0.1", "3/1h"), subject("ip", "10.0.0.2", "3/1h")
	for range 2 {
		take(t, m, epoch.Add(30*time.Minute), a)
	}
	later := epoch.Add(time.Hour) // all others are free
	if d := take(t, m, later, a); !d.Admitted || d.Statuses[0].Used != 3 || d.Statuses[0].Shared {
		t.Fatalf("the third: %+v", d)
	}
	if d := take(t, m, later, a); d.Admitted || d.RetryAfter != 30*time.Minute {
		t.Fatalf("the fourth: %+v", d)
	}
	// That one counted for a alone.
	if d := peek(t, m, later, b); d.Statuses[0].Used != 2 || !d.Statuses[0].Shared {
		t.Errorf("what b begins with: %+v", d)
	}
	if d := take(t, m, epoch.Add(2*time.Hour), b); !d.Admitted || d.Statuses[0].Used != 1 || d.Statuses[0].Shared {
		t.Errorf("when the bucket counts nothing: %+v", d)
	}
}

// Two subjects of one request that share a bucket count there once.
func TestARequestCountsOnceInABucket(t *testing.T) {
	m, _ := crowded(t, 100)
	a, b := subject("org", "one", "2/1h"), subject("org", "two", "2/1h")
	for i := range 2 {
		d := take(t, m, epoch, a, b)
		if !d.Admitted || d.Statuses[0].Used != i+1 || d.Statuses[1].Used != i+1 {
			t.Fatalf("request %d: %+v", i, d)
		}
	}
	if d := take(t, m, epoch, b); d.Admitted {
		t.Errorf("more than the limit: %+v", d)
	}
}

// However keys come and go, none is admitted more than its limit in any window
// while it is remembered, and no bucket is.
func TestSharingNeverExceeds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := ratelimit.NewMemory(ratelimit.MemoryOptions{
			MaxKeys: ratelimit.MaxSubjects, MaxExact: rapid.SampledFrom([]int{1, 4096}).Draw(t, "exact"), Overflow: network,
		})
		limits := rapid.SampledFrom([]map[string]string{{"ip": "2/10s", "org": "3/1m"}, {"ip": "1/10s", "org": "1/1m"}}).Draw(t, "limits")
		ledgers := map[string]ledger{}
		now := epoch
		var d ratelimit.Decision
		for range rapid.IntRange(1, 200).Draw(t, "requests") {
			now = now.Add(time.Duration(rapid.OneOf(rapid.Just(0), rapid.IntRange(0, 3000), rapid.Just(61_000)).Draw(t, "advance")) * time.Millisecond)
			var subjects []ratelimit.Subject
			for _, kind := range rapid.SampledFrom([][]string{{"ip"}, {"org"}, {"ip", "org"}}).Draw(t, "types") {
				key := fmt.Sprintf("%d.%d", rapid.IntRange(0, 1).Draw(t, "network"), rapid.IntRange(0, 12).Draw(t, "key"))
				subjects = append(subjects, subject(kind, key, limits[kind]))
			}
			before := m.Stats().PushedOut
			if err := m.Take(t.Context(), now, subjects, &d); err != nil {
				t.Fatal(err)
			}
			if m.Stats().PushedOut != before {
				ledgers = map[string]ledger{} // somebody was forgotten: by design
			}
			if !d.Admitted {
				continue
			}
			for i, s := range subjects {
				names := []string{s.Type + " " + s.Key}
				if d.Statuses[i].Shared {
					names = append(names, s.Type+" bucket "+network(s))
				}
				for _, name := range names {
					ledgers[name] = append(ledgers[name], now.UnixMilli())
					if n := ledgers[name].within(now.UnixMilli(), s.Limits[0].Window.Milliseconds()); n > s.Limits[0].Requests {
						t.Fatalf("%s: %d admitted under %s", name, n, s.Limits[0])
					}
				}
			}
		}
	})
}

// A flood of a million new addresses finds a memory full of limited keys: none of
// these is pushed out, memory stays within its bound, and of each network no more
// than the limit is admitted.
func TestFloodOfNewcomers(t *testing.T) {
	const keys, perNetwork = 20_000, 5
	// 100 bytes a key and 8 for its request, and a bucket for 16 keys with all of its.
	const bound = keys*(100+8) + keys/16*(100+8*perNetwork)
	candidates := make([]ratelimit.Subject, keys*3/2) // some shards are full earlier
	for i := range candidates {
		candidates[i] = subject("limited", fmt.Sprint(i), "1/1h")
	}
	limits := subject("ip", "", fmt.Sprint(perNetwork, "/1h")).Limits
	admitted := map[string]int{}
	for i := range 500 {
		admitted[fmt.Sprint(i)] = 0
	}
	before := heap()

	m := ratelimit.NewMemory(ratelimit.MemoryOptions{MaxKeys: keys, Overflow: network})
	var limited []int
	for i := range candidates {
		if d := take(t, m, epoch, candidates[i]); d.Admitted && !d.Statuses[0].Shared {
			limited = append(limited, i)
		}
	}
	addresses := 1_000_000
	if raced {
		addresses = 60_000
	}
	var d ratelimit.Decision
	for i := range addresses {
		s := []ratelimit.Subject{{Type: "ip", Key: fmt.Sprintf("%d.%d", i%500, i/500), Limits: limits}}
		if err := m.Take(t.Context(), epoch.Add(time.Duration(i)*time.Microsecond), s, &d); err != nil {
			t.Fatal(err)
		}
		if d.Admitted {
			admitted[network(s[0])]++
		}
	}
	if grown := heap() - before - int64(8*cap(limited)); grown > bound {
		t.Errorf("%d bytes for %d keys, want at most %d", grown, keys, bound)
	}
	some := 0
	for name, n := range admitted {
		if n > perNetwork {
			t.Errorf("network %s: %d admitted", name, n)
		}
		some += min(n, 1)
	}
	if some < 300 { // of 500: networks may meet in a bucket
		t.Errorf("%d networks were admitted", some)
	}
	if s := m.Stats(); s.Keys != len(limited) || s.Buckets > 501 || s.PushedOut != 0 {
		t.Errorf("%+v, %d limited", s, len(limited))
	}
	for _, i := range limited {
		if take(t, m, epoch.Add(time.Minute), candidates[i]).Admitted {
			t.Fatalf("%s was pushed out", candidates[i].Key)
		}
	}
}

func TestConcurrentNewcomersNeverExceed(t *testing.T) {
	m, _ := crowded(t, 100)
	var admitted atomic.Int64
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			var d ratelimit.Decision
			for i := range 300 {
				pair := []ratelimit.Subject{subject("ip", fmt.Sprintf("10.%d", worker*1000+i), "100/1h"), subject("org", "acme", "500/1h")}
				if i%2 == 0 {
					pair[0], pair[1] = pair[1], pair[0]
				}
				if err := m.Take(t.Context(), epoch, pair, &d); err != nil {
					t.Error(err)
				}
				if d.Admitted {
					admitted.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := admitted.Load(); n != 100 {
		t.Errorf("%d admitted, want 100", n)
	}
}

func TestWithoutOverflowNewcomersAreRefused(t *testing.T) {
	m := ratelimit.NewMemory(ratelimit.MemoryOptions{MaxKeys: ratelimit.MaxSubjects})
	var d ratelimit.Decision
	for i := range 9 {
		err := m.Take(t.Context(), epoch, []ratelimit.Subject{subject("ip", fmt.Sprint(i), "1/1h")}, &d)
		if (i == 8) != errors.Is(err, ratelimit.ErrFull) {
			t.Errorf("key %d: %v", i, err)
		}
	}
}
