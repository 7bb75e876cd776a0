package ratelimit

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/redis/rueidis"
)

// Probe does once with Redis what limits need of it, on names of its own, and leaves nothing:
// it decides by the script, reads and writes what instances tell each other, and removes. A
// Redis that is full or read-only, or whose user may not do one of these, answers a PING, and
// no instance can decide by it. On a cluster it decides in each 64th of the slots. It waits for
// each call no longer than timeout.
func Probe(ctx context.Context, client rueidis.Client, timeout time.Duration) error {
	r := NewRedis(client, RedisOptions{Timeout: timeout})
	defer r.Close()
	if err := r.Ping(ctx); err != nil {
		return err
	}
	var tried [markCount]bool
	left := 1
	if r.spreads(client) {
		left = markCount
	}
	const kind = "doctor"
	for left > 0 {
		key := rand.Text()
		n := slotOf(redisKey(r.prefix, storedName(kind, key))) / markWidth
		if tried[n] {
			continue
		}
		tried[n] = true
		left--
		var d Decision
		err := r.Take(ctx, time.Now(), []Subject{{Type: kind, Key: key, Limits: []Limit{{Requests: 1, Window: time.Minute}}}}, &d)
		if err == nil {
			_, err = r.call(ctx, func(client rueidis.Client) rueidis.RedisResult {
				return r.reset.Exec(context.Background(), client, []string{redisKey(r.prefix, storedName(kind, key))}, nil)
			})
		}
		if err != nil {
			return err
		}
	}
	if _, _, err := r.resetsSince(ctx, 0); err != nil {
		return err
	}
	return r.probeCensus(ctx)
}

// probeCensus says on a key of its own what instances say of themselves at [aliveName].
func (r *Redis) probeCensus(ctx context.Context) error {
	key := r.prefix + "doctor{" + rand.Text() + "}"
	args := aliveArguments("doctor", doesSay, 0, time.Minute, 0)
	_, err := r.call(ctx, func(client rueidis.Client) rueidis.RedisResult {
		return client.Do(context.Background(), r.bringToMark(client, key, args))
	})
	_, removed := r.call(ctx, func(client rueidis.Client) rueidis.RedisResult {
		return client.Do(context.Background(), client.B().Del().Key(key).Build())
	})
	return errors.Join(err, removed)
}
