package ratelimit

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// maxDenial is for how long a denial is believed at most: it bounds how late a
// reset or a raised count elsewhere is seen.
const maxDenial = 5 * time.Second

// denials remembers how subjects stood when a decision was denied. As long as
// that is certain, the same subjects are denied without asking Redis: a full
// subject stays full until its reset, whatever happens, and one that is not full
// changes before its own reset only by requests that are admitted.
//
// Everything is kept as durations since the question was sent, so that neither
// clock's steps nor their difference matter.
type denials struct {
	max int

	mu       sync.RWMutex
	known    map[string]*standing
	answered atomic.Uint64 // decisions
	age      uint64        // grows with each reset: an answer from before one is not learned
}

// standing is a subject's status in an answer of Redis.
type standing struct {
	status Status
	limits []Limit   // all limits of the subject, as they were asked for
	now    time.Time // Redis's clock in that answer
	sent   time.Time // this process's clock just before the question
}

func newDenials(maximum int) *denials {
	return &denials{max: maximum, known: map[string]*standing{}}
}

// certain says whether the standing still holds at an instant of this process.
func (s *standing) certain(at time.Time, limits []Limit) bool {
	passed := at.Sub(s.sent)
	if passed < 0 || passed >= maxDenial || !slices.Equal(s.limits, limits) {
		return false
	}
	return s.status.Used == 0 || s.now.Add(passed).Before(s.status.Reset)
}

// answer decides from memory if it can. Otherwise it returns the age to give to
// learn with Redis's own answer. It allocates nothing.
func (m *denials) answer(at time.Time, subjects []Subject, d *Decision) (age uint64, known bool) {
	if m.max < 0 {
		return 0, false
	}
	var standings [MaxSubjects]*standing
	var room [MaxType + 1 + MaxKey]byte
	m.mu.RLock()
	defer m.mu.RUnlock()
	// The latest answer tells the time on Redis's clock best.
	denied, latest := false, (*standing)(nil)
	for i := range subjects {
		s := m.known[string(appendStoredName(room[:0], subjects[i].Type, subjects[i].Key))]
		if s == nil || !s.certain(at, subjects[i].Limits) {
			return m.age, false
		}
		standings[i] = s
		denied = denied || s.status.Full
		if latest == nil || s.sent.After(latest.sent) {
			latest = s
		}
	}
	if !denied {
		return m.age, false
	}
	m.answered.Add(1)
	d.Admitted = false
	d.Now = latest.now.Add(at.Sub(latest.sent)).Truncate(time.Millisecond)
	d.RetryAfter = 0
	d.Store = StoreRedis
	d.Degraded = false
	d.Statuses = d.Statuses[:0]
	for i := range subjects {
		status := standings[i].status
		switch {
		case status.Full:
			status.RetryAfter = max(time.Millisecond, status.Reset.Sub(d.Now))
			d.RetryAfter = max(d.RetryAfter, status.RetryAfter)
		case status.Used == 0:
			status.Reset = d.Now
		}
		d.Statuses = append(d.Statuses, status)
	}
	return m.age, true
}

// learn notes an answer of Redis: of a denial all subjects, of an admission what
// is known already.
func (m *denials) learn(age uint64, sent time.Time, names []string, subjects []Subject, d *Decision) {
	if m.max < 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, name := range names {
		status := d.Statuses[i]
		old, ok := m.known[name]
		if !ok {
			old = &standing{}
		}
		switch {
		case age != m.age, status.Used > status.Limit.Requests, old.now.After(d.Now):
			// A reset came in between; or some requests come free before the
			// reset; or answers are out of order, or Redis's clock stepped back.
			delete(m.known, name)
		case ok || !d.Admitted:
			if !ok && len(m.known) >= m.max {
				m.makeRoom(sent)
			}
			limits := old.limits
			if !slices.Equal(limits, subjects[i].Limits) {
				limits = slices.Clone(subjects[i].Limits)
			}
			m.known[name] = &standing{status, limits, d.Now, sent}
		}
	}
}

// makeRoom removes what is no longer certain among a few, or else any one.
func (m *denials) makeRoom(at time.Time) {
	looked, removed := 0, false
	for name, s := range m.known {
		if looked++; looked > 8 {
			break
		}
		if !s.certain(at, s.limits) {
			delete(m.known, name)
			removed = true
		}
	}
	if removed {
		return
	}
	for name := range m.known {
		delete(m.known, name)
		return
	}
}

// forget drops a subject, and what is learned from answers under way.
func (m *denials) forget(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.age++
	delete(m.known, name)
}
