package ratelimit_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/rueidis"
	"pgregory.net/rapid"

	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// Decisions that share a call are decided one after another, each as the oracle
// would: a subject that several of them name, looks among requests, several
// windows, large limits.
func TestSharedCallAnswersLikeOracle(t *testing.T) {
	server := startRedis(t)
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		r := ratelimit.NewRedis(client(t, server), ratelimit.RedisOptions{
			Prefix: fmt.Sprintf("shared-%d:", run), Timeout: patient, MaxDenials: -1, MaxExact: fewExact,
		}).Scripted()
		want := newOracle()
		want.exact = fewExact
		script := largeSteps(t)
		for len(script) > 0 {
			n := min(rapid.IntRange(1, 16).Draw(t, "together"), len(script))
			var together []step
			for _, s := range script[:n] {
				if !s.reset {
					together = append(together, s)
				}
			}
			script = script[n:]
			decisions := make([]ratelimit.Decision, len(together))
			asked := make([]ratelimit.Asked, len(together))
			for i, s := range together {
				asked[i] = ratelimit.Asked{Now: s.now, Subjects: s.subjects, Take: !s.peek, Decision: &decisions[i]}
			}
			if err := r.Together(asked); err != nil {
				t.Fatal(err)
			}
			for i, s := range together {
				if diff := cmp.Diff(want.perform(s), decisions[i], answer); diff != "" {
					t.Fatalf("%d of %d: %+v (-oracle +redis):\n%s", i, len(together), s, diff)
				}
			}
		}
	})
}

// Under a crowd calls are shared, and no limit is exceeded by one.
func TestCrowdSharesCalls(t *testing.T) {
	server := startRedis(t)
	r := server.open(ratelimit.RedisOptions{Timeout: patient, MaxDenials: -1})
	var admitted, asked atomic.Int64
	var crowd sync.WaitGroup
	for caller := range 64 {
		crowd.Go(func() {
			var d ratelimit.Decision
			for i := range 40 {
				subjects := []ratelimit.Subject{subject("ip", fmt.Sprint(caller, i), "1/1h"), subject("organization", "acme", "1500/1h")}
				if err := r.Take(t.Context(), time.Now(), subjects, &d); err != nil {
					t.Error(err)
				}
				asked.Add(1)
				if d.Admitted {
					admitted.Add(1)
				}
			}
		})
	}
	crowd.Wait()
	if n := admitted.Load(); n != 1500 {
		t.Errorf("%d admitted, want 1500", n)
	}
	if calls := server.calls("evalsha"); calls > int(asked.Load())*3/4 {
		t.Errorf("%d calls for %d decisions", calls, asked.Load())
	}
}

// What gathered goes out together also where few decisions, or one, may share a call: each is decided by a call of
// its own, and no limit is exceeded. Redis may forget its scripts meanwhile.
func TestCrowdWithCallsOfItsOwn(t *testing.T) {
	for _, shared := range []int{1, 5} {
		t.Run(fmt.Sprint(shared), func(t *testing.T) {
			server := startRedis(t)
			r := server.open(ratelimit.RedisOptions{Timeout: patient, MaxDenials: -1, MaxShared: shared})
			const callers, each = 64, 40
			var admitted atomic.Int64
			var crowd sync.WaitGroup
			for caller := range callers {
				crowd.Go(func() {
					var d ratelimit.Decision
					for i := range each {
						if caller == 0 && i%10 == 5 {
							server.do("SCRIPT", "FLUSH")
						}
						subjects := []ratelimit.Subject{subject("ip", fmt.Sprint(caller, i), "1/1h"), subject("organization", "acme", "1500/1h")}
						if err := r.Take(t.Context(), time.Now(), subjects, &d); err != nil {
							t.Error(err)
						}
						if d.Admitted {
							admitted.Add(1)
						}
					}
				})
			}
			crowd.Wait()
			if n := admitted.Load(); n != 1500 {
				t.Errorf("%d admitted, want 1500", n)
			}
			// Those that Redis refused, not knowing the script, are asked again.
			calls, least := int(r.Stats().Calls), callers*each/shared
			if calls < least || shared == 1 && calls > least+least/2 {
				t.Errorf("%d calls for %d decisions, %d to a call", calls, callers*each, shared)
			}
		})
	}
}

// countedConn counts how often is written to it: rueidis writes once for whatever it
// sends together.
type countedConn struct {
	net.Conn
	writes *atomic.Int64
}

func (c countedConn) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

// Calls that are sent together are about one write, and three more where Redis has
// forgotten the script: each decision waits for few round trips, not for those of the others.
func TestCallsGoTogether(t *testing.T) {
	server := startRedis(t)
	var writes atomic.Int64
	c, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{server.addr}, DisableCache: true, ForceSingleClient: true,
		DialCtxFn: func(ctx context.Context, address string, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
			conn, err := d.DialContext(ctx, "tcp", address)
			return countedConn{conn, &writes}, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	r := ratelimit.NewRedis(c, ratelimit.RedisOptions{Timeout: patient, MaxDenials: -1, MaxShared: 1})
	asked := make([]ratelimit.Asked, 16)
	for i := range asked {
		asked[i] = ratelimit.Asked{Take: true, Subjects: []ratelimit.Subject{subject("ip", fmt.Sprint(i), "100/1h"), subject("organization", "acme", "40/1h")}}
	}
	for round, want := range []struct {
		flush    bool
		admitted int
		writes   int64
	}{{true, 16, 6}, {false, 16, 2}, {true, 8, 6}, {false, 0, 2}} { // one by one it would be 18 and 16
		if want.flush {
			server.do("SCRIPT", "FLUSH")
		}
		before := writes.Load()
		admitted, err := r.Several(asked)
		if n := writes.Load() - before; err != nil || admitted != want.admitted || n > want.writes {
			t.Errorf("round %d: %d admitted, want %d, by %d writes, want %d at most, %v", round, admitted, want.admitted, n, want.writes, err)
		}
	}
}

// Each keeps its own deadline, whatever it shares: one that gives up early is not
// held by the others, and does not end them. One that was never sent is not counted.
func TestSharedCallsKeepTheirDeadlines(t *testing.T) {
	server := startRedis(t)
	r := server.open(ratelimit.RedisOptions{Timeout: patient, MaxDenials: -1})
	org := subject("organization", "acme", "100/1h")
	take(t, r, epoch, org)
	server.freeze()
	var admitted, gaveUp atomic.Int64
	var crowd sync.WaitGroup
	for i := range 40 {
		crowd.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if i%2 == 0 {
				ctx, cancel = context.WithTimeout(ctx, 50*time.Millisecond)
				defer cancel()
			}
			var d ratelimit.Decision
			err := r.Take(ctx, epoch, []ratelimit.Subject{org}, &d)
			switch {
			case i%2 == 0 && errors.Is(err, ratelimit.ErrUnavailable) && errors.Is(err, context.DeadlineExceeded):
				gaveUp.Add(1)
			case i%2 == 1 && err == nil && d.Admitted:
				admitted.Add(1)
			default:
				t.Errorf("%d: %+v, %v", i, d, err)
			}
		})
	}
	for gaveUp.Load() < 20 && !t.Failed() {
		time.Sleep(5 * time.Millisecond)
	}
	server.thaw()
	crowd.Wait()
	if n := admitted.Load(); n != 20 {
		t.Errorf("%d admitted, want 20", n)
	}
	used := peek(t, r, epoch, org).Statuses[0].Used
	if used < 21 || used > 41 {
		t.Errorf("%d used, want those that were admitted and at most those that were given up", used)
	}
}
