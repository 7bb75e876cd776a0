package ratelimit

import (
	"strings"
	"sync/atomic"
	"time"
)

const (
	// refusals is how many denied pairs are remembered at once: 100 KB.
	refusalBits = 8
	refusals    = 1 << refusalBits

	// refusedOften is how many times in a row a pair is denied before the answer is
	// remembered, so that a flood of different ones allocates next to nothing.
	refusedOften = 16
)

// refusal is the answer to a pair that was denied. It stays true while neither key
// changes and no request comes free, and is given without a lock until then. It is
// never changed: whoever changes a key that is part of one says so in its shard's
// epoch.
type refusal struct {
	from, until    int64   // the instants for which it holds, the last excluded
	shardA, shardB *shard  // of the keys
	epochA, epochB uint64  // of the shards
	a, b           refused // the two subjects
}

type refused struct {
	subjectType, key string
	status           Status // with RetryAfter as of from
}

// refusalSlot says where the answer to a pair is remembered.
func (m *Memory) refusalSlot(a, b string) *atomic.Pointer[refusal] {
	return &m.refused[(bothEnds(a)^bothEnds(b)*0xc2b2ae3d27d4eb4f)>>(64-refusalBits)]
}

// bothEnds hashes the first and the last eight bytes of a key, quickly and without a
// secret: whoever makes keys meet makes what is remembered forgotten, and nothing else.
func bothEnds(key string) uint64 {
	const spread = 0x9e3779b97f4a7c15
	if n := len(key); n >= 8 {
		return (eight(key[n-8:])*spread ^ eight(key)) * spread
	}
	bytes := uint64(len(key))
	for i := range len(key) {
		bytes = bytes<<8 | uint64(key[i])
	}
	return bytes * spread
}

// eight is the first eight bytes of a string as a number.
func eight(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

// answer gives the remembered answer, if there is one and it still holds. That both
// epochs are still those of the refusal means that it held when the first was read.
func (m *Memory) answer(now int64, a, b *Subject, d *Decision) bool {
	r := m.refusalSlot(a.Key, b.Key).Load()
	if r == nil || now < r.from || now >= r.until || !r.a.is(a) || !r.b.is(b) ||
		r.shardA.epoch.Load() != r.epochA || r.shardB.epoch.Load() != r.epochB {
		return false
	}
	d.Admitted = false
	d.Now = time.UnixMilli(now).UTC()
	d.Store = StoreMemory
	d.Degraded = false
	d.Statuses = d.Statuses[:2]
	passed := time.Duration(now-r.from) * time.Millisecond
	d.RetryAfter = max(r.a.write(passed, &d.Statuses[0]), r.b.write(passed, &d.Statuses[1]))
	return true
}

func (r *refused) is(s *Subject) bool {
	return s.Key == r.key && s.Type == r.subjectType && s.Limits[0] == r.status.Limit
}

// write gives the status as it is when some time has passed, and its RetryAfter.
func (r *refused) write(passed time.Duration, status *Status) time.Duration {
	*status = r.status
	if status.Full {
		status.RetryAfter -= passed
	}
	return status.RetryAfter
}

// remember keeps the answer to a pair that is denied once more, both shards being
// locked, when it is denied often.
func (m *Memory) remember(now int64, a, b *Subject, sa, sb *shard, ea, eb *entry, d *Decision) {
	if ea.denied++; ea.denied < refusedOften {
		return
	}
	ea.denied = 0
	until := min(ea.changesAt(now, a.Limits[0].windowMS()), eb.changesAt(now, b.Limits[0].windowMS()))
	if until <= now {
		return
	}
	ea.refused, eb.refused = true, true
	m.refusalSlot(a.Key, b.Key).Store(&refusal{
		from: now, until: until, shardA: sa, shardB: sb, epochA: sa.epoch.Load(), epochB: sb.epoch.Load(),
		a: refusedAs(a, &d.Statuses[0]), b: refusedAs(b, &d.Statuses[1]),
	})
}

// refusedAs keeps the type as it is, which programs have as a constant: it is known
// again by its address.
func refusedAs(s *Subject, status *Status) refused {
	return refused{s.Type, strings.Clone(s.Key), *status}
}

// changesAt is when the first request that counts at now comes free; 0 where
// nothing counts or the clock was set back.
func (e *entry) changesAt(now, window int64) int64 {
	gone := e.expired(now, window)
	if gone == e.count || e.last() > now {
		return 0
	}
	return e.at(gone) + window
}

// change is called before an entry changes otherwise than by time.
func (s *shard) change(e *entry) {
	e.denied = 0
	if e.refused {
		e.refused = false
		s.epoch.Add(1)
	}
}
