package ratelimit_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/gatehouse-io/gatehouse/ratelimit"
)

var epoch = time.Date(2026, 11, 23, 8, 41, 0, 0, time.UTC)

func subject(kind, key string, limits ...string) ratelimit.Subject {
	s := ratelimit.Subject{Type: kind, Key: key}
	for _, text := range limits {
		l, err := ratelimit.ParseLimit(text)
		if err != nil {
			panic(err)
		}
		s.Limits = append(s.Limits, l)
	}
	return s
}

func take(t testing.TB, l ratelimit.Limiter, now time.Time, subjects ...ratelimit.Subject) ratelimit.Decision {
	t.Helper()
	var d ratelimit.Decision
	if err := l.Take(t.Context(), now, subjects, &d); err != nil {
		t.Fatalf("Take: %v", err)
	}
	return d
}

func peek(t testing.TB, l ratelimit.Limiter, now time.Time, subjects ...ratelimit.Subject) ratelimit.Decision {
	t.Helper()
	var d ratelimit.Decision
	if err := l.Peek(t.Context(), now, subjects, &d); err != nil {
		t.Fatalf("Peek: %v", err)
	}
	return d
}

// step is one thing that happens to a limiter.
type step struct {
	now      time.Time
	subjects []ratelimit.Subject
	peek     bool
	reset    bool // of the first subject
}

// steps draws a script: a few subjects with several windows each, whose numbers
// of requests vary, and a clock that stands, creeps, jumps to where something
// comes free and now and then steps back.
func steps(t *rapid.T) []step {
	windows := map[string][]time.Duration{}
	var kinds []string
	for _, kind := range []string{"ip", "organization", "user"} {
		kinds = append(kinds, kind)
		windows[kind] = rapid.SliceOfN(rapid.Map(rapid.SampledFrom([]int{1, 2, 7, 10, 100, 1500, 60_000}),
			func(ms int) time.Duration { return time.Duration(ms) * time.Millisecond }), 1, 3).Draw(t, kind+" windows")
	}
	now := epoch
	var script []step
	for range rapid.IntRange(1, 120).Draw(t, "steps") {
		advance := rapid.OneOf(
			rapid.Just(0), rapid.IntRange(0, 3), rapid.IntRange(0, 200),
			rapid.SampledFrom([]int{1, 2, 6, 7, 9, 10, 99, 100, 1499, 1500, 59_999, 60_000, 61_000}),
			rapid.IntRange(-30, -1),
		).Draw(t, "advance")
		now = now.Add(time.Duration(advance)*time.Millisecond + time.Duration(rapid.IntRange(0, 999).Draw(t, "µs"))*time.Microsecond).Truncate(time.Microsecond)
		s := step{now: now}
		for _, kind := range rapid.SliceOfNDistinct(rapid.SampledFrom(kinds), 1, 3, rapid.ID).Draw(t, "types") {
			subject := ratelimit.Subject{Type: kind, Key: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "key")}
			for _, w := range windows[kind] {
				subject.Limits = append(subject.Limits, ratelimit.Limit{Requests: rapid.SampledFrom([]int{1, 2, 3, 5, 9}).Draw(t, "requests"), Window: w})
			}
			s.subjects = append(s.subjects, subject)
		}
		switch rapid.IntRange(0, 19).Draw(t, "kind of step") {
		case 0:
			s.reset = true
		case 1, 2, 3:
			s.peek = true
		}
		script = append(script, s)
	}
	return script
}

// perform plays one step on a limiter.
func perform(ctx context.Context, l ratelimit.Limiter, s step, d *ratelimit.Decision) error {
	switch {
	case s.reset:
		*d = ratelimit.Decision{}
		return l.Reset(ctx, s.subjects[0].Type, s.subjects[0].Key)
	case s.peek:
		return l.Peek(ctx, s.now, s.subjects, d)
	default:
		return l.Take(ctx, s.now, s.subjects, d)
	}
}

func (o *oracle) perform(s step) ratelimit.Decision {
	if s.reset {
		o.reset(s.subjects[0].Type, s.subjects[0].Key)
		return ratelimit.Decision{}
	}
	return o.decide(s.now, s.subjects, !s.peek)
}

// answer ignores which store gave it.
var answer = cmp.Options{cmpopts.IgnoreFields(ratelimit.Decision{}, "Store", "Degraded"), cmpopts.EquateEmpty()}

func TestMemoryAnswersLikeOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want, got := newOracle(), ratelimit.NewMemory(ratelimit.MemoryOptions{})
		var d ratelimit.Decision
		for i, s := range steps(t) {
			expected := want.perform(s)
			if err := perform(t.Context(), got, s, &d); err != nil {
				t.Fatalf("step %d: %v", i, err)
			}
			if diff := cmp.Diff(expected, d, answer); diff != "" {
				t.Fatalf("step %d %+v (-oracle +memory):\n%s", i, s, diff)
			}
		}
	})
}

func TestWindowEdges(t *testing.T) {
	m := ratelimit.NewMemory(ratelimit.MemoryOptions{})
	ip := subject("ip", "203.0.113.7", "2/1s")
	at := func(ms int) time.Time { return epoch.Add(time.Duration(ms) * time.Millisecond) }

	take(t, m, at(0), ip)
	if d := take(t, m, at(400), ip); !d.Admitted || d.RetryAfter != 0 || !d.Statuses[0].Full || !d.Statuses[0].Reset.Equal(at(1000)) {
		t.Fatalf("second of two: %+v", d)
	}
	if d := take(t, m, at(999), ip); d.Admitted || d.RetryAfter != time.Millisecond {
		t.Fatalf("one millisecond early: %+v", d)
	}
	// Below a millisecond does not count: 999.999 ms is 999 ms.
	if d := take(t, m, at(999).Add(999*time.Microsecond), ip); d.Admitted || d.RetryAfter != time.Millisecond {
		t.Fatalf("one microsecond early: %+v", d)
	}
	if d := take(t, m, at(1000), ip); !d.Admitted || !d.Statuses[0].Reset.Equal(at(1400)) {
		t.Fatalf("on the edge: %+v", d)
	}
	if d := take(t, m, at(1000), ip); d.Admitted || d.RetryAfter != 400*time.Millisecond {
		t.Fatalf("full again: %+v", d)
	}
}

// A client that waits exactly as long as it was told is admitted; one that
// waits a millisecond less is not. With several subjects and windows the wait
// is the longest of the denying ones.
func TestRetryAfterIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := ratelimit.NewMemory(ratelimit.MemoryOptions{})
		now := epoch
		var d ratelimit.Decision
		ctx := t.Context()
		for _, s := range steps(t) {
			now = now.Add(max(0, s.now.Sub(epoch)) % (50 * time.Millisecond)).Truncate(time.Millisecond)
			if err := m.Take(ctx, now, s.subjects, &d); err != nil {
				t.Fatal(err)
			}
			if d.Admitted {
				continue
			}
			if d.RetryAfter <= 0 {
				t.Fatalf("denied without a wait: %+v", d)
			}
			wait := d.RetryAfter
			if err := m.Peek(ctx, now.Add(wait-time.Millisecond), s.subjects, &d); err != nil || d.Admitted {
				t.Fatalf("admitted a millisecond early: %+v %v", d, err)
			}
			if err := m.Take(ctx, now.Add(wait), s.subjects, &d); err != nil || !d.Admitted {
				t.Fatalf("obeyed and denied: %+v %v", d, err)
			}
			now = now.Add(wait)
		}
	})
}

func TestAllSubjectsOrNone(t *testing.T) {
	m := ratelimit.NewMemory(ratelimit.MemoryOptions{})
	ip, org := subject("ip", "203.0.113.7", "2/1m"), subject("organization", "acme", "5/1h")
	take(t, m, epoch, ip, org)
	take(t, m, epoch, ip, org)
	for range 10 {
		if d := take(t, m, epoch, ip, org); d.Admitted || !d.Statuses[0].Full || d.Statuses[1].Full || d.Statuses[1].Used != 2 {
			t.Fatalf("the full IP must not cost the organization: %+v", d)
		}
	}
	other := subject("ip", "203.0.113.8", "2/1m")
	for range 3 {
		take(t, m, epoch, org)
	}
	if d := take(t, m, epoch, other, org); d.Admitted || d.Statuses[0].Used != 0 || d.RetryAfter != time.Hour {
		t.Fatalf("the full organization must not cost the IP: %+v", d)
	}
}

func TestSeveralWindowsTightestSpeaks(t *testing.T) {
	m := ratelimit.NewMemory(ratelimit.MemoryOptions{})
	s := subject("user", "ada", "10/1h", "3/1s")
	if d := take(t, m, epoch, s); d.Statuses[0].Limit.Window != time.Second || d.Statuses[0].Remaining != 2 {
		t.Fatalf("the second has fewest remaining: %+v", d)
	}
	now := epoch
	for range 3 {
		now = now.Add(time.Second)
		for range 3 {
			take(t, m, now, s)
		}
	}
	// 10 in the hour, 3 in the second: both full, and the hour is the longer wait.
	if d := take(t, m, now, s); d.Admitted || d.Statuses[0].Limit.Window != time.Hour || d.RetryAfter != time.Hour-3*time.Second {
		t.Fatalf("both full: %+v", d)
	}
}

func TestConcurrentTakesNeverExceed(t *testing.T) {
	m := ratelimit.NewMemory(ratelimit.MemoryOptions{})
	org := subject("organization", "acme", "700/1h")
	var admitted [4]atomic.Int64
	var wg sync.WaitGroup
	for worker := range 16 {
		wg.Go(func() {
			var d ratelimit.Decision
			for i := range 200 {
				ip := worker % len(admitted)
				subjects := []ratelimit.Subject{subject("ip", fmt.Sprint(ip), "200/1h"), org}
				if i%2 == 0 { // either order: locks are taken in one
					subjects[0], subjects[1] = subjects[1], subjects[0]
				}
				if err := m.Take(context.Background(), epoch, subjects, &d); err != nil {
					t.Error(err)
				}
				if d.Admitted {
					admitted[ip].Add(1)
				}
			}
		})
	}
	wg.Wait()
	total := int64(0)
	for i := range admitted {
		n := admitted[i].Load()
		if n > 200 {
			t.Errorf("IP %d: %d admitted, want at most 200", i, n)
		}
		total += n
		if d := peek(t, m, epoch, subject("ip", fmt.Sprint(i), "200/1h")); int64(d.Statuses[0].Used) != n {
			t.Errorf("IP %d: %d used, %d admitted", i, d.Statuses[0].Used, n)
		}
	}
	if total != 700 {
		t.Errorf("%d admitted in all, want exactly 700", total)
	}
}

func TestClockStepsBack(t *testing.T) {
	m := ratelimit.NewMemory(ratelimit.MemoryOptions{})
	ip := subject("ip", "203.0.113.7", "2/10s")
	take(t, m, epoch, ip)
	take(t, m, epoch.Add(-time.Hour), ip)
	d := take(t, m, epoch.Add(-time.Hour), ip)
	if d.Admitted || d.RetryAfter != time.Hour+10*time.Second {
		t.Fatalf("an hour back: %+v", d)
	}
	if d := take(t, m, epoch.Add(10*time.Second), ip); !d.Admitted {
		t.Fatalf("caught up: %+v", d)
	}
}

func TestLimitLoweredAndRaised(t *testing.T) {
	m := ratelimit.NewMemory(ratelimit.MemoryOptions{})
	for i := range 5 {
		take(t, m, epoch.Add(time.Duration(i)*time.Second), subject("ip", "a", "5/1m"))
	}
	now := epoch.Add(5 * time.Second)
	d := take(t, m, now, subject("ip", "a", "2/1m"))
	if s := d.Statuses[0]; d.Admitted || s.Used != 5 || s.Remaining != 0 || !s.Reset.Equal(epoch.Add(63*time.Second)) {
		t.Fatalf("lowered to 2: %+v", d)
	}
	if d := take(t, m, now, subject("ip", "a", "6/1m")); !d.Admitted || d.Statuses[0].Remaining != 0 {
		t.Fatalf("raised to 6: %+v", d)
	}
}

func TestReset(t *testing.T) {
	m := ratelimit.NewMemory(ratelimit.MemoryOptions{})
	a, b := subject("ip", "a", "1/1m"), subject("ip", "b", "1/1m")
	take(t, m, epoch, a, b)
	if err := m.Reset(t.Context(), "ip", "a"); err != nil {
		t.Fatal(err)
	}
	if err := m.Reset(t.Context(), "ip", "never seen"); err != nil {
		t.Fatal(err)
	}
	if d := take(t, m, epoch, a); !d.Admitted {
		t.Errorf("reset and denied: %+v", d)
	}
	if d := take(t, m, epoch, b); d.Admitted {
		t.Errorf("not reset and admitted: %+v", d)
	}
	if err := m.Reset(t.Context(), "", "a"); !errors.Is(err, ratelimit.ErrInvalidSubject) {
		t.Errorf("no type: %v", err)
	}
}

func TestKeysAreAnyBytes(t *testing.T) {
	m := ratelimit.NewMemory(ratelimit.MemoryOptions{})
	long := strings.Repeat("k", ratelimit.MaxKey)
	subjects := []ratelimit.Subject{
		{Type: "a", Key: ""}, {Type: "a", Key: "\x00"}, {Type: "a", Key: "bc"}, {Type: "ab", Key: "c"},
		{Type: "a", Key: "\xff\xfe"}, {Type: "a", Key: long}, {Type: "a", Key: long + "1"}, {Type: "a", Key: long + "2"},
		{Type: strings.Repeat("t", ratelimit.MaxType), Key: long},
	}
	for i := range subjects {
		subjects[i].Limits = []ratelimit.Limit{{Requests: 1, Window: time.Minute}}
		if d := take(t, m, epoch, subjects[i]); !d.Admitted {
			t.Errorf("subject %d shares its count with another", i)
		}
		if d := take(t, m, epoch, subjects[i]); d.Admitted {
			t.Errorf("subject %d was not counted", i)
		}
	}
}

func TestInvalidDecisions(t *testing.T) {
	m := ratelimit.NewMemory(ratelimit.MemoryOptions{})
	ok := subject("ip", "a", "1/1m")
	many := make([]ratelimit.Subject, ratelimit.MaxSubjects+1)
	for i := range many {
		many[i] = subject("ip", fmt.Sprint(i), "1/1m")
	}
	tests := []struct {
		name     string
		now      time.Time
		subjects []ratelimit.Subject
		want     error
	}{
		{"none", epoch, nil, ratelimit.ErrInvalidSubject},
		{"too many", epoch, many, ratelimit.ErrInvalidSubject},
		{"twice", epoch, []ratelimit.Subject{ok, ok}, ratelimit.ErrInvalidSubject},
		{"no type", epoch, []ratelimit.Subject{subject("", "a", "1/1m")}, ratelimit.ErrInvalidSubject},
		{"long type", epoch, []ratelimit.Subject{subject(strings.Repeat("t", ratelimit.MaxType+1), "a", "1/1m")}, ratelimit.ErrInvalidSubject},
		{"no limits", epoch, []ratelimit.Subject{{Type: "ip", Key: "a"}}, ratelimit.ErrInvalidSubject},
		{"zero limit", epoch, []ratelimit.Subject{{Type: "ip", Key: "a", Limits: make([]ratelimit.Limit, 1)}}, ratelimit.ErrInvalidLimit},
		{"too many limits", epoch, []ratelimit.Subject{subject("ip", "a", strings.Split(strings.Repeat("1/1m ", 9), " ")[:9]...)}, ratelimit.ErrInvalidSubject},
		{"before 1970", time.Unix(-1, 0), []ratelimit.Subject{ok}, ratelimit.ErrInvalidTime},
		{"far away", time.Unix(1<<45, 0), []ratelimit.Subject{ok}, ratelimit.ErrInvalidTime},
	}
	for _, test := range tests {
		var d ratelimit.Decision
		if err := m.Take(t.Context(), test.now, test.subjects, &d); !errors.Is(err, test.want) {
			t.Errorf("%s: Take: %v, want %v", test.name, err, test.want)
		}
		if err := m.Peek(t.Context(), test.now, test.subjects, &d); !errors.Is(err, test.want) {
			t.Errorf("%s: Peek: %v, want %v", test.name, err, test.want)
		}
	}
	if n := m.Stats().Keys; n != 0 {
		t.Errorf("%d keys after refused decisions", n)
	}
}
