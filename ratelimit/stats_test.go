package ratelimit_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/ratelimit"
)

func TestStatsCount(t *testing.T) {
	server := startRedis(t)
	redis := server.open(ratelimit.RedisOptions{Timeout: patient})
	ip := subject("ip", "a", "2/1h")
	for range 5 {
		take(t, redis, epoch, ip)
	}
	if s := redis.Stats(); s.Calls != 3 || s.Remembered != 1 || s.FromMemory != 2 {
		t.Errorf("%+v, want three calls and two denials from the one that is remembered", s)
	}

	memory := ratelimit.NewMemory(ratelimit.MemoryOptions{})
	empty := memory.Bytes()
	for i := range 1000 {
		for range 100 {
			take(t, memory, epoch.Add(time.Duration(i)*time.Second), subject("ip", fmt.Sprint(i), "100/1h"))
		}
	}
	if per := (memory.Bytes() - empty) / 1000; per < 600 || per > 3000 {
		t.Errorf("%d bytes for a key that counts 100", per)
	}

	s, _ := newSwitch(t, redis)
	take(t, s, time.Now(), subject("ip", "b", "2/1h"))
	if status := s.Status(); status.Mirrored != 1 || status.HalfOpen {
		t.Errorf("%+v", status)
	}
}
