package ratelimit_test

import (
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
	return fleetOf(t, server, brief, options)
}

// fleetOf is fleet with a Redis that may take so long to answer. A request that is not answered in
// time counts twice where Redis counted it all the same.
func fleetOf(t *testing.T, server *redisServer, timeout time.Duration, options ratelimit.SwitchOptions) (switches [3]*ratelimit.Switch, told [3]changes) {
	options.ProbeInterval = 100 * time.Millisecond
	for i := range switches {
		told[i] = make(changes, 100)
		options.OnChange = func(change ratelimit.Change) { told[i] <- change }
		switches[i] = ratelimit.NewSwitch(server.open(ratelimit.RedisOptions{Timeout: timeout}),
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

// rounds lets each of them decide n times, and gives how many requests were admitted.
func rounds(t testing.TB, n int, switches [3]*ratelimit.Switch, subjects ...ratelimit.Subject) (admitted int) {
	t.Helper()
	for range n {
		for _, s := range switches {
			if take(t, s, time.Now(), subjects...).Admitted {
				admitted++
			}
		}
	}
	return admitted
}

// awaitClosed waits until Redis decides for all of them, for ten seconds at most.
func awaitClosed(switches []*ratelimit.Switch) {
	for range 500 {
		if !slices.ContainsFunc(switches, (*ratelimit.Switch).Degraded) {
			return
		}
		time.Sleep(20 * time.Millisecond)
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
		all += rounds(t, n, switches, org)
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
			// What was admitted without Redis is counted there to the millisecond of two clocks.
			inAMillisecond := l.Requests / int(l.Window.Milliseconds())
			if before > l.Requests || outage > 2*l.Requests || after > l.Requests+inAMillisecond {
				t.Errorf("want at most %d, %d, %d", l.Requests, 2*l.Requests, l.Requests+inAMillisecond)
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
