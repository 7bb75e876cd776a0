package ratelimit_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// fewExact makes limits of more than four requests large ones.
const fewExact = 4

// largeSteps draws a script in which each type has its own limits, small and
// large ones, and the clock also moves by what sub-buckets measure.
func largeSteps(t *rapid.T) []step {
	limits := map[string][]ratelimit.Limit{}
	kinds := []string{"ip", "organization"}
	for _, kind := range kinds {
		for range rapid.IntRange(1, 3).Draw(t, kind+" limits") {
			limits[kind] = append(limits[kind], ratelimit.Limit{
				Requests: rapid.SampledFrom([]int{2, 4, 5, 7, 12}).Draw(t, "requests"),
				Window:   time.Duration(rapid.SampledFrom([]int{1, 5, 255, 256, 257, 1000, 60_000, 100_003}).Draw(t, "window")) * time.Millisecond,
			})
		}
	}
	now := epoch
	var script []step
	for range rapid.IntRange(1, 150).Draw(t, "steps") {
		advance := rapid.OneOf(rapid.Just(0), rapid.IntRange(0, 5), rapid.IntRange(0, 300),
			rapid.SampledFrom([]int{1, 2, 3, 4, 5, 234, 235, 390, 391, 999, 1000, 59_765, 60_000, 100_003}), rapid.IntRange(-20, -1),
		).Draw(t, "advance")
		now = now.Add(time.Duration(advance) * time.Millisecond)
		s := step{now: now}
		for _, kind := range rapid.SliceOfNDistinct(rapid.SampledFrom(kinds), 1, 2, rapid.ID).Draw(t, "types") {
			s.subjects = append(s.subjects, ratelimit.Subject{Type: kind, Key: rapid.SampledFrom([]string{"a", "{b}"}).Draw(t, "key"), Limits: limits[kind]})
		}
		switch rapid.IntRange(0, 24).Draw(t, "kind of step") {
		case 0:
			s.reset = true
		case 1, 2:
			s.peek = true
		}
		script = append(script, s)
	}
	return script
}

func TestLargeLimitsAnswerLikeOracle(t *testing.T) {
	server := startRedis(t)
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		open := func(name string, maxDenials int) *ratelimit.Redis {
			return ratelimit.NewRedis(client(t, server), ratelimit.RedisOptions{
				Prefix: fmt.Sprintf("%s-%d:", name, run), Timeout: patient, MaxDenials: maxDenials, MaxExact: fewExact,
			}).Scripted()
		}
		want := newOracle()
		want.exact = fewExact
		limiters := map[string]ratelimit.Limiter{
			"memory": ratelimit.NewMemory(ratelimit.MemoryOptions{MaxExact: fewExact}),
			"redis":  open("redis", -1), "redis that remembers denials": open("denials", 0),
		}
		var d ratelimit.Decision
		for i, s := range largeSteps(t) {
			expected := want.perform(s)
			for name, l := range limiters {
				if err := perform(t.Context(), l, s, &d); err != nil {
					t.Fatalf("step %d: %s: %v", i, name, err)
				}
				if diff := cmp.Diff(expected, d, answer); diff != "" {
					t.Fatalf("step %d %+v (-oracle +%s):\n%s", i, s, name, diff)
				}
			}
		}
	})
}

// ledger is what was really admitted, to hold a large limit to its promise.
type ledger []int64

// within counts what was admitted less than a span before t.
func (l ledger) within(t, span int64) (n int) {
	for _, s := range l {
		if t-s < span {
			n++
		}
	}
	return n
}

// A large limit never admits more than it says in any window, denies only what an
// exact window longer by a 256th would deny, and keeps its word on when it admits.
func TestLargeLimitsKeepTheirBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := ratelimit.NewMemory(ratelimit.MemoryOptions{MaxExact: fewExact})
		l := ratelimit.Limit{
			Requests: rapid.IntRange(5, 40).Draw(t, "requests"),
			Window:   time.Duration(rapid.IntRange(1, 100_000).Draw(t, "window")) * time.Millisecond,
		}
		ip := []ratelimit.Subject{{Type: "ip", Key: "a", Limits: []ratelimit.Limit{l}}}
		window := l.Window.Milliseconds()
		var admitted ledger
		var d ratelimit.Decision
		now := epoch
		for range rapid.IntRange(1, 300).Draw(t, "requests made") {
			now = now.Add(time.Duration(rapid.OneOf(rapid.Just(0), rapid.IntRange(0, 30), rapid.IntRange(0, int(2*window))).Draw(t, "advance")) * time.Millisecond)
			if err := m.Take(t.Context(), now, ip, &d); err != nil {
				t.Fatal(err)
			}
			ms := now.UnixMilli()
			if d.Admitted {
				admitted = append(admitted, ms)
				if n := admitted.within(ms, window); n > l.Requests {
					t.Fatalf("%d admitted in a window of %v", n, l)
				}
				continue
			}
			if n := admitted.within(ms, window+window/256); n < l.Requests {
				t.Fatalf("denied with %d in a window and a 256th of %v", n, l)
			}
			wait := d.RetryAfter
			if err := m.Peek(t.Context(), now.Add(wait-time.Millisecond), ip, &d); err != nil || d.Admitted {
				t.Fatalf("admitted a millisecond early: %+v %v", d, err)
			}
			if err := m.Peek(t.Context(), now.Add(wait), ip, &d); err != nil || !d.Admitted {
				t.Fatalf("obeyed and denied: %+v %v", d, err)
			}
		}
	})
}

// Limits that change between small and large never admit more than the limit of
// the moment.
func TestLimitsGrowLargeAndSmall(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		neverExceeds(t, ratelimit.NewMemory(ratelimit.MemoryOptions{MaxExact: fewExact}))
	})
	server := startRedis(t)
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		neverExceeds(t, ratelimit.NewRedis(client(t, server), ratelimit.RedisOptions{
			Prefix: fmt.Sprintf("%d:", run), Timeout: patient, MaxExact: fewExact,
		}).Scripted())
	})
}

func neverExceeds(t *rapid.T, limiter ratelimit.Limiter) {
	windows := rapid.SliceOfNDistinct(rapid.SampledFrom([]int{7, 300, 1000, 60_000}), 1, 3, rapid.ID).Draw(t, "windows")
	var admitted ledger
	var d ratelimit.Decision
	now := epoch
	for i := range rapid.IntRange(1, 120).Draw(t, "requests made") {
		now = now.Add(time.Duration(rapid.OneOf(rapid.Just(0), rapid.IntRange(0, 10), rapid.IntRange(0, 700)).Draw(t, "advance")) * time.Millisecond)
		s := ratelimit.Subject{Type: "ip", Key: "a"}
		for _, w := range windows {
			s.Limits = append(s.Limits, ratelimit.Limit{
				Requests: rapid.SampledFrom([]int{1, 4, 5, 9, 15}).Draw(t, "requests"), Window: time.Duration(w) * time.Millisecond,
			})
		}
		if err := limiter.Take(t.Context(), now, []ratelimit.Subject{s}, &d); err != nil {
			t.Fatal(err)
		}
		if !d.Admitted {
			continue
		}
		admitted = append(admitted, now.UnixMilli())
		for _, l := range s.Limits {
			if n := admitted.within(now.UnixMilli(), l.Window.Milliseconds()); n > l.Requests {
				t.Fatalf("request %d: %d admitted in a window of %v: %s", i, n, l, fmt.Sprint(s.Limits))
			}
		}
	}
}
