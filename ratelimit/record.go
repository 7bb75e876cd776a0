package ratelimit

import (
	"slices"
)

// record is what Memory knows of one key, taken out of it.
type record struct {
	id               string // of its merge into Redis, so that none is merged twice
	subjectType, key string
	hashed           bool  // key is the SHA-256 of the real one
	keep             int64 // milliseconds that the longest window needs
	covers           int64 // the longest window that the stamps cover; 0 where they are only the newest
	stamps           []int64
	wides            []wide
}

// name is the record's name in Redis.
func (r *record) name() string {
	if r.hashed {
		return storedHash(r.subjectType, r.key)
	}
	return storedName(r.subjectType, r.key)
}

// record copies what the shard knows of an entry.
func (s *shard) record(e *entry) record {
	name := e.fullName()
	t := 1 + int(name[0]&^hashedKey)
	r := record{
		subjectType: string(name[1:t]), key: string(name[t:]), hashed: name[0]&hashedKey != 0,
		keep: int64(e.keep) * 1000, covers: int64(e.keep) * 1000,
	}
	for i := range e.count {
		r.stamps = append(r.stamps, e.at(i))
	}
	if ws := s.wides(e); ws != nil {
		r.covers = ws.stamps
		for _, w := range ws.all {
			w.runs = slices.Clone(w.runs)
			r.wides = append(r.wides, w)
		}
	}
	return r
}

// since leaves of the record what was admitted at an instant or later, and says whether that
// is anything. Of a sub-bucket that began before, all is left.
func (r *record) since(instant int64) bool {
	r.stamps = slices.DeleteFunc(r.stamps, func(stamp int64) bool { return stamp < instant })
	for i := range r.wides {
		w := &r.wides[i]
		w.runs = slices.DeleteFunc(w.runs, func(run run) bool { return run.last < instant })
	}
	return r.anything()
}

// until leaves of the record what was admitted before an instant, and says whether that is
// anything.
func (r *record) until(instant int64) bool {
	r.stamps = slices.DeleteFunc(r.stamps, func(stamp int64) bool { return stamp >= instant })
	for i := range r.wides {
		w := &r.wides[i]
		w.runs = slices.DeleteFunc(w.runs, func(run run) bool { return run.last >= instant })
	}
	return r.anything()
}

// anything says whether anything is left of the record. Where that is in sub-buckets alone, it gives
// the record a stamp, without which a key has none.
func (r *record) anything() bool {
	newest := r.newest()
	if len(r.stamps) == 0 && newest >= 0 {
		r.stamps = append(r.stamps, newest)
	}
	return newest >= 0
}

// newest is the last instant at which a request was admitted, -1 where there is none. A stamp that was
// left by [entry.giveBack] is earlier than what it stands for.
func (r *record) newest() int64 {
	newest := int64(-1)
	if n := len(r.stamps); n > 0 {
		newest = r.stamps[n-1]
	}
	for i := range r.wides {
		if n := len(r.wides[i].runs); n > 0 {
			newest = max(newest, r.wides[i].runs[n-1].last)
		}
	}
	return newest
}

// records copies every key of a shard, and with remove takes them out.
func (m *Memory) records(shard int, remove bool) []record {
	s := &m.shards[shard]
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]record, 0, s.live)
	for i := 0; i < len(s.tags); {
		if s.tags[i] == 0 {
			i++
			continue
		}
		all = append(all, s.record(&s.entries[i]))
		if !remove {
			i++
			continue
		}
		s.remove(uint32(i)) // another key may have moved here: look again
	}
	return all
}

// used appends to counts how many requests count for each limit of a subject.
func (m *Memory) used(now int64, subject *Subject, counts []int) []int {
	var o op
	m.locate(&o, subject.Type, subject.Key)
	o.shard.mu.Lock()
	defer o.shard.mu.Unlock()
	e, _ := o.shard.find(o.tag, o.mark, subject.Type, o.key)
	for _, l := range subject.Limits {
		n := 0
		if e != nil {
			n = e.stand(now, e.instant(now), l.Requests, l.windowMS(), m.exact, o.shard.wides(e)).used
		}
		counts = append(counts, n)
	}
	return counts
}
