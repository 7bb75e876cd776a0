package ratelimit

import (
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

// MostExact is the most that MaxExact of [RedisOptions] may be: where a subject is
// kept in Redis, what is beside its newest and oldest instants is counted in two bytes.
const MostExact = 65_536

var errStrange = errors.New("the answer is not that of the script")

// question is one decision to be made by take.lua. It outlives the caller, who may
// have given up waiting.
type question struct {
	keys   []string  // of the subjects in Redis
	names  []string  // the same without the prefix
	shapes []byte    // the limits of each subject: their number, and for each its requests and its window
	simple bool      // one or two subjects of one exact limit each
	verb   byte      // 1 to count the request, 0 to look
	at     time.Time // for tests, the instant of the decision

	state  atomic.Int32
	late   func() // what to do when it was given up and is admitted after all
	answer answer
	err    error
	done   chan struct{} // has room for one: the answer is there

	// Room for what nearly every question has.
	keysRoom, namesRoom [2]string
	shapesRoom          [2 * 11]byte
}

// The states of a question. From gathering and sent it is taken over by whoever
// changes it first: who sends it, who answers it, who gives it up.
const (
	gathering = iota
	sent
	answered
	abandoned
)

func (r *Redis) newQuestion(subjects []Subject, take bool, at time.Time) *question {
	q := &question{simple: len(subjects) <= 2, at: at}
	q.keys, q.names, q.shapes = q.keysRoom[:0], q.namesRoom[:0], q.shapesRoom[:0]
	if take {
		q.verb = 1
	}
	for i := range subjects {
		s := &subjects[i]
		key, name := redisKeyOf(r.prefix, s.Type, s.Key)
		q.keys, q.names = append(q.keys, key), append(q.names, name)
		q.simple = q.simple && len(s.Limits) == 1 && s.Limits[0].Requests <= r.exact
		q.shapes = append(q.shapes, byte(len(s.Limits)))
		for _, l := range s.Limits {
			q.shapes = binary.LittleEndian.AppendUint32(q.shapes, uint32(l.Requests))
			q.shapes = append48(q.shapes, l.windowMS())
		}
	}
	return q
}

// shape takes the first subject's limits off shapes.
func shape(shapes []byte) (first, rest []byte) {
	n := 1 + 10*int(shapes[0])
	return shapes[:n], shapes[n:]
}

// append48 appends the six lower bytes of n, the lowest first.
func append48(b []byte, n int64) []byte {
	return append(b, byte(n), byte(n>>8), byte(n>>16), byte(n>>24), byte(n>>32), byte(n>>40))
}

func read48(s string) int64 {
	return int64(s[0]) | int64(s[1])<<8 | int64(s[2])<<16 | int64(s[3])<<24 | int64(s[4])<<32 | int64(s[5])<<40
}

func read32(s string) int {
	return int(s[0]) | int(s[1])<<8 | int(s[2])<<16 | int(s[3])<<24
}

// request is what goes to the script for some questions. It is used again.
type request struct {
	keys  []string
	args  []string
	bytes []byte          // what args are made of
	given []byte          // in tests, the instants
	index map[string]byte // where a key stands in keys
}

var requests = sync.Pool{New: func() any { return &request{index: map[string]byte{}} }}

// put makes it the request of some questions.
func (c *request) put(questions []*question, exact int, scripted bool) {
	clear(c.index)
	c.keys, c.given = c.keys[:0], c.given[:0]
	b := binary.LittleEndian.AppendUint32(c.bytes[:0], uint32(exact))
	for _, q := range questions {
		b = append(b, q.verb)
		if !q.simple {
			b = append(b, 0)
		}
		b = append(b, byte(len(q.keys)))
		rest := q.shapes
		for _, key := range q.keys {
			b = append(b, c.keyIndex(key, len(questions) > 1))
			var own []byte
			own, rest = shape(rest)
			if q.simple {
				own = own[1:]
			}
			b = append(b, own...)
		}
		if scripted {
			c.given = append48(c.given, q.at.UnixMilli())
		}
	}
	c.bytes = b
	c.args = append(c.args[:0], rueidis.BinaryString(b))
	if scripted {
		c.args = append(c.args, rueidis.BinaryString(c.given))
	}
}

// keyIndex gives where a key stands in keys, from 1, and puts it there. A question
// by itself has no key twice.
func (c *request) keyIndex(key string, many bool) byte {
	if k, ok := c.index[key]; many && ok {
		return k
	}
	c.keys = append(c.keys, key)
	k := byte(len(c.keys))
	if many {
		c.index[key] = k
	}
	return k
}

// answer is what the script says to one question.
type answer struct {
	now      int64 // Redis's clock
	admitted bool
	standing string // how each subject stands, as the script wrote it

	unsettled uint8 // a bit for each subject that is full and may not stay so
}

// answers takes apart the reply to some questions. It is false where that makes no
// sense.
func answers(reply string, questions []*question, scripted bool) ([]answer, bool) {
	if len(reply) < 6 {
		return nil, false
	}
	now := read48(reply)
	reply = reply[6:]
	all := make([]answer, len(questions))
	for i, q := range questions {
		size := 0
		for own, rest := shape(q.shapes); ; own, rest = shape(rest) {
			size += standingSize(int(own[0]))
			if len(rest) == 0 {
				break
			}
		}
		if len(reply) < 1+size {
			return nil, false
		}
		all[i] = answer{now: now, admitted: reply[0] == 1, standing: reply[1 : 1+size]}
		if scripted {
			all[i].now = q.at.UnixMilli()
		}
		reply = reply[1+size:]
	}
	return all, reply == ""
}

// standingSize is how many bytes say how a subject of some limits stands.
func standingSize(limits int) int {
	if limits == 1 {
		return 10
	}
	return 11 + 4*limits
}

// read puts an answer into a decision and, where they are asked for, appends how
// many requests count for each limit of each subject. It is false where that makes
// no sense.
func (a *answer) read(subjects []Subject, d *Decision, counts *[]int) bool {
	d.Admitted = a.admitted
	d.Now = time.UnixMilli(a.now).UTC()
	d.RetryAfter = 0
	d.Store = StoreRedis
	d.Degraded = false
	d.Statuses = slices.Grow(d.Statuses[:0], len(subjects))
	b := a.standing
	for i := range subjects {
		limits := subjects[i].Limits
		speaks, at := 0, 0
		if len(limits) > 1 {
			speaks, at = int(b[0])-1, 1
			if speaks < 0 || speaks >= len(limits) {
				return false
			}
		}
		reset := read48(b[at+4:])
		s := Status{Limit: limits[speaks], Used: read32(b[at:]), Reset: time.UnixMilli(reset).UTC()}
		s.Remaining = max(0, s.Limit.Requests-s.Used)
		if s.Full = s.Remaining == 0; s.Full {
			s.RetryAfter = time.Duration(reset-a.now) * time.Millisecond
			if !d.Admitted {
				d.RetryAfter = max(d.RetryAfter, s.RetryAfter)
			}
		}
		d.Statuses = append(d.Statuses, s)
		switch {
		case counts == nil:
		case len(limits) == 1:
			*counts = append(*counts, s.Used)
		default:
			for j := range limits {
				*counts = append(*counts, read32(b[11+4*j:]))
			}
		}
		b = b[standingSize(len(limits)):]
	}
	return true
}
