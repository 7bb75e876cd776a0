package ratelimit

import (
	"encoding/binary"
	"time"
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

// entry is what Memory keeps for one key: its name and a ring of the instants at
// which it was admitted, oldest first, in one allocation. One ring serves all
// windows of the key: a window of L requests is full when the L-th newest stamp
// is younger than the window.
type entry struct {
	buf     []byte // the name, then size stamps, then slack
	head    uint32 // position of the oldest stamp
	count   uint32 // stamps held, some perhaps past their window
	size    uint32 // stamps there is room for
	keep    uint32 // seconds past the last stamp after which nothing counts
	limited uint32 // seconds past the last stamp for which the key is full; 0 when it is not
	name    uint16 // bytes of the name
}

// hashedKey marks, in the first byte of a name, a key that is a hash.
const hashedKey = 0x80

// named says whether the entry is that of the subject. A name is one byte of the
// type's length, the type, the key.
func (e *entry) named(mark byte, subjectType, key string) bool {
	n, t := int(e.name), 1+len(subjectType)
	return n == t+len(key) && e.buf[0] == mark &&
		string(e.buf[1:t]) == subjectType && string(e.buf[t:n]) == key
}

// start gives a fresh entry its name and room for one stamp.
func (e *entry) start(mark byte, subjectType, key string) {
	e.name = uint16(1 + len(subjectType) + len(key))
	e.buf = stampBuffer(int(e.name), 1)
	e.buf[0] = mark
	copy(e.buf[1:], subjectType)
	copy(e.buf[1+len(subjectType):], key)
	e.size = roomFor(len(e.buf), int(e.name))
}

// stampBuffer allocates a buffer for at least n stamps and takes all that the
// allocator rounds up to.
func stampBuffer(name, n int) []byte {
	buf := append([]byte(nil), make([]byte, name+n*stampSize+stampSlack)...)
	return buf[:cap(buf)]
}

func roomFor(length, name int) uint32 {
	return uint32((length - name - stampSlack) / stampSize)
}

func (e *entry) offset(i uint32) int {
	i += e.head
	if i >= e.size {
		i -= e.size
	}
	return int(e.name) + int(i)*stampSize
}

// at is the i-th oldest stamp.
func (e *entry) at(i uint32) int64 {
	return int64(binary.LittleEndian.Uint64(e.buf[e.offset(i):]) & stampMask)
}

func (e *entry) set(i uint32, stamp int64) {
	b := e.buf[e.offset(i):]
	binary.LittleEndian.PutUint32(b, uint32(stamp))
	binary.LittleEndian.PutUint16(b[4:], uint16(stamp>>32))
}

// instant is the time a decision at now takes for this key. Stamps stay sorted
// when the clock steps back: time then stands still at the last stamp.
func (e *entry) instant(now int64) int64 {
	if e == nil || e.count == 0 {
		return now
	}
	return max(now, e.at(e.count-1))
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

// full says whether any of the limits denies at t.
func (e *entry) full(t int64, limits []Limit) bool {
	if e == nil {
		return false
	}
	for i := range limits {
		if n := uint32(limits[i].Requests); e.count >= n && t-e.at(e.count-n) < limits[i].windowMS() {
			return true
		}
	}
	return false
}

// admit counts a request at t and drops what no longer counts in any window.
// Nothing else drops stamps: a denial or a look leaves the entry as it is, so
// that answers depend on nothing but the requests admitted.
func (e *entry) admit(t int64, limits []Limit) {
	window, requests := int64(0), uint32(0)
	for i := range limits {
		window = max(window, limits[i].windowMS())
		requests = max(requests, uint32(limits[i].Requests))
	}
	if n := e.expired(t, window); n > 0 {
		e.drop(n)
	}
	if e.count == e.size {
		e.resize(min(e.size+e.size/4+1, max(requests, e.count+1)))
	}
	e.count++
	e.set(e.count-1, t)
	e.keep = uint32((window + 999) / 1000)
}

func (e *entry) drop(n uint32) {
	e.count -= n
	e.head += n
	if e.head >= e.size {
		e.head -= e.size
	}
}

// resize moves the entry to a buffer for at least n stamps, n >= count.
func (e *entry) resize(n uint32) {
	to := *e
	to.head = 0
	to.buf = stampBuffer(int(e.name), int(n))
	to.size = roomFor(len(to.buf), int(e.name))
	copy(to.buf, e.buf[:e.name])
	for i := range e.count {
		to.set(i, e.at(i))
	}
	*e = to
}

// giveBack takes back one request counted at now: the first stamp not before it.
func (e *entry) giveBack(now int64) {
	i := e.expired(now-1, 0)
	if i == e.count {
		return
	}
	for ; i+1 < e.count; i++ {
		e.set(i, e.at(i+1))
	}
	e.count--
	e.limited = 0
}

// status writes how the subject stands at t; e may be nil. It also notes how
// long the key stays limited, which protects it from being pushed out.
func (e *entry) status(now, t int64, limits []Limit, s *Status) {
	best := int64(-1) // reset of the tightest limit so far
	for i := range limits {
		used, remaining, reset := e.count1(now, t, &limits[i])
		if best >= 0 && (remaining > s.Remaining || remaining == s.Remaining && reset <= best) {
			continue
		}
		best = reset
		s.Limit, s.Used, s.Remaining = limits[i], used, remaining
	}
	s.Reset = time.UnixMilli(best).UTC()
	s.Full = s.Remaining == 0
	s.RetryAfter = 0
	if s.Full {
		s.RetryAfter = time.Duration(best-now) * time.Millisecond
	}
	if e != nil && e.count > 0 {
		e.limited = 0
		if s.Full {
			e.limited = uint32((best - e.at(e.count-1) + 999) / 1000)
		}
	}
}

// count1 says how one limit stands at t.
func (e *entry) count1(now, t int64, l *Limit) (used, remaining int, reset int64) {
	if e == nil {
		return 0, l.Requests, now
	}
	window := l.windowMS()
	gone := e.expired(t, window)
	used = int(e.count - gone)
	switch {
	case used >= l.Requests:
		return used, 0, e.at(e.count-uint32(l.Requests)) + window
	case used > 0:
		return used, l.Requests - used, e.at(gone) + window
	default:
		return 0, l.Requests, now
	}
}

// idle says whether nothing counts any more, with a minute to spare for clocks
// that are set back.
func (e *entry) idle(now int64) bool {
	return e.count == 0 || e.at(e.count-1)+int64(e.keep)*1000+sweepGrace <= now
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
