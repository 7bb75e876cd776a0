package ratelimit

import (
	"sync"
	"sync/atomic"
)

const (
	// sweepGrace is for how many milliseconds an idle key is kept, so that a
	// clock set back by less changes no answer.
	sweepGrace = 60_000

	sweepStep  = 4  // indices looked at for each new key
	sweepEvery = 64 // decisions between two steps where there are no new keys

	roomStep = 16  // keys compared to find the one to push out
	roomLook = 256 // indices looked at before a shard is said to be full
)

// shard is a part of Memory's keys under one lock: a hash table with open
// addressing. A key's tag and its entry have the same index, so that the processor
// fetches both at once. The table grows in small steps, and is at most seven eighths
// full.
type shard struct {
	mu      sync.Mutex
	tags    []uint32 // 0 where there is no key
	entries []entry
	ticks   uint32 // decisions, for sweepEvery
	hand    uint32 // where the sweep goes on
	live    uint32 // keys held
	max     uint32 // keys allowed

	epoch     atomic.Uint64 // counts the changes to keys that a refusal rests on
	pushedOut uint64        // keys that still counted and were removed for new ones
	shared    int64         // until when a bucket may count something of a key of this shard

	// large holds the windows that are counted in sub-buckets, by the name of the
	// key. Few keys have any: entries are smaller without a pointer to them.
	large map[string]*wides
	last  *wides // that were asked for last, nil if they are no more
}

// home is the index a tag belongs to. It scales instead of masking, so that the
// table may have any size and grow in small steps.
func (s *shard) home(tag uint32) uint32 {
	return uint32(uint64(tag) * uint64(len(s.tags)) >> 32)
}

func (s *shard) next(i uint32) uint32 {
	if i++; int(i) == len(s.tags) {
		return 0
	}
	return i
}

// find returns the entry of a key and its index, or nil.
func (s *shard) find(tag uint32, mark byte, subjectType, key string) (*entry, uint32) {
	if len(s.tags) == 0 {
		return nil, 0
	}
	for i := s.home(tag); s.tags[i] != 0; i = s.next(i) {
		if s.tags[i] == tag {
			if e := &s.entries[i]; e.named(mark, subjectType, key) {
				return e, i
			}
		}
	}
	return nil, 0
}

// insert adds a key that is not there. It returns false when the shard is full. The
// entries of the decision under way are never pushed out, but may be moved.
func (s *shard) insert(tag uint32, mark byte, subjectType, key string, now int64, ops []op) bool {
	if s.live >= s.max && !s.makeRoom(now, ops) {
		return false
	}
	if n := uint32(len(s.tags)); s.live+1 > n-n/8 {
		s.rehash(max(8, n+n/8+1))
	}
	s.live++
	s.entries[s.place(tag)].start(mark, subjectType, key)
	return true
}

// place takes a free index for a tag.
func (s *shard) place(tag uint32) uint32 {
	i := s.home(tag)
	for s.tags[i] != 0 {
		i = s.next(i)
	}
	s.tags[i] = tag
	return i
}

// rehash makes the table anew for at least n keys, and for all that the allocator
// rounds up to.
func (s *shard) rehash(n uint32) {
	tags, entries := s.tags, s.entries
	s.entries = append([]entry(nil), make([]entry, n)...)
	s.entries = s.entries[:cap(s.entries)]
	clear(s.entries[n:])
	s.tags = make([]uint32, len(s.entries))
	s.hand = 0
	for i, tag := range tags {
		if tag != 0 {
			s.entries[s.place(tag)] = entries[i]
		}
	}
}

// remove empties index i and moves later keys of the same run up to it.
func (s *shard) remove(i uint32) {
	e := &s.entries[i]
	s.change(e)
	if e.large {
		s.dropWides(e)
	}
	s.live--

	n := uint32(len(s.tags))
	distance := func(from, to uint32) uint32 {
		if to < from {
			to += n
		}
		return to - from
	}
	for j := s.next(i); s.tags[j] != 0; j = s.next(j) {
		if distance(s.home(s.tags[j]), j) >= distance(i, j) {
			s.tags[i], s.entries[i] = s.tags[j], s.entries[j]
			i = j
		}
	}
	s.tags[i], s.entries[i] = 0, entry{}
}

// sweep looks at the next n indices and removes keys that nothing counts for.
func (s *shard) sweep(n int, now int64) {
	for range min(n, len(s.tags)) {
		if int(s.hand) >= len(s.tags) {
			s.hand = 0
		}
		if s.tags[s.hand] != 0 {
			e := &s.entries[s.hand]
			if e.idle(now) {
				s.remove(s.hand) // another key may have moved here: look again
				continue
			}
			e.tidy(now)
		}
		s.hand++
	}
}

// makeRoom removes one key: an idle one if one is near, otherwise the one among
// a few that is idle soonest and is not limited now. It says whether it did.
func (s *shard) makeRoom(now int64, ops []op) bool {
	v := s.victim(now, ops)
	s.hand = v.next
	if !v.found {
		return false
	}
	s.remove(v.index)
	if v.counts {
		s.pushedOut++
	}
	return true
}

// victim is the key that would make room for a new one.
type victim struct {
	index  uint32
	next   uint32 // where the next search begins
	found  bool
	counts bool
}

func (s *shard) victim(now int64, ops []op) victim {
	v := victim{next: s.hand}
	soonest, seen := int64(0), 0
	for look := 0; look < min(roomLook, len(s.tags)) && seen < roomStep; look++ {
		if int(v.next) >= len(s.tags) {
			v.next = 0
		}
		at := v.next
		v.next++
		if s.tags[at] == 0 {
			continue
		}
		e := &s.entries[at]
		if inUse(e, ops) {
			continue
		}
		last := e.last()
		idle := last + int64(e.keep)*1000
		if last < 0 || idle <= now {
			return victim{index: at, next: v.next, found: true}
		}
		if e.limited > 0 && last+int64(e.limited)*1000 > now {
			continue
		}
		seen++
		if !v.found || idle < soonest {
			v.index, v.found, v.counts, soonest = at, true, true, idle
		}
	}
	return v
}

// fits says whether that many new keys have room.
func (s *shard) fits(now int64, n uint32, ops []op) bool {
	return s.live+n <= s.max || n == 1 && s.victim(now, ops).found
}

func inUse(e *entry, ops []op) bool {
	for i := range ops {
		if ops[i].entry == e {
			return true
		}
	}
	return false
}

// lock takes the locks of all shards concerned, each once and in the order of
// their index, so that two decisions never wait for each other. It returns the
// shards' indices in that order for unlock.
func lock(ops []op) (order [MaxSubjects]uint8) {
	if len(ops) == 2 {
		a, b := &ops[0], &ops[1]
		if a.index > b.index {
			a, b = b, a
		}
		a.shard.mu.Lock()
		if a.shard != b.shard {
			b.shard.mu.Lock()
		}
		return order
	}
	for i := range ops {
		j := i
		for ; j > 0 && ops[order[j-1]].index > ops[i].index; j-- {
			order[j] = order[j-1]
		}
		order[j] = uint8(i)
	}
	for i := range ops {
		if i == 0 || ops[order[i]].shard != ops[order[i-1]].shard {
			ops[order[i]].shard.mu.Lock()
		}
	}
	return order
}

func unlock(ops []op, order [MaxSubjects]uint8) {
	if len(ops) == 2 {
		if ops[0].shard != ops[1].shard {
			ops[1].shard.mu.Unlock()
		}
		ops[0].shard.mu.Unlock()
		return
	}
	for i := range ops {
		if i == 0 || ops[order[i]].shard != ops[order[i-1]].shard {
			ops[order[i]].shard.mu.Unlock()
		}
	}
}
