package ratelimit_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// redisCluster is a real cluster of the test's own: masters, and a replica of the
// first.
type redisCluster struct {
	masters []*redisServer
	replica *redisServer
}

func startCluster(t testing.TB) *redisCluster {
	t.Helper()
	var nodes []*redisServer
	for range 4 {
		nodes = append(nodes, startRedisWith(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "1500",
			"--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0"))
	}
	c := &redisCluster{masters: nodes[:3], replica: nodes[3]}
	cli := func(words ...string) string {
		out, err := exec.Command("redis-cli", words...).CombinedOutput()
		if err != nil {
			t.Fatalf("redis-cli %v: %v\n%s", words, err, out)
		}
		return string(out)
	}
	if _, err := exec.LookPath("redis-cli"); err != nil {
		t.Fatal("these tests need redis-cli in PATH: install the tools of Redis")
	}
	cli("--cluster", "create", nodes[0].addr, nodes[1].addr, nodes[2].addr, "--cluster-yes")
	c.wait(t, nodes[0], "cluster_state:ok")
	cli("--cluster", "add-node", nodes[3].addr, nodes[0].addr, "--cluster-slave", "--cluster-master-id",
		strings.TrimSpace(cli("-h", "127.0.0.1", "-p", port(nodes[0].addr), "cluster", "myid")))
	c.wait(t, nodes[1], "cluster_known_nodes:4")
	for range 1000 {
		if strings.Contains(cli("-h", "127.0.0.1", "-p", port(nodes[3].addr), "info", "replication"), "master_link_status:up") {
			return c
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("the replica does not follow")
	return nil
}

func port(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}

// wait waits until a node says something of the cluster.
func (c *redisCluster) wait(t testing.TB, node *redisServer, want string) {
	t.Helper()
	for range 1500 {
		out, _ := exec.Command("redis-cli", "-h", "127.0.0.1", "-p", port(node.addr), "cluster", "info").Output()
		if strings.Contains(string(out), want) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("the cluster does not come to %s", want)
}

func (c *redisCluster) open(t testing.TB, options ratelimit.RedisOptions) *ratelimit.Redis {
	option := rueidis.ClientOption{}
	for _, m := range c.masters {
		option.InitAddress = append(option.InitAddress, m.addr)
	}
	r := ratelimit.OpenRedis(option, options)
	t.Cleanup(r.Close)
	return r
}

// Subjects in different slots are decided on together: none exceeds its limit, a
// denied request costs nobody anything once it is answered.
func TestClusterTakesAllOrNone(t *testing.T) {
	c := startCluster(t)
	const ips, perIP = 8, 30
	for _, limit := range []string{"100/1h", "5000/1h"} { // counted exactly, and in sub-buckets
		org := subject("organization", "acme-"+limit, limit)
		var admitted atomic.Int64
		var byIP [ips]atomic.Int64
		var wg sync.WaitGroup
		for worker := range ips {
			r := c.open(t, ratelimit.RedisOptions{Timeout: patient, MaxDenials: -1})
			wg.Go(func() {
				var d ratelimit.Decision
				for i := range 60 {
					ip := (worker + i) % ips
					if err := r.Take(t.Context(), epoch, []ratelimit.Subject{subject("ip", fmt.Sprint(limit, "{x}", ip), fmt.Sprintf("%d/1h", perIP)), org}, &d); err != nil {
						t.Error(err)
						return
					}
					if d.Admitted {
						admitted.Add(1)
						byIP[ip].Add(1)
					}
				}
			})
		}
		wg.Wait()
		want := min(int64(org.Limits[0].Requests), ips*perIP)
		if n := admitted.Load(); n > want || n < want*9/10 {
			t.Errorf("%d admitted, want at most %d and hardly less", n, want)
		}
		r := c.open(t, ratelimit.RedisOptions{Timeout: patient})
		if d := peek(t, r, epoch, org); int64(d.Statuses[0].Used) != admitted.Load() {
			t.Errorf("%d used, %d admitted", d.Statuses[0].Used, admitted.Load())
		}
		for i := range ips {
			if d := peek(t, r, epoch, subject("ip", fmt.Sprint(limit, "{x}", i), fmt.Sprintf("%d/1h", perIP))); int64(d.Statuses[0].Used) != byIP[i].Load() {
				t.Errorf("IP %d: %d used, %d admitted", i, d.Statuses[0].Used, byIP[i].Load())
			}
		}
	}
}

// One node after another answers as the oracle does, as long as nobody else asks.
func TestClusterAnswersLikeOracle(t *testing.T) {
	c := startCluster(t)
	r := c.open(t, ratelimit.RedisOptions{Timeout: patient, MaxExact: fewExact}).Scripted()
	want := newOracle()
	want.exact = fewExact
	ip, org := subject("ip", "a", "3/1s", "4/1m"), subject("organization", "acme", "7/1m", "2/50ms")
	for i := range 200 {
		now := epoch.Add(time.Duration(i*i%700) * time.Millisecond).Add(time.Duration(i) * 400 * time.Millisecond)
		s := step{now: now, subjects: []ratelimit.Subject{ip, org}, peek: i%7 == 0, reset: i%53 == 52}
		if i%2 == 0 {
			slices.Reverse(s.subjects)
		}
		var d ratelimit.Decision
		expected := want.perform(s)
		if err := perform(t.Context(), r, s, &d); err != nil {
			t.Fatal(err)
		}
		if d.Admitted != expected.Admitted || d.RetryAfter != expected.RetryAfter {
			t.Fatalf("step %d: %+v, want %+v", i, d, expected)
		}
		for j := range expected.Statuses {
			if d.Statuses[j] != expected.Statuses[j] {
				t.Fatalf("step %d: %+v, want %+v", i, d.Statuses[j], expected.Statuses[j])
			}
		}
	}
}

// A master dies and its replica takes over: decisions go on, first by the share,
// then on the cluster again, and the limit holds throughout.
func TestClusterFailover(t *testing.T) {
	c := startCluster(t)
	s, told := newSwitch(t, c.open(t, ratelimit.RedisOptions{Timeout: brief}))
	org := subject("organization", "acme", "600/1h")
	admitted, denied := 0, 0
	takeMany := func(n int) {
		t.Helper()
		for i := range n {
			// Addresses of all slots.
			if take(t, s, time.Now(), subject("ip", fmt.Sprint(i), "1000/1h"), org).Admitted {
				admitted++
			} else {
				denied++
			}
		}
	}
	takeMany(150)
	c.masters[0].kill()
	takeMany(150)
	c.wait(t, c.replica, "cluster_state:ok")
	takeMany(150)
	for range 1000 {
		if !s.Degraded() {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if s.Degraded() {
		t.Fatal("still degraded after the replica took over")
	}
	if denied > 0 || admitted != 450 {
		t.Errorf("%d admitted and %d denied of 450 under a limit of 600", admitted, denied)
	}
	takeMany(300)
	if admitted != 600 {
		t.Errorf("%d admitted, want the limit of 600", admitted)
	}
	t.Logf("%d changes of store", len(told))
}

// A master that comes back empty or as it once was, with no replica to take over, hands out
// nothing twice, whichever it is; what the other nodes know is not counted twice.
func TestClusterNodeComesBack(t *testing.T) {
	for name, saved := range map[string]bool{"empty": false, "with a snapshot": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testClusterNodeComesBack(t, saved)
		})
	}
}

func testClusterNodeComesBack(t *testing.T, saved bool) {
	c := startCluster(t)
	var switches [3]*ratelimit.Switch
	for i := range switches {
		s, _ := newSwitch(t, c.open(t, ratelimit.RedisOptions{Timeout: brief}))
		switches[i] = s
	}
	for _, s := range switches {
		for s.Status().Instances < len(switches) {
			time.Sleep(10 * time.Millisecond)
		}
	}
	// An organization on each of the masters without a replica, and one elsewhere.
	owner := func(org string) *redisServer {
		for _, m := range c.masters {
			if !strings.HasPrefix(m.do("EXISTS", ratelimit.DefaultPrefix+"{"+ratelimit.StoredName("organization", org)+"}"), "-MOVED") {
				return m
			}
		}
		return nil
	}
	orgs := make(map[*redisServer]ratelimit.Subject)
	for i := 0; len(orgs) < 3; i++ {
		name := fmt.Sprint("acme", i)
		orgs[owner(name)] = subject("organization", name, "300/1h")
	}
	admitted := make(map[*redisServer]int)
	takeAll := func(n int) {
		t.Helper()
		for i := range n {
			for node, org := range orgs {
				for _, s := range switches {
					if take(t, s, time.Now(), subject("ip", fmt.Sprint(i), "100000/1h"), org).Admitted {
						admitted[node]++
					}
				}
			}
		}
	}
	for _, m := range c.masters {
		dump := filepath.Join(m.dir, "dump.rdb") // there is one already, of the replica's first copy
		if err := os.Remove(dump); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if saved {
			m.do("SAVE")
		}
	}
	takeAll(66)
	for _, lost := range c.masters[1:] {
		lost.kill()
		lost.start()
		takeAll(4)
		awaitClosed(switches[:])
		time.Sleep(300 * time.Millisecond)
	}
	takeAll(60)
	for node, n := range admitted {
		if n != 300 {
			t.Errorf("node %d: %d admitted, want the limit of 300", slices.Index(c.masters, node), n)
		}
	}
}

// A request that one subject takes and another denies is given back: who asks in between is
// denied, and asks again.
func TestClusterForgetsWhatIsGivenBack(t *testing.T) {
	c := startCluster(t)
	one, other := c.open(t, ratelimit.RedisOptions{Timeout: brief}), c.open(t, ratelimit.RedisOptions{Timeout: brief})
	org := subject("organization", "acme", "2/1h")
	ask := func() bool { return take(t, other, time.Now(), subject("ip", "a", "100/1h"), org).Admitted }
	take(t, one, time.Now(), org)
	provisional := take(t, one, time.Now(), org)
	if ask() {
		t.Fatal("admitted beside two of two")
	}
	if err := one.GiveBack("organization", "acme", provisional.Now.UnixMilli()); err != nil {
		t.Fatal(err)
	}
	if !ask() {
		t.Error("what was given back is remembered as taken")
	}
	for i := 0; ; i++ { // once the newest request is settled
		before := other.Stats().Calls
		if ask() {
			t.Fatal("admitted a third of two")
		}
		if other.Stats().Calls == before {
			break
		}
		if i == 500 {
			t.Fatal("a denial that is certain is not remembered")
		}
		time.Sleep(10 * time.Millisecond)
	}
}
