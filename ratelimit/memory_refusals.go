package ratelimit

import (
	"strings"
	"sync/atomic"
	"time"
)

const (
	// refusals is how many denied pairs are remembered at once: 100 KB.
	refusals = 256

	// refusedOften is how many times in a row a pair is denied before the answer is
	// remembered, so that a flood of different ones allocates next to nothing.
	refusedOften = 16
)

// refusal is the answer to a pair that was denied. It stays true while neither key
// changes and no request comes free, and is given without a lock until then. It is
// never changed: whoever changes a key that is part of one says so in its shard's
// epoch.
type refusal struct {
	from, until    int64 // the instants for which it holds, the last excluded
	ha, hb         uint64
	epochA, epochB uint64
	a, b           refused
}

type refused struct {
	subjectType, key string
	limit            Limit
	reading
	at time.Time // of the reset
}

// refusalSlot says where the answer to a pair is remembered.
func (m *Memory) refusalSlot(ha, hb uint64) *atomic.Pointer[refusal] {
	return &m.refused[(ha^hb>>8)%refusals]
}

// answer gives the remembered answer, if there is one and it still holds. That both
// epochs are still those of the refusal means that it held when the first was read.
func (m *Memory) answer(now int64, a, b *Subject, ha, hb uint64, d *Decision) bool {
	r := m.refusalSlot(ha, hb).Load()
	if r == nil || r.ha != ha || r.hb != hb || now < r.from || now >= r.until ||
		m.shards[ha>>m.shift].epoch.Load() != r.epochA || m.shards[hb>>m.shift].epoch.Load() != r.epochB ||
		!r.a.is(a) || !r.b.is(b) {
		return false
	}
	d.Admitted = false
	d.Now = time.UnixMilli(now).UTC()
	d.Store = StoreMemory
	d.Degraded = false
	d.Statuses = d.Statuses[:2]
	r.a.write(now, &d.Statuses[0])
	r.b.write(now, &d.Statuses[1])
	d.RetryAfter = max(d.Statuses[0].RetryAfter, d.Statuses[1].RetryAfter)
	return true
}

func (r *refused) is(s *Subject) bool {
	return s.Key == r.key && s.Type == r.subjectType && s.Limits[0] == r.limit
}

func (r *refused) write(now int64, status *Status) {
	status.Limit, status.Used = r.limit, r.used
	status.Remaining = max(0, r.limit.Requests-r.used)
	status.Reset = r.at
	status.Full = status.Remaining == 0
	status.RetryAfter, status.Shared = 0, false
	if status.Full {
		status.RetryAfter = time.Duration(r.reset-now) * time.Millisecond
	}
}

// remember keeps the answer to a pair that is denied once more, both shards being
// locked, when it is denied often.
func (m *Memory) remember(now int64, a, b *Subject, ha, hb uint64, ea, eb *entry, d *Decision) {
	if ea.denied++; ea.denied < refusedOften {
		return
	}
	ea.denied = 0
	until := min(ea.changesAt(now, a.Limits[0].windowMS()), eb.changesAt(now, b.Limits[0].windowMS()))
	if until <= now {
		return
	}
	ea.refused, eb.refused = true, true
	m.refusalSlot(ha, hb).Store(&refusal{
		from: now, until: until, ha: ha, hb: hb,
		epochA: m.shards[ha>>m.shift].epoch.Load(), epochB: m.shards[hb>>m.shift].epoch.Load(),
		a: refusedAs(a, &d.Statuses[0]), b: refusedAs(b, &d.Statuses[1]),
	})
}

// refusedAs keeps the type as it is, which programs have as a constant: it is known
// again by its address.
func refusedAs(s *Subject, status *Status) refused {
	return refused{
		s.Type, strings.Clone(s.Key), s.Limits[0],
		reading{status.Used, status.Reset.UnixMilli()}, status.Reset,
	}
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
