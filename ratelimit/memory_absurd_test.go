package ratelimit_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// Types and keys are any bytes, also where one ends as another begins, and long
// enough not to fit where short ones are kept.
func TestAnyBytesAnswerLikeOracle(t *testing.T) {
	part := rapid.OneOf(
		rapid.SampledFrom([]string{"", "\x00", "a", "aa", "{a}", "a:b", "|", "%7B", "\xff\xfe", "ip", "ip1"}),
		rapid.Map(rapid.IntRange(8, 40), func(n int) string { return strings.Repeat("k", n) }),
		rapid.Map(rapid.IntRange(ratelimit.MaxKey-2, ratelimit.MaxKey+2), func(n int) string { return strings.Repeat("K", n) }),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 40), func(b []byte) string { return string(b) }),
	)
	rapid.Check(t, func(t *rapid.T) {
		want, m := newOracle(), ratelimit.NewMemory(ratelimit.MemoryOptions{})
		names := rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) [2]string {
			kind := part.Draw(t, "type")
			return [2]string{("t" + kind)[:min(1+len(kind), ratelimit.MaxType)], part.Draw(t, "key")}
		}), 2, 6, rapid.ID).Draw(t, "names")
		now := epoch
		var d ratelimit.Decision
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 400).Draw(t, "advance")) * time.Millisecond)
			s := step{now: now, reset: rapid.IntRange(0, 15).Draw(t, "reset") == 0}
			for _, n := range rapid.SliceOfNDistinct(rapid.SampledFrom(names), 1, 2, rapid.ID).Draw(t, "subjects") {
				s.subjects = append(s.subjects, subject(n[0], n[1], "7/1s"))
			}
			expected := want.perform(s)
			if err := perform(t.Context(), m, s, &d); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(expected, d, answer); diff != "" {
				t.Fatalf("%+v (-oracle +memory):\n%s", s, diff)
			}
		}
	})
}

// The least and the largest limits, at the first and the last instants.
func TestAbsurdLimitsAnswerLikeOracle(t *testing.T) {
	limits := []ratelimit.Limit{
		{Requests: 1, Window: ratelimit.MinWindow}, {Requests: 1, Window: ratelimit.MaxWindow},
		{Requests: ratelimit.MaxRequests, Window: ratelimit.MinWindow}, {Requests: ratelimit.MaxRequests, Window: ratelimit.MaxWindow},
		{Requests: 4096, Window: 257 * time.Millisecond}, {Requests: 4097, Window: 256 * time.Millisecond},
	}
	starts := []time.Time{time.UnixMilli(0), time.UnixMilli(1), epoch, time.UnixMilli(1<<48 - 1 - ratelimit.MaxWindow.Milliseconds() - 200_000)}
	rapid.Check(t, func(t *rapid.T) {
		want, m := newOracle(), ratelimit.NewMemory(ratelimit.MemoryOptions{})
		want.exact = ratelimit.DefaultMaxExact
		now := rapid.SampledFrom(starts).Draw(t, "start")
		chosen := func(name string) []ratelimit.Limit {
			return rapid.SliceOfN(rapid.SampledFrom(limits), 1, 3).Draw(t, name)
		}
		ip, org := chosen("ip limits"), chosen("org limits")
		var d ratelimit.Decision
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 2).Draw(t, "advance")) * time.Millisecond)
			s := step{now: now, subjects: []ratelimit.Subject{{Type: "ip", Key: "a", Limits: ip}, {Type: "org", Key: "b", Limits: org}}}
			expected := want.perform(s)
			if err := perform(t.Context(), m, s, &d); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(expected, d, answer); diff != "" {
				t.Fatalf("%+v (-oracle +memory):\n%s", s, diff)
			}
		}
	})
}

// However far an instance's clock is set back, no window of real time admits more
// than the limit; where it is set forward, and back again, nobody waits for longer
// than until it has caught up.
func TestClockStepsNeverAdmitMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := ratelimit.NewMemory(ratelimit.MemoryOptions{MaxKeys: 100, MaxExact: rapid.SampledFrom([]int{1, 4096}).Draw(t, "exact")})
		limit := ratelimit.Limit{Requests: rapid.IntRange(1, 5).Draw(t, "requests"), Window: time.Second}
		pair := []ratelimit.Subject{{Type: "ip", Key: "a", Limits: []ratelimit.Limit{limit}}, subject("org", "b", "1000/1h")}
		others := subject("other", "", "1/1ms")
		real, shift := epoch, time.Duration(0) // what the clock shows is real + shift
		var admitted ledger
		var d ratelimit.Decision
		for i := range rapid.IntRange(1, 150).Draw(t, "requests made") {
			real = real.Add(time.Duration(rapid.OneOf(rapid.Just(0), rapid.IntRange(0, 300), rapid.Just(90_000)).Draw(t, "advance")) * time.Millisecond)
			if rapid.IntRange(0, 9).Draw(t, "step") == 0 {
				shift -= rapid.SampledFrom([]time.Duration{time.Millisecond, 999 * time.Millisecond, time.Minute, 25 * time.Hour}).Draw(t, "back")
			}
			others.Key = string(rune('a' + i%50)) // so that keys are swept
			if err := m.Take(t.Context(), real.Add(shift), []ratelimit.Subject{others}, &d); err != nil {
				t.Fatal(err)
			}
			if err := m.Take(t.Context(), real.Add(shift), pair, &d); err != nil {
				t.Fatal(err)
			}
			if d.Admitted {
				admitted = append(admitted, real.UnixMilli())
				if n := admitted.within(real.UnixMilli(), 1000); n > limit.Requests {
					t.Fatalf("%d admitted in a second under %s", n, limit)
				}
			}
		}
		// Forward and back: the wait that is told is the whole wait.
		forward := real.Add(shift).Add(rapid.SampledFrom([]time.Duration{time.Second, time.Hour}).Draw(t, "forward"))
		for range limit.Requests + 1 {
			if err := m.Take(t.Context(), forward, pair[:1], &d); err != nil {
				t.Fatal(err)
			}
		}
		back := real.Add(shift)
		if err := m.Take(t.Context(), back, pair[:1], &d); err != nil || d.Admitted {
			t.Fatalf("back again: %+v, %v", d, err)
		}
		if err := m.Take(t.Context(), back.Add(d.RetryAfter), pair[:1], &d); err != nil || !d.Admitted {
			t.Fatalf("obeyed and denied: %+v, %v", d, err)
		}
	})
}
