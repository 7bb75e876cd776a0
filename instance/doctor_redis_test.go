package instance_test

import (
	"net"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/instance"
)

// A Redis that answers and by which nothing can be decided is found, with what is missing.
func TestDiagnoseRedisThatDecidesNothing(t *testing.T) {
	user := func(rules ...string) []string {
		return append([]string{"--user", "gatehouse", "on", ">CANARY-pass"}, rules...)
	}
	primary := gatehousetest.Redis(t)
	_, port, _ := net.SplitHostPort(primary.Addr())
	for name, test := range map[string]struct {
		arguments  []string
		text, mend string
	}{
		"full":         {[]string{"--maxmemory", "1", "--maxmemory-policy", "noeviction"}, "OOM", "maxmemory"},
		"replica":      {[]string{"--replicaof", "127.0.0.1 " + port}, "READONLY", "primary"},
		"no replicas":  {[]string{"--min-replicas-to-write", "1"}, "NOREPLICAS", "min-replicas-to-write"},
		"no writes":    {user("~gatehouse:limit:*", "+@read", "+@scripting", "+@connection", "+time"), "'set'", "+@write"},
		"no scripts":   {user("~gatehouse:limit:*", "+@read", "+@write", "+@connection", "+time"), "'evalsha'", "+@scripting"},
		"no clock":     {user("~gatehouse:limit:*", "+@read", "+@write", "+@scripting", "+@connection"), "executing the script", "+time"},
		"other keys":   {user("~cache:*", "+@all"), "keys", "~gatehouse:limit:*"},
		"only counts":  {user("~gatehouse:limit:*", "+@read", "+@write", "+@scripting", "+@connection", "+time", "-@sortedset"), "zrevrangebyscore", "+@write"},
		"may not read": {user("~gatehouse:limit:*", "+@write", "+@scripting", "+@connection", "+time"), "", "+@read"},
	} {
		t.Run(name, func(t *testing.T) {
			url := gatehousetest.Redis(t, test.arguments...).URL()
			if test.arguments[0] == "--user" {
				url = strings.Replace(url, "redis://", "redis://gatehouse:CANARY-pass@", 1)
			}
			f := diagnose(t, map[string]string{"REDIS_URL": url})
			has(t, f, "redis", instance.Failed, "it cannot decide")
			for _, f := range f {
				if f.Level == instance.Failed && f.Check == "redis" && (!strings.Contains(f.Text, test.text) || !strings.Contains(f.Mend, test.mend)) {
					t.Errorf("%+v; want %q, %q", f, test.text, test.mend)
				}
			}
		})
	}
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{primary.Addr()}, DisableCache: true})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	has(t, diagnose(t, map[string]string{"REDIS_URL": primary.URL()}), "redis", instance.Fine, "it decides")
	left, err := client.Do(t.Context(), client.B().Keys().Pattern("*").Build()).AsStrSlice()
	if err != nil || len(left) != 1 || left[0] != "gatehouse:limit:ping" { // which every instance writes
		t.Errorf("it left %v, %v", left, err)
	}
}

// After a failover the doctor says the same each time: which node is away, as a warning while all
// slots are served.
func TestDiagnoseRedisClusterAfterFailover(t *testing.T) {
	var nodes []*gatehousetest.RedisServer
	for range 4 {
		nodes = append(nodes, gatehousetest.Redis(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "1500",
			"--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0", "--cluster-port", freeBus(t)))
	}
	cli := func(words ...string) string {
		t.Helper()
		out, err := exec.Command("redis-cli", words...).CombinedOutput()
		if err != nil {
			t.Fatalf("redis-cli %v: %v\n%s", words, err, out)
		}
		return string(out)
	}
	at := func(i int, words ...string) string {
		_, port, _ := net.SplitHostPort(nodes[i].Addr())
		return cli(append([]string{"-p", port}, words...)...)
	}
	until := func(i int, text string, words ...string) {
		t.Helper()
		for end := time.Now().Add(time.Minute); !strings.Contains(at(i, words...), text); time.Sleep(50 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%v never says %q", words, text)
			}
		}
	}
	cli("--cluster", "create", nodes[0].Addr(), nodes[1].Addr(), nodes[2].Addr(), "--cluster-yes")
	until(0, "cluster_state:ok", "cluster", "info")
	cli("--cluster", "add-node", nodes[3].Addr(), nodes[0].Addr(), "--cluster-slave", "--cluster-master-id", strings.TrimSpace(at(0, "cluster", "myid")))
	until(3, "master_link_status:up", "info", "replication")
	nodes[0].Kill()
	until(3, "role:master", "info", "replication")
	until(1, "cluster_state:ok", "cluster", "info")
	until(2, "cluster_state:ok", "cluster", "info")
	url := nodes[1].URL() + "?addr=" + nodes[2].Addr() + "&addr=" + nodes[0].Addr()
	for range 12 {
		f := diagnose(t, map[string]string{"REDIS_URL": url})
		has(t, f, "redis", instance.Doubtful, "these nodes do not answer: "+nodes[0].Addr())
		has(t, f, "redis", instance.Fine, "it decides")
		for _, f := range f {
			if f.Check == "redis" && f.Level == instance.Failed {
				t.Fatalf("%+v", f)
			}
		}
	}
}

// freeBus gives a port for the cluster's own connections: 10,000 above any port may be none.
func freeBus(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}
