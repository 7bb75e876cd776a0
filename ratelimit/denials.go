package ratelimit

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// maxDenial is for how long a denial is believed at most: it bounds how late a
// reset or a raised count elsewhere is seen.
const maxDenial = 5 * time.Second

// hotDenials is how many subjects are found without a lock: 32 KB.
const (
	hotBits    = 12
	hotDenials = 1 << hotBits
)

// denials remembers how subjects stood when a decision was denied. As long as
// that is certain, the same subjects are denied without asking Redis: a full
// subject stays full until its reset, whatever happens, and one that is not full
// changes before its own reset only by requests that are admitted.
//
// Instants of this process are durations since the Redis limiter was made, on the
// monotonic clock, and what Redis said is believed for a duration since the question
// was sent, and told as of when the answer came: neither clock's steps nor their difference
// matter.
type denials struct {
	max int

	mu    sync.RWMutex
	known map[string]*standing
	some  atomic.Bool // whether anything is known: written under mu, read without

	// hot holds some of what is known, for a look-up without a lock: it is put there
	// by who found it, and taken away before it is not known any more.
	hot []atomic.Pointer[standing]

	answered atomic.Uint64 // decisions
	age      atomic.Uint64 // grows with each reset: an answer from before one is not learned
}

// standing is a subject's status in an answer of Redis. It is never changed.
type standing struct {
	hot              *atomic.Pointer[standing] // where it may be found without a lock; nil for a key too long to keep
	subjectType, key string                    // only where hot is there
	status           Status
	limits           []Limit       // all limits of the subject, as they were asked for
	now              time.Time     // Redis's clock in that answer
	sent             time.Duration // this process's clock just before the question
	received         time.Duration // and after the answer
	holds            time.Duration // for how long after that it is certain
}

func newDenials(maximum int) *denials {
	m := &denials{max: maximum, known: map[string]*standing{}}
	if maximum >= 0 {
		m.hot = make([]atomic.Pointer[standing], hotDenials)
	}
	return m
}

// certain says whether the standing still holds at an instant of this process.
func (s *standing) certain(at time.Duration, limits []Limit) bool {
	passed := at - s.sent
	return passed >= 0 && passed < s.holds && slices.Equal(s.limits, limits)
}

// told notes what Redis said to a question.
func (s *standing) told(status Status, now time.Time, sent, received time.Duration) {
	s.status, s.now, s.sent, s.received, s.holds = status, now, sent, received, maxDenial
	if status.Used > 0 {
		s.holds = min(maxDenial, status.Reset.Sub(now))
	}
}

// place is where in hot a subject is, if it is there; nil for a key too long to keep.
func (m *denials) place(subjectType, key string) *atomic.Pointer[standing] {
	if len(key) > MaxKey {
		return nil
	}
	kind := uint64(subjectType[0]) ^ uint64(len(subjectType))<<8
	return &m.hot[(bothEnds(key)>>(64-hotBits)^kind)%hotDenials]
}

// find gives what is known of a subject, or nil.
func (m *denials) find(s *Subject) *standing {
	place := m.place(s.Type, s.Key)
	if place != nil {
		if found := place.Load(); found != nil && found.key == s.Key && found.subjectType == s.Type {
			return found
		}
	}
	var room [MaxType + 1 + MaxKey]byte
	name := appendStoredName(room[:0], s.Type, s.Key)
	m.mu.RLock()
	found := m.known[string(name)]
	if found != nil && place != nil {
		place.Store(found)
	}
	m.mu.RUnlock()
	return found
}

// replace puts what is known of a subject in place of what was, either of which may
// be nil. The lock is held.
func (m *denials) replace(name string, old, found *standing) {
	if old != nil && old.hot != nil {
		old.hot.CompareAndSwap(old, nil)
	}
	if found == nil {
		delete(m.known, name)
	} else {
		m.known[name] = found
	}
	if some := len(m.known) > 0; some != m.some.Load() {
		m.some.Store(some)
	}
}

// answer decides from memory if it can. Otherwise it returns the age to give to
// learn with Redis's own answer. It allocates nothing. With partly, one subject that
// is denied is enough, and those of which nothing is known stand as if they had not
// been asked about: for whoever knows better.
func (m *denials) answer(at time.Duration, subjects []Subject, d *Decision, partly bool) (age uint64, known bool) {
	if m.max < 0 {
		return 0, false
	}
	age = m.age.Load()
	if !m.some.Load() {
		return age, false
	}
	var standings [MaxSubjects]*standing
	// The latest answer tells the time on Redis's clock best.
	denied, latest := false, (*standing)(nil)
	for i := range subjects {
		s := m.find(&subjects[i])
		if s == nil || !s.certain(at, subjects[i].Limits) {
			if partly {
				continue
			}
			return age, false
		}
		standings[i] = s
		denied = denied || s.status.Full
		if latest == nil || s.sent > latest.sent {
			latest = s
		}
	}
	if !denied {
		return age, false
	}
	// All of it was known at once, if what was found first is known still.
	for i, s := range standings[:len(subjects)-1] {
		if s != nil && (s.hot == nil || s.hot.Load() != s) && m.find(&subjects[i]) != s {
			return age, false
		}
	}
	m.answered.Add(1)
	d.Admitted = false
	// Not since it was sent: then Redis's clock may not be there yet, and the wait would be too short.
	d.Now = latest.now.Add(max(0, at-latest.received).Truncate(time.Millisecond))
	d.RetryAfter = 0
	d.Store = StoreRedis
	d.Degraded = false
	d.Statuses = slices.Grow(d.Statuses[:0], len(subjects))[:len(subjects)]
	for i := range subjects {
		status := &d.Statuses[i]
		if standings[i] == nil {
			least := slices.MinFunc(subjects[i].Limits, func(a, b Limit) int { return a.Requests - b.Requests })
			*status = Status{Limit: least, Remaining: least.Requests, Reset: d.Now}
			continue
		}
		*status = standings[i].status
		switch {
		case status.Full:
			status.RetryAfter = max(time.Millisecond, status.Reset.Sub(d.Now))
			d.RetryAfter = max(d.RetryAfter, status.RetryAfter)
		case status.Used == 0:
			status.Reset = d.Now
		}
	}
	return age, true
}

// learn notes an answer of Redis: of a denial all subjects but those that may not stay as
// they are, a bit for each; of an admission what is known already.
func (m *denials) learn(age uint64, sent, received time.Duration, names []string, subjects []Subject, d *Decision, unsettled uint8) {
	if m.max < 0 || d.Admitted && !m.some.Load() {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, name := range names {
		status, s := d.Statuses[i], &subjects[i]
		old := m.known[name]
		switch {
		case age != m.age.Load(), unsettled&(1<<i) != 0, status.Used > status.Limit.Requests, old != nil && old.now.After(d.Now):
			// A reset came in between; or a request may be given back; or some requests come free before the
			// reset; or answers are out of order, or Redis's clock stepped back.
			m.replace(name, old, nil)
		case old != nil:
			again := *old
			if !slices.Equal(again.limits, s.Limits) {
				again.limits = slices.Clone(s.Limits)
			}
			again.told(status, d.Now, sent, received)
			m.replace(name, old, &again)
		case !d.Admitted:
			if len(m.known) >= m.max {
				m.makeRoom(sent)
			}
			fresh := &standing{limits: slices.Clone(s.Limits)}
			fresh.told(status, d.Now, sent, received)
			if fresh.hot = m.place(s.Type, s.Key); fresh.hot != nil {
				fresh.subjectType, fresh.key = strings.Clone(s.Type), strings.Clone(s.Key)
			}
			m.replace(name, nil, fresh)
		}
	}
}

// makeRoom removes what is no longer certain among a few, or else any one.
func (m *denials) makeRoom(at time.Duration) {
	looked, removed := 0, false
	for name, s := range m.known {
		if looked++; looked > 8 {
			break
		}
		if !s.certain(at, s.limits) {
			m.replace(name, s, nil)
			removed = true
		}
	}
	if removed {
		return
	}
	for name, s := range m.known {
		m.replace(name, s, nil)
		return
	}
}

// forget drops a subject, and what is learned from answers under way.
func (m *denials) forget(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.age.Add(1)
	m.replace(name, m.known[name], nil)
}
