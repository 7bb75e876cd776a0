package ratelimit

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// aliveName is the set of instances, by when they last said that they are alive. No subject has this name:
// there is no colon in it.
const aliveName = "instances"

// merge counts in Redis what a process admitted without it. Stamps are moved by
// offset milliseconds, from this process's clock to Redis's.
func (r *Redis) merge(ctx context.Context, rec *record, offset int64) error {
	name := rec.name()
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	args := []string{rec.id, number(rec.keep), number(rec.covers), strconv.Itoa(r.ofMerged), number(int64(len(rec.stamps)))}
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

// mergeAll merges many records, several at a time, and returns those that were merged, those
// that were not and why.
func (r *Redis) mergeAll(ctx context.Context, records []record, offset int64) (done, failed []record, err error) {
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
				mu.Lock()
				if e == nil {
					done = append(done, *rec)
				} else {
					failed, err = append(failed, *rec), e
				}
				mu.Unlock()
			}
		})
	}
	for i := range records {
		next <- &records[i]
	}
	close(next)
	all.Wait()
	return done, failed, err
}

// err0 reads an error under its lock: after the first, nothing more is tried.
func err0(mu *sync.Mutex, err *error) error {
	mu.Lock()
	defer mu.Unlock()
	return *err
}

// mark is what Redis tells of its data at one key: at [aliveName], or at one of those that
// stand on every node of a cluster.
type mark struct {
	name string // of the data: another one when some was lost

	// said is when this instance last said there that Redis knows all it admitted, on
	// Redis's clock in milliseconds; 0 for never. Redis knows of an earlier one, or of
	// none, where it lost what came after.
	said int64
}

// census is Redis's answer to an instance that looks, or says that it is alive.
type census struct {
	now     int64 // Redis's clock in milliseconds
	alive   int64 // instances
	settled int64 // of those, how many said so since the instant asked for
	mark
}

// edition is take.lua for the data that a [Switch] found in Redis, and merged what was
// missing into. The script is another for other data, and each process's own: what somebody
// who knows of a loss has brought, or who has lost nothing, does not serve the others.
type edition struct {
	instance string   // the Switch
	keys     []string // the marks'; none: whatever Redis has
	marks    []mark
	take     luaScript
}

// expect says which data there is at some marks, as an instance knows it.
func (r *Redis) expect(instance string, keys []string, marks []mark) {
	same := func(a, b mark) bool { return a.name == b.name }
	next := &edition{instance: instance, keys: keys, marks: marks}
	if e := r.edition.Load(); slices.EqualFunc(e.marks, marks, same) {
		next.take = e.take
	} else {
		names := sha256.New()
		for _, m := range marks {
			_, _ = io.WriteString(names, m.name)
		}
		next.take = script("take", "-- for the data "+hex.EncodeToString(names.Sum(nil)), r.own)
	}
	r.edition.Store(next)
}

// expectAny takes whatever Redis has, where nobody looks at it.
func (r *Redis) expectAny() { r.edition.Store(&edition{take: script("take")}) }

// errLost is Redis having lost data since a [Switch] last looked at it.
var errLost = errors.New("Redis has lost its data")

// sameData says whether Redis still has the data that was expected, where any was. It is
// asked when Redis does not know a script: a Redis that came back has none, also where
// it was back before anybody noticed, and must not decide as if nobody had been admitted,
// or nobody since it was last saved.
func (r *Redis) sameData(client rueidis.Client, e *edition) error {
	commands := make(rueidis.Commands, len(e.keys))
	for i, key := range e.keys {
		member := e.instance
		if e.marks[i].said == 0 {
			member = e.marks[i].name
		}
		commands[i] = client.B().Zscore().Key(key).Member(member).Build()
	}
	for i, result := range client.DoMulti(context.Background(), commands...) {
		score, err := result.AsFloat64()
		switch {
		case rueidis.IsRedisNil(err):
			return errLost
		case err != nil:
			return err
		case int64(score) < e.marks[i].said:
			return errLost
		}
	}
	return nil
}

// What an instance does at a mark.
const (
	doesLook  = "look"
	doesSay   = "say"
	doesLeave = "leave"
)

// aliveArguments are those of alive.lua.
func aliveArguments(instance, does string, said int64, silence time.Duration, since int64) []string {
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	return []string{instance, does, number(said), number(silence.Milliseconds()), rand.Text(), number(since)}
}

// readCensus reads the answer of alive.lua to those arguments.
func readCensus(result rueidis.RedisResult, does string, said int64) (census, error) {
	values, err := result.ToArray()
	if err != nil {
		return census{}, unavailable(err)
	}
	if len(values) != 5 {
		return census{}, unavailable(errStrange)
	}
	var c census
	for i, n := range map[int]*int64{0: &c.now, 1: &c.alive, 2: &c.settled, 4: &c.said} {
		if *n, err = values[i].AsInt64(); err != nil {
			return census{}, unavailable(errStrange)
		}
	}
	if c.name, err = values[3].ToString(); err != nil || c.name == "" {
		return census{}, unavailable(errStrange)
	}
	if does == doesSay {
		if c.said < said { // it was not noted: the next look finds what was lost
			return census{}, unavailable(errLost)
		}
		c.said = c.now
	}
	return c, nil
}

// alive lets an instance look at [aliveName], say there that it is alive, or leave. said is
// when it last said so.
func (r *Redis) alive(ctx context.Context, instance, does string, said int64, silence time.Duration, since int64) (census, error) {
	args := aliveArguments(instance, does, said, silence, since)
	reply, err := r.call(ctx, func(client rueidis.Client) rueidis.RedisResult {
		result := client.Do(context.Background(), r.atMark(client, r.aliveKey(), args))
		if r.unknownAtMark(result, does) {
			result = client.Do(context.Background(), r.bringToMark(client, r.aliveKey(), args))
		}
		return result
	})
	if err != nil {
		return census{}, err
	}
	return readCensus(reply, does, said)
}

// atMark runs alive.lua at a mark, where Redis knows it.
func (r *Redis) atMark(client rueidis.Client, key string, args []string) rueidis.Completed {
	return client.B().Evalsha().Sha1(r.aliveLua.sha).Numkeys(1).Key(key).Arg(args...).Build()
}

// unknownAtMark notes where Redis does not know the script, whether anybody waits for the answer
// or not, and says whether it is to be brought. For who says that Redis knows all it is
// not: what he merged before may be lost since.
func (r *Redis) unknownAtMark(result rueidis.RedisResult, does string) bool {
	if !forgotten(result) {
		return false
	}
	r.restarted.Store(true)
	return does != doesSay
}

// bringToMark is atMark where Redis does not know the script.
func (r *Redis) bringToMark(client rueidis.Client, key string, args []string) rueidis.Completed {
	return client.B().Eval().Script(r.aliveLua.text).Numkeys(1).Key(key).Arg(args...).Build()
}

func (r *Redis) aliveKey() string { return r.prefix + aliveName }
