package policy

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
)

// The bounds of what is remembered of offenders: a slice of time holds a fixed
// number of counters, whoever comes.
const (
	topSlice    = 5 * time.Minute
	topSlices   = 12 // an hour
	topCounters = 256
	maxTop      = 100
)

// Offender is a subject that was denied or blocked within the last hour.
type Offender struct {
	Type, Key string
	Denied    int64 // requests refused, at most Error too many
	Error     int64
	LastAt    time.Time
}

type offenderKey struct{ typ, key string }

type offenderCount struct {
	count, error int64
	last         time.Time
}

// offenders counts refusals by subject with the space-saving algorithm (Metwally,
// Agrawal, El Abbadi, 2005) in slices of time: a newcomer takes the place of the
// smallest counter and begins with its count, which is its possible error. Who
// has more than 1/256 of a slice's refusals is always among them.
type offenders struct {
	mu     sync.Mutex
	slices [topSlices]struct {
		number int64 // of the slice since 1970
		counts map[offenderKey]*offenderCount
	}
}

func newOffenders() *offenders { return new(offenders) }

func (o *offenders) add(now time.Time, typ, key string) {
	number := now.UnixNano() / int64(topSlice)
	k := offenderKey{typ, key}
	o.mu.Lock()
	defer o.mu.Unlock()
	s := &o.slices[uint64(number)%topSlices]
	if s.number != number || s.counts == nil {
		s.number, s.counts = number, make(map[offenderKey]*offenderCount)
	}
	if c := s.counts[k]; c != nil {
		c.count++
		c.last = now
		return
	}
	if len(s.counts) < topCounters {
		s.counts[k] = &offenderCount{count: 1, last: now}
		return
	}
	var smallest offenderKey
	var least *offenderCount
	for key, c := range s.counts {
		if least == nil || c.count < least.count {
			smallest, least = key, c
			if c.count == 1 {
				break
			}
		}
	}
	delete(s.counts, smallest)
	s.counts[k] = &offenderCount{count: least.count + 1, error: least.count, last: now}
}

// list gives the n subjects with the most refusals of the last hour.
func (o *offenders) list(now time.Time, n int) []Offender {
	number := now.UnixNano() / int64(topSlice)
	total := make(map[offenderKey]*Offender)
	o.mu.Lock()
	for i := range o.slices {
		s := &o.slices[i]
		if s.number <= number-topSlices || s.number > number {
			continue
		}
		for k, c := range s.counts {
			t := total[k]
			if t == nil {
				t = &Offender{Type: k.typ, Key: k.key}
				total[k] = t
			}
			t.Denied += c.count
			t.Error += c.error
			if c.last.After(t.LastAt) {
				t.LastAt = c.last
			}
		}
	}
	o.mu.Unlock()
	all := make([]Offender, 0, len(total))
	for _, t := range total {
		all = append(all, *t)
	}
	slices.SortFunc(all, func(a, b Offender) int {
		return cmp.Or(cmp.Compare(b.Denied, a.Denied), cmp.Compare(a.Type, b.Type), cmp.Compare(a.Key, b.Key))
	})
	return all[:min(n, len(all))]
}

// Top gives the subjects that this instance refused most within the last hour,
// at most [maxTop]. It is the operator's to look at.
func (l *Limits) Top(_ context.Context, caller access.Caller) ([]Offender, error) {
	if err := access.Allow(caller, access.LimitRead, access.InstanceOrganization); err != nil {
		return nil, err
	}
	return l.top.list(l.now(), maxTop), nil
}
