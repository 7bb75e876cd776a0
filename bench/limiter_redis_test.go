package bench

import (
	"context"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// sortedSetLog is how the log of both subjects is written with sorted sets: one
// script, on the server's clock, a unique member for each request.
const sortedSetLog = `
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
for i = 1, 2 do
  redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', now - ARGV[2 * i])
  if redis.call('ZCARD', KEYS[i]) >= tonumber(ARGV[2 * i - 1]) then return 0 end
end
for i = 1, 2 do
  redis.call('ZADD', KEYS[i], now, ARGV[5])
  redis.call('PEXPIRE', KEYS[i], ARGV[2 * i])
end
return 1`

// BenchmarkRedisDecision is the decision of a chat request on a Redis of this
// machine, for 64 callers at once: one Take of two subjects, with calls that are
// shared and with a call for each, beside a script that only returns 1 through the
// same client, which is the least that a script can cost; beside a log of both in
// sorted sets; and beside two checks of redis_rate with the client it is made for.
// Each decision is admitted, under the default limits of the chat routes: there are
// so many addresses and organizations that none is used up.
func BenchmarkRedisDecision(b *testing.B) {
	const callers, addresses, organizations = 64, 20_000, 1000
	server := gatehousetest.Redis(b)
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{server.Addr()}, DisableCache: true})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(client.Close)
	goRedis := redis.NewClient(&redis.Options{Addr: server.Addr(), PoolSize: callers})
	b.Cleanup(func() { _ = goRedis.Close() })
	keys := pairKeys(addresses)
	ctx := context.Background()

	// The walk differs from turn to turn and is the same for all sides.
	walk := func(each func() func(ip, organization string)) func(int, int) {
		var at atomic.Int64
		return func(goroutines, n int) {
			from := int(at.Add(int64(n)))
			spread(goroutines, n, func(worker, n int) {
				decide := each()
				for i := range n {
					step := (from + worker*n + i) * 7919
					decide(keys[step%addresses].ip, keys[step%organizations].organization)
				}
			})
		}
	}

	perIP := []ratelimit.Limit{{Requests: 100, Window: time.Minute}}
	perOrganization := []ratelimit.Limit{{Requests: 1000, Window: time.Hour}}
	gatehouse := func(prefix string, shared int) func(int, int) {
		limiter := ratelimit.NewRedis(client, ratelimit.RedisOptions{Timeout: 10 * time.Second, MaxShared: shared, Prefix: prefix})
		return walk(func() func(string, string) {
			var d ratelimit.Decision
			return func(ip, organization string) {
				subjects := []ratelimit.Subject{
					{Type: "ip", Key: ip, Limits: perIP}, {Type: "org", Key: organization, Limits: perOrganization},
				}
				if err := limiter.Take(ctx, time.Now(), subjects, &d); err != nil || !d.Admitted {
					b.Errorf("admitted %t, error %v", d.Admitted, err)
				}
			}
		})
	}

	var member atomic.Int64
	log := rueidis.NewLuaScript(sortedSetLog)
	sortedSets := walk(func() func(string, string) {
		return func(ip, organization string) {
			admitted, err := log.Exec(ctx, client, []string{"log:ip:" + ip, "log:org:" + organization},
				[]string{"100", "60000", "1000", "3600000", strconv.FormatInt(member.Add(1), 36)}).AsInt64()
			if err != nil || admitted != 1 {
				b.Errorf("admitted %d, error %v", admitted, err)
			}
		}
	})

	one := rueidis.NewLuaScript("return 1")
	bare := walk(func() func(string, string) {
		return func(string, string) {
			if err := one.Exec(ctx, client, nil, nil).Error(); err != nil {
				b.Error(err)
			}
		}
	})

	other := redis_rate.NewLimiter(goRedis)
	twoChecks := walk(func() func(string, string) {
		return func(ip, organization string) {
			first, err := other.Allow(ctx, "ip:"+ip, redis_rate.PerMinute(100))
			if err != nil || first.Allowed == 0 {
				b.Errorf("allowed %v, error %v", first, err)
				return
			}
			second, err := other.Allow(ctx, "org:"+organization, redis_rate.PerHour(1000))
			if err != nil || second.Allowed == 0 {
				b.Errorf("allowed %v, error %v", second, err)
			}
		}
	})

	sides := []side{
		{"shared", gatehouse("gatehouse:shared:", 0)}, {"alone", gatehouse("gatehouse:alone:", 1)},
		{"return1", bare}, {"sorted_sets", sortedSets}, {"redis_rate", twoChecks},
	}
	for _, s := range sides {
		s.run(callers, callers) // connections and scripts are made once
	}
	outcomes := compare(b, work{goroutines: callers, turn: 3200, rounds: 4}, sides)
	for i, name := range []string{"shared", "alone"} {
		for j := 2; j < len(sides); j++ {
			b.ReportMetric(ratio(outcomes[j].ns, outcomes[i].ns), "x_"+name+"_to_"+sides[j].name)
		}
	}
}
