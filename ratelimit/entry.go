package ratelimit

import (
	"encoding/binary"
	"time"
	"unsafe"
)

// stampSize is the bytes of one stamp: 48 bits of milliseconds since 1970 reach
// past the year 10000. Stamps are read eight bytes at a time, hence the slack
// behind the last one.
const (
	stampSize  = 6
	stampSlack = 2
	stampMask  = 1<<48 - 1
	maxInstant = stampMask - int64(MaxWindow/time.Millisecond)
)

// inlineSize is the bytes within an entry for a short name and the first stamps:
// two of them beside the 16 bytes that the name of an IPv4 address takes.
const inlineSize = 30

// entry is what Memory keeps for one key: its name and a ring of the instants at
// which it was admitted, oldest first. One ring serves all windows of the key: a
// window of L requests is full when the L-th newest stamp is younger than the
// window. The ring moves out of the entry when it grows.
//
// An entry is 64 bytes, one cache line: among many keys, the way to it is what a
// decision waits for. So the ring is a bare pointer, and size says how long it is.
// Entries are moved: nothing points to one for longer than its shard is locked.
type entry struct {
	ring    *byte  // size stamps, slack, and a name too long for the entry; nil while they are in inline
	head    uint32 // position of the oldest stamp
	count   uint32 // stamps held, some perhaps past their window
	size    uint32 // stamps there is room for
	keep    uint32 // seconds past the last stamp after which nothing counts
	limited uint32 // seconds past the last stamp for which the key is full; 0 when it is not
	name    uint16 // bytes of the name
	large   bool   // the shard holds windows of this key that are counted in sub-buckets
	lone    bool   // there is the newest stamp alone: all limits are counted in sub-buckets
	refused bool   // a refusal rests on this entry
	denied  uint8  // denials since it changed or was last remembered in a refusal

	inline [inlineSize]byte // a short name, and the ring while it fits behind it
}

// hashedKey marks, in the first byte of a name, a key that is a hash.
const hashedKey = 0x80

// short says whether the name is within the entry, with room for a stamp.
func (e *entry) short() bool { return e.name <= inlineSize-stampSize-stampSlack }

// named says whether the entry is that of the subject. A name is one byte of the
// type's length, the type, the key.
func (e *entry) named(mark byte, subjectType, key string) bool {
	n, t := int(e.name), 1+len(subjectType)
	if n != t+len(key) {
		return false
	}
	name := e.fullName()
	return name[0] == mark && string(name[1:t]) == subjectType && string(name[t:]) == key
}

// fullName is the name as it is kept.
func (e *entry) fullName() []byte {
	if e.short() {
		return e.inline[:e.name]
	}
	return unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(e.ring), e.size*stampSize+stampSlack)), e.name) //nolint:gosec // allot made room for it
}

// start gives a fresh entry its name and room for a stamp.
func (e *entry) start(mark byte, subjectType, key string) {
	e.name = uint16(1 + len(subjectType) + len(key))
	e.allot(1)
	name := e.fullName()
	name[0] = mark
	copy(name[1:], subjectType)
	copy(name[1+len(subjectType):], key)
}

// allot makes a ring for at least n stamps, within the entry where it fits.
// Otherwise it takes all that the allocator rounds up to.
func (e *entry) allot(n int) {
	bytes, outside := n*stampSize+stampSlack, 0
	switch room := inlineSize - int(e.name); {
	case e.short() && bytes <= room:
		e.ring, e.size = nil, uint32((room-stampSlack)/stampSize)
		return
	case !e.short():
		outside = int(e.name)
	}
	buf := append([]byte(nil), make([]byte, bytes+outside)...)
	e.ring, e.size = &buf[0], uint32((cap(buf)-outside-stampSlack)/stampSize)
}

// stamp is where the i-th oldest stamp is, with the two bytes behind it.
func (e *entry) stamp(i uint32) *[stampSize + stampSlack]byte {
	if i += e.head; i >= e.size {
		i -= e.size
	}
	ring := unsafe.Pointer(e.ring) //nolint:gosec // i is below size
	if ring == nil {
		ring = unsafe.Pointer(&e.inline[e.name]) //nolint:gosec // see allot
	}
	return (*[stampSize + stampSlack]byte)(unsafe.Add(ring, i*stampSize))
}

// at is the i-th oldest stamp.
func (e *entry) at(i uint32) int64 {
	return int64(binary.LittleEndian.Uint64(e.stamp(i)[:]) & stampMask)
}

func (e *entry) set(i uint32, stamp int64) {
	b := e.stamp(i)
	binary.LittleEndian.PutUint32(b[:], uint32(stamp))
	binary.LittleEndian.PutUint16(b[4:], uint16(stamp>>32))
}

// last is the newest stamp, -1 before the first.
func (e *entry) last() int64 {
	if e.count == 0 {
		return -1
	}
	return e.at(e.count - 1)
}

// instant is the time a decision at now takes for this key. Stamps stay sorted
// when the clock steps back: time then stands still at the last stamp.
func (e *entry) instant(now int64) int64 {
	if e == nil {
		return now
	}
	return max(now, e.last())
}

// expired is how many stamps no longer count in a window at t.
func (e *entry) expired(t, window int64) uint32 {
	edge := t - window
	if e.count == 0 || e.at(0) > edge {
		return 0
	}
	// Gallop, then halve: mostly only a few stamps expired since the last time.
	low, high := uint32(0), uint32(1) // at(low) is expired, at(high) perhaps not
	for high < e.count && e.at(high) <= edge {
		low, high = high, high*2
	}
	high = min(high, e.count)
	for low+1 < high {
		if mid := (low + high) / 2; e.at(mid) <= edge {
			low = mid
		} else {
			high = mid
		}
	}
	return high
}

// admit counts a request at t and drops what no longer counts in any window.
// Nothing else drops stamps: a denial or a look leaves the entry as it is, so
// that answers depend on nothing but the requests admitted. Limits of more than
// exact requests are counted in sub-buckets, which the shard holds: ws, and then
// what admit returns.
func (e *entry) admit(t int64, limits []Limit, exact int, s *shard, ws *wides) *wides {
	window, requests, large := int64(0), uint32(0), e.large
	for i := range limits {
		if n := limits[i].Requests; n <= exact {
			window, requests = max(window, limits[i].windowMS()), max(requests, uint32(n))
		} else {
			large = true
		}
	}
	longest := window
	if large {
		ws, longest = e.admitLarge(t, limits, exact, requests, window, s, ws)
	}
	e.keep = uint32((longest + 999) / 1000)
	if e.lone {
		e.head, e.count = 0, 0
	} else if n := e.expired(t, window); n > 0 {
		e.drop(n)
	}
	e.push(t, requests)
	return ws
}

// push adds a stamp; the most there are to be is for the size to grow to.
func (e *entry) push(t int64, most uint32) {
	if e.count == e.size {
		e.resize(min(e.size+e.size/4+1, max(most, e.count+1)))
	}
	e.count++
	e.set(e.count-1, t)
}

func (e *entry) drop(n uint32) {
	e.count -= n
	e.head += n
	if e.head >= e.size {
		e.head -= e.size
	}
}

// resize moves the stamps to a ring for at least n of them, n >= count.
func (e *entry) resize(n uint32) {
	from := *e // with a copy of what is within the entry
	e.head = 0
	e.allot(int(n))
	if !e.short() {
		copy(e.fullName(), from.fullName())
	}
	for i := range from.count {
		e.set(i, from.at(i))
	}
}

// giveBack takes back one request counted at now: the first stamp not before it. Where requests still
// count in sub-buckets, a stamp is left, by which the key is known to be in use.
func (e *entry) giveBack(now int64, ws *wides) {
	e.limited = 0
	if ws != nil {
		ws.giveBack(now)
	}
	if e.lone {
		return // the stamp tells the time, it does not count
	}
	i := e.expired(now-1, 0)
	if i == e.count {
		return
	}
	if e.count == 1 && ws != nil && ws.counts() {
		// All others were out of the windows of the stamps when this one came, and so is it now, also
		// for a clock that is set back by a minute.
		e.set(0, max(0, e.at(0)-min(ws.stamps, ws.longest().window)-sweepGrace))
		return
	}
	for ; i+1 < e.count; i++ {
		e.set(i, e.at(i+1))
	}
	e.count--
}

// reading is how one limit stands: what of it counts, and its reset.
type reading struct {
	used  int
	reset int64
}

// stand says how one limit stands at t, e not being nil.
func (e *entry) stand(now, t int64, requests int, window int64, exact int, ws *wides) reading {
	if ws != nil {
		if w := ws.source(requests, window, exact); w != nil {
			return w.stand(now, t, requests, window)
		}
	}
	gone := e.expired(t, window)
	used := int(e.count - gone)
	switch {
	case used >= requests:
		return reading{used, e.at(e.count-uint32(requests)) + window}
	case used > 0:
		return reading{used, e.at(gone) + window}
	default:
		return reading{0, now}
	}
}

// tightest says how the limit with the fewest requests remaining stands, among
// equals the one with the latest reset, among those the first.
func (e *entry) tightest(now, t int64, limits []Limit, exact int, ws *wides) (speaks int, s reading) {
	if e == nil {
		for i := range limits {
			if limits[i].Requests < limits[speaks].Requests {
				speaks = i
			}
		}
		return speaks, reading{0, now}
	}
	s = e.stand(now, t, limits[0].Requests, limits[0].windowMS(), exact, ws)
	for i := 1; i < len(limits); i++ {
		l := &limits[i]
		other := e.stand(now, t, l.Requests, l.windowMS(), exact, ws)
		remaining, best := max(0, l.Requests-other.used), max(0, limits[speaks].Requests-s.used)
		if remaining < best || remaining == best && other.reset > s.reset {
			speaks, s = i, other
		}
	}
	return speaks, s
}

// write puts how the subject stands into a status. It also notes how long the
// key stays limited, which protects it from being pushed out.
func (e *entry) write(now int64, l *Limit, s reading, status *Status) {
	status.Limit, status.Used = *l, s.used
	status.Remaining = max(0, l.Requests-s.used)
	status.Reset = time.UnixMilli(s.reset).UTC()
	status.Full = status.Remaining == 0
	status.RetryAfter, status.Shared = 0, false
	if status.Full {
		status.RetryAfter = time.Duration(s.reset-now) * time.Millisecond
		e.limited = uint32(uint64(s.reset-e.last()+999) / 1000)
	} else if e != nil {
		e.limited = 0
	}
}

// idle says whether nothing counts any more, with a minute to spare for clocks
// that are set back.
func (e *entry) idle(now int64) bool {
	last := e.last()
	return last < 0 || last+int64(e.keep)*1000+sweepGrace <= now
}

// tidy gives back room that an earlier burst needed and nothing uses now.
func (e *entry) tidy(now int64) {
	if e.size <= 64 {
		return
	}
	gone := e.expired(now-sweepGrace, int64(e.keep)*1000)
	if live := e.count - gone; live < e.size/4 {
		e.drop(gone)
		e.resize(live + live/4 + 1)
	}
}
