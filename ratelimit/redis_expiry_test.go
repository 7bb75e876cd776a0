package ratelimit_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// everlasting lists the keys of a Redis that have no expiry.
func everlasting(t *testing.T, server *redisServer) (names []string) {
	t.Helper()
	c := client(t, server)
	keys, err := c.Do(t.Context(), c.B().Keys().Pattern("*").Build()).AsStrSlice()
	if err != nil {
		t.Fatal(err)
	}
	if len(keys) == 0 {
		t.Error("there are no keys to look at")
	}
	for _, key := range keys {
		ms, err := c.Do(t.Context(), c.B().Pttl().Key(key).Build()).AsInt64()
		if err != nil {
			t.Fatal(err)
		}
		if ms == -1 {
			names = append(names, key)
		}
	}
	return names
}

// Whatever is decided, given back, reset or merged: no key lives without an expiry,
// also where a part of what was kept had been evicted.
func TestNoKeyLivesForever(t *testing.T) {
	server := startRedis(t)
	check := func(after string) {
		t.Helper()
		if names := everlasting(t, server); len(names) > 0 {
			slices.Sort(names)
			t.Errorf("after %s, without an expiry: %q", after, names)
		}
	}
	r := server.open(ratelimit.RedisOptions{Timeout: patient, MaxDenials: -1, MaxExact: 300})
	limits := []string{"1/1s", "10/1m", "290/1h", "5000/1h", "20/1s 290/1h", "290/1h 5000/24h", "400/1m 5000/24h"}
	for i, limit := range limits {
		ip := subject("ip", fmt.Sprint(i), strings.Fields(limit)...)
		org := subject("organization", fmt.Sprint(i%3), "250/1m")
		for range 150 {
			take(t, r, epoch, ip, org)
			take(t, r, epoch, ip)
		}
		peek(t, r, epoch, ip, subject("nobody", "asked", "1/1h"))
		if err := r.GiveBack("ip", fmt.Sprint(i), time.Now().UnixMilli()); err != nil {
			t.Fatal(err)
		}
		check("requests under " + limit)
	}
	for i, limit := range slices.Backward(limits) { // as if policies changed
		for range 20 {
			take(t, r, epoch, subject("ip", fmt.Sprint(i), strings.Fields(limits[len(limits)-1-i])...))
		}
		check("a change to " + limit)
	}
	if err := r.Reset(t.Context(), "ip", "0"); err != nil {
		t.Fatal(err)
	}
	check("a reset")

	// A Redis that is short of memory evicts any part of a subject.
	for n := range 40 {
		key := fmt.Sprint("evicted-", n)
		name, _, _ := ratelimit.RedisKeyOf(ratelimit.DefaultPrefix, "ip", key)
		ip := subject("ip", key, "290/1h")
		for range 40 + n {
			take(t, r, epoch, ip)
		}
		server.do("DEL", name+":r")
		for range 1 + n%9 {
			take(t, r, epoch, ip)
		}
	}
	check("the eviction of a ring")

	// What was admitted without Redis is merged, also into one that came back empty.
	s, changes := newSwitch(t, server.open(ratelimit.RedisOptions{Timeout: brief, MaxExact: 300}))
	both := func(n int) {
		for range n {
			take(t, s, time.Now(), subject("ip", "merged", "290/1h"), subject("organization", "merged", "200/1s", "5000/1h"))
		}
	}
	both(60)
	server.kill()
	both(60)
	changes.next(t, true)
	server.start()
	changes.next(t, false)
	both(20)
	if d := peek(t, s, time.Now(), subject("ip", "merged", "290/1h")); d.Statuses[0].Used < 60 {
		t.Errorf("%d merged", d.Statuses[0].Used)
	}
	check("a merge")
}

// A reset is to reach all processes within a second: each looks for resets often
// enough for that, with the look and its jitter.
func TestLooksAreOftenEnough(t *testing.T) {
	const calls = 5 // at most, of one look, up to where it has read the resets
	if longest := ratelimit.DefaultProbeInterval*6/5 + calls*ratelimit.DefaultTimeout; longest >= time.Second {
		t.Errorf("a reset may take %v to be seen", longest)
	}
}
