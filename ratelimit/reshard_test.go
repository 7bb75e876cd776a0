package ratelimit_test

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// move takes keys of one slot from node to node, as resharding does, some at a time: after each
// lot, between is called.
func (c *redisCluster) move(t *testing.T, between func(), lots ...[]string) {
	t.Helper()
	cli := func(node *redisServer, words ...string) string {
		out, err := exec.Command("redis-cli", append([]string{"-e", "-h", "127.0.0.1", "-p", port(node.addr)}, words...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("redis-cli %v: %v\n%s", words, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	from, to := c.masters[0], c.masters[1]
	for i, m := range c.masters {
		if !strings.HasPrefix(m.do("EXISTS", lots[0][0]), "-MOVED") {
			from, to = m, c.masters[(i+1)%len(c.masters)]
		}
	}
	slot, id := cli(from, "cluster", "keyslot", lots[0][0]), cli(to, "cluster", "myid")
	cli(to, "cluster", "setslot", slot, "importing", cli(from, "cluster", "myid"))
	cli(from, "cluster", "setslot", slot, "migrating", id)
	for _, keys := range lots {
		cli(from, append([]string{"migrate", "127.0.0.1", port(to.addr), "", "0", "5000", "keys"}, keys...)...)
		between()
	}
	for _, m := range []*redisServer{to, from, c.masters[0], c.masters[1], c.masters[2]} {
		cli(m, "cluster", "setslot", slot, "node", id)
	}
}

// While a slot is on its way from one node to another, a subject of which some keys are on each does
// not begin anew: it is not decided on there, and counts on where all are again.
func TestClusterReshards(t *testing.T) {
	c := startCluster(t)
	const before, limit = 200, 300
	for name, test := range map[string]struct {
		exact int
		limit []string
		lots  [][]string // by what stands behind the subject's key
	}{
		"exact":                    {limit, []string{"300/1h"}, [][]string{{""}, {":r"}}},
		"sub-buckets":              {10, []string{"300/1h"}, [][]string{{""}, {":w", ":w3600000"}}},
		"sub-buckets-first":        {10, []string{"300/1h"}, [][]string{{"", ":w3600000"}, {":w"}}},
		"two-windows-shorter-last": {10, []string{"300/1h", "400/2h"}, [][]string{{"", ":w", ":w7200000"}, {":w3600000"}}},
	} {
		t.Run(name, func(t *testing.T) {
			r := c.open(t, ratelimit.RedisOptions{Timeout: patient, MaxExact: test.exact, MaxDenials: -1})
			org := subject("organization", name, test.limit...)
			admitted := 0
			ask := func(times int) {
				var d ratelimit.Decision
				for range times {
					switch err := r.Take(t.Context(), time.Now(), []ratelimit.Subject{org}, &d); {
					case err == nil && d.Admitted:
						admitted++
					case err != nil && !errors.Is(err, ratelimit.ErrUnavailable):
						t.Fatal(err)
					}
				}
			}
			ask(before)
			if admitted != before {
				t.Fatalf("%d of %d admitted", admitted, before)
			}
			last, given := peek(t, r, time.Now(), org).Now.UnixMilli(), false
			ask(1)
			key, _, _ := ratelimit.RedisKeyOf(ratelimit.DefaultPrefix, "organization", name)
			for _, lot := range test.lots {
				for i, behind := range lot {
					lot[i] = key + behind
				}
			}
			c.move(t, func() {
				ask(20)
				if !given && r.GiveBack("organization", name, last) == nil {
					given = true
					admitted--
				}
			}, test.lots...)
			ask(limit)
			if d := peek(t, r, time.Now(), org); admitted > limit || d.Statuses[0].Used < limit {
				t.Errorf("%d admitted and %d used, want no more than %d", admitted, d.Statuses[0].Used, limit)
			}
		})
	}
	// What was admitted without Redis meanwhile is counted there once all keys are.
	var switches [2]*ratelimit.Switch
	for i := range switches {
		switches[i], _ = newSwitch(t, c.open(t, ratelimit.RedisOptions{Timeout: brief}))
	}
	for switches[0].Status().Instances < 2 || switches[1].Status().Instances < 2 {
		time.Sleep(10 * time.Millisecond)
	}
	org, admitted := subject("organization", "merged", "300/1h"), 0
	ask := func(times int) {
		for range times {
			for _, s := range switches {
				if take(t, s, time.Now(), org).Admitted {
					admitted++
				}
			}
		}
	}
	ask(before / 2)
	key, _, _ := ratelimit.RedisKeyOf(ratelimit.DefaultPrefix, "organization", "merged")
	c.move(t, func() {
		ask(20)
		time.Sleep(300 * time.Millisecond) // for a look
	}, []string{key}, []string{key + ":r"})
	awaitClosed(switches[:])
	ask(limit)
	if admitted > limit+len(switches) {
		t.Errorf("%d admitted, want the limit of %d and one each", admitted, limit)
	}
}
