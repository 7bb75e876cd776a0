package ratelimit

import (
	"context"
	"crypto/sha256"
	"hash/maphash"
	"math/bits"
	"time"
)

// DefaultMaxKeys is how many keys [Memory] holds unless told otherwise: some
// 100 MB when all of them are in use, plus 6 to 8 bytes a counted request.
const DefaultMaxKeys = 1 << 20

// MemoryOptions configures [NewMemory]. The zero value is ready to use.
type MemoryOptions struct {
	// MaxKeys bounds the keys held at once; 0 means [DefaultMaxKeys], and less
	// than [MaxSubjects] is raised to it. Keys are spread over shards by a
	// random hash, so the bound is met within a few percent.
	//
	// When a new key does not fit, a key that counts nothing makes room; if
	// none is near, one that counts something but is not limited now, whose
	// count is then forgotten. A limited key is never pushed out: where there
	// are only such, the new key's decision is [ErrFull].
	MaxKeys int
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
	seed   maphash.Seed
	shift  uint
	shards []shard
}

var _ Limiter = (*Memory)(nil)

// MemoryStats is what [Memory.Stats] reports.
type MemoryStats struct {
	Keys      int    // keys held now, idle ones that were not swept yet included
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
	for n < 256 && keys/n >= 1024 {
		n *= 2
	}
	m := &Memory{
		seed:   maphash.MakeSeed(),
		shift:  uint(64 - bits.TrailingZeros(uint(n))),
		shards: make([]shard, n),
	}
	for i := range m.shards {
		m.shards[i].max = uint32((keys + n - 1) / n)
	}
	return m
}

// op is one subject of a decision under way.
type op struct {
	shard *shard
	entry *entry // nil for a key that counts nothing
	key   string
	index uint32 // of the shard
	tag   uint32
	mark  byte
}

// locate says where the key of a subject is found.
func (m *Memory) locate(o *op, subjectType, key string) {
	hashed := len(key) > MaxKey
	if hashed {
		sum := sha256.Sum256([]byte(key))
		key = string(sum[:])
	}
	m.place(o, subjectType, key, hashed)
}

// place is locate for a key that is hashed already, if it must be.
func (m *Memory) place(o *op, subjectType, key string, hashed bool) {
	o.mark = byte(len(subjectType))
	if hashed {
		o.mark |= hashedKey
	}
	o.key = key
	h := maphash.String(m.seed, key) ^ bits.RotateLeft64(maphash.String(m.seed, subjectType), 21)
	o.tag = uint32(h)
	o.index = uint32(h >> m.shift)
	o.shard = &m.shards[o.index]
}

// Take implements [Limiter]. It waits for nothing but its locks and does not
// look at ctx. For keys that are known it allocates nothing, but for the rare
// growth of a key's ring.
func (m *Memory) Take(_ context.Context, now time.Time, subjects []Subject, d *Decision) error {
	return m.decide(now, subjects, d, true)
}

// Peek implements [Limiter].
func (m *Memory) Peek(_ context.Context, now time.Time, subjects []Subject, d *Decision) error {
	return m.decide(now, subjects, d, false)
}

func (m *Memory) decide(at time.Time, subjects []Subject, d *Decision, take bool) error {
	now := at.UnixMilli()
	if now < 0 || now > maxInstant {
		return ErrInvalidTime
	}
	if len(subjects) == 0 || len(subjects) > MaxSubjects {
		return validateSubjects(subjects)
	}
	var array [MaxSubjects]op
	ops := array[:len(subjects)]
	for i := range ops {
		s := &subjects[i]
		if !s.valid() {
			return validateSubjects(subjects)
		}
		m.locate(&ops[i], s.Type, s.Key)
		for j := range i {
			if ops[j].tag == ops[i].tag && s.Key == subjects[j].Key && s.Type == subjects[j].Type {
				return validateSubjects(subjects)
			}
		}
	}
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
		if o.entry.full(o.entry.instant(now), s.Limits) {
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
				if o.entry = o.shard.insert(o.tag, o.mark, subjects[i].Type, o.key, now, ops); o.entry == nil {
					return ErrFull
				}
				inserted = true
			}
		}
	}

	d.Admitted = admitted
	d.Now = time.UnixMilli(now).UTC()
	d.RetryAfter = 0
	d.Store = StoreMemory
	d.Degraded = false
	if cap(d.Statuses) < len(ops) {
		d.Statuses = make([]Status, len(ops))
	}
	d.Statuses = d.Statuses[:len(ops)]
	for i := range ops {
		e, limits, status := ops[i].entry, subjects[i].Limits, &d.Statuses[i]
		t := e.instant(now)
		if consume {
			e.admit(t, limits)
		}
		e.status(now, t, limits, status)
		if !admitted && status.RetryAfter > d.RetryAfter {
			d.RetryAfter = status.RetryAfter
		}
	}
	if take {
		sweep(ops, now, inserted)
	}
	return nil
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
			e.giveBack(at.UnixMilli())
		}
		o.shard.mu.Unlock()
	}
}

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

// lock takes the locks of all shards concerned, each once and in the order of
// their index, so that two decisions never wait for each other. It returns the
// shards' indices in that order for unlock.
func lock(ops []op) (order [MaxSubjects]uint8) {
	for i := range ops {
		j := i
		for ; j > 0 && ops[order[j-1]].index > ops[i].index; j-- {
			order[j] = order[j-1]
		}
		order[j] = uint8(i)
	}
	for i := range ops {
		if i == 0 || ops[order[i]].shard != ops[order[i-1]].shard {
			ops[order[i]].shard.mu.Lock()
		}
	}
	return order
}

func unlock(ops []op, order [MaxSubjects]uint8) {
	for i := range ops {
		if i == 0 || ops[order[i]].shard != ops[order[i-1]].shard {
			ops[order[i]].shard.mu.Unlock()
		}
	}
}
