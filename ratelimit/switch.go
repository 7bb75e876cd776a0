package ratelimit

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// SwitchOptions configures [NewSwitch]. The zero value is ready to use.
type SwitchOptions struct {
	// OnChange is told of each change of store, one call at a time and in
	// order, from a goroutine of the Switch: it may take its time.
	OnChange func(Change)

	// ProbeInterval is the time between two looks at Redis, give or take a
	// fifth; 0 means a second. It may grow to four times as much while Redis
	// comes and goes.
	ProbeInterval time.Duration
}

// Change says that a [Switch] went over from one store to the other.
type Change struct {
	// At is when, on this process's clock.
	At time.Time

	// Degraded says that memory decides from now on; otherwise Redis does
	// again.
	Degraded bool

	// Cause is why Redis was given up; nil on recovery. It wraps
	// [ErrUnavailable] and may name Redis's address, but no secret.
	Cause error

	// Lasted is, on recovery, for how long memory decided.
	Lasted time.Duration
}

// Switch decides on Redis and, when Redis is away, from memory.
//
// Memory counts along all the time: what Redis admits to this process is counted
// in both, and a request must pass both. So when Redis goes away, memory goes on
// from what this process admitted so far, and when Redis comes back having
// forgotten everything, nobody gets the quota twice. What other processes
// admitted is in Redis alone: without it, each process enforces the limits by
// itself.
//
// A decision that Redis answers with an error, or not in time, is made from
// memory at once. An error that Redis itself answers (it is read-only, out of
// memory, something else altogether) or three failures in a row open the switch,
// and no further request waits for Redis. A background goroutine looks at Redis
// about once a second, there and away, closes the switch when Redis takes writes
// again, and learns which subjects other processes reset.
type Switch struct {
	redis    *Redis
	memory   *Memory
	onChange func(Change)
	interval time.Duration

	degraded atomic.Bool
	failures atomic.Int32 // in a row, since the last answer
	scratch  sync.Pool    // of *Decision

	mu      sync.Mutex
	since   time.Time       // of the last change
	changes []Change        // not told yet
	pending map[string]bool // names reset while Redis was away

	wake  chan struct{}
	stop  context.CancelFunc
	ended chan struct{}
}

var _ Limiter = (*Switch)(nil)

const (
	maxFailures = 3
	maxPending  = 10_000
)

// ErrPending is a reset that could not be noted: Redis is away and too many
// resets wait for it already.
var ErrPending = errors.New("too many resets are waiting for Redis")

// NewSwitch returns a limiter on Redis and memory, which it takes over: others
// should not use them for the same subjects. It begins on Redis; where Redis is
// not there, the first look notices within the Redis limiter's timeout. Close
// ends its goroutine.
func NewSwitch(redis *Redis, memory *Memory, options SwitchOptions) *Switch {
	if options.OnChange == nil {
		options.OnChange = func(Change) {}
	}
	if options.ProbeInterval <= 0 {
		options.ProbeInterval = time.Second
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &Switch{
		redis:    redis,
		memory:   memory,
		onChange: options.OnChange,
		interval: options.ProbeInterval,
		scratch:  sync.Pool{New: func() any { return new(Decision) }},
		since:    time.Now(),
		pending:  map[string]bool{},
		wake:     make(chan struct{}, 1),
		stop:     stop,
		ended:    make(chan struct{}),
	}
	go s.watch(ctx)
	return s
}

// Close ends the background goroutine after the last OnChange has returned. It
// closes neither Redis nor memory.
func (s *Switch) Close() {
	s.stop()
	<-s.ended
}

// Degraded says whether memory decides just now.
func (s *Switch) Degraded() bool { return s.degraded.Load() }

// Take implements [Limiter]. Without Redis it does not wait and fails only where
// [Memory] does.
func (s *Switch) Take(ctx context.Context, now time.Time, subjects []Subject, d *Decision) error {
	if err := s.memory.Take(ctx, now, subjects, d); err != nil {
		if errors.Is(err, ErrFull) && !s.degraded.Load() {
			return s.withoutMemory(err, d, func() error { return s.redis.Take(ctx, now, subjects, d) })
		}
		return err
	}
	if s.degraded.Load() {
		d.Degraded = true
		return nil
	}
	// The unit is counted in memory before Redis is asked, so that however
	// many requests are under way when Redis goes away, all are counted.
	reserved := d.Admitted
	theirs := s.scratch.Get().(*Decision) // the pool holds nothing else
	defer s.scratch.Put(theirs)
	var err error
	if reserved {
		err = s.redis.Take(ctx, now, subjects, theirs)
	} else {
		err = s.redis.Peek(ctx, now, subjects, theirs)
	}
	if err != nil {
		if ctx.Err() != nil {
			if reserved {
				s.memory.giveBack(now, subjects)
			}
			return err
		}
		s.failed(err)
		d.Degraded = true
		return nil
	}
	s.failures.Store(0)
	if reserved && !theirs.Admitted {
		s.memory.giveBack(now, subjects)
		if err := s.memory.Peek(ctx, now, subjects, d); err != nil {
			return err
		}
	}
	merge(d, theirs, reserved && theirs.Admitted)
	return nil
}

// Peek implements [Limiter].
func (s *Switch) Peek(ctx context.Context, now time.Time, subjects []Subject, d *Decision) error {
	if err := s.memory.Peek(ctx, now, subjects, d); err != nil {
		return err
	}
	if s.degraded.Load() {
		d.Degraded = true
		return nil
	}
	theirs := s.scratch.Get().(*Decision) // the pool holds nothing else
	defer s.scratch.Put(theirs)
	if err := s.redis.Peek(ctx, now, subjects, theirs); err != nil {
		if ctx.Err() != nil {
			return err
		}
		s.failed(err)
		d.Degraded = true
		return nil
	}
	s.failures.Store(0)
	merge(d, theirs, d.Admitted && theirs.Admitted)
	return nil
}

// withoutMemory lets Redis alone decide when memory has no room.
func (s *Switch) withoutMemory(full error, d *Decision, ask func() error) error {
	if err := ask(); err != nil {
		s.failed(err)
		return full
	}
	s.failures.Store(0)
	d.Degraded = false
	return nil
}

// merge makes d, memory's answer, the answer of both: each subject as the
// tighter of the two has it, on Redis's clock.
func merge(d, theirs *Decision, admitted bool) {
	offset := theirs.Now.Sub(d.Now)
	d.Now = theirs.Now
	d.Admitted = admitted
	d.Store = StoreRedis
	d.Degraded = false
	d.RetryAfter = 0
	for i := range d.Statuses {
		ours, their := &d.Statuses[i], &theirs.Statuses[i]
		ours.Reset = ours.Reset.Add(offset)
		if their.Remaining < ours.Remaining || their.Remaining == ours.Remaining && !their.Reset.Before(ours.Reset) {
			*ours = *their
		}
		if !admitted {
			d.RetryAfter = max(d.RetryAfter, ours.RetryAfter)
		}
	}
}

// Reset implements [Limiter]. While Redis is away, the subject is forgotten here
// at once and in Redis before it decides again; the only errors are
// [ErrInvalidSubject] and [ErrPending].
func (s *Switch) Reset(ctx context.Context, subjectType, key string) error {
	if err := s.memory.Reset(ctx, subjectType, key); err != nil {
		return err
	}
	name := storedName(subjectType, key)
	if !s.degraded.Load() {
		err := s.redis.resetNamed(ctx, name)
		if err == nil {
			// Again, for requests that were admitted by Redis before.
			return s.memory.Reset(ctx, subjectType, key)
		}
		if ctx.Err() == nil {
			s.failed(err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pending) >= maxPending && !s.pending[name] {
		return ErrPending
	}
	s.pending[name] = true
	return nil
}
