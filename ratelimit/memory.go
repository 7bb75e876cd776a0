package ratelimit

import (
	"context"
	"crypto/sha256"
	"errors"
	"hash/maphash"
	"math/bits"
	"sync/atomic"
	"time"
)

// DefaultMaxKeys is how many keys [Memory] holds unless told otherwise: some
// 100 MB when all of them are in use, plus 6 to 8 bytes a counted request.
const DefaultMaxKeys = 1 << 20

// DefaultMaxExact is up to how many requests a limit's window is exact unless
// told otherwise.
const DefaultMaxExact = 4096

// MemoryOptions configures [NewMemory]. The zero value is ready to use.
type MemoryOptions struct {
	// MaxKeys bounds the keys held at once; 0 means [DefaultMaxKeys], and less
	// than [MaxSubjects] is raised to it. Keys are spread over shards by a
	// random hash, so the bound is met within a few percent.
	//
	// When a new key does not fit, a key that counts nothing makes room; if
	// none is near, one that counts something but is not limited now, whose
	// count is then forgotten. A limited key is never pushed out: where there
	// are only such, the new key shares a bucket, see Overflow.
	MaxKeys int

	// MaxExact is up to how many requests a limit's window is exact; 0 means
	// [DefaultMaxExact]. The windows of larger limits are counted in
	// sub-buckets, see "Large limits" in the package comment.
	MaxExact int

	// Overflow says with whom a new key shares a bucket while there are only
	// limited keys: all subjects of one type and the same windows for which it
	// gives the same string, such as the network of an address. nil means that
	// the decision is [ErrFull] instead. It is called while no lock is held, and
	// may be called by several goroutines. See "Full of limited keys" in the
	// package comment.
	Overflow func(Subject) string
}

// Memory is an exact limiter within one process. Its clock is the now that each
// call passes in.
//
// Time may step back. For a key whose last admitted request is later than now,
// time stands still at that request until the clock has caught up: the key
// admits no more than its limits allow, at worst less. Keys that count nothing
// are kept for a minute longer, so that steps below a minute change nothing.
//
// There is no background goroutine: each new key, and every so many decisions,
// look at a few other keys and drop those that count nothing any more.
type Memory struct {
	seed    maphash.Seed
	shift   uint
	exact   int
	shards  []shard
	refused []atomic.Pointer[refusal]

	overflow *overflow // nil where new keys that do not fit are refused
	clock    steady
}

var _ Limiter = (*Memory)(nil)

// MemoryStats is what [Memory.Stats] reports.
type MemoryStats struct {
	Keys      int    // keys held now, idle ones that were not swept yet included
	Buckets   int    // that keys share which do not fit, idle ones included
	PushedOut uint64 // keys that still counted and were forgotten to make room
}

// NewMemory returns an empty limiter.
func NewMemory(options MemoryOptions) *Memory {
	keys := options.MaxKeys
	if keys <= 0 {
		keys = DefaultMaxKeys
	}
	keys = max(min(keys, 1<<30), MaxSubjects)
	n := 1
	for n < 256 && keys/n >= 1024 || n < 4096 && keys/n >= 8192 {
		n *= 2
	}
	if options.MaxExact <= 0 {
		options.MaxExact = DefaultMaxExact
	}
	m := &Memory{
		exact:   options.MaxExact,
		seed:    maphash.MakeSeed(),
		shift:   uint(64 - bits.TrailingZeros(uint(n))),
		shards:  make([]shard, n),
		refused: make([]atomic.Pointer[refusal], refusals),
		clock:   newSteady(),
	}
	m.overflow = newOverflow(options.Overflow, keys)
	for i := range m.shards {
		m.shards[i].max = uint32((keys + n - 1) / n)
	}
	return m
}

// op is one subject of a decision under way.
type op struct {
	shard  *shard
	entry  *entry // nil for a key that counts nothing
	wides  *wides // of the entry
	key    string
	t      int64 // the instant, for this key
	window int64 // of the first limit, in milliseconds
	reading
	speaks int    // the limit that the reading is about
	index  uint32 // of the shard
	tag    uint32
	gone   uint32 // stamps out of the window, for a key with one exact limit
	mark   byte
}

// locate says where the key of a subject is found.
func (m *Memory) locate(o *op, subjectType, key string) {
	if len(key) > MaxKey {
		sum := sha256.Sum256([]byte(key))
		m.place(o, subjectType, string(sum[:]), true)
		return
	}
	m.place(o, subjectType, key, false)
}

// place is locate for a key that is hashed already, if it must be.
func (m *Memory) place(o *op, subjectType, key string, hashed bool) {
	o.mark = byte(len(subjectType))
	if hashed {
		o.mark |= hashedKey
	}
	o.key = key
	h := m.hash(subjectType, key)
	o.tag = tag(h)
	o.index = uint32(h >> m.shift)
	o.shard = &m.shards[o.index]
}

// Take implements [Limiter]. It waits for nothing but its locks and does not
// look at ctx. For keys that are known it allocates nothing, but for the rare
// growth of a key's ring.
func (m *Memory) Take(_ context.Context, now time.Time, subjects []Subject, d *Decision) error {
	return m.decideOrShare(now, subjects, d, true)
}

// Peek implements [Limiter].
func (m *Memory) Peek(_ context.Context, now time.Time, subjects []Subject, d *Decision) error {
	return m.decideOrShare(now, subjects, d, false)
}

// decideOrShare is decide, but for new keys that do not fit: these share a bucket,
// if there are any.
func (m *Memory) decideOrShare(at time.Time, subjects []Subject, d *Decision, take bool) error {
	instant, ahead := m.clock.at(at)
	err := m.decide(instant, subjects, d, take)
	if err != nil && m.overflow != nil && errors.Is(err, ErrFull) {
		err = m.decideShared(instant.UnixMilli(), subjects, d, take)
	}
	if err == nil {
		d.shift(ahead)
	}
	return err
}

// decide decides on keys of their own, at an instant of the steady clock. Where one is not known and does not fit, or
// may have been counted in a bucket, that is ErrFull.
func (m *Memory) decide(at time.Time, subjects []Subject, d *Decision, take bool) error {
	now := at.UnixMilli()
	if now < 0 || now > maxInstant {
		return ErrInvalidTime
	}
	if len(subjects) == 2 && m.decidePair(now, &subjects[0], &subjects[1], d, take) {
		return nil
	}
	if len(subjects) <= 2 { // clearing room for more would take as long as deciding
		var ops [2]op
		return m.decideOn(now, subjects, d, take, ops[:len(subjects)])
	}
	if len(subjects) > MaxSubjects {
		return validateSubjects(subjects)
	}
	var ops [MaxSubjects]op
	return m.decideOn(now, subjects, d, take, ops[:len(subjects)])
}

func (m *Memory) decideOn(now int64, subjects []Subject, d *Decision, take bool, ops []op) error {
	if len(ops) == 0 || len(ops) != len(subjects) {
		return validateSubjects(subjects)
	}
	for i := range ops {
		s, o := &subjects[i], &ops[i]
		if !s.valid() {
			return validateSubjects(subjects)
		}
		m.locate(o, s.Type, s.Key)
		o.window = s.Limits[0].windowMS()
		for j := range i {
			if ops[j].tag == o.tag && s.Key == subjects[j].Key && s.Type == subjects[j].Type {
				return validateSubjects(subjects)
			}
		}
	}
	if cap(d.Statuses) < len(ops) {
		d.Statuses = make([]Status, len(ops))
	}
	d.Statuses = d.Statuses[:len(ops)]
	order := lock(ops)
	err := m.decideLocked(now, subjects, d, take, ops)
	unlock(ops, order)
	return err
}

func (m *Memory) decideLocked(now int64, subjects []Subject, d *Decision, take bool, ops []op) error {
	admitted := true
	for i := range ops {
		o, s := &ops[i], &subjects[i]
		o.entry, _ = o.shard.find(o.tag, o.mark, s.Type, o.key)
		if o.entry == nil && m.mayShare(o.shard, now) {
			return ErrFull
		}
		if full := o.look(now, s.Limits, m.exact); full {
			admitted = false
		}
	}
	consume := take && admitted
	inserted := false
	if consume {
		for i := range ops {
			if o := &ops[i]; o.entry == nil {
				// An entry without stamps counts nothing: where a later one
				// does not fit, the earlier ones need not be undone.
				if !o.shard.insert(o.tag, o.mark, subjects[i].Type, o.key, now, ops) {
					return ErrFull
				}
				inserted = true
				findAgain(ops, subjects, o.shard)
			}
		}
		for i := range ops {
			ops[i].admit(now, subjects[i].Limits, m.exact)
		}
	}

	conclude(now, subjects, d, admitted, ops)
	if take {
		sweep(ops, now, inserted)
	}
	return nil
}

// findAgain finds the entries of the decision under way after one was inserted into
// a shard, which moves others.
func findAgain(ops []op, subjects []Subject, inserted *shard) {
	for i := range ops {
		if o := &ops[i]; o.shard == inserted {
			o.entry, _ = o.shard.find(o.tag, o.mark, subjects[i].Type, o.key)
		}
	}
}

// conclude writes the decision.
func conclude(now int64, subjects []Subject, d *Decision, admitted bool, ops []op) {
	d.Admitted = admitted
	d.Now = time.UnixMilli(now).UTC()
	d.RetryAfter = 0
	d.Store = StoreMemory
	d.Degraded = false
	for i := range ops {
		o, status := &ops[i], &d.Statuses[i]
		o.entry.write(now, &subjects[i].Limits[o.speaks], o.reading, status)
		if !admitted {
			d.RetryAfter = max(d.RetryAfter, status.RetryAfter)
		}
	}
}

// look notes how the subject stands and says whether it is full.
func (o *op) look(now int64, limits []Limit, exact int) bool {
	e, requests := o.entry, limits[0].Requests
	o.t = now
	if e == nil {
		o.speaks, o.reading = e.tightest(now, now, limits, exact, nil)
		return false
	}
	o.t = e.instant(now)
	if len(limits) > 1 || e.large || requests > exact {
		o.wides = o.shard.wides(e)
		o.speaks, o.reading = e.tightest(now, o.t, limits, exact, o.wides)
		return o.used >= limits[o.speaks].Requests
	}
	o.gone, o.used, o.reset = e.counts(nil, now, o.t, o.window, requests)
	return o.used >= requests
}

// admit counts the request and notes how the subject stands then.
func (o *op) admit(now int64, limits []Limit, exact int) {
	e := o.entry
	o.shard.change(e)
	if len(limits) > 1 || e.large || limits[0].Requests > exact {
		o.wides = e.admit(o.t, limits, exact, o.shard, o.wides)
		o.speaks, o.reading = e.tightest(now, o.t, limits, exact, o.wides)
		return
	}
	o.used, o.reset = e.count1(nil, o.gone, o.used, o.t, o.window, o.reset, &limits[0])
}

// sweep does the shards' share of housekeeping, when no entry is in use any more.
func sweep(ops []op, now int64, inserted bool) {
	for i := range ops {
		s := ops[i].shard
		if s.ticks++; inserted || s.ticks%sweepEvery == 0 {
			s.sweep(sweepStep, now)
		}
	}
}

// Reset implements [Limiter].
func (m *Memory) Reset(_ context.Context, subjectType, key string) error {
	if err := validateType(subjectType); err != nil {
		return err
	}
	var o op
	m.locate(&o, subjectType, key)
	o.forget(subjectType)
	return nil
}

// forget removes the located key.
func (o *op) forget(subjectType string) {
	o.shard.mu.Lock()
	defer o.shard.mu.Unlock()
	if e, slot := o.shard.find(o.tag, o.mark, subjectType, o.key); e != nil {
		o.shard.remove(slot)
	}
}

// resetNamed is Reset for a name as Redis holds it.
func (m *Memory) resetNamed(name string) {
	subjectType, key, hashed, ok := splitName(name)
	if !ok || len(subjectType) > MaxType || len(key) > MaxKey {
		return
	}
	var o op
	m.place(&o, subjectType, key, hashed)
	o.forget(subjectType)
}

// giveBack takes back a request that Take admitted at the same now.
func (m *Memory) giveBack(at time.Time, subjects []Subject) {
	for i := range subjects {
		var o op
		m.locate(&o, subjects[i].Type, subjects[i].Key)
		o.shard.mu.Lock()
		if e, _ := o.shard.find(o.tag, o.mark, subjects[i].Type, o.key); e != nil {
			o.shard.change(e)
			e.giveBack(at.UnixMilli(), o.shard.wides(e))
		}
		o.shard.mu.Unlock()
	}
}

// maxKeys is how many keys fit.
func (m *Memory) maxKeys() int { return len(m.shards) * int(m.shards[0].max) }

// Stats counts the keys held.
func (m *Memory) Stats() MemoryStats {
	var stats MemoryStats
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		stats.Keys += int(s.live)
		stats.PushedOut += s.pushedOut
		s.mu.Unlock()
	}
	if m.overflow != nil {
		stats.Buckets = int(m.overflow.live.Load())
	}
	return stats
}

// valid is Validate without an error to build, for the path of a decision.
func (s *Subject) valid() bool {
	if s.Type == "" || len(s.Type) > MaxType || len(s.Limits) == 0 || len(s.Limits) > MaxLimits {
		return false
	}
	for i := range s.Limits {
		if !s.Limits[i].valid() {
			return false
		}
	}
	return true
}
