package ratelimit

import (
	"context"
	"crypto/rand"
	"math"
	"slices"
)

// noteLost takes what was found at the marks, and notes where Redis lost what this process
// said it knew. That opens the switch: Redis decides again when everybody has merged.
//
// One that was restarted while it was told what it had lost, knows no more than before and has data of
// another name, has lost it once more. Of a cluster nobody knows which node that was: there what
// is under way goes on.
func (s *Switch) noteLost(ctx context.Context, here mark, marks []mark, restarted bool) error {
	lost, from := here.said < s.here.said || restarted && s.isLosing && marks == nil && here.name != s.here.name, here.said
	if lost {
		clear(s.done) // the resets stand beside it
	}
	if s.marks != nil && marks != nil { // they tell which
		var which []int
		from = math.MaxInt64
		for i, found := range marks {
			if found.said < s.marks[i].said {
				which, from = append(which, slotOf(s.redis.markKey(i))), min(from, found.said)
			}
		}
		if lost = len(which) > 0; lost {
			where, err := s.redis.slotsBeside(ctx, which)
			if err != nil {
				return err
			}
			s.losing = append(s.losing, where...)
		}
	}
	s.here, s.marks = here, marks
	if lost {
		if s.isLosing {
			from = min(from, s.lostFrom)
		}
		s.merged, s.isLosing, s.lostFrom, s.loss = 0, true, from, rand.Text()
		s.losses.Add(1)
		if ctx.Err() == nil {
			s.failed(unavailable(errLost))
		}
		s.dropLost()
	}
	return nil
}

// dropLost drops of what is owed, or was merged and may have to be again, what is merged from
// memory now, where it stands too. It is taken before that: what is admitted in between is
// counted twice rather than not at all.
func (s *Switch) dropLost() {
	var owed []record
	for i := range s.owed.shards {
		owed = append(owed, s.owed.records(i, true)...)
	}
	from := s.lostSince()
	left := func(records []record) []record {
		kept := records[:0]
		for i := range records {
			if r := &records[i]; !s.wasLost(*r) || r.until(from) {
				kept = append(kept, *r)
			}
		}
		return kept
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rest, s.unsaid = left(append(s.rest, owed...)), left(s.unsaid)
}

// lostSince is since when, on this process's clock, what was admitted may be lost.
func (s *Switch) lostSince() int64 {
	if s.lostFrom <= 0 {
		return math.MinInt64
	}
	// A request is counted here up to a timeout before Redis counts it.
	return s.lostFrom - s.offset.Load() - s.redis.timeout.Milliseconds() - clockError
}

// clockError is how many milliseconds the clocks of this process and of Redis may be taken to
// lie apart too much or too little, where requests are told apart by them.
const clockError = 10

// lost gives what Redis lost of some records: none of other nodes' subjects, and nothing
// that was admitted while Redis is known to have known all.
func (s *Switch) lost(records []record) []record {
	from, kept := s.lostSince(), records[:0]
	for i := range records {
		if r := &records[i]; s.wasLost(*r) && r.since(from) {
			r.id = s.loss
			kept = append(kept, *r)
		}
	}
	return kept
}

// wasLost reports whether Redis lost something of a record's subject.
func (s *Switch) wasLost(r record) bool {
	return s.marks == nil || s.losing.have(slotOf(redisKey(s.redis.prefix, r.name())))
}

// mergeLost counts in a Redis that lost its data all that was admitted here of what it
// lost. It goes on where it failed before, until it is said that Redis knows all.
func (s *Switch) mergeLost(ctx context.Context) bool {
	for s.merged < len(s.memory.shards) {
		s.merged++
		if !s.mergeRecords(ctx, s.lost(s.memory.records(s.merged-1, false))) {
			return false
		}
	}
	return s.mergeRecords(ctx, nil)
}

// mergeRecords merges records that still count, after those that failed before.
func (s *Switch) mergeRecords(ctx context.Context, records []record) bool {
	s.mu.Lock()
	records = append(s.rest, records...)
	s.rest = nil
	s.mu.Unlock()
	now := s.clock.now().UnixMilli()
	records = slices.DeleteFunc(records, func(r record) bool {
		return !r.anything() || r.newest()+r.keep <= now
	})
	for i := range records {
		if records[i].id == "" {
			records[i].id = rand.Text()
		}
	}
	done, failed, err := s.redis.mergeAll(ctx, records, s.offset.Load())
	s.mu.Lock()
	s.rest, s.unsaid = append(s.rest, failed...), append(s.unsaid, slices.DeleteFunc(done, func(r record) bool { return r.id == s.loss })...)
	s.mu.Unlock()
	if err == nil {
		return true
	}
	if ctx.Err() == nil {
		s.failed(err)
	}
	return false
}
