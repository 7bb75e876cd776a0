package ratelimit

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

// The list of resets in Redis, by which a Switch learns what other processes
// reset. No subject has this name: there is no colon in it.
const (
	resetsName = "resets"
	resetsKept = 1000
	resetsFor  = time.Hour
)

// resetsSince returns the names reset after a point, with the points of the resets, and
// the next point. Points
// are milliseconds on Redis's clock, so they stay right when Redis loses its data.
func (r *Redis) resetsSince(ctx context.Context, point int64) (names map[string]int64, next int64, err error) {
	reply, err := r.call(ctx, func(client rueidis.Client) rueidis.RedisResult {
		ask := func() rueidis.RedisResult {
			return client.Do(context.Background(), client.B().Zrevrangebyscore().Key(r.prefix+resetsName).
				Max("+inf").Min(strconv.FormatInt(point, 10)).Withscores().Limit(0, resetsKept).Build())
		}
		result := ask()
		if said, ok := rueidis.IsRedisErr(result.Error()); ok && strings.HasPrefix(said.Error(), "WRONGTYPE") { // what has another type than ours is not ours
			client.Do(context.Background(), client.B().Del().Key(r.prefix+resetsName).Build())
			result = ask()
		}
		return result
	})
	if err != nil {
		return nil, point, err
	}
	scores, err := reply.AsZScores()
	if err != nil {
		return nil, point, unavailable(err)
	}
	next, names = point, make(map[string]int64)
	for _, z := range scores {
		if int64(z.Score) > point {
			names[z.Member] = int64(z.Score)
		}
		next = max(next, int64(z.Score))
	}
	for name := range names {
		r.denials.forget(name)
	}
	return names, next, nil
}

// Ping says whether Redis is there and takes writes: one that is read-only or
// out of memory answers a PING but cannot decide. It waits no longer than the
// timeout; the error wraps [ErrUnavailable].
func (r *Redis) Ping(ctx context.Context) error {
	_, err := r.call(ctx, func(client rueidis.Client) rueidis.RedisResult {
		return client.Do(context.Background(), client.B().Set().Key(r.prefix+"ping").Value("1").
			PxMilliseconds(time.Minute.Milliseconds()).Build())
	})
	return err
}
