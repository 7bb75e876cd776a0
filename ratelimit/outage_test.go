package ratelimit_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// A Switch that is closed leaves a Redis limiter that takes whatever Redis has.
func TestRedisAfterItsSwitch(t *testing.T) {
	server := startRedis(t)
	r := server.open(ratelimit.RedisOptions{Timeout: patient})
	s, _ := newSwitch(t, r)
	org := subject("organization", "acme", "2/1h")
	for range 2 {
		take(t, s, time.Now(), org)
	}
	for server.do("EXISTS", ratelimit.DefaultPrefix+"instances") != ":1" {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(200 * time.Millisecond) // the first look is over
	s.Close()
	server.kill()
	server.start()
	for i := range 50 {
		var d ratelimit.Decision
		err := r.Take(t.Context(), time.Now(), []ratelimit.Subject{org}, &d)
		if err == nil {
			if !d.Admitted {
				t.Errorf("%+v", d)
			}
			return
		}
		if i == 49 {
			t.Error(err)
		}
		time.Sleep(20 * time.Millisecond) // the connection comes back
	}
}

// However many resets waited for Redis, those that others make later are heard of.
func TestResetsAfterManyThatWaited(t *testing.T) {
	server := startRedis(t)
	a, changes := newSwitch(t, server.open(ratelimit.RedisOptions{Timeout: brief}))
	b, _ := newSwitch(t, server.open(ratelimit.RedisOptions{Timeout: patient}))
	server.freeze()
	for !a.Degraded() {
		take(t, a, time.Now(), subject("ip", "x", "9/1h"))
	}
	changes.next(t, true)
	for i := range 1500 {
		for range 1 + i%2 { // some of them twice
			if err := a.Reset(t.Context(), "ip", fmt.Sprint(i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	server.thaw()
	changes.next(t, false)
	for b.Degraded() {
		time.Sleep(10 * time.Millisecond)
	}
	for i := 0; i < 1500; i += 75 {
		ip := subject("ip", fmt.Sprint(i), "1/1h")
		if d := take(t, a, time.Now(), ip); !d.Admitted {
			t.Fatalf("%d: %+v", i, d)
		}
		if err := b.Reset(t.Context(), "ip", fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	for i := 0; i < 1500; i += 75 {
		ip, admitted := subject("ip", fmt.Sprint(i), "1/1h"), false
		for range 500 {
			if admitted = take(t, a, time.Now(), ip).Admitted; admitted {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if !admitted {
			t.Errorf("the reset of %d by another process is not heard of", i)
		}
	}
}

// A flood of denials that are remembered does not hide that Redis says nothing.
func TestRememberedDenialsSayNothingOfRedis(t *testing.T) {
	server := startRedis(t)
	s := ratelimit.NewSwitch(server.open(ratelimit.RedisOptions{Timeout: 100 * time.Millisecond}), ratelimit.NewMemory(ratelimit.MemoryOptions{}),
		ratelimit.SwitchOptions{ProbeInterval: time.Hour})
	t.Cleanup(s.Close)
	full := subject("organization", "acme", "1/1h")
	for range 3 {
		take(t, s, time.Now(), subject("ip", "a", "100/1h"), full)
	}
	server.freeze()
	stop := make(chan struct{})
	var flood sync.WaitGroup
	flood.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				take(t, s, time.Now(), subject("ip", fmt.Sprint(i), "100/1h"), full)
			}
		}
	})
	for range 3 {
		take(t, s, time.Now(), subject("ip", "b", "100/1h"), subject("organization", "another", "100/1h"))
	}
	if !s.Degraded() {
		t.Error("three requests in a row had no answer, and the switch is closed")
	}
	close(stop)
	flood.Wait()
}

// That Redis was well for long before it went away, or lost its data, says nothing of who
// owes it something since: the switch waits for all as ever.
func TestClosedOnlyWhenAllHaveMerged(t *testing.T) {
	for name, lose := range map[string]func(t *testing.T, server *redisServer, takeAll func(int)){
		"data lost while it is there": func(_ *testing.T, server *redisServer, takeAll func(int)) {
			takeAll(100)
			server.do("FLUSHALL")
			server.do("SCRIPT", "FLUSH")
			for server.do("EXISTS", ratelimit.DefaultPrefix+"instances") != ":1" {
				time.Sleep(time.Millisecond)
			}
		},
		"frozen between two looks": func(_ *testing.T, server *redisServer, takeAll func(int)) {
			takeAll(10)
			server.freeze()
			takeAll(90)
			server.thaw()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := startRedis(t)
			switches, _ := fleet(t, server, ratelimit.SwitchOptions{})
			org := subject("organization", "acme", "300/1h")
			all := 0
			takeAll := func(n int) {
				t.Helper()
				all += rounds(t, n, switches, org)
			}
			time.Sleep(11 * time.Second) // longer than a silent instance is waited for
			lose(t, server, takeAll)
			for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
				takeAll(1)
			}
			if all > 303 {
				t.Errorf("%d admitted, want the limit of 300 and one for each instance at most", all)
			}
			awaitClosed(switches[:])
			if d := peek(t, switches[0], time.Now(), org); d.Degraded || d.Admitted {
				t.Errorf("in the end: %+v", d)
			}
		})
	}
}

// An instance that died during an outage is waited for ten seconds in all, also where looks
// at Redis fail now and then meanwhile.
func TestADeadInstanceIsNotWaitedForAnew(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	switches, _ := fleet(t, server, ratelimit.SwitchOptions{})
	server.freeze()
	for _, s := range switches {
		for !s.Degraded() {
			take(t, s, time.Now(), subject("ip", "x", "100000/1h"))
		}
	}
	switches[2].Close() // which Redis does not hear of
	server.thaw()
	server.do("ZADD", ratelimit.DefaultPrefix+"instances", fmt.Sprint(time.Now().UnixMilli()), "ghost")
	for range 14 { // each some 1.9 seconds without a hiccup, less than the ten
		time.Sleep(1500 * time.Millisecond)
		if !switches[0].Degraded() && !switches[1].Degraded() {
			return
		}
		server.freeze()
		time.Sleep(400 * time.Millisecond)
		server.thaw()
	}
	t.Error("still open after twenty seconds in which Redis was well")
}

// Who is asked for during outages alone is admitted as often as the limit says and not once
// more in each: what the others admitted is heard of when Redis is back.
func TestOutagesInARow(t *testing.T) {
	server := startRedis(t)
	switches, told := fleet(t, server, ratelimit.SwitchOptions{})
	org := subject("organization", "acme", "300/1h")
	all := 0
	for outage := range 4 {
		server.freeze()
		for i, s := range switches {
			for !s.Degraded() {
				take(t, s, time.Now(), subject("ip", "x", "100000/1h"))
			}
			told[i].next(t, true)
		}
		all += rounds(t, 150, switches, org)
		if all > 300+3*outage {
			t.Fatalf("%d admitted in outage %d, want the limit of 300 and one more for each instance", all, outage)
		}
		server.thaw()
		for i := range switches {
			told[i].next(t, false)
		}
		time.Sleep(300 * time.Millisecond) // they ask
	}
}

// What stands where resets are noted, and is none, is no reason to do without Redis.
func TestForeignResets(t *testing.T) {
	server := startRedis(t)
	s, told := newSwitch(t, server.open(ratelimit.RedisOptions{Timeout: patient}))
	for _, foreign := range [][]string{{"SET", ratelimit.DefaultPrefix + "resets", "x"}, {"LPUSH", ratelimit.DefaultPrefix + "resets", "x"}} {
		server.do("DEL", ratelimit.DefaultPrefix+"resets")
		server.do(foreign...)
		time.Sleep(300 * time.Millisecond) // some looks
		server.do("DEL", ratelimit.DefaultPrefix+"resets")
		server.do(foreign...)
		if err := s.Reset(t.Context(), "ip", "x"); err != nil {
			t.Error(err)
		}
	}
	if s.Degraded() || len(told) > 0 {
		t.Errorf("%d changes", len(told))
	}
}
