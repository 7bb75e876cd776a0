package ratelimit_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// However many addresses come, what a Switch keeps of them is bounded: its memory,
// its mirror of what Redis told, and the denials it remembers; and so is what it
// owes to a Redis that is away.
func TestWhatASwitchKeepsIsBounded(t *testing.T) {
	server := startRedis(t)
	const most, denials = 500, 50
	redis := server.open(ratelimit.RedisOptions{Timeout: patient, MaxDenials: denials})
	memory := ratelimit.NewMemory(ratelimit.MemoryOptions{MaxKeys: most})
	s := ratelimit.NewSwitch(redis, memory, ratelimit.SwitchOptions{ProbeInterval: 100 * time.Millisecond})
	t.Cleanup(s.Close)
	bounded := func(after string) {
		t.Helper()
		now := s.Status()
		if n := memory.Stats().Keys; n > most || now.Mirrored > most || now.Owed > most || redis.Stats().Remembered > denials {
			t.Errorf("after %s: %d keys, %d remembered, %+v", after, n, redis.Stats().Remembered, now)
		}
	}
	flood := func(from int) {
		var d ratelimit.Decision
		for i := range 5 * most {
			ip := []ratelimit.Subject{subject("ip", fmt.Sprint(from+i), "2/1h")}
			if i%4 == 0 {
				ip[0].Limits[0].Requests = 1 // is denied the second
			}
			for range 2 {
				_ = s.Take(t.Context(), time.Now(), ip, &d) // ErrFull while Redis is away and all are limited
			}
		}
	}
	flood(0)
	bounded("a flood")
	if n := redis.Stats().Remembered; n != denials {
		t.Errorf("%d denials remembered, want %d", n, denials)
	}
	server.kill()
	flood(1_000_000)
	bounded("a flood without Redis")
	if !s.Degraded() {
		t.Error("Redis is not away")
	}
}
