package ratelimit

import (
	"cmp"
	"container/heap"
	"slices"
	"strings"
	"sync"
	"time"
)

// offenderParts is how many parts the span of Offenders has.
const offenderParts = 12

// Offenders counts who is denied most, in bounded memory, however many there are:
// for each twelfth of a span of time it keeps a Space-Saving summary (Metwally,
// Agrawal, El Abbadi: Efficient Computation of Frequent and Top-k Elements in Data
// Streams, 2005). A subject with more than a capacity-th of all denials of a part is
// always among those kept. Of instants that time.Now gave the monotonic reading counts, so that a wall
// clock that is set hides nobody. It is safe for concurrent use.
type Offenders struct {
	part     time.Duration
	capacity int
	clock    steady

	mu    sync.Mutex
	parts [offenderParts]summary
}

// Offender is one subject that was denied.
type Offender struct {
	Type, Key string
	Denied    int64 // times, never less than the truth
	Over      int64 // by how much Denied may be more than it
	Last      time.Time
}

// NewOffenders returns an empty count over a span, such as an hour, which keeps
// at most capacity subjects for each twelfth of it: some 200 bytes each.
func NewOffenders(span time.Duration, capacity int) *Offenders {
	return &Offenders{part: max(span/offenderParts, time.Millisecond), capacity: max(1, capacity), clock: newSteady()}
}

// Add counts the denial of every full subject of a denied decision; an admitted
// one counts nothing. Keys longer than [MaxKey] are cut.
func (o *Offenders) Add(now time.Time, subjects []Subject, d *Decision) {
	if d.Admitted {
		return
	}
	for i := range d.Statuses {
		if d.Statuses[i].Full {
			o.Count(now, subjects[i].Type, subjects[i].Key)
		}
	}
}

// Count counts one refusal of a subject, whatever the reason for it was. A key
// longer than [MaxKey] is cut.
func (o *Offenders) Count(now time.Time, subjectType, key string) {
	if len(key) > MaxKey {
		key = strings.Clone(key[:MaxKey])
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.at(now).add(mirrored{subjectType, key}, o.capacity, now)
}

// at is the part of an instant, emptied if it was of an earlier round. An instant
// that has passed long ago is counted as of now.
func (o *Offenders) at(now time.Time) *summary {
	number := o.number(now)
	p := &o.parts[uint64(number)%offenderParts]
	if p.number < number {
		*p = summary{number: number}
	}
	return p
}

// number is that of the part of an instant, since 1970.
func (o *Offenders) number(now time.Time) int64 {
	instant, _ := o.clock.at(now)
	return instant.UnixNano() / int64(o.part)
}

// Top returns the n subjects denied most in the span up to now, give or take a
// twelfth of it, most denied first.
func (o *Offenders) Top(now time.Time, n int) []Offender {
	o.mu.Lock()
	defer o.mu.Unlock()
	number := o.number(now)
	sums := map[mirrored]Offender{}
	lost := int64(0) // the most that one which no part knows may have been denied
	for i := range o.parts {
		p := &o.parts[i]
		if p.number <= number-offenderParts || p.number > number {
			continue
		}
		least := int64(0) // the same of this part
		if len(p.least) >= o.capacity {
			least = p.least[0].count
		}
		lost += least
		for _, c := range p.least {
			sum := sums[c.subject]
			last := c.last
			if last.Before(sum.Last) {
				last = sum.Last
			}
			sums[c.subject] = Offender{c.subject.subjectType, c.subject.key, sum.Denied + c.count - least, sum.Over + c.over - least, last}
		}
	}
	top := make([]Offender, 0, len(sums))
	for _, sum := range sums {
		sum.Denied, sum.Over = sum.Denied+lost, sum.Over+lost
		top = append(top, sum)
	}
	slices.SortFunc(top, func(a, b Offender) int {
		return cmp.Or(cmp.Compare(b.Denied, a.Denied), cmp.Compare(a.Type, b.Type), cmp.Compare(a.Key, b.Key))
	})
	return top[:min(len(top), max(n, 0))]
}

// summary is a Space-Saving summary of one part.
type summary struct {
	number int64 // of the part since 1970
	known  map[mirrored]*denied
	least  counters // the same, as a heap
}

type denied struct {
	subject     mirrored
	count, over int64
	last        time.Time
	at          int // in the heap
}

// add counts one denial. A new subject takes the place, and the count, of the one
// counted least.
func (s *summary) add(subject mirrored, capacity int, now time.Time) {
	c, ok := s.known[subject]
	switch {
	case ok:
	case len(s.least) < capacity:
		if s.known == nil {
			s.known = map[mirrored]*denied{}
		}
		c = &denied{subject: subject}
		s.known[subject] = c
		heap.Push(&s.least, c)
	default:
		c = s.least[0]
		delete(s.known, c.subject)
		c.subject, c.over = subject, c.count
		s.known[subject] = c
	}
	c.count++
	c.last = now
	heap.Fix(&s.least, c.at)
}

// counters is a heap with the least count on top.
type counters []*denied

func (h counters) Len() int           { return len(h) }
func (h counters) Less(i, j int) bool { return h[i].count < h[j].count }
func (h counters) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

func (h *counters) Push(c any) {
	c.(*denied).at = len(*h)
	*h = append(*h, c.(*denied))
}

func (h *counters) Pop() any { panic("counters only grow") }
