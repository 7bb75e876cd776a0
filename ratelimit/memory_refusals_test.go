package ratelimit_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// Pairs that are denied again and again are answered from memory of the answer.
// Through resets, limits that change, clocks that step and requests that others
// make or that come free, the answers are the oracle's.
func TestRepeatedDenialsAnswerLikeOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want, m := newOracle(), ratelimit.NewMemory(ratelimit.MemoryOptions{})
		limits := func(name string, all ...string) *rapid.Generator[string] { // mostly the same one
			usual := rapid.SampledFrom(all).Draw(t, "usual "+name)
			return rapid.SampledFrom(append(all, usual, usual, usual, usual, usual, usual))
		}
		ip, org := limits("ip limit", "1/100ms", "2/100ms", "4/100ms"), limits("org limit", "2/1s", "3/1s", "9/1s")
		now := epoch
		var d ratelimit.Decision
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.SampledFrom([]int{0, 0, 0, 1, 30, 70, 99, 100, 860, 999, 1000, 5000, -1, -30, -100, -5000}).Draw(t, "advance")) * time.Millisecond)
			s := step{now: now, reset: rapid.IntRange(0, 9).Draw(t, "reset") == 0, peek: rapid.Bool().Draw(t, "peek"), subjects: []ratelimit.Subject{
				subject("ip", rapid.SampledFrom([]string{"a", "b"}).Draw(t, "ip"), ip.Draw(t, "ip limit")),
				subject("org", "acme", org.Draw(t, "org limit")),
			}}
			if rapid.IntRange(0, 4).Draw(t, "swap") == 0 {
				s.subjects[0], s.subjects[1] = s.subjects[1], s.subjects[0]
			}
			every := rapid.SampledFrom([]int{0, 0, 1, 7}).Draw(t, "pace")
			for i := range rapid.SampledFrom([]int{1, 1, 20, 40}).Draw(t, "times") {
				expected := want.perform(s)
				if err := perform(t.Context(), m, s, &d); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(expected, d, answer); diff != "" {
					t.Fatalf("time %d of %+v (-oracle +memory):\n%s", i, s, diff)
				}
				s.now = s.now.Add(time.Duration(every) * time.Millisecond)
			}
			now = s.now
		}
	})
}

// Who resets a key that others are just being denied is admitted by the next
// request, and who takes the last unit is told so.
func TestResetIsSeenAtOnce(t *testing.T) {
	m := ratelimit.NewMemory(ratelimit.MemoryOptions{})
	pair := []ratelimit.Subject{subject("ip", "a", "1/1h"), subject("org", "acme", "1000/1h")}
	take(t, m, epoch, pair...)
	var all sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		all.Go(func() {
			var d ratelimit.Decision
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := m.Peek(t.Context(), epoch, pair, &d); err != nil {
					t.Error(err)
				}
			}
		})
	}
	var d ratelimit.Decision
	next := func(decide func(context.Context, time.Time, []ratelimit.Subject, *ratelimit.Decision) error) ratelimit.Decision {
		if err := decide(t.Context(), epoch, pair, &d); err != nil {
			t.Fatal(err)
		}
		return d
	}
	for i := range 200 {
		for range 20 { // so that the denial is remembered
			if next(m.Take).Admitted {
				t.Fatal("admitted twice")
			}
		}
		if err := m.Reset(t.Context(), "ip", "a"); err != nil {
			t.Fatal(err)
		}
		if d := next(m.Take); !d.Admitted || d.Statuses[1].Used != i+2 {
			t.Fatalf("after reset %d: %+v", i, d)
		}
		if d := next(m.Peek); d.Admitted {
			t.Fatalf("after the last unit: %+v", d)
		}
	}
	close(stop)
	all.Wait()
}

// The two that chance seldom finds: somebody else uses the organization up, and the
// clock steps back to before a request came free.
func TestRememberedDenialsChange(t *testing.T) {
	at := func(ms int) time.Time { return epoch.Add(time.Duration(ms) * time.Millisecond) }
	a, b, org := subject("ip", "a", "1/100ms"), subject("ip", "b", "1/100ms"), subject("org", "acme", "9/1s")
	script := []step{{now: at(0), subjects: []ratelimit.Subject{b, org}}, {now: at(950), subjects: []ratelimit.Subject{a, org}}}
	again := func(ms int) {
		for range 40 {
			script = append(script, step{now: at(ms), subjects: []ratelimit.Subject{a, org}})
		}
	}
	again(1020)
	again(990)
	again(1020)
	script = append(script, step{now: at(1020), subjects: []ratelimit.Subject{b, org}})
	again(1021)
	want, m := newOracle(), ratelimit.NewMemory(ratelimit.MemoryOptions{})
	var d ratelimit.Decision
	for i, s := range script {
		expected := want.perform(s)
		if err := perform(t.Context(), m, s, &d); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(expected, d, answer); diff != "" {
			t.Fatalf("step %d %+v (-oracle +memory):\n%s", i, s, diff)
		}
	}
}
