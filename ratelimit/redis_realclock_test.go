package ratelimit_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// steppedRedis is a Redis whose own clock the test sets.
type steppedRedis struct {
	*redisServer
	file string
	by   time.Duration
}

func startSteppedRedis(t *testing.T) *steppedRedis {
	t.Helper()
	dir := t.TempDir()
	library, s := filepath.Join(dir, "clock.so"), &steppedRedis{file: filepath.Join(dir, "clock")}
	// The race detector, with which these tests run, needs a C compiler too.
	if out, err := exec.Command("cc", "-shared", "-fPIC", "-O1", "-o", library, "testdata/clock.c").CombinedOutput(); err != nil {
		t.Fatalf("this test needs a C compiler (apt-get install gcc libc6-dev): %v\n%s", err, out)
	}
	s.step(t, 0)
	s.redisServer = startRedisIn(t, []string{"LD_PRELOAD=" + library, "STEPPED_CLOCK=" + s.file})
	return s
}

// step sets the server's clock forward, or back.
func (s *steppedRedis) step(t *testing.T, by time.Duration) {
	t.Helper()
	s.by += by
	f, err := os.OpenFile(s.file, os.O_CREATE|os.O_WRONLY, 0o600) // not truncated: the server has it mapped
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := f.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(s.by.Microseconds())), 0); err != nil {
		t.Fatal(err)
	}
}

// The clock of the machine that Redis runs on is set forward and back: a subject's
// time stands still until the clock has caught up, and no window admits more.
func TestRedisServerClockSteps(t *testing.T) {
	server := startSteppedRedis(t)
	const window = 10 * time.Minute
	for _, limit := range []int{3, 500} { // counted exactly, and in sub-buckets
		r := server.open(ratelimit.RedisOptions{Timeout: patient, MaxExact: 300, MaxDenials: -1})
		key := fmt.Sprint("a", limit)
		subjects := []ratelimit.Subject{subject("ip", key, fmt.Sprintf("%d/%s", limit, window)), subject("organization", "acme", "100000/1h")}
		var d ratelimit.Decision
		var admitted ledger
		latest := int64(0)
		for i, set := range []time.Duration{0, 9 * time.Minute, -time.Hour, time.Hour, 2 * time.Minute, -5 * time.Hour, 5 * time.Hour, 11 * time.Minute, 30 * time.Hour, -time.Millisecond} {
			server.step(t, set)
			for range limit + 5 {
				if err := r.Take(t.Context(), time.Time{}, subjects, &d); err != nil {
					t.Fatal(err)
				}
				if d.Admitted {
					latest = max(latest, d.Now.UnixMilli()) // time stands still
					admitted = append(admitted, latest)
					if n := admitted.within(latest, window.Milliseconds()); n > limit {
						t.Fatalf("step %d by %v: %d admitted in a window of %d", i, set, n, limit)
					}
				}
			}
			if d.Admitted || d.RetryAfter <= 0 {
				t.Fatalf("step %d by %v: %+v after more requests than the limit", i, set, d)
			}
			if got := time.Until(d.Now) - server.by; got < -5*time.Second || got > 5*time.Second {
				t.Fatalf("step %d: the decision is %v off the clock of Redis", i, got)
			}
		}
		if want := 4 * limit; len(admitted) != want { // at first, and after 11 minutes, 11 more, and 30 hours
			t.Errorf("%d admitted under a limit of %d, want %d", len(admitted), limit, want)
		}
	}
}
