package ratelimit

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// failed notes that Redis did not decide, and opens the switch when that is not
// a matter of one request.
func (s *Switch) failed(err error) {
	n := s.failures.Add(1)
	var cause *unavailableError
	if n < maxFailures && (!errors.As(err, &cause) || !cause.answered) {
		return
	}
	if s.degraded.Load() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.degraded.CompareAndSwap(false, true) {
		s.changed(Change{At: time.Now(), Degraded: true, Cause: err})
	}
}

// recovered closes the switch, unless there are resets to do first.
func (s *Switch) recovered() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pending) > 0 {
		return false
	}
	s.failures.Store(0)
	if s.degraded.CompareAndSwap(true, false) {
		now := time.Now()
		s.changed(Change{At: now, Lasted: now.Sub(s.since)})
	}
	return true
}

// changed queues a change to be told; s.mu is held.
func (s *Switch) changed(c Change) {
	s.since = c.At
	s.changes = append(s.changes, c)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// tell passes on the changes that were queued.
func (s *Switch) tell() {
	for {
		s.mu.Lock()
		changes := s.changes
		s.changes = nil
		s.mu.Unlock()
		if len(changes) == 0 {
			return
		}
		for _, c := range changes {
			s.onChange(c)
		}
	}
}

// watch looks at Redis until ctx ends.
func (s *Switch) watch(ctx context.Context) {
	defer close(s.ended)
	defer s.tell()
	var point int64
	backoff := 1
	for range maxFailures - 1 {
		// At the start nothing is known of Redis: find out at once.
		if err := s.redis.Ping(ctx); err == nil || ctx.Err() != nil {
			break
		} else {
			s.failed(err)
		}
	}
	for {
		wasDegraded := s.degraded.Load()
		point = s.look(ctx, point)
		switch {
		case wasDegraded && !s.degraded.Load():
			backoff = min(backoff*2, 4) // if it goes away again soon, ask less often
		case !wasDegraded && !s.degraded.Load() && s.steadyFor(10*time.Second):
			backoff = 1
		}
		s.tell()

		wait := s.interval
		if s.degraded.Load() {
			wait *= time.Duration(backoff)
		}
		timer := time.NewTimer(wait*4/5 + rand.N(wait*2/5))
	waiting:
		for {
			select {
			case <-ctx.Done():
				timer.Stop()
				return
			case <-s.wake:
				s.tell()
			case <-timer.C:
				break waiting
			}
		}
	}
}

func (s *Switch) steadyFor(d time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Since(s.since) >= d
}

// look is one look at Redis: what was reset since the point, and whether it
// takes writes. It returns the next point.
func (s *Switch) look(ctx context.Context, point int64) int64 {
	err := s.redis.Ping(ctx)
	if err == nil && !s.resetPending(ctx) {
		return point
	}
	var names []string
	if err == nil {
		names, point, err = s.redis.resetsSince(ctx, point)
	}
	if err != nil {
		if ctx.Err() == nil {
			s.failed(err)
		}
		return point
	}
	for _, name := range names {
		s.memory.resetNamed(name)
	}
	s.recovered()
	return point
}

// resetPending does the resets that wait for Redis and says whether none is
// left.
func (s *Switch) resetPending(ctx context.Context) bool {
	s.mu.Lock()
	names := make([]string, 0, len(s.pending))
	for name := range s.pending {
		names = append(names, name)
	}
	s.mu.Unlock()
	for _, name := range names {
		if err := s.redis.resetNamed(ctx, name); err != nil {
			if ctx.Err() == nil {
				s.failed(err)
			}
			return false
		}
		s.mu.Lock()
		delete(s.pending, name)
		s.mu.Unlock()
	}
	return true
}
