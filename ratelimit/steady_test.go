package ratelimit_test

import (
	"testing"
	"time"
	"unsafe"

	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// set gives the instant as a clock tells it that was set by so many seconds: the wall clock's reading
// is another, the monotonic one's the same. Nothing in the package time makes one, so this
// changes the seconds since 1885 in the upper bits of its first field.
func set(t testing.TB, now time.Time, seconds int) time.Time {
	t.Helper()
	moved := now
	*(*uint64)(unsafe.Pointer(&moved)) += uint64(int64(seconds) << 30)
	if got := moved.Round(0).Sub(now.Round(0)); got != time.Duration(seconds)*time.Second || moved.Sub(now) != 0 {
		t.Fatalf("the package time keeps its instants in another way: moved by %v and %v", got, moved.Sub(now))
	}
	return moved
}

// Whatever is done to the wall clock, a window is as long as ever; what is told of instants is
// told on the clock as it is.
func TestClockThatIsSet(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) ratelimit.Limiter{
		"memory": func(*testing.T) ratelimit.Limiter { return ratelimit.NewMemory(ratelimit.MemoryOptions{}) },
		"switch": func(t *testing.T) ratelimit.Limiter {
			s, _ := newSwitch(t, startRedis(t).open(ratelimit.RedisOptions{Timeout: patient, MaxDenials: -1}))
			return s
		},
		"without redis": func(t *testing.T) ratelimit.Limiter {
			s, changes := newSwitch(t, openRedis(t, "127.0.0.1:1", ratelimit.RedisOptions{Timeout: brief}))
			changes.next(t, true)
			return s
		},
	} {
		for _, seconds := range []int{-3600, 3600, -2, 2} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				l, org := open(t), subject("organization", "acme", "3/3s")
				for range 3 {
					take(t, l, time.Now(), org)
				}
				now := set(t, time.Now(), seconds)
				d := take(t, l, now, org)
				if d.Admitted || d.RetryAfter <= 0 || d.RetryAfter > 3*time.Second {
					t.Fatalf("set by %d s: %+v", seconds, d)
				}
				if d.Store == ratelimit.StoreMemory {
					if late := d.Now.Sub(now.Round(0)); late < -time.Second || late > time.Second {
						t.Errorf("set by %d s, it is told to be %v at %v", seconds, d.Now, now)
					}
					if reset := d.Statuses[0].Reset.Sub(d.Now); reset != d.RetryAfter {
						t.Errorf("set by %d s, the reset is %v from now, the wait %v", seconds, reset, d.RetryAfter)
					}
				}
				time.Sleep(d.RetryAfter + 5*time.Millisecond) // Redis's clock is another
				if d := take(t, l, set(t, time.Now(), seconds), org); !d.Admitted {
					t.Errorf("set by %d s, and denied after the wait: %+v", seconds, d)
				}
			})
		}
	}
}
