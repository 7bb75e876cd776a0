package ratelimit

import (
	"hash/maphash"
	"math/bits"
	"time"
)

// decidePair decides on what nearly every request is: two subjects of one limit
// each, whose keys are known and count nothing but that window. It does what decideOn
// does, with everything in registers, and says false where it cannot, before
// anything has happened.
func (m *Memory) decidePair(now int64, a, b *Subject, d *Decision, take bool) bool {
	if len(a.Limits) != 1 || len(b.Limits) != 1 || len(a.Key) > MaxKey || len(b.Key) > MaxKey ||
		uint(len(a.Type)-1) >= MaxType || uint(len(b.Type)-1) >= MaxType || cap(d.Statuses) < 2 {
		return false
	}
	if m.answer(now, a, b, d) {
		return true
	}
	la, lb := &a.Limits[0], &b.Limits[0]
	if !la.valid() || !lb.valid() {
		return false
	}
	ha, hb := m.hash(a.Type, a.Key), m.hash(b.Type, b.Key)
	wa, wb := la.windowMS(), lb.windowMS()
	ia, ib := ha>>m.shift, hb>>m.shift
	sa, sb := &m.shards[ia], &m.shards[ib]
	if ia < ib {
		sa.mu.Lock()
		sb.mu.Lock()
	} else {
		sb.mu.Lock()
		if ia != ib {
			sa.mu.Lock()
		}
	}
	ea, _ := sa.find(tag(ha), byte(len(a.Type)), a.Type, a.Key)
	eb, _ := sb.find(tag(hb), byte(len(b.Type)), b.Type, b.Key)
	ok := ea != nil && eb != nil && ea != eb
	var bucketsA, bucketsB *wide
	if ok {
		var okA, okB bool
		bucketsA, okA = sa.only(ea, la, m.exact)
		bucketsB, okB = sb.only(eb, lb, m.exact)
		ok = okA && okB
	}
	if ok {
		d.Statuses = d.Statuses[:2]
		ta, tb := ea.instant(now), eb.instant(now)
		goneA, usedA, resetA := ea.counts(bucketsA, now, ta, wa, la.Requests)
		goneB, usedB, resetB := eb.counts(bucketsB, now, tb, wb, lb.Requests)
		d.Admitted = usedA < la.Requests && usedB < lb.Requests
		d.Now = time.UnixMilli(now).UTC()
		d.RetryAfter = 0
		d.Store = StoreMemory
		d.Degraded = false
		if take && d.Admitted {
			sa.change(ea)
			sb.change(eb)
			usedA, resetA = ea.count1(bucketsA, goneA, usedA, ta, wa, resetA, la)
			usedB, resetB = eb.count1(bucketsB, goneB, usedB, tb, wb, resetB, lb)
		}
		ea.write(now, la, reading{usedA, resetA}, &d.Statuses[0])
		eb.write(now, lb, reading{usedB, resetB}, &d.Statuses[1])
		if !d.Admitted {
			d.RetryAfter = max(d.Statuses[0].RetryAfter, d.Statuses[1].RetryAfter)
			if bucketsA == nil && bucketsB == nil {
				m.remember(now, a, b, sa, sb, ea, eb, d)
			}
		}
		if take {
			if sa.ticks++; sa.ticks%sweepEvery == 0 {
				sa.sweep(sweepStep, now)
			}
			if sb.ticks++; sb.ticks%sweepEvery == 0 {
				sb.sweep(sweepStep, now)
			}
		}
	}
	sa.mu.Unlock()
	if ia != ib {
		sb.mu.Unlock()
	}
	return ok
}

// hash tells where a subject's key is kept. Types are few and chosen by the
// program: what tells most of them apart is enough, the name is compared anyway.
func (m *Memory) hash(subjectType, key string) uint64 {
	last := len(subjectType) - 1
	kind := uint64(subjectType[0])<<16 | uint64(subjectType[last])<<8 | uint64(last)
	return maphash.String(m.seed, key) ^ bits.RotateLeft64(kind*0x9e3779b97f4a7c15, 32)
}

// tag is what of a hash stands in a shard's table: 0 is for where there is no key.
func tag(hash uint64) uint32 { return max(1, uint32(hash)) }

// only says whether an entry counts one limit and nothing else: by its stamps, or by
// the sub-buckets returned.
func (s *shard) only(e *entry, l *Limit, exact int) (*wide, bool) {
	if l.Requests <= exact {
		return nil, !e.large
	}
	if !e.large || !e.lone {
		return nil, false
	}
	ws := s.wides(e)
	return &ws.all[0], len(ws.all) == 1 && ws.all[0].window == l.windowMS()
}

// counts says how a single limit stands at t: the stamps out of its window, the
// requests in it, and its reset.
func (e *entry) counts(buckets *wide, now, t, window int64, requests int) (gone uint32, used int, reset int64) {
	if buckets != nil {
		r := buckets.stand(now, t, requests, window)
		return 0, r.used, r.reset
	}
	if e.count == 0 {
		return 0, 0, now
	}
	reset = e.at(0) + window
	if reset <= t {
		if gone = 1; e.count > 1 {
			if reset = e.at(1) + window; reset <= t { // seldom more than one comes free at a time
				gone = e.expired(t, window)
			}
		}
		if gone == e.count {
			return gone, 0, now
		}
		reset = e.at(gone) + window
	}
	used = int(e.count - gone)
	if used > requests { // the limit was lowered
		reset = e.at(e.count-uint32(requests)) + window
	}
	return gone, used, reset
}

// count1 counts a request at t after counts has found room for it, and says how
// the limit stands then. The reset stays that of the oldest request, also when
// this one is the last.
func (e *entry) count1(buckets *wide, gone uint32, used int, t, window, reset int64, l *Limit) (int, int64) {
	if buckets != nil {
		buckets.asked = t
		buckets.add(t, 1)
		e.head, e.count = 0, 0 // the stamp is the newest alone
		gone, reset = 0, buckets.stand(t, t, l.Requests, window).reset
	}
	if used == 0 {
		reset = t + window
	}
	if gone > 0 {
		e.drop(gone)
	}
	e.push(t, uint32(l.Requests))
	e.keep = uint32(uint64(window+999) / 1000)
	return used + 1, reset
}
