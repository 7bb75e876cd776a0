package ratelimit_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// admissions collects when requests were admitted, in milliseconds.
type admissions struct {
	mu sync.Mutex
	at []int64
}

func (a *admissions) add(d *ratelimit.Decision) {
	if d.Admitted {
		a.mu.Lock()
		a.at = append(a.at, d.Now.UnixMilli())
		a.mu.Unlock()
	}
}

// most is how many were admitted in any window that ends in [from, to].
func (a *admissions) most(window time.Duration, from, to int64) (most int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	slices.Sort(a.at)
	first := 0
	for i, t := range a.at {
		for t-a.at[first] >= window.Milliseconds() {
			first++
		}
		if t >= from && t <= to {
			most = max(most, i-first+1)
		}
	}
	return most
}

// fleet is three processes on one Redis, with what each of them tells.
func fleet(t *testing.T, server *redisServer, options ratelimit.SwitchOptions) (switches [3]*ratelimit.Switch, told [3]changes) {
	options.ProbeInterval = 100 * time.Millisecond
	for i := range switches {
		told[i] = make(changes, 100)
		options.OnChange = func(change ratelimit.Change) { told[i] <- change }
		switches[i] = ratelimit.NewSwitch(server.open(ratelimit.RedisOptions{Timeout: brief}),
			ratelimit.NewMemory(ratelimit.MemoryOptions{}), options)
		t.Cleanup(switches[i].Close)
	}
	for _, s := range switches {
		for s.Status().Instances < len(switches) {
			time.Sleep(10 * time.Millisecond)
		}
	}
	return switches, told
}

// A Redis that is back, and empty, before anybody looked hands out nothing twice: it does
// not know the script, and is asked for its data before it is told. One that only forgot
// its scripts goes on.
func TestEmptyBeforeAnybodyLooked(t *testing.T) {
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
		for range n {
			for _, s := range switches {
				if take(t, s, time.Now(), org).Admitted {
					all++
				}
			}
		}
	}
	takeAll(50)
	server.do("SCRIPT", "FLUSH")
	takeAll(49)
	if all != 297 || len(told) != 0 {
		t.Fatalf("%d admitted, %d changes", all, len(told))
	}
	server.kill()
	server.start()
	takeAll(100)
	if all != 300 {
		t.Errorf("%d admitted after Redis came back empty at once, want the limit of 300", all)
	}
	for range switches {
		told.next(t, true)
	}
}

// What every instance has heard of is shared out: three of them admit what is
// left, and not one more; also not when Redis comes back with nothing in it.
func TestShareOfWhatIsLeft(t *testing.T) {
	server := startRedis(t)
	switches, told := fleet(t, server, ratelimit.SwitchOptions{})
	org := subject("organization", "acme", "300/1h")
	all := 0
	takeAll := func(n int) {
		t.Helper()
		for range n {
			for _, s := range switches {
				if take(t, s, time.Now(), org).Admitted {
					all++
				}
			}
		}
	}
	takeAll(40)
	for _, s := range switches {
		peek(t, s, time.Now(), org) // hears what the others admitted last
	}
	server.kill()
	takeAll(200)
	if all != 300 {
		t.Errorf("%d admitted while Redis is away, want the limit of 300", all)
	}
	for i, s := range switches {
		told[i].next(t, true)
		if d := peek(t, s, time.Now(), org); d.Admitted || !d.Degraded || d.Statuses[0].Limit != org.Limits[0] || d.Statuses[0].Used != 100 || d.Statuses[0].Remaining != 0 || d.RetryAfter <= 0 {
			t.Errorf("instance %d: %+v", i, d)
		}
		if n := s.Status().Instances; n != 3 {
			t.Errorf("%d instances", n)
		}
	}
	server.start()
	for i := range switches {
		told[i].next(t, false)
	}
	takeAll(20)
	if all != 300 {
		t.Errorf("%d admitted after Redis came back empty, want the limit of 300", all)
	}
	if d := peek(t, switches[0], time.Now(), org); d.Statuses[0].Used != 300 {
		t.Errorf("Redis knows of %d requests, 300 were admitted", d.Statuses[0].Used)
	}
	if s := switches[0].Status(); s.Degraded || s.Changes != 2 || s.Owed != 0 {
		t.Errorf("%+v", s)
	}
}

// However the moment falls: Redis is killed under load and comes back empty. Never
// are more than twice the limit admitted in a window, and one window after Redis
// went away it holds again, through the return.
func TestBoundWithoutRedis(t *testing.T) {
	for _, limit := range []string{"150/1500ms", "9000/1500ms"} { // counted exactly, and in sub-buckets
		t.Run(limit, func(t *testing.T) {
			t.Parallel()
			server := startRedis(t)
			switches, told := fleet(t, server, ratelimit.SwitchOptions{})
			org := subject("organization", "acme", limit)
			l := org.Limits[0]
			var admitted admissions
			var wg sync.WaitGroup
			stop := make(chan struct{})
			for i, s := range switches {
				for range 2 {
					wg.Go(func() {
						var d ratelimit.Decision
						for {
							select {
							case <-stop:
								return
							default:
							}
							if err := s.Take(t.Context(), time.Now(), []ratelimit.Subject{org}, &d); err != nil {
								t.Errorf("instance %d: %v", i, err)
								return
							}
							admitted.add(&d)
							if !d.Admitted {
								time.Sleep(time.Millisecond)
							}
						}
					})
				}
			}
			time.Sleep(2 * time.Second)
			killed := time.Now().UnixMilli()
			server.kill()
			for i := range switches {
				told[i].next(t, true)
			}
			time.Sleep(3 * time.Second)
			server.start()
			for i := range switches {
				told[i].next(t, false)
			}
			time.Sleep(2 * time.Second)
			close(stop)
			wg.Wait()
			end := time.Now().UnixMilli()

			before := admitted.most(l.Window, 0, killed)
			outage := admitted.most(l.Window, killed, killed+l.Window.Milliseconds())
			after := admitted.most(l.Window, killed+l.Window.Milliseconds()+brief.Milliseconds(), end)
			t.Logf("limit %v: most in a window %d before, %d in the first window without Redis, %d after", l, before, outage, after)
			if before > l.Requests || outage > 2*l.Requests || after > l.Requests {
				t.Errorf("want at most %d, %d, %d", l.Requests, 2*l.Requests, l.Requests)
			}
		})
	}
}

func TestWithoutRedisFullAndDeny(t *testing.T) {
	for _, test := range []struct {
		without ratelimit.Without
		want    int
	}{{ratelimit.Full, 30}, {ratelimit.Deny, 0}, {ratelimit.Share, 9}} {
		server := startRedis(t)
		switches, told := fleet(t, server, ratelimit.SwitchOptions{Without: test.without})
		server.kill()
		org := subject("organization", "acme", "10/1h")
		all := 0
		for range 20 {
			for _, s := range switches {
				d := take(t, s, time.Now(), org)
				if d.Admitted {
					all++
				} else if d.RetryAfter <= 0 {
					t.Errorf("denied without a wait: %+v", d)
				}
				if test.without == ratelimit.Deny { // what is said is what happens
					looked := peek(t, s, time.Now(), org)
					for _, d := range []ratelimit.Decision{d, looked} {
						if st := d.Statuses[0]; d.Admitted || st.Used != 0 || st.Remaining != 0 || st.Full || !st.Reset.Equal(d.Now.Add(d.RetryAfter)) {
							t.Errorf("%+v", d)
						}
					}
				}
			}
		}
		if all != test.want { // ten in three parts are three each
			t.Errorf("mode %v: %d admitted, want %d", test.without, all, test.want)
		}
		for i := range switches {
			told[i].next(t, true)
		}
	}
}

// Who looks first finds the loss and merges what it admitted itself; the others are not
// let pass on that, whether they have looked or not.
func TestEmptyAndOneHasLooked(t *testing.T) {
	server := startRedis(t)
	switches, _ := fleet(t, server, ratelimit.SwitchOptions{})
	org := subject("organization", "acme", "300/1h")
	all := 0
	takeAll := func(n int) {
		t.Helper()
		for range n {
			for _, s := range switches {
				if take(t, s, time.Now(), org).Admitted {
					all++
				}
			}
		}
	}
	takeAll(100)
	for round := 1; round <= 3; round++ {
		server.kill()
		server.start()
		for server.do("EXISTS", ratelimit.DefaultPrefix+"instances") != ":1" {
			time.Sleep(time.Millisecond)
		}
		takeAll(70)
		if all > 300+3*round {
			t.Fatalf("%d admitted in outage %d, want the limit of 300 and one for each instance", all, round)
		}
		for range 1000 {
			if !slices.ContainsFunc(switches[:], (*ratelimit.Switch).Degraded) {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(200 * time.Millisecond)
	}
	takeAll(10)
	if d := peek(t, switches[0], time.Now(), org); d.Degraded || d.Statuses[0].Used != all {
		t.Errorf("%d admitted, and Redis says %+v", all, d)
	}
}

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
				for range n {
					for _, s := range switches {
						if take(t, s, time.Now(), org).Admitted {
							all++
						}
					}
				}
			}
			time.Sleep(11 * time.Second) // longer than a silent instance is waited for
			lose(t, server, takeAll)
			for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
				takeAll(1)
			}
			if all > 303 {
				t.Errorf("%d admitted, want the limit of 300 and one for each instance at most", all)
			}
			for range 500 {
				if !slices.ContainsFunc(switches[:], (*ratelimit.Switch).Degraded) {
					break
				}
				time.Sleep(20 * time.Millisecond)
			}
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
