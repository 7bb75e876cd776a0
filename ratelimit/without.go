package ratelimit

import (
	"context"
	"slices"
	"sync/atomic"
	"time"
)

// Without says what a [Switch] decides without Redis.
type Without uint8

const (
	// Share admits to this process its share of what is left of each limit,
	// at least one request: (limit - known used) / instances alive.
	Share Without = iota

	// Full holds each limit against what this process admitted, as if it were
	// alone: all processes together may admit the limit once each.
	Full

	// Deny admits nothing: no subject has anything remaining until the next look at
	// Redis. None is Full for it, as none used up its limit.
	Deny
)

// ask asks Redis, x.theirs being its answer.
func (s *Switch) ask(ctx context.Context, now time.Time, subjects []Subject, x *scratch, take, partly bool) error {
	x.debt = nil
	x.aside = aside{counts: x.aside.counts[:0], partly: partly} // empty also where a remembered denial asks nobody
	if take {
		x.aside.late = func() func() {
			kept := slices.Clone(subjects)
			for i := range kept {
				kept[i].Limits = slices.Clone(kept[i].Limits)
			}
			debt := new(atomic.Bool)
			x.debt = debt
			return func() {
				if debt.Load() { // Redis counted it after all
					s.owed.giveBack(now, kept)
					s.share.Load().giveBack(now, kept)
				}
			}
		}
	}
	s.asking.Add(1)
	defer s.asking.Add(-1)
	return s.redis.decide(ctx, now, subjects, &x.theirs, take, &x.aside)
}

// takeWithout is Take while Redis is away. It is not done when Redis came back
// before it began. It holds the gate, so that all it admits is merged before
// Redis is asked again.
func (s *Switch) takeWithout(ctx context.Context, now time.Time, subjects []Subject, d *Decision) (done bool, err error) {
	s.gate.RLock()
	defer s.gate.RUnlock()
	if !s.degraded.Load() || s.half.Load() {
		return false, nil
	}
	x := s.scratch.Get().(*scratch)
	defer s.scratch.Put(x)
	x.aside.spent = false
	if err := s.memory.decide(now, subjects, d, true); err != nil {
		return true, err
	}
	return true, s.alone(now, subjects, d, x, d.Admitted, false)
}

// alone decides a request without Redis, d being memory's answer, which has
// counted it where there is room. What is admitted is owed to Redis.
func (s *Switch) alone(now time.Time, subjects []Subject, d *Decision, x *scratch, room, spent bool) error {
	admitted, err := s.takeShare(now, subjects, d, x, room, spent)
	if err != nil || !admitted {
		return err
	}
	return s.owe(now, subjects, x)
}

// owe notes that Redis may not know of a request that the share has admitted.
func (s *Switch) owe(now time.Time, subjects []Subject, x *scratch) error {
	if s.without == Share && s.degraded.Load() {
		s.unheard.note(subjects)
	}
	// Under the full limits, which have room: the shares change.
	if err := s.owed.decide(now, subjects, &x.due, true); err != nil {
		return err
	}
	if x.aside.spent && x.debt != nil {
		x.debt.Store(true)
	}
	return nil
}

// takeShare holds a request against this process's share, d being memory's
// answer, which has counted the request where there is room, and makes d the
// answer of both. Where spent is set Redis may have counted the request too, so
// that a denied one is not given back.
func (s *Switch) takeShare(now time.Time, subjects []Subject, d *Decision, x *scratch, room, spent bool) (bool, error) {
	back := func() {
		if room && !spent {
			s.memory.giveBack(now, subjects)
		}
	}
	if s.without == Deny {
		back()
		if err := s.memory.decide(now, subjects, d, false); err != nil {
			return false, err
		}
		s.deny(d)
		return false, nil
	}
	shared := s.shares(now.UnixMilli(), subjects, x, room)
	if err := s.share.Load().decide(now, shared, &x.theirs, room); err != nil {
		back()
		return false, err
	}
	admitted := room && x.theirs.Admitted
	if room && !admitted {
		back()
		if err := s.memory.decide(now, subjects, d, false); err != nil {
			return false, err
		}
	}
	tighten(d, subjects, shared, &x.theirs, admitted)
	return admitted, nil
}

// lookAtShare is takeShare for a request that memory has not counted.
func (s *Switch) lookAtShare(now time.Time, subjects []Subject, d *Decision, x *scratch, room bool) (bool, error) {
	if s.without == Deny {
		s.deny(d)
		return false, nil
	}
	shared := s.shares(now.UnixMilli(), subjects, x, false)
	if err := s.share.Load().decide(now, shared, &x.theirs, false); err != nil {
		return false, err
	}
	tighten(d, subjects, shared, &x.theirs, room && x.theirs.Admitted)
	return d.Admitted, nil
}

// deny makes d, memory's answer, a denial until the next look at Redis.
func (s *Switch) deny(d *Decision) {
	wait := max(s.interval.Truncate(time.Millisecond), time.Millisecond)
	d.Admitted, d.Degraded, d.RetryAfter = false, true, wait
	for i := range d.Statuses {
		status := &d.Statuses[i]
		status.Remaining = 0
		if status.RetryAfter < wait {
			status.Reset = d.Now.Add(wait)
			if status.Full {
				status.RetryAfter = wait
			}
		}
		d.RetryAfter = max(d.RetryAfter, status.RetryAfter)
	}
}

// tighten makes d, memory's answer, the answer of memory and share: what is used is
// what this process admitted, what remains is what its share has room for.
func tighten(d *Decision, subjects, shared []Subject, theirs *Decision, admitted bool) {
	d.Admitted, d.Degraded = admitted, true
	d.RetryAfter = 0
	for i := range d.Statuses {
		ours, share := &d.Statuses[i], &theirs.Statuses[i]
		if share.Remaining < ours.Remaining || share.Remaining == ours.Remaining && share.Full && share.Reset.After(ours.Reset) {
			ours.Limit = subjects[i].Limits[slices.Index(shared[i].Limits, share.Limit)]
			ours.Remaining, ours.Full, ours.RetryAfter = share.Remaining, share.Full, share.RetryAfter
			if share.Full {
				ours.Reset = share.Reset
			}
		}
		if !d.Admitted {
			d.RetryAfter = max(d.RetryAfter, ours.RetryAfter)
		}
	}
}

// shares gives the subjects with this process's share of what is left for each
// limit: what others admitted, as far as Redis told, and what this process
// admitted with Redis are taken off. counted says that memory has counted the
// request that is being decided.
func (s *Switch) shares(now int64, subjects []Subject, x *scratch, counted bool) []Subject {
	if s.without == Full {
		return subjects
	}
	x.shared, x.limits = append(x.shared[:0], subjects...), x.limits[:0]
	instances := int(max(1, s.instances.Load()))
	for i := range subjects {
		sub := &subjects[i]
		x.own = s.memory.used(now, sub, x.own[:0])
		n := len(x.own)
		x.own = s.share.Load().used(now, sub, x.own)
		for j, l := range sub.Limits {
			with := x.own[j] - x.own[n+j] // admitted with Redis
			if counted {
				with--
			}
			left := l.Requests - max(0, with) - s.mirror.othersOf(now, sub, j)
			x.limits = append(x.limits, Limit{Requests: max(1, left/instances), Window: l.Window})
		}
	}
	first := 0
	for i := range x.shared {
		n := len(subjects[i].Limits)
		x.shared[i].Limits = x.limits[first : first+n : first+n]
		first += n
	}
	return x.shared
}

// forget drops all that is known here of a subject, by its name in Redis.
func (s *Switch) forget(name string) {
	s.memory.resetNamed(name)
	s.share.Load().resetNamed(name)
	s.owed.resetNamed(name)
	s.mirror.forget(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	named := func(r record) bool { return r.name() == name }
	s.rest, s.unsaid = slices.DeleteFunc(s.rest, named), slices.DeleteFunc(s.unsaid, named)
}
