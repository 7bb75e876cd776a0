package ratelimit

import (
	"errors"
	"testing"
	"time"

	"github.com/redis/rueidis"
)

// Inside the package because it is about what happens between a question to
// Redis and its answer.
func TestDenialFromBeforeAResetIsNotLearned(t *testing.T) {
	now := time.Date(2026, 11, 23, 8, 41, 0, 0, time.UTC)
	limits := []Limit{{Requests: 1, Window: time.Minute}}
	names, subjects := []string{"ip:a"}, []Subject{{Type: "ip", Key: "a", Limits: limits}}
	denied := Decision{Now: now, Statuses: []Status{{Limit: limits[0], Used: 1, Full: true, Reset: now.Add(time.Minute)}}}
	var d Decision

	m := newDenials(10)
	age, _ := m.answer(0, subjects, &d, false)
	m.learn(age, 0, 0, names, subjects, &denied, 0)
	if _, known := m.answer(0, subjects, &d, false); !known || d.Admitted || d.RetryAfter != time.Minute {
		t.Fatalf("not learned: %+v", d)
	}

	m = newDenials(10)
	age, _ = m.answer(0, subjects, &d, false)
	m.forget("ip:a") // while Redis is answering
	m.learn(age, 0, 0, names, subjects, &denied, 0)
	if _, known := m.answer(0, subjects, &d, false); known {
		t.Fatalf("learned from before the reset: %+v", d)
	}
}

// How long the way to Redis and back took, a remembered denial does not know: what it says to wait is
// right also where all of it was the way back.
func TestRememberedDenialIsNeverTooEarly(t *testing.T) {
	now := time.Date(2026, 11, 23, 8, 41, 0, 0, time.UTC)
	limits := []Limit{{Requests: 1, Window: time.Minute}}
	subjects := []Subject{{Type: "ip", Key: "a", Limits: limits}}
	denied := Decision{Now: now, Statuses: []Status{{Limit: limits[0], Used: 1, Full: true, Reset: now.Add(4 * time.Second)}}}
	m := newDenials(10)
	m.learn(0, 100*time.Millisecond, 120*time.Millisecond, []string{"ip:a"}, subjects, &denied, 0)
	for at, want := range map[time.Duration]time.Duration{
		110 * time.Millisecond: 4000 * time.Millisecond, 120 * time.Millisecond: 4000 * time.Millisecond,
		1120 * time.Millisecond: 3000 * time.Millisecond, 4099 * time.Millisecond: 21 * time.Millisecond,
	} {
		var d Decision
		if _, known := m.answer(at, subjects, &d, false); !known || d.RetryAfter != want || d.Statuses[0].Reset.Sub(d.Now) != want {
			t.Errorf("at %v: known %t, to wait %v, want %v", at, known, d.RetryAfter, want)
		}
	}
	var d Decision
	if _, known := m.answer(4100*time.Millisecond, subjects, &d, false); known { // it may have come free
		t.Errorf("it holds too long: %+v", d)
	}
}

// A remembered denial asks nobody, so it tells the mirror nothing: least of all
// what the decision before it was told of other subjects.
func TestRememberedDenialTellsNothing(t *testing.T) {
	now := time.Now()
	limits := []Limit{{Requests: 1, Window: time.Minute}, {Requests: 5, Window: time.Hour}}
	names, subjects := []string{storedName("ip", "a")}, []Subject{{Type: "ip", Key: "a", Limits: limits}}
	denied := Decision{Now: now, Statuses: []Status{{Limit: limits[0], Used: 1, Full: true, Reset: now.Add(time.Minute)}}}
	r := newRedis(func() (rueidis.Client, error) { return nil, errors.New("asked") }, func() {}, RedisOptions{})
	var d Decision
	age, _ := r.denials.answer(time.Since(r.began), subjects, &d, false)
	r.denials.learn(age, time.Since(r.began), time.Since(r.began), names, subjects, &denied, 0)

	s := &Switch{redis: r}
	x := &scratch{aside: aside{counts: []int{7}}} // of a decision on one limit
	if err := s.ask(t.Context(), now, subjects, x, false, false); err != nil {
		t.Fatalf("the denial is not remembered: %v", err)
	}
	if x.theirs.Admitted || len(x.aside.counts) != 0 {
		t.Errorf("admitted %v, counts %v of another decision", x.theirs.Admitted, x.aside.counts)
	}
}
