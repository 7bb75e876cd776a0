package ratelimit_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// A Redis that is back before anybody looked, empty or as it once was, hands out nothing
// twice: it does not know the script, and is asked for its data before it is told. One that
// only forgot its scripts goes on.
func TestBackBeforeAnybodyLooked(t *testing.T) {
	for name, saved := range map[string]bool{"empty": false, "with a snapshot": true} {
		t.Run(name, func(t *testing.T) { testBackBeforeAnybodyLooked(t, saved) })
	}
}

func testBackBeforeAnybodyLooked(t *testing.T, saved bool) {
	server := startRedis(t)
	var switches [3]*ratelimit.Switch
	told := make(changes, 100)
	for i := range switches {
		switches[i] = ratelimit.NewSwitch(server.open(ratelimit.RedisOptions{Timeout: patient}), ratelimit.NewMemory(ratelimit.MemoryOptions{}), ratelimit.SwitchOptions{
			ProbeInterval: time.Second, OnChange: func(c ratelimit.Change) { told <- c },
		})
		t.Cleanup(switches[i].Close)
	}
	for _, s := range switches {
		for s.Status().Instances < len(switches) {
			time.Sleep(10 * time.Millisecond)
		}
	}
	org := subject("organization", "acme", "300/1h")
	all := 0
	takeAll := func(n int) {
		t.Helper()
		all += rounds(t, n, switches, org)
	}
	if saved {
		server.do("SAVE")
	}
	takeAll(50)
	server.do("SCRIPT", "FLUSH")
	takeAll(49)
	if all != 297 || len(told) != 0 {
		t.Fatalf("%d admitted, %d changes", all, len(told))
	}
	if saved {
		time.Sleep(1400 * time.Millisecond) // all say once more what Redis knows
	}
	server.kill()
	server.start()
	takeAll(100)
	if all != 300 {
		t.Errorf("%d admitted after Redis came back at once, want the limit of 300", all)
	}
	for range switches {
		told.next(t, true)
	}
}

// Who looks first finds the loss and merges what it admitted itself; the others are not
// let pass on that, whether they have looked or not.
func TestBackAndOneHasLooked(t *testing.T) {
	for name, saved := range map[string]bool{"empty": false, "with a snapshot": true} {
		t.Run(name, func(t *testing.T) { testBackAndOneHasLooked(t, saved) })
	}
}

func testBackAndOneHasLooked(t *testing.T, saved bool) {
	server := startRedis(t)
	switches, _ := fleet(t, server, ratelimit.SwitchOptions{})
	org := subject("organization", "acme", "300/1h")
	all := 0
	takeAll := func(n int) {
		t.Helper()
		all += rounds(t, n, switches, org)
	}
	const key = ratelimit.DefaultPrefix + "instances"
	if saved {
		server.do("SAVE")
	}
	takeAll(100)
	if saved {
		time.Sleep(400 * time.Millisecond) // all say once more what Redis knows
	}
	for round := 1; round <= 3; round++ {
		server.kill()
		server.start()
		// Whoever looks lets it live a day from then.
		for left := server.do("PTTL", key); server.do("PTTL", key) <= left; {
			time.Sleep(time.Millisecond)
		}
		takeAll(70)
		if all > 300+3*round {
			t.Fatalf("%d admitted in outage %d, want the limit of 300 and one for each instance", all, round)
		}
		awaitClosed(switches[:])
		time.Sleep(200 * time.Millisecond)
	}
	takeAll(10)
	// None is forgotten; one that is admitted while a merge is under way may count twice (mergeLost),
	// and in an outage each instance admits one.
	if d := peek(t, switches[0], time.Now(), org); d.Degraded || d.Statuses[0].Used < all || d.Statuses[0].Used > all+3*3 {
		t.Errorf("%d admitted, and Redis says %+v", all, d)
	}
}

// A Redis that comes back with a snapshot knows what had been admitted by then, and is told
// what came after; nothing that it knew is counted twice.
func TestOlderSnapshot(t *testing.T) {
	server := startRedis(t)
	const timeout = time.Second
	switches, told := fleetOf(t, server, timeout, ratelimit.SwitchOptions{})
	org := subject("organization", "acme", "300/1h")
	large := subject("user", "someone", "10000/1m")               // in sub-buckets of 235 ms
	wait := func() { time.Sleep(timeout + 400*time.Millisecond) } // for every instance to look, and for no request to be under way
	all := 0
	takeAll := func(n int) {
		t.Helper()
		all += rounds(t, n, switches, org, large)
	}
	takeAll(40)
	wait()
	server.do("SAVE")
	wait()
	takeAll(50)
	for round := 1; round <= 2; round++ { // twice to the same snapshot
		server.kill()
		takeAll(2) // before anybody looks at what came back: a request beside that counts twice
		server.start()
		for i := range switches {
			told[i].next(t, true)
		}
		awaitClosed(switches[:])
		for i := range switches {
			told[i].next(t, false)
		}
		for _, of := range []ratelimit.Subject{org, large} {
			if d := peek(t, switches[round], time.Now(), of); d.Degraded || d.Statuses[0].Used != all {
				t.Errorf("round %d: %d admitted, and Redis says %+v", round, all, d)
			}
		}
		wait()
	}
	takeAll(100)
	if all != 300 {
		t.Errorf("%d admitted, want the limit of 300", all)
	}
}

// What an instance admitted without Redis is not forgotten where Redis dies while it is
// counted there, and comes back as it was before.
func TestDiesWhileItIsTold(t *testing.T) {
	server := startRedis(t)
	s, told := newSwitch(t, server.open(ratelimit.RedisOptions{Timeout: patient}))
	const subjects, each = 4000, 3
	of := func(i int) ratelimit.Subject { return subject("ip", fmt.Sprint(i), "10/1h") }
	take(t, s, time.Now(), of(0))
	for server.do("EXISTS", ratelimit.DefaultPrefix+"instances") != ":1" {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(1200 * time.Millisecond) // it is said that Redis knows all
	server.do("SAVE")
	server.kill()
	for range 10 {
		take(t, s, time.Now(), of(0))
	}
	told.next(t, true)
	for i := 1; i < subjects; i++ {
		for range each {
			if !take(t, s, time.Now(), of(i)).Admitted {
				t.Fatal("denied")
			}
		}
	}
	for range 3 {
		server.start()
		for n := 0; n < 200; time.Sleep(time.Millisecond) { // it is being told
			n, _ = strconv.Atoi(strings.TrimPrefix(server.do("DBSIZE"), ":"))
		}
		server.kill()
	}
	server.start()
	time.Sleep(500 * time.Millisecond) // some looks: it may have closed in between, where all was told in time
	awaitClosed([]*ratelimit.Switch{s})
	redis := server.open(ratelimit.RedisOptions{Timeout: patient}) // which has no memory of its own
	for i := 1; i < subjects; i++ {
		if d := peek(t, redis, time.Now(), of(i)); d.Statuses[0].Used != each {
			t.Fatalf("subject %d: %+v", i, d)
		}
	}
}

// One that has lost nothing by a restart of Redis, since it did not look for long, lets nobody
// pass who has.
func TestWhoLostNothingBringsNothing(t *testing.T) {
	server := startRedis(t)
	told := make(changes, 100)
	begin := func(every time.Duration) *ratelimit.Switch {
		s := ratelimit.NewSwitch(server.open(ratelimit.RedisOptions{Timeout: patient}), ratelimit.NewMemory(ratelimit.MemoryOptions{}),
			ratelimit.SwitchOptions{ProbeInterval: every, OnChange: func(c ratelimit.Change) { told <- c }})
		t.Cleanup(s.Close)
		return s
	}
	silent := begin(time.Hour)
	org := subject("organization", "acme", "300/1h")
	switches := [3]*ratelimit.Switch{begin(time.Second), begin(time.Second), begin(time.Second)}
	for _, s := range switches {
		for s.Status().Instances < 4 {
			time.Sleep(time.Millisecond)
		}
	}
	server.do("SAVE")
	all := rounds(t, 80, switches, org)
	time.Sleep(1400 * time.Millisecond) // they say that Redis knows it
	server.kill()
	server.start()
	for all++; take(t, silent, time.Now(), org).Degraded; all++ { // its connection is a dead one
		if silent.Degraded() {
			t.Fatal("the silent one does not come to Redis")
		}
	}
	all += rounds(t, 100, switches, org)
	for range switches {
		told.next(t, true)
	}
	if all > 300+len(switches) {
		t.Errorf("%d admitted, want the limit of 300 and one for each instance at most", all)
	}
}

// What memory counts exactly and Redis in sub-buckets is merged whole.
func TestMergedBesideAnotherBound(t *testing.T) {
	server := startRedis(t)
	var switches [2]*ratelimit.Switch
	for i := range switches {
		switches[i], _ = newSwitch(t, server.open(ratelimit.RedisOptions{Timeout: brief, MaxExact: 10}))
	}
	for switches[0].Status().Instances < 2 || switches[1].Status().Instances < 2 {
		time.Sleep(10 * time.Millisecond)
	}
	admitted, org := 0, subject("organization", "acme", "80/1h")
	ask := func(times int) {
		for range times {
			for _, s := range switches {
				if take(t, s, time.Now(), org).Admitted {
					admitted++
				}
			}
		}
	}
	ask(15)
	server.kill()
	ask(10)
	server.start()
	awaitClosed(switches[:])
	ask(80)
	if admitted != 80 {
		t.Errorf("%d admitted, want the limit of 80", admitted)
	}
}
