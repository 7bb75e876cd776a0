package instance

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/gatehouse-io/gatehouse/ratelimit"
	"github.com/gatehouse-io/gatehouse/store"
)

// nodeTimeout is how long one node of a cluster may take to answer.
const nodeTimeout = 2 * time.Second

// redisNodes gives the node to ask what a Redis says of itself, always the same one, and
// the addresses of those of a cluster that do not answer. A cluster's client would ask any
// node, also one that is dead and whose slots another has by now.
func redisNodes(ctx context.Context, client rueidis.Client) (one rueidis.Client, silent []string) {
	if client.Mode() != rueidis.ClientModeCluster {
		return client, nil
	}
	nodes := client.Nodes()
	addresses := slices.Sorted(maps.Keys(nodes))
	answers := make([]bool, len(addresses))
	ctx, cancel := context.WithTimeout(ctx, nodeTimeout)
	defer cancel()
	var all sync.WaitGroup
	for i, address := range addresses {
		all.Go(func() {
			node := nodes[address]
			err := node.Do(ctx, node.B().Ping().Build()).Error()
			_, said := rueidis.IsRedisErr(err)
			answers[i] = err == nil || said
		})
	}
	all.Wait()
	for i, address := range addresses {
		switch {
		case !answers[i]:
			silent = append(silent, address)
		case one == nil:
			one = nodes[address]
		}
	}
	if one == nil {
		one = client
	}
	return one, silent
}

// redisCluster looks whether every slot is served, and which nodes are away.
func (d *diagnosis) redisCluster(ctx context.Context, one rueidis.Client, silent []string) {
	text, err := one.Do(ctx, one.B().ClusterInfo().Build()).ToString()
	if forbidden(err) {
		d.add("redis", Fine, "", "its user may not run CLUSTER INFO, so the cluster's state was not seen")
		return
	}
	info := parseInfo(text)
	if nodes, err := one.Do(ctx, one.B().ClusterNodes().Build()).ToString(); err == nil {
		silent = append(silent, failedNodes(nodes)...)
	}
	slices.Sort(silent)
	silent = slices.Compact(silent)
	state := info["cluster_state"]
	if err != nil || state != "ok" {
		away := ""
		if len(silent) > 0 {
			away = "; these nodes do not answer: " + strings.Join(silent, ", ")
		}
		d.add("redis", Failed, "see `redis-cli cluster info`: some slots have no node", "the cluster's state is %q%s", state, away)
		return
	}
	d.add("redis", Fine, "", "the cluster's state is ok (%s nodes)", info["cluster_known_nodes"])
	if len(silent) > 0 {
		d.add("redis", Doubtful, "bring them back, or remove them with `redis-cli --cluster del-node`", "all slots are served, but these nodes do not answer: %s", strings.Join(silent, ", "))
	}
}

// failedNodes gives the addresses of the nodes that the others hold for dead, out of the
// answer of CLUSTER NODES: "id address@port,name flags ..." in lines.
func failedNodes(text string) (all []string) {
	for line := range strings.Lines(strings.TrimPrefix(text, "txt:")) {
		words := strings.Fields(line)
		if len(words) > 2 && slices.Contains(strings.Split(words[2], ","), "fail") {
			address, _, _ := strings.Cut(words[1], "@")
			all = append(all, address)
		}
	}
	return all
}

// redisDecides looks whether Redis does what limits need: one that is full, read-only or whose
// user may do too little answers everything else.
func (d *diagnosis) redisDecides(ctx context.Context, client rueidis.Client, password string) {
	err := ratelimit.Probe(ctx, client, nodeTimeout)
	if err == nil {
		d.add("redis", Fine, "", "it decides: a request was counted under a name of its own, and removed")
		return
	}
	for cause := errors.Unwrap(err); cause != nil; cause = errors.Unwrap(cause) { // "unavailable" says nothing new
		err = cause
	}
	d.add("redis", Failed, redisMend(err.Error()), "it cannot decide, so that each instance counts for itself: %v", store.WithoutPassword(err, password))
}

// redisMend gives what helps where Redis answered so.
func redisMend(answer string) string {
	for _, m := range []struct{ said, mend string }{
		{"CLUSTERDOWN", "see `redis-cli cluster info`: some slots have no node"},
		{"NOPERM", ""}, {"ACL failure", ""}, {"can't run this command", ""}, {"can't access", ""},
		{"OOM ", "raise its maxmemory, and let it hold nothing else: with noeviction a full Redis takes no writes"},
		{"READONLY", "let REDIS_URL name the primary: this is a replica, which takes no writes"},
		{"NOREPLICAS", "bring its replicas back, or lower min-replicas-to-write"},
		{"MISCONF", "see that its disk has room: it takes no writes while it cannot save them"},
		{"unknown command", "limits need its scripts (EVAL, EVALSHA): choose a Redis that has them, and do not rename commands"},
	} {
		if strings.Contains(answer, m.said) {
			if m.mend == "" {
				return "give its user what docs/limits.md shows: ~gatehouse:limit:* +@read +@write +@scripting +@connection +time"
			}
			return m.mend
		}
	}
	return "see its own log"
}
