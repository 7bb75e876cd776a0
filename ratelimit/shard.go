package ratelimit

import (
	"sync"
	"sync/atomic"
)

const (
	// sweepGrace is for how many milliseconds an idle key is kept, so that a
	// clock set back by less changes no answer.
	sweepGrace = 60_000

	sweepStep  = 4  // slots looked at for each new key
	sweepEvery = 64 // decisions between two steps where there are no new keys

	roomStep = 16  // keys compared to find the one to push out
	roomLook = 256 // slots looked at before a shard is said to be full

	slabSize = 25 // entries allocated at a time at first: 2 KB
	slabBits = 24 // of an entry's number say where it is in its slab
)

// shard is a part of Memory's keys under one lock: a hash table with open
// addressing whose slots point into slabs of entries. A new slab is a twelfth of
// what there is, so that there are few of them, and the way to an entry is in the
// processor's cache. Its memory is bounded by max and what is swept is used again.
type shard struct {
	// What every decision needs is in the first cache line.
	mu    sync.Mutex
	slots []uint64 // 0, or the key's tag above its entry's number plus one
	slabs [][]entry
	ticks uint32 // decisions, for sweepEvery
	hand  uint32 // where the sweep goes on

	free []uint32 // numbers of entries that were removed
	used uint32   // entries ever handed out of the newest slab
	held uint32   // entries in all slabs
	live uint32   // keys held
	max  uint32   // keys allowed

	epoch     atomic.Uint64 // counts the changes to keys that a refusal rests on
	pushedOut uint64        // keys that still counted and were removed for new ones
	shared    int64         // until when a bucket may count something of a key of this shard

	// large holds the windows that are counted in sub-buckets. Few keys have
	// any: entries are smaller without a pointer to them.
	large map[*entry]*wides
}

func (s *shard) entry(number uint32) *entry {
	return &s.slabs[number>>slabBits][number&(1<<slabBits-1)]
}

// fresh hands out an entry that no key has.
func (s *shard) fresh() (number uint32) {
	if last := len(s.free) - 1; last >= 0 {
		number, s.free = s.free[last], s.free[:last]
		return number
	}
	slab := len(s.slabs) - 1
	if slab < 0 || int(s.used) == len(s.slabs[slab]) {
		n := max(slabSize, s.held/12)
		s.slabs = append(s.slabs, make([]entry, n))
		s.used = 0
		s.held += n
		slab++
	}
	s.used++
	return uint32(slab)<<slabBits | (s.used - 1)
}

// home is the slot a tag belongs to. It scales instead of masking, so that the
// table may have any size and grow in small steps.
func (s *shard) home(tag uint32) uint32 {
	return uint32(uint64(tag) * uint64(len(s.slots)) >> 32)
}

func (s *shard) next(i uint32) uint32 {
	if i++; int(i) == len(s.slots) {
		return 0
	}
	return i
}

// find returns the entry of a key and its slot, or nil.
func (s *shard) find(tag uint32, mark byte, subjectType, key string) (*entry, uint32) {
	if len(s.slots) == 0 {
		return nil, 0
	}
	for i := s.home(tag); s.slots[i] != 0; i = s.next(i) {
		if uint32(s.slots[i]>>32) == tag {
			if e := s.entry(uint32(s.slots[i]) - 1); e.named(mark, subjectType, key) {
				return e, i
			}
		}
	}
	return nil, 0
}

// insert adds a key that is not there. It returns nil when the shard is full.
// The entries of the decision under way are never pushed out.
func (s *shard) insert(tag uint32, mark byte, subjectType, key string, now int64, ops []op) *entry {
	if s.live >= s.max && !s.makeRoom(now, ops) {
		return nil
	}
	if n := uint32(len(s.slots)); s.live+1 > n-n/8 || n == 0 {
		s.rehash(n + n/4 + 8)
	}
	number := s.fresh()
	s.place(uint64(tag)<<32 | uint64(number+1))
	s.live++
	e := s.entry(number)
	e.start(mark, subjectType, key)
	return e
}

func (s *shard) place(slot uint64) {
	i := s.home(uint32(slot >> 32))
	for s.slots[i] != 0 {
		i = s.next(i)
	}
	s.slots[i] = slot
}

func (s *shard) rehash(n uint32) {
	old := s.slots
	s.slots = make([]uint64, n)
	s.hand = 0
	for _, slot := range old {
		if slot != 0 {
			s.place(slot)
		}
	}
}

// remove empties slot i and moves later keys of the same run up to it.
func (s *shard) remove(i uint32) {
	number := uint32(s.slots[i]) - 1
	e := s.entry(number)
	s.change(e)
	if e.large {
		delete(s.large, e)
	}
	*e = entry{}
	s.free = append(s.free, number)
	s.live--

	n := uint32(len(s.slots))
	distance := func(from, to uint32) uint32 {
		if to < from {
			to += n
		}
		return to - from
	}
	for j := s.next(i); s.slots[j] != 0; j = s.next(j) {
		home := s.home(uint32(s.slots[j] >> 32))
		if distance(home, j) >= distance(i, j) {
			s.slots[i] = s.slots[j]
			i = j
		}
	}
	s.slots[i] = 0
}

// sweep looks at the next n slots and removes keys that nothing counts for.
func (s *shard) sweep(n int, now int64) {
	for range min(n, len(s.slots)) {
		if int(s.hand) >= len(s.slots) {
			s.hand = 0
		}
		if s.slots[s.hand] != 0 {
			e := s.entry(uint32(s.slots[s.hand]) - 1)
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
	s.remove(v.slot)
	if v.counts {
		s.pushedOut++
	}
	return true
}

// victim is the key that would make room for a new one.
type victim struct {
	slot   uint32
	next   uint32 // where the next search begins
	found  bool
	counts bool
}

func (s *shard) victim(now int64, ops []op) victim {
	v := victim{next: s.hand}
	soonest, seen := int64(0), 0
	for look := 0; look < min(roomLook, len(s.slots)) && seen < roomStep; look++ {
		if int(v.next) >= len(s.slots) {
			v.next = 0
		}
		at := v.next
		v.next++
		if s.slots[at] == 0 {
			continue
		}
		e := s.entry(uint32(s.slots[at]) - 1)
		if inUse(e, ops) {
			continue
		}
		last := e.last()
		idle := last + int64(e.keep)*1000
		if last < 0 || idle <= now {
			return victim{slot: at, next: v.next, found: true}
		}
		if e.limited > 0 && last+int64(e.limited)*1000 > now {
			continue
		}
		seen++
		if !v.found || idle < soonest {
			v.slot, v.found, v.counts, soonest = at, true, true, idle
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
