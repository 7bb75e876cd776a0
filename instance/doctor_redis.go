package instance

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/gatehouse-io/gatehouse/store"
)

// redis looks at the Redis that limits are shared over.
func (d *diagnosis) redis(ctx context.Context) {
	const check = "redis"
	option, err := d.config.redis()
	if err != nil {
		return // a mistake of the configuration, which is told there
	}
	if d.config.RedisURL == "" {
		d.add(check, Fine, "", "not used: limits are counted in this process's memory")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 3*checkTimeout) // on a cluster it is over a hundred questions
	defer cancel()
	option.DisableCache, option.DisableRetry = true, true
	option.Dialer.Timeout, option.ConnWriteTimeout = 2*time.Second, 2*time.Second
	client, err := rueidis.NewClient(option)
	if err != nil {
		d.add(check, Failed, "see that it runs, and that REDIS_URL names it, its user and its password; until then each instance counts for itself",
			"it does not answer: %v", store.WithoutPassword(err, option.Password))
		return
	}
	defer client.Close()
	one, silent := redisNodes(ctx, client)
	text, err := one.Do(ctx, one.B().Info().Build()).ToString()
	info, whole := parseInfo(text), err == nil
	if forbidden(err) { // as to the user in docs/limits.md, who needs no INFO
		info, err = redisHello(ctx, one)
	}
	if err != nil {
		d.add(check, Failed, "see its own log", "it says nothing of itself: %v", store.WithoutPassword(err, option.Password))
		return
	}
	major, _ := strconv.Atoi(strings.SplitN(info["redis_version"], ".", 2)[0]) // 0 where it says none
	if major < 5 {
		d.add(check, Failed, "run Redis 5 or later", "it is version %q", info["redis_version"])
	} else {
		d.add(check, Fine, "", "Redis %s answers (%s)", info["redis_version"], info["redis_mode"])
	}
	d.redisLatency(ctx, one)
	if whole {
		d.redisKeeps(info)
	} else {
		d.add(check, Fine, "", "its user may not run INFO, which is well, so it was not seen whether it keeps counters: maxmemory-policy should be noeviction, and appendonly yes")
	}
	if info["cluster_enabled"] == "1" {
		d.redisCluster(ctx, one, silent)
	}
	d.redisDecides(ctx, client, option.Password)
	before := time.Now()
	if now, err := one.Do(ctx, one.B().Time().Build()).AsStrSlice(); err == nil && len(now) == 2 {
		after := time.Now()
		seconds, err := strconv.ParseInt(now[0], 10, 64)
		micros, err2 := strconv.ParseInt(now[1], 10, 64)
		if errors.Join(err, err2) == nil {
			d.clock("Redis", time.Unix(seconds, micros*1000), before, after)
		}
	}
}

// forbidden reports whether Redis refused a command to its user.
func forbidden(err error) bool {
	refused, ok := rueidis.IsRedisErr(err)
	return ok && strings.HasPrefix(refused.Error(), "NOPERM")
}

// redisHello gives what any user is told on connecting, under the names that INFO has.
func redisHello(ctx context.Context, client rueidis.Client) (map[string]string, error) {
	told, err := client.Do(ctx, client.B().Arbitrary("HELLO").Build()).ToMap()
	if err != nil {
		return nil, err
	}
	info := make(map[string]string)
	for name, as := range map[string]string{"version": "redis_version", "mode": "redis_mode"} {
		member := told[name]
		info[as], _ = member.ToString() // nothing where it says none
	}
	if info["redis_mode"] == "cluster" {
		info["cluster_enabled"] = "1"
	}
	return info, nil
}

// redisLatency compares a round trip with what a decision may wait.
func (d *diagnosis) redisLatency(ctx context.Context, client rueidis.Client) {
	var took []time.Duration
	for range 9 {
		start := time.Now()
		if err := client.Do(ctx, client.B().Ping().Build()).Error(); err != nil {
			d.add("redis", Failed, "see its own log", "a PING failed")
			return
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	median, level, mend := took[len(took)/2], Fine, ""
	if median > d.config.RedisTimeout/2 {
		level, mend = Doubtful, "bring it nearer, or raise REDIS_TIMEOUT; past it each instance counts for itself"
	}
	d.add("redis", level, mend, "a round trip takes %s, and a decision waits at most %s", median.Round(10*time.Microsecond), d.config.RedisTimeout)
}

// redisKeeps looks whether what is counted stays.
func (d *diagnosis) redisKeeps(info map[string]string) {
	const check = "redis"
	policy := info["maxmemory_policy"]
	switch {
	case info["maxmemory"] == "0" || policy == "noeviction":
		d.add(check, Fine, "", "it throws no counters away (maxmemory-policy %s)", policy)
	default:
		d.add(check, Doubtful, "set maxmemory-policy noeviction, and memory enough", "when its memory is full it throws counters away, and limits admit more (maxmemory-policy %s)", policy)
	}
	switch {
	case info["aof_enabled"] == "1" && info["aof_last_write_status"] != "ok":
		d.add(check, Failed, "see that its disk has room", "its append-only file cannot be written")
	case info["aof_enabled"] == "1":
		d.add(check, Fine, "", "counters outlive a restart of it (appendonly yes)")
	default:
		d.add(check, Doubtful, "set appendonly yes, or accept it", "a restart of it forgets what was counted since its last snapshot, and limits begin afresh")
	}
}

// parseInfo reads "name:value" lines, of a RESP3 verbatim string too.
func parseInfo(text string) map[string]string {
	all := make(map[string]string)
	for line := range strings.Lines(strings.TrimPrefix(text, "txt:")) {
		if name, value, found := strings.Cut(strings.TrimSpace(line), ":"); found {
			all[name] = value
		}
	}
	return all
}
