package ratelimit_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// mixed has a short window that is counted exactly and a long one in sub-buckets, where up to 10 are
// exact: once the short one is over, the newest request alone has a stamp.
func mixed(key string) ratelimit.Subject { return subject("organization", key, "8/200ms", "100/10m") }

// What is given back takes nothing along of what counts in longer windows, although no request
// is left in the shorter, and counts in none itself.
func TestGivenBackAmongWindows(t *testing.T) {
	memory := ratelimit.NewMemory(ratelimit.MemoryOptions{MaxExact: 10, MaxKeys: 4096})
	redis := startRedis(t).open(ratelimit.RedisOptions{Timeout: patient, MaxExact: 10}).Scripted()
	for name, limiter := range map[string]struct {
		ratelimit.Limiter
		giveBack func(at time.Time) error
	}{
		"memory": {memory, func(at time.Time) error { memory.GiveBack(at, mixed("acme")); return nil }},
		"redis":  {redis, func(at time.Time) error { return redis.GiveBack("organization", "acme", at.UnixMilli()) }},
	} {
		now := epoch
		var d ratelimit.Decision
		decide := func(s ratelimit.Subject) bool {
			t.Helper()
			if err := limiter.Take(t.Context(), now, []ratelimit.Subject{s}, &d); err != nil {
				t.Fatal(err)
			}
			return d.Admitted
		}
		for range 40 {
			now = now.Add(time.Second)
			if !decide(mixed("acme")) {
				t.Fatalf("%s: %+v", name, d)
			}
		}
		for range 3 { // several times over
			now = now.Add(time.Second)
			decide(mixed("acme"))
			if err := limiter.giveBack(now); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 8 {
			if !decide(mixed("acme")) {
				t.Errorf("%s: the short window has no room for request %d: %+v", name, i, d)
			}
		}
		if decide(mixed("acme")) {
			t.Errorf("%s: a ninth within 200 ms", name)
		}
		now = now.Add(time.Second)
		decide(mixed("acme"))
		if err := limiter.giveBack(now); err != nil {
			t.Fatal(err)
		}
		for i := range 3000 { // what counts nothing any more makes room
			decide(subject("ip", fmt.Sprint(i), "1/1s"))
		}
		admitted := 0
		for range 100 {
			now = now.Add(time.Second)
			if decide(mixed("acme")) {
				admitted++
			}
		}
		if admitted != 52 {
			t.Errorf("%s: %d were admitted after 48 of 100", name, admitted)
		}
	}
}

// What its share denied without Redis, and so gave back, leaves what was admitted before: it is
// counted in the Redis that comes back empty.
func TestGivenBackWithoutRedis(t *testing.T) {
	server := startRedis(t)
	open := func() *ratelimit.Switch {
		s := ratelimit.NewSwitch(server.open(ratelimit.RedisOptions{Timeout: brief, MaxExact: 10}), ratelimit.NewMemory(ratelimit.MemoryOptions{MaxExact: 10}),
			ratelimit.SwitchOptions{ProbeInterval: 50 * time.Millisecond})
		t.Cleanup(s.Close)
		return s
	}
	s, other := open(), open()
	for i := 0; s.Status().Instances < 2 || other.Status().Instances < 2; i++ {
		if i == 500 {
			t.Fatal("the instances do not hear of each other")
		}
		time.Sleep(10 * time.Millisecond)
	}
	admitted := 0
	run := func(at *ratelimit.Switch, n int) {
		t.Helper()
		for range n {
			if take(t, at, time.Now(), mixed("acme")).Admitted {
				admitted++
			}
			time.Sleep(60 * time.Millisecond) // no more than 4 in 200 ms
		}
	}
	until := func(degraded bool, all ...*ratelimit.Switch) {
		t.Helper()
		for _, s := range all {
			for i := 0; s.Degraded() != degraded; i++ {
				if i == 1000 {
					t.Fatalf("degraded is not %t", degraded)
				}
				take(t, s, time.Now(), subject("ip", "x", "1000000/1h"))
				time.Sleep(10 * time.Millisecond)
			}
		}
	}
	run(s, 70)
	server.kill()
	until(true, s, other)
	run(s, 40)
	if admitted != 85 {
		t.Fatalf("%d were admitted, where half of the 30 that were left is its share", admitted)
	}
	server.start()
	until(false, s, other)
	run(other, 40)
	if admitted != 100 {
		t.Errorf("%d of 100 were admitted, some after Redis came back empty", admitted)
	}
}
