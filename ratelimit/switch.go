package ratelimit

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// SwitchOptions configures [NewSwitch]. The zero value is ready to use.
type SwitchOptions struct {
	// OnChange is told of each change of store, one call at a time and in
	// order, from a goroutine of its own: it may take its time.
	OnChange func(Change)

	// Without says what is decided without Redis; the zero value is [Share].
	Without Without

	// Instances is how many processes share the limits, for the time before
	// Redis has told it; 0 means 1.
	Instances int

	// ProbeInterval is the time between two looks at Redis, give or take a
	// fifth; 0 means [DefaultProbeInterval]. It may grow to four times as much
	// while Redis comes and goes. What another process reset is forgotten here by
	// the next look.
	ProbeInterval time.Duration
}

// DefaultProbeInterval is the time between two looks of a [Switch] at Redis. With
// its jitter and the look itself, a reset reaches the other processes within a second.
const DefaultProbeInterval = 500 * time.Millisecond

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
// in both, and a request must pass both. Beside it the Switch keeps a mirror of
// what Redis last told of each key, so that it knows what others admitted. When
// Redis goes away, each process admits its share of what is left; see "Without
// Redis" in the package comment for how much that is in all.
//
// A decision that Redis answers with an error, or not in time, is made from
// memory at once. An error that Redis itself answers (it is read-only, out of
// memory, something else altogether) or three failures in a row open the switch,
// and no further request waits for Redis. A background goroutine looks at Redis
// about twice a second, there and away: it says that this process is alive and
// learns how many are, which subjects others reset, and whether Redis lost its
// data. Away, a second look that finds Redis well closes the switch, after what
// was admitted meanwhile has been counted there.
type Switch struct {
	redis    *Redis
	memory   *Memory
	onChange func(Change)
	interval time.Duration

	without  Without
	identity string // among the instances alive
	clock    steady // of all that is kept here: stamps, what the mirror knows, offset

	// share holds what was admitted here since Redis went away, against which
	// the share is held until Redis decides again; owed is what of it Redis may
	// not know yet.
	share     atomic.Pointer[Memory]
	owed      *Memory
	mirror    *mirror      // what Redis last told
	unheard   unheard      // of whom it is to tell again
	instances atomic.Int64 // that are alive
	asking    atomic.Int64 // requests that Redis has not answered yet
	offset    atomic.Int64 // Redis's clock less this process's steady one, in milliseconds
	flaps     atomic.Int64 // changes of store
	losses    atomic.Int64 // openings, and losses of Redis's data while open: what was well before is none any more

	degraded atomic.Bool

	// half says, while degraded, that Redis is well again and knows what was
	// admitted here: a request must pass the share and Redis, until all
	// instances are so far.
	half     atomic.Bool
	failures atomic.Int32 // in a row, since the last answer
	scratch  sync.Pool    // of *scratch

	// gate is held for reading while a decision is made without Redis, and for
	// writing while the last of those are merged before Redis decides again.
	gate sync.RWMutex

	// Of the goroutine that looks at Redis alone.
	here     mark             // where this process says that it is alive
	marks    []mark           // on a cluster, those on all nodes
	isLosing bool             // something was lost, and is not merged yet
	losing   slots            // on a cluster, of these
	lostFrom int64            // what was admitted since, on Redis's clock in milliseconds; 0: all
	loss     string           // an id of it
	merged   int              // shards of memory that were merged since
	done     map[string]int64 // pending resets that were done, by name, and where they stand among everybody's

	mu      sync.Mutex
	since   time.Time       // of the last change
	changes []Change        // not told yet
	pending map[string]bool // names reset while Redis was away
	rest    []record        // what could not be merged yet
	unsaid  []record        // what was merged since it was last said that Redis knows all

	wake    chan struct{} // there are changes to be told
	stop    context.CancelFunc
	ended   chan struct{} // the looks at Redis
	toldAll chan struct{} // the last change
}

var _ Limiter = (*Switch)(nil)

const (
	maxFailures = 3
	maxPending  = 10_000
)

// ErrPending is a reset that could not be noted: Redis is away and too many
// resets wait for it already.
var ErrPending = errors.New("too many resets are waiting for Redis")

// NewSwitch returns a limiter on Redis and memory, which it takes over. The mirror
// of what Redis told holds as many keys as memory, some 150 bytes each. Others
// should not use the two for the same subjects. It begins on Redis; where Redis is
// not there, the first look notices within the Redis limiter's timeout. Close
// ends its goroutines.
func NewSwitch(redis *Redis, memory *Memory, options SwitchOptions) *Switch {
	if options.OnChange == nil {
		options.OnChange = func(Change) {}
	}
	if options.ProbeInterval <= 0 {
		options.ProbeInterval = DefaultProbeInterval
	}
	if options.Instances <= 0 {
		options.Instances = 1
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &Switch{
		redis:    redis,
		memory:   memory,
		onChange: options.OnChange,
		interval: options.ProbeInterval,
		scratch:  sync.Pool{New: func() any { return new(scratch) }},
		without:  options.Without,
		identity: rand.Text(),
		clock:    newSteady(),
		mirror:   newMirror(memory.maxKeys()),
		since:    time.Now(),
		pending:  map[string]bool{},
		done:     map[string]int64{},
		wake:     make(chan struct{}, 1),
		stop:     stop,
		ended:    make(chan struct{}),
		toldAll:  make(chan struct{}),
	}
	redis.ofMerged = max(redis.exact, memory.exact) // a limit that is exact here alone needs all of its requests there
	s.owed = s.newShare()
	s.share.Store(s.newShare())
	s.instances.Store(int64(options.Instances))
	go s.watch(ctx)
	go s.tellAll()
	return s
}

// Close ends the background goroutines after the last OnChange has returned, and
// tells Redis that this process no longer shares the limits. It closes neither
// Redis nor memory.
func (s *Switch) Close() {
	s.stop()
	<-s.ended
	<-s.toldAll
	_, _ = s.redis.alive(context.Background(), s.identity, doesLeave, 0, s.silence(), 0)
	s.redis.expectAny()
}

// newShare returns an empty Memory like the one that counts along.
func (s *Switch) newShare() *Memory {
	return NewMemory(MemoryOptions{MaxKeys: s.memory.maxKeys(), MaxExact: s.memory.exact})
}

// Degraded says whether memory decides just now.
func (s *Switch) Degraded() bool { return s.degraded.Load() }

// SwitchStatus is how a [Switch] stands.
type SwitchStatus struct {
	Degraded  bool      // memory decides
	HalfOpen  bool      // while it does, Redis is asked again and must agree
	Since     time.Time // of the last change of store, on this process's clock
	Changes   int64     // of store since the start
	Instances int       // that were alive when Redis last answered, this one included
	Owed      int       // keys with requests admitted here that Redis does not know yet
	Mirrored  int       // keys of which it is kept what Redis last told
}

// Status says how the Switch stands. It asks nobody.
func (s *Switch) Status() SwitchStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return SwitchStatus{
		Degraded: s.degraded.Load(), HalfOpen: s.degraded.Load() && s.half.Load(), Since: s.since, Changes: s.flaps.Load(),
		Instances: int(s.instances.Load()), Owed: s.owed.Stats().Keys + len(s.rest),
		Mirrored: s.mirror.keys(),
	}
}

// scratch is what a decision needs besides the caller's.
type scratch struct {
	theirs Decision // Redis's answer, or that of the share
	due    Decision
	aside  aside
	debt   *atomic.Bool // set when the request that Redis did not answer in time is owed
	own    []int
	shared []Subject // the subjects with the limits of this process's share
	limits []Limit
}

// Take implements [Limiter]. Without Redis it does not wait and fails only where
// [Memory] does.
func (s *Switch) Take(ctx context.Context, now time.Time, subjects []Subject, d *Decision) error {
	instant, ahead := s.clock.at(now)
	err := s.take(ctx, instant, subjects, d)
	if err == nil && d.Store == StoreMemory { // otherwise it is told on Redis's clock
		d.shift(ahead)
	}
	return err
}

// take is Take at an instant of the steady clock.
func (s *Switch) take(ctx context.Context, now time.Time, subjects []Subject, d *Decision) error {
	if s.degraded.Load() && !s.half.Load() {
		if done, err := s.takeWithout(ctx, now, subjects, d); done {
			return err
		}
	}
	if err := s.memory.decide(now, subjects, d, true); err != nil {
		if errors.Is(err, ErrFull) && !s.degraded.Load() {
			return s.withoutMemory(err, d, func() (bool, error) {
				var a aside
				err := s.redis.decide(ctx, now, subjects, d, true, &a)
				return a.asked, err
			})
		}
		return err
	}
	// The unit is counted in memory before Redis is asked, so that however
	// many requests are under way when Redis goes away, all are counted.
	reserved := d.Admitted
	x := s.scratch.Get().(*scratch)
	defer s.scratch.Put(x)
	half := s.degraded.Load()
	if half {
		room, err := s.takeShare(now, subjects, d, x, reserved, false)
		if err != nil || !room {
			return err
		}
	}
	err := s.ask(ctx, now, subjects, x, reserved, true)
	if err != nil {
		if ctx.Err() != nil {
			if reserved {
				s.giveBack(now, subjects, half)
			}
			return err
		}
		s.failed(err)
		if half {
			return s.owe(now, subjects, x)
		}
		return s.alone(now, subjects, d, x, reserved, x.aside.spent)
	}
	s.answered(x)
	if reserved && !x.theirs.Admitted {
		s.giveBack(now, subjects, half)
		if err := s.memory.decide(now, subjects, d, false); err != nil {
			return err
		}
	}
	s.told(now, subjects, x, half)
	merge(d, &x.theirs, reserved && x.theirs.Admitted)
	d.Degraded = half
	return nil
}

// answered notes that Redis answered. A remembered denial says nothing of it.
func (s *Switch) answered(x *scratch) {
	if x.aside.asked {
		s.failures.Store(0)
	}
}

// giveBack takes back a request that was counted in memory, and in the share.
func (s *Switch) giveBack(now time.Time, subjects []Subject, share bool) {
	s.memory.giveBack(now, subjects)
	if share {
		s.share.Load().giveBack(now, subjects)
	}
}

// Peek implements [Limiter].
func (s *Switch) Peek(ctx context.Context, now time.Time, subjects []Subject, d *Decision) error {
	instant, ahead := s.clock.at(now)
	err := s.peek(ctx, instant, subjects, d)
	if err == nil && d.Store == StoreMemory {
		d.shift(ahead)
	}
	return err
}

// peek is Peek at an instant of the steady clock.
func (s *Switch) peek(ctx context.Context, now time.Time, subjects []Subject, d *Decision) error {
	if err := s.memory.decide(now, subjects, d, false); err != nil {
		return err
	}
	x := s.scratch.Get().(*scratch)
	defer s.scratch.Put(x)
	if !s.degraded.Load() {
		err := s.ask(ctx, now, subjects, x, false, false)
		if err == nil {
			s.answered(x)
			s.told(now, subjects, x, false)
			merge(d, &x.theirs, d.Admitted && x.theirs.Admitted)
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
		s.failed(err)
	}
	_, err := s.lookAtShare(now, subjects, d, x, d.Admitted)
	return err
}

// withoutMemory lets Redis alone decide when memory has no room.
func (s *Switch) withoutMemory(full error, d *Decision, ask func() (asked bool, err error)) error {
	asked, err := ask()
	if err != nil {
		s.failed(err)
		return full
	}
	if asked {
		s.failures.Store(0)
	}
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
	s.forget(name)
	if !s.degraded.Load() {
		_, err := s.redis.resetNamed(ctx, name)
		if err == nil {
			// Again, for requests that were admitted by Redis before.
			s.forget(name)
			return nil
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
