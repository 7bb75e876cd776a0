package ratelimit_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/rueidis"
	"pgregory.net/rapid"

	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// patient is a timeout that only a Redis that hangs exceeds, for tests that are
// not about time on a machine that may be busy.
const patient = 5 * time.Second

// All limiters give the oracle's answers to the same script. The Switch has a
// Redis of its own, in a folder of keys of its own.
func TestAllAnswerLikeOracle(t *testing.T) {
	server := startRedis(t)
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		open := func(name string, maxDenials int) *ratelimit.Redis {
			return ratelimit.NewRedis(client(t, server), ratelimit.RedisOptions{
				Prefix: fmt.Sprintf("%s-%d:", name, run), Timeout: patient, MaxDenials: maxDenials,
			}).Scripted()
		}
		both := ratelimit.NewSwitch(open("switch", 0), ratelimit.NewMemory(ratelimit.MemoryOptions{}), ratelimit.SwitchOptions{ProbeInterval: time.Hour})
		defer both.Close()
		limiters := []struct {
			name string
			ratelimit.Limiter
			store string
		}{
			{"memory", ratelimit.NewMemory(ratelimit.MemoryOptions{}), ratelimit.StoreMemory},
			{"redis", open("redis", -1), ratelimit.StoreRedis},
			{"redis that remembers denials", open("denials", 0), ratelimit.StoreRedis},
			{"redis that remembers few", open("few", 2), ratelimit.StoreRedis},
			{"switch", both, ratelimit.StoreRedis},
		}
		want := newOracle()
		var d ratelimit.Decision
		for i, s := range steps(t) {
			expected := want.perform(s)
			for _, l := range limiters {
				if err := perform(t.Context(), l, s, &d); err != nil {
					t.Fatalf("step %d: %s: %v", i, l.name, err)
				}
				if diff := cmp.Diff(expected, d, answer); diff != "" {
					t.Fatalf("step %d %+v (-oracle +%s):\n%s", i, s, l.name, diff)
				}
				if !s.reset && (d.Store != l.store || d.Degraded) {
					t.Fatalf("step %d: %s decided on %s, degraded %v", i, l.name, d.Store, d.Degraded)
				}
			}
		}
	})
}

var clients sync.Map // by address: one connection for all runs of a property

func client(t rapid.TB, s *redisServer) rueidis.Client {
	if c, ok := clients.Load(s.addr); ok {
		return c.(rueidis.Client)
	}
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{s.addr}, DisableCache: true, ForceSingleClient: true})
	if err != nil {
		t.Fatal(err)
	}
	clients.Store(s.addr, c)
	s.t.Cleanup(func() { clients.Delete(s.addr); c.Close() })
	return c
}

func TestRedisOnItsOwnClock(t *testing.T) {
	r := startRedis(t).open(ratelimit.RedisOptions{Timeout: patient})
	s := subject("ip", "203.0.113.7", "2/300ms")
	var d ratelimit.Decision
	for range 2 {
		d = take(t, r, time.Time{}, s) // this process's clock is of no interest
	}
	if !d.Admitted || time.Since(d.Now).Abs() > time.Minute {
		t.Fatalf("want admitted on the server's clock: %+v", d)
	}
	d = take(t, r, time.Time{}, s)
	if d.Admitted || d.RetryAfter <= 0 || d.RetryAfter > 300*time.Millisecond {
		t.Fatalf("want denied: %+v", d)
	}
	time.Sleep(d.RetryAfter)
	if d = take(t, r, time.Time{}, s); !d.Admitted {
		t.Fatalf("obeyed and denied: %+v", d)
	}
}

func TestRedisConcurrentTakesNeverExceed(t *testing.T) {
	server := startRedis(t)
	var admitted atomic.Int64
	var wg sync.WaitGroup
	for instance := range 2 {
		r := server.open(ratelimit.RedisOptions{Timeout: patient})
		for worker := range 4 {
			wg.Go(func() {
				var d ratelimit.Decision
				subjects := []ratelimit.Subject{subject("ip", fmt.Sprint(instance, worker), "60/1h"), subject("organization", "acme", "300/1h")}
				for range 100 {
					if err := r.Take(t.Context(), epoch, subjects, &d); err != nil {
						t.Error(err)
						return
					}
					if d.Admitted {
						admitted.Add(1)
					}
				}
			})
		}
	}
	wg.Wait()
	if n := admitted.Load(); n != 300 {
		t.Errorf("%d admitted, want exactly 300", n)
	}
}

func TestRedisKeysExpire(t *testing.T) {
	server := startRedis(t)
	r := server.open(ratelimit.RedisOptions{Timeout: patient, Prefix: "p:"})
	take(t, r, epoch, subject("ip", "a", "5/1s", "9/1h"), subject("odd type:#%", strings.Repeat("k", 300), "1/1m"))
	if err := r.Reset(t.Context(), "ip", "b"); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]time.Duration{
		"p:{ip:a}": time.Hour + 76*time.Second,
		"p:resets": time.Hour,
		"p:{" + ratelimit.StoredName("odd type:#%", strings.Repeat("k", 300)) + "}": 136 * time.Second,
	} {
		var ms int64
		if _, err := fmt.Sscanf(server.do("PTTL", "'"+key+"'"), ":%d", &ms); err != nil {
			t.Fatal(err)
		}
		if got := time.Duration(ms) * time.Millisecond; got > want || got < want-30*time.Second {
			t.Errorf("%s is kept for %v, want %v", key, got, want)
		}
	}
}

func TestStoredNamesAreDistinct(t *testing.T) {
	long := strings.Repeat("k", 300)
	seen := map[string]string{}
	for _, s := range [][2]string{
		{"a", "b"}, {"a:b", ""}, {"a", ":b"}, {"a%3Ab", ""}, {"a#b", ""}, {"a b", ""}, {"a+b", ""}, {"a%20b", ""}, {"a", ""},
		{"a", long}, {"a", long + "1"}, {"a", ratelimit.StoredName("a", long)[2:]},
	} {
		name := ratelimit.StoredName(s[0], s[1])
		if other, ok := seen[name]; ok {
			t.Errorf("%q and %q are both %q", s, other, name)
		}
		seen[name] = fmt.Sprint(s)
	}
}

// A denial is remembered: the same question needs no Redis, for five seconds at
// most, and not after a reset.
func TestDenialsAreRemembered(t *testing.T) {
	server := startRedis(t)
	r := server.open(ratelimit.RedisOptions{Timeout: 500 * time.Millisecond}).Scripted()
	ip, org := subject("ip", "a", "1/1m"), subject("organization", "acme", "10/1h")
	take(t, r, epoch, ip, org)
	first := take(t, r, epoch, ip, org)

	server.freeze()
	now := epoch.Add(4999 * time.Millisecond)
	d := take(t, r, now, ip, org)
	if d.Admitted || d.RetryAfter != first.RetryAfter-4999*time.Millisecond || !d.Now.Equal(now) || d.Statuses[1].Used != 1 {
		t.Errorf("4.999 s later: %+v", d)
	}
	var gone ratelimit.Decision
	for name, err := range map[string]error{
		"after five seconds": r.Take(t.Context(), epoch.Add(5*time.Second), []ratelimit.Subject{ip, org}, &gone),
		"with other limits":  r.Take(t.Context(), now, []ratelimit.Subject{subject("ip", "a", "2/1m"), org}, &gone),
		"with another organization": r.Take(t.Context(), now,
			[]ratelimit.Subject{ip, subject("organization", "other", "10/1h")}, &gone),
	} {
		if !errors.Is(err, ratelimit.ErrUnavailable) {
			t.Errorf("%s: %v, want a call to the frozen Redis", name, err)
		}
	}
	server.thaw()
	// The calls that were given up may be counted by Redis still, also after a
	// reset on another connection: then another reset is needed.
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if err := r.Reset(t.Context(), "ip", "a"); err != nil {
			t.Fatal(err)
		}
		d := take(t, r, now, ip, org)
		if d.Admitted {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("after a reset: %+v", d)
		}
	}
}

// Whatever is wrong, a call ends soon after the timeout with ErrUnavailable.
func TestRedisIsUnavailable(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts, says nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	web, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = http.Serve(web, http.NotFoundHandler()) }()
	t.Cleanup(func() { _ = web.Close() })
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = nobody.Close()

	frozen, frozenLater, readOnly, full := startRedis(t), startRedis(t), startRedis(t), startRedis(t)
	frozen.freeze()
	readOnly.do("REPLICAOF", "127.0.0.1", "1")
	full.do("CONFIG", "SET", "maxmemory", "1")

	for name, addr := range map[string]string{
		"silent": silent.Addr().String(), "HTTP": web.Addr().String(), "nobody": nobody.Addr().String(),
		"frozen": frozen.addr, "frozen later": frozenLater.addr, "read-only": readOnly.addr, "full": full.addr,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := openRedis(t, addr, ratelimit.RedisOptions{MaxInFlight: 200})
			if name == "frozen later" {
				for range 10 {
					var d ratelimit.Decision
					_ = r.Take(t.Context(), epoch, []ratelimit.Subject{subject("ip", "a", "100/1m")}, &d)
				}
				frozenLater.signal(syscall.SIGSTOP)
			}
			var wg sync.WaitGroup
			for range 300 {
				wg.Go(func() {
					var d ratelimit.Decision
					start := time.Now()
					err := r.Take(t.Context(), epoch, []ratelimit.Subject{subject("ip", "a", "100/1m")}, &d)
					if !errors.Is(err, ratelimit.ErrUnavailable) {
						t.Errorf("%v, want ErrUnavailable", err)
					}
					if took := time.Since(start); took > 2*time.Second { // not 25 ms: the machine may be busy
						t.Errorf("took %v", took)
					}
				})
			}
			wg.Wait()
			if err := r.Reset(t.Context(), "ip", "a"); name != "full" && !errors.Is(err, ratelimit.ErrUnavailable) {
				t.Errorf("Reset: %v", err)
			}
			if err := r.Ping(t.Context()); !errors.Is(err, ratelimit.ErrUnavailable) {
				t.Errorf("Ping: %v", err)
			}
		})
	}
}

func TestRedisHonoursContext(t *testing.T) {
	server := startRedis(t)
	r := server.open(ratelimit.RedisOptions{Timeout: time.Hour})
	server.freeze()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	var d ratelimit.Decision
	err := r.Take(ctx, epoch, []ratelimit.Subject{subject("ip", "a", "1/1m")}, &d)
	if !errors.Is(err, ratelimit.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}
