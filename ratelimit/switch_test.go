package ratelimit_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// changes collects what a Switch tells.
type changes chan ratelimit.Change

func (c changes) next(t *testing.T, degraded bool) ratelimit.Change {
	t.Helper()
	select {
	case change := <-c:
		if change.Degraded != degraded {
			t.Fatalf("told %+v, want degraded %v", change, degraded)
		}
		return change
	case <-time.After(10 * time.Second):
		t.Fatalf("no change to degraded %v within ten seconds", degraded)
		return ratelimit.Change{}
	}
}

func newSwitch(t *testing.T, redis *ratelimit.Redis) (*ratelimit.Switch, changes) {
	c := make(changes, 100)
	s := ratelimit.NewSwitch(redis, ratelimit.NewMemory(ratelimit.MemoryOptions{}), ratelimit.SwitchOptions{
		OnChange: func(change ratelimit.Change) { c <- change }, ProbeInterval: 100 * time.Millisecond,
	})
	t.Cleanup(s.Close)
	return s, c
}

// brief is the timeout of tests in which Redis hangs: more than the default,
// for a busy machine.
const brief = 250 * time.Millisecond

// Each way in which Redis fails: memory decides on, with what was counted so
// far, and when Redis is well again it decides again, with what was counted
// meanwhile.
func TestSwitchAwayAndBack(t *testing.T) {
	tests := []struct {
		name       string
		away, back func(*redisServer)
	}{
		{"frozen", (*redisServer).freeze, (*redisServer).thaw},
		{"restarted empty", (*redisServer).kill, (*redisServer).start},
		{"read-only", func(s *redisServer) { s.do("REPLICAOF", "127.0.0.1", "1") }, func(s *redisServer) { s.do("REPLICAOF", "NO", "ONE") }},
		{"out of memory", func(s *redisServer) { s.do("CONFIG", "SET", "maxmemory", "1") }, func(s *redisServer) { s.do("CONFIG", "SET", "maxmemory", "0") }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := startRedis(t)
			s, changes := newSwitch(t, server.open(ratelimit.RedisOptions{Timeout: brief}))
			ip, org := subject("ip", "a", "100/1h"), subject("organization", "acme", "9/1h")
			admit := func(n int, degraded bool) {
				t.Helper()
				for range n {
					d := take(t, s, time.Now(), ip, org)
					if !d.Admitted || d.Degraded != degraded || (d.Store == ratelimit.StoreMemory) != degraded {
						t.Fatalf("%+v, want admitted with degraded %v", d, degraded)
					}
				}
			}
			admit(3, false)
			test.away(server)
			admit(3, true) // whether the switch noticed yet or not
			if c := changes.next(t, true); !errors.Is(c.Cause, ratelimit.ErrUnavailable) {
				t.Errorf("cause %v", c.Cause)
			}
			if !s.Degraded() {
				t.Error("not degraded")
			}
			test.back(server)
			if c := changes.next(t, false); c.Lasted <= 0 || c.Cause != nil {
				t.Errorf("recovery %+v", c)
			}
			admit(3, false)
			d := take(t, s, time.Now(), ip, org)
			if d.Admitted || d.Degraded || d.Statuses[1].Used != 9 || d.RetryAfter < 59*time.Minute {
				t.Fatalf("the tenth of nine: %+v", d)
			}
			if err := s.Reset(t.Context(), "organization", "acme"); err != nil {
				t.Fatal(err)
			}
			admit(1, false)
		})
	}
}

// Whoever is told of a change may take his time: Redis is looked at all the same.
func TestSlowOnChange(t *testing.T) {
	server := startRedis(t)
	release, told := make(chan struct{}), make(changes, 2)
	s := ratelimit.NewSwitch(server.open(ratelimit.RedisOptions{Timeout: brief}), ratelimit.NewMemory(ratelimit.MemoryOptions{}), ratelimit.SwitchOptions{
		ProbeInterval: 100 * time.Millisecond,
		OnChange: func(change ratelimit.Change) {
			<-release
			told <- change
		},
	})
	t.Cleanup(s.Close)
	server.kill()
	for i := 0; !s.Degraded(); i++ {
		if i == 1000 {
			t.Fatal("not degraded")
		}
		time.Sleep(10 * time.Millisecond)
	}
	server.start()
	for i := 0; s.Degraded(); i++ {
		if i == 1000 {
			t.Fatal("Redis is back, and nobody looks")
		}
		time.Sleep(10 * time.Millisecond)
	}
	close(release)
	told.next(t, true)
	told.next(t, false)
}

func TestSwitchStartsWithoutRedis(t *testing.T) {
	server := startRedis(t)
	server.kill()
	s, changes := newSwitch(t, server.open(ratelimit.RedisOptions{Timeout: brief}))
	changes.next(t, true)
	if d := take(t, s, time.Now(), subject("ip", "a", "2/1h")); !d.Admitted || !d.Degraded || d.Store != ratelimit.StoreMemory {
		t.Fatalf("%+v", d)
	}
	server.start()
	changes.next(t, false)
	if d := take(t, s, time.Now(), subject("ip", "a", "2/1h")); !d.Admitted || d.Degraded || d.Statuses[0].Used != 2 {
		t.Fatalf("%+v", d)
	}
}

// An open switch does not ask Redis for each request.
func TestOpenSwitchDoesNotWait(t *testing.T) {
	server := startRedis(t)
	s, changes := newSwitch(t, server.open(ratelimit.RedisOptions{Timeout: brief}))
	server.freeze()
	changes.next(t, true)
	start := time.Now()
	for range 1000 {
		take(t, s, time.Now(), subject("ip", "a", "100/1h"))
	}
	if took := time.Since(start); took > 20*brief { // a thousand timeouts would be 250 s
		t.Errorf("1000 decisions took %v", took)
	}
}

// What one process resets, the others forget.
func TestResetReachesOtherProcesses(t *testing.T) {
	server := startRedis(t)
	a, _ := newSwitch(t, server.open(ratelimit.RedisOptions{Timeout: patient}))
	b, _ := newSwitch(t, server.open(ratelimit.RedisOptions{Timeout: patient}))
	ip := subject("ip", "a", "1/1h")
	take(t, a, time.Now(), ip)
	if d := take(t, b, time.Now(), ip); d.Admitted {
		t.Fatalf("not shared: %+v", d)
	}
	if err := b.Reset(t.Context(), "ip", "a"); err != nil {
		t.Fatal(err)
	}
	for range 500 {
		if take(t, a, time.Now(), ip).Admitted {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("still denied after five seconds")
}

// A reset while Redis is away holds when it is back.
func TestResetWithoutRedis(t *testing.T) {
	server := startRedis(t)
	s, changes := newSwitch(t, server.open(ratelimit.RedisOptions{Timeout: brief}))
	ip := subject("ip", "a", "1/1h")
	take(t, s, time.Now(), ip)
	server.freeze()
	changes.next(t, true)
	if err := s.Reset(t.Context(), "ip", "a"); err != nil {
		t.Fatal(err)
	}
	server.thaw()
	changes.next(t, false)
	if d := take(t, s, time.Now(), ip); !d.Admitted || d.Degraded {
		t.Fatalf("%+v", d)
	}
}

// What is admitted after a reset while Redis is away is counted there when it is back: the
// reset that is done then is of what was before.
func TestAdmittedAfterResetWithoutRedis(t *testing.T) {
	for _, empty := range []bool{false, true} {
		server := startRedis(t)
		s, changes := newSwitch(t, server.open(ratelimit.RedisOptions{Timeout: brief}))
		ip := subject("ip", "a", "3/1h")
		for range 2 {
			take(t, s, time.Now(), ip)
		}
		if empty {
			server.kill()
		} else {
			server.freeze()
		}
		changes.next(t, true)
		if err := s.Reset(t.Context(), "ip", "a"); err != nil {
			t.Fatal(err)
		}
		for i := range 4 {
			if d := take(t, s, time.Now(), ip); d.Admitted != (i < 3) {
				t.Errorf("empty %v: request %d after the reset: %+v", empty, i, d)
			}
		}
		if empty {
			server.start()
		} else {
			server.thaw()
		}
		changes.next(t, false)
		time.Sleep(300 * time.Millisecond) // looks go on
		if d := take(t, s, time.Now(), ip); d.Admitted || d.Statuses[0].Used != 3 {
			t.Errorf("empty %v: once more than the limit since the reset: %+v", empty, d)
		}
	}
}

// However Redis comes and goes under load, one process never admits more than
// the limit.
func TestSwitchUnderLoadNeverExceeds(t *testing.T) {
	server := startRedis(t)
	s, _ := newSwitch(t, server.open(ratelimit.RedisOptions{Timeout: brief}))
	var admitted atomic.Int64
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for worker := range 8 {
		wg.Go(func() {
			var d ratelimit.Decision
			subjects := []ratelimit.Subject{subject("ip", fmt.Sprint(worker), "10000/1h"), subject("organization", "acme", "2000/1h")}
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := s.Take(t.Context(), time.Now(), subjects, &d); err != nil {
					t.Error(err)
					return
				}
				if d.Admitted {
					admitted.Add(1)
				} else {
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	for range 2 {
		time.Sleep(100 * time.Millisecond)
		server.kill()
		time.Sleep(100 * time.Millisecond)
		server.start()
		time.Sleep(300 * time.Millisecond)
	}
	for range 1000 {
		if admitted.Load() >= 2000 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	time.Sleep(200 * time.Millisecond)
	close(stop)
	wg.Wait()
	if n := admitted.Load(); n != 2000 {
		t.Errorf("%d admitted, want exactly 2000", n)
	}
}

// A request that Redis denies for what other processes admitted costs nothing
// in memory either.
func TestSwitchGivesBack(t *testing.T) {
	server := startRedis(t)
	a, changes := newSwitch(t, server.open(ratelimit.RedisOptions{Timeout: patient}))
	b, _ := newSwitch(t, server.open(ratelimit.RedisOptions{Timeout: patient}))
	ip, org := subject("ip", "a", "5/1h"), subject("organization", "acme", "2/1h")
	take(t, a, time.Now(), ip, org)
	take(t, b, time.Now(), org)
	for range 10 {
		if d := take(t, a, time.Now(), ip, org); d.Admitted || d.Statuses[0].Used != 1 || d.Statuses[1].Used != 2 || d.RetryAfter < 59*time.Minute {
			t.Fatalf("%+v", d)
		}
	}
	server.kill()
	changes.next(t, true)
	if d := peek(t, a, time.Now(), ip, org); !d.Degraded || d.Statuses[0].Used != 1 || d.Statuses[1].Used != 1 {
		t.Fatalf("what memory counted: %+v", d)
	}
}

// Where memory has no room, Redis decides alone.
func TestSwitchWithFullMemory(t *testing.T) {
	server := startRedis(t)
	s := ratelimit.NewSwitch(server.open(ratelimit.RedisOptions{Timeout: brief}), ratelimit.NewMemory(ratelimit.MemoryOptions{MaxKeys: 8}), ratelimit.SwitchOptions{})
	t.Cleanup(s.Close)
	for i := range 9 {
		if d := take(t, s, time.Now(), subject("ip", fmt.Sprint(i), "1/1h")); !d.Admitted || d.Degraded {
			t.Fatalf("%+v", d)
		}
	}
	if d := peek(t, s, time.Now(), subject("ip", "8", "1/1h")); d.Admitted {
		t.Fatalf("not counted: %+v", d)
	}
	server.kill()
	var d ratelimit.Decision
	if err := s.Take(t.Context(), time.Now(), []ratelimit.Subject{subject("ip", "9", "1/1h")}, &d); !errors.Is(err, ratelimit.ErrFull) {
		t.Errorf("%v, want ErrFull", err)
	}
}

// A caller that goes away is no failure of Redis.
func TestSwitchHonoursContext(t *testing.T) {
	server := startRedis(t)
	s, _ := newSwitch(t, server.open(ratelimit.RedisOptions{Timeout: time.Minute}))
	take(t, s, time.Now(), subject("ip", "a", "2/1h"))
	server.freeze()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	for range 5 {
		var d ratelimit.Decision
		if err := s.Take(ctx, time.Now(), []ratelimit.Subject{subject("ip", "b", "2/1h")}, &d); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	}
	if s.Degraded() {
		t.Error("degraded")
	}
	server.kill()
}

// A flood of requests over the limit costs Redis nothing.
func TestFloodOfDenialsCostsRedisNothing(t *testing.T) {
	server := startRedis(t)
	s := ratelimit.NewSwitch(server.open(ratelimit.RedisOptions{Timeout: patient}),
		ratelimit.NewMemory(ratelimit.MemoryOptions{}), ratelimit.SwitchOptions{ProbeInterval: time.Hour})
	t.Cleanup(s.Close)
	other, _ := newSwitch(t, server.open(ratelimit.RedisOptions{Timeout: patient}))
	other.Close() // only to use up the limit elsewhere
	ip, org := subject("ip", "a", "100/1h"), subject("organization", "acme", "3/1h")
	for range 3 {
		take(t, other, time.Now(), org)
	}
	take(t, s, time.Now(), ip, org) // hears of it
	before := server.commands()
	for last := 0; before > last+1; before = server.commands() { // the first look at Redis ends
		last = before
		time.Sleep(50 * time.Millisecond)
	}
	const flood = 10_000
	start := time.Now()
	for range flood {
		if d := take(t, s, time.Now(), ip, org); d.Admitted || d.Statuses[1].Used != 3 || d.Statuses[0].Used != 0 {
			t.Fatalf("%+v", d)
		}
	}
	// Nor from ever new addresses; of one that was here before it is told what it used.
	for i := range flood {
		if d := take(t, s, time.Now(), subject("ip", fmt.Sprint(i), "7/1h"), org); d.Admitted || !d.Statuses[1].Full || d.Statuses[0].Used != 0 || d.Statuses[0].Remaining != 7 {
			t.Fatalf("%+v", d)
		}
	}
	known := subject("ip", "known", "7/1h")
	for range 2 {
		take(t, s, time.Now(), known, subject("organization", "another", "100/1h"))
	}
	for range 10 {
		if d := take(t, s, time.Now(), known, org); d.Admitted || d.Statuses[0].Used != 2 || d.Statuses[0].Remaining != 5 || d.Statuses[0].Reset.Before(d.Now) {
			t.Fatalf("%+v", d)
		}
	}
	// At least one for each five seconds; the few others are the test's own, with those that its scripts run.
	if asked := server.commands() - before; asked > 50+int(time.Since(start)/time.Second) {
		t.Errorf("%d commands for %d denials", asked, 2*flood)
	}
	if d := take(t, s, time.Now(), known, subject("organization", "another", "100/1h")); !d.Admitted || d.Statuses[0].Used != 3 {
		t.Errorf("an address that was denied for its organization, with another one: %+v", d)
	}
}
