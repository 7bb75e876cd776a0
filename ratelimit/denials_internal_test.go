package ratelimit

import (
	"testing"
	"time"
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
	age, _ := m.answer(now, names, subjects, &d)
	m.learn(age, now, names, subjects, &denied)
	if _, known := m.answer(now, names, subjects, &d); !known || d.Admitted || d.RetryAfter != time.Minute {
		t.Fatalf("not learned: %+v", d)
	}

	m = newDenials(10)
	age, _ = m.answer(now, names, subjects, &d)
	m.forget("ip:a") // while Redis is answering
	m.learn(age, now, names, subjects, &denied)
	if _, known := m.answer(now, names, subjects, &d); known {
		t.Fatalf("learned from before the reset: %+v", d)
	}
}
