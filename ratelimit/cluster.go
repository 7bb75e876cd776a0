package ratelimit

import (
	"context"
	"encoding/binary"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// giveBackTries is how often a unit that must be given back is tried to: a node
// that is failing over comes back within seconds.
const giveBackTries = 5

// settled is how old the newest request of a full subject must be for its denial to be
// remembered on a cluster: until then it may be one that another subject denies, and that is
// about to be given back.
const settled = 250 * time.Millisecond

// decideSpread decides on subjects in different slots of a cluster, each on its
// own node and clock, and gives the answer that one script would have given: all
// instants on the first subject's clock.
func (r *Redis) decideSpread(client rueidis.Client, q *question) (answer, error) {
	parts := make([]part, len(q.keys))
	var all sync.WaitGroup
	rest := q.shapes
	for i := range parts {
		p := &parts[i]
		p.question = &question{keys: q.keys[i : i+1], verb: q.verb, at: q.at}
		p.question.shapes, rest = shape(rest)
		p.question.simple = q.simple
		all.Go(func() {
			var replies []answer
			if replies, p.err = r.run(client, []*question{p.question}); p.err == nil {
				p.answer = replies[0]
			}
		})
	}
	all.Wait()
	var err error
	admitted := true
	for i := range parts {
		err = errors.Join(err, parts[i].err)
		admitted = admitted && parts[i].answer.admitted
	}
	if q.verb == 1 && !admitted {
		for i := range parts {
			if parts[i].answer.admitted {
				all.Go(func() { r.returnTaken(client, &parts[i]) })
			}
		}
		all.Wait()
	}
	if err != nil {
		return answer{}, err
	}
	joined := answer{now: parts[0].answer.now, admitted: admitted}
	for i := range parts {
		if p := &parts[i]; !p.answer.admitted {
			all.Go(func() { p.unsettled = r.unsettled(client, p) })
		}
	}
	all.Wait()
	for i := range parts {
		joined.standing += parts[i].moved(joined.now)
		if parts[i].unsettled {
			joined.unsettled |= 1 << i
		}
	}
	return joined, nil
}

// unsettled reports whether a full subject's newest request may be given back yet. It does not
// keep the denial waiting for long: then it may.
func (r *Redis) unsettled(client rueidis.Client, p *part) bool {
	// The last 5 bytes are the newest instant's milliseconds modulo 2^40, see queue.lua.
	const size, whole, half = 5, int64(1) << 40, int64(1) << 39
	read := make(chan string, 1)
	go func() {
		newest, _ := client.Do(context.Background(), client.B().Getrange().Key(p.question.keys[0]).Start(-size).End(-1).Build()).ToString()
		read <- newest
	}()
	timer := time.NewTimer(r.timeout / 4)
	defer timer.Stop()
	select {
	case newest := <-read:
		if len(newest) != size {
			return true
		}
		age := (p.answer.now-read40(newest)+half)&(whole-1) - half
		return age < settled.Milliseconds()
	case <-timer.C:
		return true
	}
}

func read40(s string) int64 {
	return int64(s[0]) | int64(s[1])<<8 | int64(s[2])<<16 | int64(s[3])<<24 | int64(s[4])<<32
}

// part is the decision on one of the subjects.
type part struct {
	question *question
	answer   answer
	err      error
	returned bool // what it took was given back

	unsettled bool // it is full, and may not stay so
}

// returnTaken gives back what a subject's script took.
func (r *Redis) returnTaken(client rueidis.Client, p *part) {
	p.returned = true
	for try := range giveBackTries {
		if r.giveBack.Exec(context.Background(), client, p.question.keys, []string{strconv.FormatInt(p.answer.now, 10)}).Error() == nil {
			break
		}
		time.Sleep(time.Duration(try+1) * 100 * time.Millisecond)
	}
}

// moved gives how the subject stands, with its reset on the clock that said now,
// and where its unit was given back, as it would have stood without: the reset of a
// subject that is not full is that of its oldest request, and so is that of one
// which has just become full.
func (p *part) moved(now int64) string {
	limits := int(p.question.shapes[0])
	b := []byte(p.answer.standing)
	one := b
	if limits > 1 {
		one = b[1:]
	}
	used, reset := read32(p.answer.standing[len(b)-len(one):]), read48(p.answer.standing[len(b)-len(one)+4:])
	if p.returned {
		if used--; used == 0 {
			reset = p.answer.now
		}
		for i := range limits {
			if limits > 1 {
				binary.LittleEndian.PutUint32(b[11+4*i:], binary.LittleEndian.Uint32(b[11+4*i:])-1)
			}
		}
	}
	binary.LittleEndian.PutUint32(one, uint32(used))
	append48(one[4:4], reset+now-p.answer.now)
	return string(b)
}
