package ratelimit

import (
	"context"
	"slices"
	"sync"
)

// unheard are the subjects that a [Switch] admitted without Redis, up to a bound, whose
// counts it has not heard since: others admitted them too, and it learns how many only by
// asking. Without that, an outage that follows would begin from what was known before the first.
type unheard struct {
	mu  sync.Mutex
	all map[mirrored][]Limit
}

// maxUnheard bounds the subjects that are asked for after an outage.
const maxUnheard = 16_384

// note adds the subjects of a request.
func (u *unheard) note(subjects []Subject) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := range subjects {
		s := &subjects[i]
		name, ok := mirroredAs(s)
		if !ok {
			continue
		}
		if limits, known := u.all[name]; known && slices.Equal(limits, s.Limits) || !known && len(u.all) >= maxUnheard {
			continue
		}
		if u.all == nil {
			u.all = make(map[mirrored][]Limit)
		}
		u.all[name] = slices.Clone(s.Limits)
	}
}

// take gives all of them, and forgets them.
func (u *unheard) take() map[mirrored][]Limit {
	u.mu.Lock()
	defer u.mu.Unlock()
	all := u.all
	u.all = nil
	return all
}

// hear asks Redis how the subjects stand that were admitted without it. Those that it does not
// hear of are noted again, for the next time; it ends early where Redis goes away again.
func (s *Switch) hear(ctx context.Context) {
	const atOnce = 4
	x := [atOnce]scratch{}
	next := make(chan Subject)
	var asking sync.WaitGroup
	for i := range x {
		asking.Go(func() {
			for subject := range next {
				now, subjects := s.clock.now(), []Subject{subject}
				x[i].aside = aside{counts: x[i].aside.counts[:0]}
				if s.degraded.Load() || s.redis.decide(ctx, now, subjects, &x[i].theirs, false, &x[i].aside) != nil {
					s.unheard.note(subjects)
					continue
				}
				s.told(now, subjects, &x[i], false)
			}
		})
	}
	for name, limits := range s.unheard.take() {
		next <- Subject{Type: name.subjectType, Key: name.key, Limits: limits}
	}
	close(next)
	asking.Wait()
}
