package ratelimit_test

import (
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// Redis is back and one of three processes is not: the others ask Redis, and hold
// themselves to their shares, until the silent one must be dead. Nothing is handed out
// twice meanwhile, nor by Redis alone afterwards.
func TestHalfOpenWaitsForTheSilent(t *testing.T) {
	server := startRedis(t)
	switches, told := fleet(t, server, ratelimit.SwitchOptions{})
	org := subject("organization", "acme", "300/1h")
	all, alive := 0, switches[:2]
	takeAll := func(n int) (halfOpen int) {
		t.Helper()
		for range n {
			for _, s := range alive {
				d := take(t, s, time.Now(), org)
				if d.Admitted {
					all++
				}
				if d.Degraded && d.Store == ratelimit.StoreRedis {
					halfOpen++
				}
			}
		}
		return halfOpen
	}
	takeAll(20)
	for _, s := range switches {
		peek(t, s, time.Now(), org)
	}
	server.kill()
	takeAll(10)
	for i := range switches {
		told[i].next(t, true)
	}
	switches[2].Close() // Redis does not hear of it
	server.start()
	for _, s := range alive {
		for i := 0; !s.Status().HalfOpen; i++ {
			if i == 1000 {
				t.Fatalf("not half open: %+v", s.Status())
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	if n := takeAll(200); n == 0 {
		t.Error("nothing was decided half open")
	}
	if most := 40 + 2*((300-40)/3); all > most { // less, as each hears from Redis of the other
		t.Errorf("%d admitted within the shares, want at most %d", all, most)
	}
	for i, s := range alive {
		if now := s.Status(); !now.Degraded || !now.HalfOpen || now.Changes != 1 {
			t.Errorf("instance %d did not wait: %+v", i, now)
		}
	}
	for i, s := range alive {
		for j := 0; s.Degraded(); j++ {
			if j == 6000 {
				t.Fatalf("instance %d waits for a dead one still", i)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	takeAll(200)
	if all != 300 {
		t.Errorf("%d admitted, want the limit of 300", all)
	}
}
