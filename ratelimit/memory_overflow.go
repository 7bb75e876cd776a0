package ratelimit

import (
	"encoding/binary"
	"slices"
	"sync/atomic"
)

// maxBuckets is how many buckets there are at most for each type and set of
// windows; at least minBuckets, otherwise one for 16 keys.
const (
	minBuckets = 16
	maxBuckets = 1 << 16
)

// overflow holds the buckets that new keys share while their own do not fit. They
// are kept in a shard of its own, which is locked after all others.
//
// A key that may have been counted in a bucket is never admitted beside it: while
// the bucket may count something of a key of some shard, it speaks for all keys of
// that shard and its group that have no count of their own, and such a key begins
// with the bucket's count when it gets one.
type overflow struct {
	group   func(Subject) string
	buckets uint64
	shard   shard
	live    atomic.Uint32 // shard.live, to be read without its lock
}

func newOverflow(group func(Subject) string, keys int) *overflow {
	if group == nil {
		return nil
	}
	v := &overflow{group: group, buckets: uint64(max(minBuckets, min(keys/16, maxBuckets)))}
	v.shard.max = 1 << 30 // the buckets are numbered: there are no more of them
	return v
}

// locate says which bucket a subject shares: one by its group, out of a fixed
// number, for those with the same windows. Subjects of other windows need to be
// remembered for another time.
func (v *overflow) locate(m *Memory, o *op, s *Subject) {
	key := make([]byte, 0, (1+MaxLimits)*binary.MaxVarintLen64)
	key = binary.AppendUvarint(key, m.hash(s.Type, v.group(*s))%v.buckets)
	for i := range s.Limits {
		key = binary.AppendUvarint(key, uint64(s.Limits[i].windowMS()))
	}
	m.place(o, s.Type, string(key), false)
	o.shard = &v.shard
}

// mayShare says whether a decision has to look at the buckets: one about a key of
// that shard, which is locked, that is not known.
func (m *Memory) mayShare(s *shard, now int64) bool {
	return m.overflow != nil && (s.shared > now || s.live+MaxSubjects > s.max && m.overflow.live.Load() > 0)
}

// decideShared decides where keys are not known and do not all fit, or may have
// been counted in a bucket.
func (m *Memory) decideShared(now int64, subjects []Subject, d *Decision, take bool) error {
	var own, shared [MaxSubjects]op
	ops := own[:len(subjects)]
	for i := range ops {
		s := &subjects[i]
		m.locate(&ops[i], s.Type, s.Key)
		ops[i].window = s.Limits[0].windowMS()
		m.overflow.locate(m, &shared[i], s)
		shared[i].window = ops[i].window
	}
	order := lock(ops)
	m.overflow.shard.mu.Lock()
	m.decideSharedLocked(now, subjects, d, take, ops, shared[:len(ops)])
	m.overflow.live.Store(m.overflow.shard.live)
	m.overflow.shard.mu.Unlock()
	unlock(ops, order)
	return nil
}

func (m *Memory) decideSharedLocked(now int64, subjects []Subject, d *Decision, take bool, ops, shared []op) {
	var speaks [MaxSubjects]*op // for each subject: its own op, or that of its bucket
	admitted := true
	for i := range ops {
		o := &ops[i]
		o.entry, _ = o.shard.find(o.tag, o.mark, subjects[i].Type, o.key)
	}
	for i := range ops {
		o, b, s := &ops[i], &shared[i], &subjects[i]
		speaks[i] = o
		if o.entry == nil {
			b.entry, _ = b.shard.find(b.tag, b.mark, s.Type, b.key)
			if b.entry != nil && o.shard.shared > now || !o.shard.fits(now, newcomers(ops[:i+1], o.shard), ops) {
				speaks[i] = b
			}
		}
		if speaks[i].look(now, s.Limits, m.exact) {
			admitted = false
		}
	}
	consume := take && admitted
	if consume {
		for i := range ops {
			if ops[i].entry == nil {
				speaks[i] = m.makeEntry(now, subjects, ops, shared, i, speaks[i])
			}
		}
		for i := range ops {
			// A request counts once in a bucket, also where two of its subjects share it.
			if !countedBefore(speaks[:i], speaks[i].entry) {
				speaks[i].admit(now, subjects[i].Limits, m.exact)
			}
			if b := speaks[i]; b == &shared[i] {
				ops[i].shard.shared = max(ops[i].shard.shared, b.entry.last()+int64(b.entry.keep)*1000)
			}
			speaks[i].look(now, subjects[i].Limits, m.exact)
		}
	}
	for i := range ops {
		ops[i].speaks, ops[i].reading = speaks[i].speaks, speaks[i].reading
		ops[i].entry = speaks[i].entry
	}
	conclude(now, subjects, d, admitted, ops)
	for i := range ops {
		d.Statuses[i].Shared = speaks[i] == &shared[i]
	}
	if take {
		sweep(ops, now, consume)
		m.overflow.shard.sweep(sweepStep, now)
	}
}

// makeEntry gives the i-th subject, which is not known, an entry of its own, which
// begins with what its bucket counts, where that spoke; or its bucket where it does
// not fit.
func (m *Memory) makeEntry(now int64, subjects []Subject, ops, shared []op, i int, spoke *op) *op {
	s, o, b := &subjects[i], &ops[i], &shared[i]
	if o.shard.insert(o.tag, o.mark, s.Type, o.key, now, ops) {
		findAgain(ops, subjects, o.shard)
		if spoke == b && b.entry != nil {
			o.shard.inherit(o.entry, b.entry, b.shard.wides(b.entry))
		}
		o.look(now, s.Limits, m.exact)
		return o
	}
	if b.entry, _ = b.shard.find(b.tag, b.mark, s.Type, b.key); b.entry == nil { // one before may have made it
		b.shard.insert(b.tag, b.mark, s.Type, b.key, now, nil)
		findAgain(shared, subjects, b.shard)
	}
	b.look(now, s.Limits, m.exact)
	return b
}

// newcomers is how many of the keys of a shard are not known. Of one more than the
// first it is not tried whether they can make room.
func newcomers(ops []op, s *shard) (n uint32) {
	for i := range ops {
		if ops[i].shard == s && ops[i].entry == nil {
			n++
		}
	}
	return n
}

func countedBefore(speaks []*op, e *entry) bool {
	return slices.ContainsFunc(speaks, func(o *op) bool { return o.entry == e })
}

// inherit makes a fresh entry count what another one counts.
func (s *shard) inherit(e, from *entry, ws *wides) {
	gone := from.expired(from.last(), int64(from.keep)*1000)
	e.resize(max(1, from.count-gone))
	for i := gone; i < from.count; i++ {
		e.count++
		e.set(e.count-1, from.at(i))
	}
	e.keep, e.lone = from.keep, from.lone
	if ws != nil {
		copied := &wides{all: slices.Clone(ws.all), stamps: ws.stamps}
		for i := range copied.all {
			copied.all[i].runs = slices.Clone(copied.all[i].runs)
		}
		s.keepWides(e, copied)
	}
}
