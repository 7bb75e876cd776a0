package ratelimit

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"
)

// Scripted makes Redis take the now that is passed to it instead of the
// server's clock, so that its answers can be compared.
func (r *Redis) Scripted() *Redis {
	r.scripted = true
	return r
}

// StoredName names a subject in Redis, below the prefix.
func StoredName(subjectType, key string) string { return storedName(subjectType, key) }

// AppendStoredName is StoredName by the way that allocates nothing.
func AppendStoredName(subjectType, key string) string {
	return string(appendStoredName(nil, subjectType, key))
}

// RedisKeyOf is the key of a subject in Redis, by both ways, and the name within it.
func RedisKeyOf(prefix, subjectType, key string) (one, other, name string) {
	one, name = redisKeyOf(prefix, subjectType, key)
	return one, redisKey(prefix, storedName(subjectType, key)), name
}

// SplitName takes a stored name apart again.
func SplitName(name string) (subjectType, key string, hashed, ok bool) { return splitName(name) }

// Asked is one of several decisions to be made by one call.
type Asked struct {
	Now      time.Time
	Subjects []Subject
	Take     bool
	Decision *Decision
}

// Together makes decisions by one call, in their order.
func (r *Redis) Together(all []Asked) error {
	if len(all) == 0 {
		return nil
	}
	client, err := r.connect()
	if err != nil {
		return err
	}
	questions := make([]*question, len(all))
	for i, a := range all {
		questions[i] = r.newQuestion(a.Subjects, a.Take, a.Now)
	}
	replies, err := r.run(client, questions)
	for i := range replies {
		if !replies[i].read(all[i].Subjects, all[i].Decision, nil) {
			return errStrange
		}
	}
	return err
}

// Several makes decisions by a call each, all of them sent together, and gives how
// many were admitted.
func (r *Redis) Several(all []Asked) (admitted int, err error) {
	client, err := r.connect()
	if err != nil {
		return 0, err
	}
	lots := make([][]*question, len(all))
	for i, a := range all {
		q := r.newQuestion(a.Subjects, a.Take, a.Now)
		q.done = make(chan struct{}, 1)
		q.state.Store(sent)
		lots[i] = []*question{q}
	}
	questions := slices.Concat(lots...)
	r.runSeveral(client, lots)
	for _, q := range questions {
		<-q.done
		err = errors.Join(err, q.err)
		if q.answer.admitted {
			admitted++
		}
	}
	return admitted, err
}

// GiveBack gives back a request admitted at an instant in milliseconds.
func (r *Redis) GiveBack(subjectType, key string, at int64) error {
	client, err := r.connect()
	if err != nil {
		return err
	}
	return r.giveBack.Exec(context.Background(), client, []string{redisKey(r.prefix, storedName(subjectType, key))},
		[]string{strconv.FormatInt(at, 10)}).Error()
}

// GiveBack gives back a request admitted at an instant.
func (m *Memory) GiveBack(at time.Time, subjects ...Subject) { m.giveBack(at, subjects) }
