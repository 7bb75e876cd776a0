package ratelimit

import (
	"context"
	"errors"
	"maps"
	mathrand "math/rand/v2"
	"sync"
	"time"
)

// How a [Switch] and Redis find together again.
//
// At each look a process says, in Redis, that Redis knows all it admitted, and keeps
// when it said so ([mark]). Where Redis knows of an earlier word than the last, or of
// none, it lost what came after: it came back empty, or with an older snapshot. What was
// admitted since is then merged into it again, under ids by which nothing is merged twice.
//
// A Redis that is back before anybody looked has no scripts. The first decision finds
// that out, and looks for the data before it brings the script ([Redis.sameData]); the
// script is a process's own, so that what one has brought does not serve the others.
//
// On a cluster each master may lose its data alone. Marks in slots that are spread over all
// of them tell which, and what was counted elsewhere is not merged again.
//
// Redis decides alone again when every process that is alive has merged; one that stays
// silent is waited for ten seconds. Then each asks how those stand that it admitted
// meanwhile ([unheard]), so that a further outage begins from there. Looks are jittered, and
// rarer while Redis comes and goes. docs/adr/035 has the reasons.

// failed notes that Redis did not decide, and opens the switch when that is not
// a matter of one request.
func (s *Switch) failed(err error) {
	n := s.failures.Add(1)
	s.half.Store(false)
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
		s.losses.Add(1)
		s.changed(Change{At: time.Now(), Degraded: true, Cause: err})
	}
}

// recover closes the switch, when every instance has merged what it owed.
func (s *Switch) recover() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pending) > 0 || !s.half.Load() {
		return false
	}
	s.failures.Store(0)
	if s.degraded.CompareAndSwap(true, false) {
		now := time.Now()
		s.changed(Change{At: now, Lasted: now.Sub(s.since)})
	}
	s.share.Store(s.newShare())
	return true
}

// settle merges what is owed, the last of it while no decision is under way, and
// lets Redis decide again, within the share.
func (s *Switch) settle(ctx context.Context) bool {
	if s.degraded.Load() && !s.half.Load() {
		s.redis.quiet(ctx) // what it answers late takes back what is owed for it
	}
	if !s.mergeOwed(ctx) {
		return false
	}
	if !s.degraded.Load() {
		return true
	}
	s.gate.Lock()
	defer s.gate.Unlock()
	if !s.mergeOwed(ctx) {
		return false
	}
	s.half.Store(true)
	return true
}

// changed queues a change to be told; s.mu is held.
func (s *Switch) changed(c Change) {
	s.flaps.Add(1)
	s.since = c.At
	s.changes = append(s.changes, c)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// tellAll passes on changes until there is nobody who could make any.
func (s *Switch) tellAll() {
	defer close(s.toldAll)
	for {
		select {
		case <-s.wake:
			s.tell()
		case <-s.ended:
			s.tell()
			return
		}
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
	var hearing sync.WaitGroup
	defer hearing.Wait()
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
	var wellAt int64       // since when looks go well, on Redis's clock; 0 where the last one failed
	var lastOK time.Time   // the same of the last look, on this process's
	var losses int64       // that were known then
	var well time.Duration // for how long looks went well since the last loss, with gaps
	for {
		wasDegraded := s.degraded.Load()
		next, seen, ok := s.look(ctx, point, wellAt)
		point = next
		if n := s.losses.Load(); n != losses { // whoever was well before that may owe something since
			losses, wellAt, well, lastOK = n, 0, 0, time.Time{}
		}
		if ok {
			if !lastOK.IsZero() {
				well += time.Since(lastOK)
			}
			lastOK = time.Now()
		}
		switch {
		case !ok:
			wellAt, lastOK = 0, time.Time{}
		case wellAt == 0:
			wellAt = seen.now
		case wasDegraded && (seen.settled >= s.instances.Load() || well > s.silence()):
			// Every instance alive has merged since Redis was well again, or is dead.
			if s.recover() {
				backoff = min(backoff*2, 4) // if it goes away again soon, ask less often
				hearing.Go(func() { s.hear(ctx) })
			}
		}
		if ok && !s.degraded.Load() {
			s.instances.Store(max(1, seen.alive))
			if !wasDegraded && s.owed.Stats().Keys == 0 && s.share.Load().Stats().Keys > 0 {
				s.share.Store(s.newShare()) // of requests that alone had no answer in time
			}
		}
		if !wasDegraded && !s.degraded.Load() && s.steadyFor(10*time.Second) {
			backoff = 1
		}
		wait := s.interval
		switch {
		case s.degraded.Load() && ok:
			wait /= 4 // look again, then close
		case s.degraded.Load():
			wait *= time.Duration(backoff)
		}
		timer := time.NewTimer(wait*4/5 + mathrand.N(wait*2/5))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

func (s *Switch) steadyFor(d time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Since(s.since) >= d
}

// silence is after how long an instance that says nothing is dead.
func (s *Switch) silence() time.Duration { return max(10*time.Second, 8*s.interval) }

// look is one look at Redis: whether it takes writes, what was reset since the
// point, who is alive, whether it lost its data; and what it does not know yet is
// merged. It returns the next point, who is alive and how many of those looked
// since an instant of Redis's clock, and whether all went well.
func (s *Switch) look(ctx context.Context, point, since int64) (int64, census, bool) {
	fail := func(err error) (int64, census, bool) {
		if ctx.Err() == nil {
			s.failed(err)
		}
		return point, census{}, false
	}
	if err := s.redis.Ping(ctx); err != nil {
		return fail(err)
	}
	if !s.resetPending(ctx) {
		return point, census{}, false
	}
	names, next, err := s.redis.resetsSince(ctx, point)
	if err != nil {
		return fail(err)
	}
	point = next
	for name, at := range names {
		if own, ok := s.done[name]; !ok || own != at { // by ourselves: what was admitted since it was asked for stays counted
			s.forget(name)
		}
	}
	maps.DeleteFunc(s.done, func(_ string, at int64) bool { return at <= point })
	seen, err := s.redis.alive(ctx, s.identity, doesLook, s.here.said, s.silence(), since)
	if err != nil {
		return fail(err)
	}
	marks, err := s.redis.marks(ctx, s.identity, doesLook, s.marks, s.silence())
	if err != nil {
		return fail(err)
	}
	restarted := s.redis.restarted.Swap(false)
	if restarted {
		s.mergeAgain()
	}
	if err := s.noteLost(ctx, seen.mark, marks, restarted); err != nil {
		return fail(err)
	}
	if s.isLosing && !s.mergeLost(ctx) {
		return point, census{}, false
	}
	s.expect()
	if !s.settle(ctx) {
		return point, census{}, false
	}
	// Said last: who is alive has looked and owed nothing.
	if marks, err = s.redis.marks(ctx, s.identity, doesSay, s.marks, s.silence()); err == nil {
		seen, err = s.redis.alive(ctx, s.identity, doesSay, s.here.said, s.silence(), since)
	}
	switch {
	case err != nil && s.redis.restarted.Load(): // the next look finds out whether anything was lost
		return point, census{}, false
	case err != nil:
		return fail(err)
	}
	s.here, s.marks = seen.mark, marks
	s.expect()
	s.losing, s.isLosing = nil, false
	s.mu.Lock()
	s.unsaid = nil
	s.mu.Unlock()
	return point, seen, true
}

// mergeAgain puts back what was merged since this process last said that Redis knows all: a
// Redis that was restarted meanwhile may have been put back to what it was then. What it knows
// all the same it knows under the same id.
func (s *Switch) mergeAgain() {
	s.merged = 0
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rest, s.unsaid = append(s.unsaid, s.rest...), nil
}

// expect tells the limiter on Redis which data it is to find.
func (s *Switch) expect() {
	if s.marks != nil {
		s.redis.expect(s.identity, s.redis.markKeys(), s.marks)
	} else {
		s.redis.expect(s.identity, []string{s.redis.aliveKey()}, []mark{s.here})
	}
}

// mergeOwed counts in Redis what was admitted here without it, and says whether
// nothing is owed any more.
func (s *Switch) mergeOwed(ctx context.Context) bool {
	if !s.mergeRecords(ctx, nil) {
		return false
	}
	for i := range s.owed.shards {
		if !s.mergeRecords(ctx, s.owed.records(i, true)) {
			return false
		}
	}
	return true
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
		at, err := s.redis.resetNamed(ctx, name)
		if err != nil {
			if ctx.Err() == nil {
				s.failed(err)
			}
			return false
		}
		s.done[name] = at
		s.mu.Lock()
		delete(s.pending, name)
		s.mu.Unlock()
	}
	return true
}
