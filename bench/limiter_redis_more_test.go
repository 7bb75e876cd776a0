package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// BenchmarkRedisMemory is how much memory Redis says that a full subject takes,
// all its keys together, beside a sorted set of as many members that are unique (the
// microsecond and a number), for limits of 100 and of 1,000. It is a count: nothing
// is timed.
func BenchmarkRedisMemory(b *testing.B) {
	server := gatehousetest.Redis(b)
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{server.Addr()}, DisableCache: true})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(client.Close)
	ctx := context.Background()
	usage := func(pattern string) (bytes int64) {
		keys, err := client.Do(ctx, client.B().Keys().Pattern(pattern).Build()).AsStrSlice()
		if err != nil || len(keys) == 0 {
			b.Fatalf("%v: %v", keys, err)
		}
		for _, key := range keys {
			n, err := client.Do(ctx, client.B().MemoryUsage().Key(key).Samples(0).Build()).AsInt64()
			if err != nil {
				b.Fatal(err)
			}
			bytes += n
		}
		return bytes
	}
	for _, requests := range []int{100, 1000} {
		b.Run(strconv.Itoa(requests), func(b *testing.B) {
			b.ReportMetric(0, "ns/op")
			limiter := ratelimit.NewRedis(client, ratelimit.RedisOptions{Timeout: 10 * time.Second})
			ip := []ratelimit.Subject{{Type: "ip", Key: "203.0.113." + strconv.Itoa(requests), Limits: []ratelimit.Limit{{Requests: requests, Window: time.Hour}}}}
			log := rueidis.NewLuaScript("local t = redis.call('TIME') redis.call('ZADD', KEYS[1], t[1] * 1000 + math.floor(t[2] / 1000), t[1] .. t[2] .. '-' .. ARGV[1]) return 1")
			key := "log:{ip:" + ip[0].Key + "}:limit"
			var d ratelimit.Decision
			err := errors.Join(limiter.Reset(ctx, "ip", ip[0].Key), client.Do(ctx, client.B().Del().Key(key).Build()).Error())
			if err != nil {
				b.Fatal(err)
			}
			for i := range requests {
				if err := limiter.Take(ctx, time.Now(), ip, &d); err != nil || !d.Admitted {
					b.Fatal(d, err)
				}
				if err := log.Exec(ctx, client, []string{key}, []string{strconv.Itoa(i)}).Error(); err != nil {
					b.Fatal(err)
				}
			}
			ours, theirs := usage("gatehouse:limit:*"+ip[0].Key+"*"), usage(key)
			b.ReportMetric(float64(ours), "gatehouse-bytes")
			b.ReportMetric(float64(theirs), "sorted_set-bytes")
			b.ReportMetric(float64(theirs)/float64(ours), "x_sorted_set_to_gatehouse")
		})
	}
}

// BenchmarkRememberedDenial is a decision from a denial that is remembered, beside
// one that Redis admits, for 64 callers.
func BenchmarkRememberedDenial(b *testing.B) {
	const callers = 64
	server := gatehousetest.Redis(b)
	limiter := ratelimit.OpenRedis(rueidis.ClientOption{InitAddress: []string{server.Addr()}}, ratelimit.RedisOptions{Timeout: 10 * time.Second})
	b.Cleanup(limiter.Close)
	keys := pairKeys(20_000)
	decide := func(requests int, prefix string, pairs int, want bool) func(int, int) {
		limits := []ratelimit.Limit{{Requests: requests, Window: time.Hour}}
		own := make([]pair, pairs)
		for i := range own {
			own[i] = pair{prefix + keys[i].ip, prefix + keys[i].organization}
		}
		var at atomic.Int64
		return func(goroutines, n int) {
			from := int(at.Add(int64(n)))
			spread(goroutines, n, func(worker, n int) {
				var d ratelimit.Decision
				subjects := []ratelimit.Subject{{Type: "ip", Limits: limits}, {Type: "org", Limits: limits}}
				for i := range n {
					pair := &own[(from+worker*n+i)*7919%pairs]
					subjects[0].Key, subjects[1].Key = pair.ip, pair.organization
					if err := limiter.Take(context.Background(), time.Now(), subjects, &d); err != nil || d.Admitted != want {
						b.Errorf("admitted %t, error %v", d.Admitted, err)
					}
				}
			})
		}
	}
	var d ratelimit.Decision
	const full = 100 // pairs whose limit of 1 is used up
	for i := range full {
		limits := []ratelimit.Limit{{Requests: 1, Window: time.Hour}}
		subjects := []ratelimit.Subject{{Type: "ip", Key: "f" + keys[i].ip, Limits: limits}, {Type: "org", Key: "f" + keys[i].organization, Limits: limits}}
		if err := limiter.Take(context.Background(), time.Now(), subjects, &d); err != nil {
			b.Fatal(err)
		}
	}
	sides := []side{{"admitted", decide(4096, "", len(keys), true)}, {"remembered", decide(1, "f", full, false)}}
	for _, s := range sides {
		s.run(callers, 64*callers)
	}
	// Long turns: one of 3200 decisions from memory takes a third of a millisecond, of which
	// starting 64 callers is the better half.
	outcomes := compare(b, work{goroutines: callers, turn: 64_000, rounds: 4}, sides)
	b.ReportMetric(ratio(outcomes[0].ns, outcomes[1].ns), "x_admitted_to_remembered")
}

// BenchmarkRedisFrozen freezes Redis (SIGSTOP) under the load of 64 callers for two
// seconds and prints how long answers took meanwhile, beside redis_rate's with the
// client's usual settings. Those of Gatehouse are of a Switch with its usual
// timeout of 25 ms. Asked: no answer takes more than 50 ms, but for what the machine
// is late.
func BenchmarkRedisFrozen(b *testing.B) {
	const callers, frozen = 64, 2 * time.Second
	server := gatehousetest.Redis(b)
	redisLimiter := ratelimit.OpenRedis(rueidis.ClientOption{InitAddress: []string{server.Addr()}}, ratelimit.RedisOptions{})
	b.Cleanup(redisLimiter.Close)
	both := ratelimit.NewSwitch(redisLimiter, ratelimit.NewMemory(ratelimit.MemoryOptions{}), ratelimit.SwitchOptions{})
	b.Cleanup(both.Close)
	goRedis := redis.NewClient(&redis.Options{Addr: server.Addr(), PoolSize: callers})
	b.Cleanup(func() { _ = goRedis.Close() })
	other := redis_rate.NewLimiter(goRedis)
	ctx := context.Background()
	limits := []ratelimit.Limit{{Requests: 1_000_000, Window: time.Hour}}
	sides := []struct {
		name string
		ask  func(caller int, d *ratelimit.Decision) error
	}{
		{"gatehouse", func(caller int, d *ratelimit.Decision) error {
			return both.Take(ctx, time.Now(), []ratelimit.Subject{{Type: "ip", Key: strconv.Itoa(caller), Limits: limits}, {Type: "org", Key: "acme", Limits: limits}}, d)
		}},
		{"redis_rate", func(caller int, _ *ratelimit.Decision) error {
			if _, err := other.Allow(ctx, "ip:"+strconv.Itoa(caller), redis_rate.PerHour(1_000_000)); err != nil {
				return err
			}
			_, err := other.Allow(ctx, "org:acme", redis_rate.PerHour(1_000_000))
			return err
		}},
	}
	for b.Loop() {
		for _, s := range sides {
			var mu sync.Mutex
			var took []time.Duration
			var failed atomic.Int64
			var end atomic.Bool
			var all sync.WaitGroup
			for caller := range callers {
				all.Go(func() {
					var d ratelimit.Decision
					for !end.Load() {
						begin := time.Now()
						if s.ask(caller, &d) != nil {
							failed.Add(1)
						}
						spent := time.Since(begin)
						mu.Lock()
						took = append(took, spent)
						mu.Unlock()
						time.Sleep(time.Millisecond) // a load that the machine can bear
					}
				})
			}
			time.Sleep(300 * time.Millisecond)
			server.Freeze()
			time.Sleep(frozen)
			server.Thaw()
			time.Sleep(300 * time.Millisecond)
			end.Store(true)
			all.Wait()
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, s.name+"-max-ms")
			b.ReportMetric(float64(failed.Load()), s.name+"-errors")
			fmt.Printf("%s, Redis frozen for %v: %d answers, %d errors\n%s", s.name, frozen, len(took), failed.Load(), histogram(took))
			time.Sleep(2 * time.Second) // the Switch goes back
		}
	}
	b.ReportMetric(0, "ns/op")
}

// histogram says how many of some times fall within each bound.
func histogram(took []time.Duration) (lines string) {
	bounds := []time.Duration{time.Millisecond, 5 * time.Millisecond, 25 * time.Millisecond, 30 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, time.Second, time.Minute}
	first := 0
	for _, bound := range bounds {
		n, _ := slices.BinarySearch(took, bound+1)
		lines += fmt.Sprintf("  up to %-6v %7d\n", bound, n-first)
		first = n
	}
	return lines + fmt.Sprintf("  slowest %v\n", took[len(took)-1])
}
