package ratelimit

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// aliveName is the set of instances that are alive. No subject has this name:
// there is no colon in it.
const aliveName = "instances"

// merge counts in Redis what a process admitted without it. Stamps are moved by
// offset milliseconds, from this process's clock to Redis's.
func (r *Redis) merge(ctx context.Context, rec *record, offset int64) error {
	name := rec.name()
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	args := []string{rec.id, number(rec.keep), number(rec.covers), strconv.Itoa(r.exact), number(int64(len(rec.stamps)))}
	for _, stamp := range rec.stamps {
		args = append(args, number(stamp+offset))
	}
	args = append(args, number(int64(len(rec.wides))))
	for _, w := range rec.wides {
		args = append(args, number(w.window), number(int64(len(w.runs))))
		for _, run := range w.runs {
			args = append(args, number(run.last+offset), number(int64(run.n)))
		}
	}
	_, err := r.call(ctx, func(client rueidis.Client) rueidis.RedisResult {
		return r.mergeLua.Exec(context.Background(), client, []string{redisKey(r.prefix, name)}, args)
	})
	r.denials.forget(name)
	return err
}

// mergeAll merges many records, several at a time, and returns those that failed
// and why.
func (r *Redis) mergeAll(ctx context.Context, records []record, offset int64) (failed []record, err error) {
	const atOnce = 16
	var mu sync.Mutex
	var all sync.WaitGroup
	next := make(chan *record)
	for range min(atOnce, len(records)) {
		all.Go(func() {
			for rec := range next {
				e := err0(&mu, &err)
				if e == nil {
					e = r.merge(ctx, rec, offset)
				}
				if e != nil {
					mu.Lock()
					failed, err = append(failed, *rec), e
					mu.Unlock()
				}
			}
		})
	}
	for i := range records {
		next <- &records[i]
	}
	close(next)
	all.Wait()
	return failed, err
}

// err0 reads an error under its lock: after the first, nothing more is tried.
func err0(mu *sync.Mutex, err *error) error {
	mu.Lock()
	defer mu.Unlock()
	return *err
}

// census is Redis's answer to an instance that says it is alive.
type census struct {
	now     int64  // Redis's clock in milliseconds
	alive   int64  // instances
	settled int64  // of those, how many said so since the instant asked for
	data    string // the name of Redis's data: when it changes, what Redis held was lost
}

// far is the score of the data's name in alive.lua.
const far = "9000000000000000"

// edition is take.lua for the data that a [Switch] found in Redis, and merged what was
// missing into. The script is another for other data: what somebody who knows of a loss
// has brought does not serve who does not.
type edition struct {
	data  string   // its name; "": whatever Redis has
	marks []string // on a cluster, its names at the marks
	take  luaScript
}

// expect says which data there is.
func (r *Redis) expect(data string, marks []string) {
	if e := r.edition.Load(); e.data == data && slices.Equal(e.marks, marks) {
		return
	}
	sum := sha256.Sum256([]byte(data + strings.Join(marks, "")))
	r.edition.Store(&edition{data, marks, script("take", "-- for the data "+hex.EncodeToString(sum[:]))})
}

// expectAny takes whatever Redis has, where nobody looks at it.
func (r *Redis) expectAny() { r.edition.Store(&edition{take: script("take")}) }

// errLost is Redis having begun anew since a [Switch] last looked at it.
var errLost = errors.New("Redis has lost its data")

// sameData says whether Redis still has the data that was expected, where any was. It is
// asked when Redis does not know a script: a Redis that came back has none, also where
// it was back before anybody noticed, and must not decide as if nobody had ever been
// admitted.
func (r *Redis) sameData(client rueidis.Client, e *edition) error {
	switch {
	case e.marks != nil:
		return r.sameMarks(client, e.marks)
	case e.data == "":
		return nil
	}
	return isNamed(client.Do(context.Background(), r.dataOf(client, r.prefix+aliveName)), e.data)
}

// dataOf asks for the name of the data at a key.
func (r *Redis) dataOf(client rueidis.Client, key string) rueidis.Completed {
	return client.B().Zrangebyscore().Key(key).Min(far).Max("+inf").Limit(0, 1).Build()
}

func isNamed(result rueidis.RedisResult, expected string) error {
	names, err := result.AsStrSlice()
	if err == nil && (len(names) != 1 || names[0] != expected) {
		err = errLost
	}
	return err
}

// alive says that an instance is alive, or with "" nothing, and that another one
// leaves.
func (r *Redis) alive(ctx context.Context, instance string, silence time.Duration, since int64, leaves string) (census, error) {
	args := []string{instance, strconv.FormatInt(silence.Milliseconds(), 10), rand.Text(), strconv.FormatInt(since, 10), leaves}
	reply, err := r.call(ctx, func(client rueidis.Client) rueidis.RedisResult {
		return r.aliveLua.Exec(context.Background(), client, []string{r.prefix + aliveName}, args)
	})
	if err != nil {
		return census{}, err
	}
	values, err := reply.ToArray()
	if err != nil || len(values) != 4 {
		return census{}, unavailable(errors.New("the answer is not that of the script"))
	}
	var numbers [3]int64
	for i := range numbers {
		if numbers[i], err = values[i].AsInt64(); err != nil {
			return census{}, unavailable(err)
		}
	}
	data, err := values[3].ToString()
	return census{numbers[0], numbers[1], numbers[2], data}, err
}
