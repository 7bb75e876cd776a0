package ratelimit

import (
	"sync"
	"time"
)

// mirror remembers what Redis last told of each key: how many of the requests
// that counted were other processes'. It is bounded: each new key drops a few that
// nothing counts for any more, and where there is no room, any key.
type mirror struct {
	max int

	mu    sync.Mutex
	known map[mirrored]told
}

type mirrored struct{ subjectType, key string }

// told is what Redis told of a key at an instant of this process's clock.
type told struct {
	at     int64
	until  int64   // nothing of it counts from then on
	others []int32 // for each limit
}

func newMirror(maximum int) *mirror {
	return &mirror{max: maximum, known: map[mirrored]told{}}
}

// mirroredAs is the name of a subject in the mirror. A key too long to keep has
// none: it is hashed, and so rare that what is told of it is not kept.
func mirroredAs(s *Subject) (m mirrored, ok bool) {
	return mirrored{s.Type, s.Key}, len(s.Key) <= MaxKey
}

// learn notes what Redis told of a subject: for each limit how many requests
// count there, and how many of those may be this process's own. With more, what is known
// stands where it is more.
func (m *mirror) learn(at int64, s *Subject, counts, own []int, underWay int, more bool) {
	name, ok := mirroredAs(s)
	if !ok {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	t, ok := m.known[name]
	if ok && t.at > at {
		return // answers out of order
	}
	if !ok {
		m.sweep(at)
	}
	if len(t.others) != len(counts) {
		t.others = make([]int32, len(counts))
	}
	for i := range counts {
		// Of the own ones, Redis may not have counted those under way.
		others := int32(max(0, counts[i]-max(0, own[i]-underWay)))
		if more && at-t.at < s.Limits[i].windowMS() {
			others = max(others, t.others[i])
		}
		t.others[i] = others
	}
	t.at, t.until = at, at
	for i := range counts {
		t.until = max(t.until, at+s.Limits[i].windowMS())
	}
	m.known[name] = t
}

// sweep looks at a few keys and makes room for one.
func (m *mirror) sweep(now int64) {
	looked := 0
	for name, t := range m.known {
		if looked++; looked > 4 {
			break
		}
		if t.until <= now {
			delete(m.known, name)
		}
	}
	for name := range m.known {
		if len(m.known) < m.max {
			break
		}
		delete(m.known, name)
	}
}

// othersOf says how many requests of other processes may still count for a limit.
// All of them are taken to be as young as Redis's answer.
func (m *mirror) othersOf(now int64, s *Subject, limit int) int {
	name, ok := mirroredAs(s)
	if !ok {
		return 0
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.known[name]
	if limit >= len(t.others) || now-t.at >= s.Limits[limit].windowMS() {
		return 0
	}
	return int(t.others[limit])
}

func (m *mirror) forget(name string) {
	subjectType, key, hashed, ok := splitName(name)
	if !ok || hashed {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.known, mirrored{subjectType, key})
}

// told notes what Redis told in its answer to a question asked at now. Half open, Redis
// may not know yet what others admitted, so that what it told before stands where that was
// more.
func (s *Switch) told(now time.Time, subjects []Subject, x *scratch, half bool) {
	if len(x.aside.counts) == 0 { // a remembered denial
		return
	}
	ms, underWay, first := now.UnixMilli(), int(s.asking.Load()), 0
	s.offset.Store(x.theirs.Now.UnixMilli() - ms)
	for i := range subjects {
		sub := &subjects[i]
		x.own = s.memory.used(ms, sub, x.own[:0])
		s.mirror.learn(ms, sub, x.aside.counts[first:first+len(sub.Limits)], x.own, underWay, half)
		first += len(sub.Limits)
	}
}
