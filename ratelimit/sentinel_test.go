package ratelimit_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// A Redis behind Sentinels is found by the name of its master, as REDIS_URL says it,
// and found again after a failover; the limit holds throughout.
func TestSentinelFailover(t *testing.T) {
	master := startRedis(t)
	replica := startRedisWith(t, "--replicaof", "127.0.0.1 "+port(master.addr), "--repl-diskless-sync-delay", "0")
	sentinel := startSentinel(t, master, replica)

	option, err := rueidis.ParseURL("redis://" + sentinel.addr + "?master_set=gatehouse")
	if err != nil {
		t.Fatal(err)
	}
	r := ratelimit.OpenRedis(option, ratelimit.RedisOptions{Timeout: brief})
	t.Cleanup(r.Close)
	s, _ := newSwitch(t, r)
	org := subject("organization", "acme", "60/1h")
	admitted := 0
	takeMany := func(n int) {
		t.Helper()
		for i := range n {
			if take(t, s, time.Now(), subject("ip", fmt.Sprint(i), "1000/1h"), org).Admitted {
				admitted++
			}
		}
	}
	onRedis := func() {
		t.Helper()
		for range 1500 {
			if d := take(t, s, time.Now(), subject("ip", "probe", "100000/1h")); d.Store == ratelimit.StoreRedis && !s.Degraded() {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Fatal("not on Redis")
	}
	onRedis()
	takeMany(20)
	master.kill()
	takeMany(20)
	onRedis()
	if got := replica.do("ROLE"); got == "" || replica.calls("evalsha") == 0 {
		t.Fatalf("the replica did not take over: %q", got)
	}
	if admitted != 40 {
		t.Errorf("%d admitted of 40 under a limit of 60", admitted)
	}
	takeMany(40)
	if admitted != 60 {
		t.Errorf("%d admitted, want the limit of 60", admitted)
	}
}

// startSentinel starts one Sentinel that decides alone, and waits until it knows
// the replica.
func startSentinel(t *testing.T, master, replica *redisServer) *redisServer {
	t.Helper()
	s := newRedisServer(t)
	file := filepath.Join(s.dir, "sentinel.conf") // it writes what it learns into it
	lines := []string{
		"sentinel monitor gatehouse 127.0.0.1 " + port(master.addr) + " 1",
		"sentinel down-after-milliseconds gatehouse 500",
		"sentinel failover-timeout gatehouse 3000",
	}
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.args = append([]string{file, "--sentinel"}, s.listen()...)
	s.start()
	for range 1000 {
		out, _ := exec.Command("redis-cli", "-h", "127.0.0.1", "-p", port(s.addr), "sentinel", "replicas", "gatehouse").Output()
		if strings.Contains(string(out), "127.0.0.1:"+port(replica.addr)) && strings.Contains(string(out), "\nok\n") {
			return s
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("the Sentinel does not see the replica")
	return nil
}
