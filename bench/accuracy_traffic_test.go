package bench

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// accuracySeed makes the random traffics the same each time.
const accuracySeed = 20261123

// traffics are the kinds of traffic that limiters are told apart by. The limit is a
// chat address's; that of the recorded one is such that a part is denied.
func traffics(t *testing.T) []traffic {
	limit := ratelimit.Limit{Requests: 100, Window: time.Minute}
	random := rand.New(rand.NewPCG(accuracySeed, accuracySeed))
	return []traffic{
		{"Poisson", limit, poisson(random, limit)},
		{"on-off", limit, onOff(random, limit)},
		{"boundary", limit, boundary(random, limit)},
		{"adversarial", limit, adversarial(random, limit)},
		recorded(t, ratelimit.Limit{Requests: 300, Window: time.Minute}),
	}
}

// poisson makes 30,000 requests as independent callers would, at 1.1 times the
// limit's rate.
func poisson(random *rand.Rand, l ratelimit.Limit) (at []int64) {
	mean := float64(l.Window.Milliseconds()) / float64(l.Requests) / 1.1
	now := 0.0
	for range 30_000 {
		now += random.ExpFloat64() * mean
		at = append(at, int64(now))
	}
	return at
}

// onOff makes requests at six times the limit's rate for some time and none for
// some time, both of random length.
func onOff(random *rand.Rand, l ratelimit.Limit) (at []int64) {
	window := float64(l.Window.Milliseconds())
	mean := window / float64(l.Requests) / 6
	now := 0.0
	for len(at) < 30_000 {
		for end := now + random.ExpFloat64()*window/3; now < end; now += random.ExpFloat64() * mean {
			at = append(at, int64(now))
		}
		now += random.ExpFloat64() * window
	}
	return at
}

// boundary asks for as much as the limit just before and just after a window ends,
// be it one of the clock on the wall or one that began with its first request: a
// lone one comes a window earlier. Then it waits for a random number of windows.
func boundary(random *rand.Rand, l ratelimit.Limit) (at []int64) {
	window := l.Window.Milliseconds()
	for edge := window; len(at) < 30_000; edge += window * (3 + random.Int64N(3)) {
		at = append(at, edge-window)
		for _, side := range []int64{-1000, 0} {
			for range l.Requests {
				at = append(at, edge+side+random.Int64N(1000))
			}
		}
	}
	slices.Sort(at)
	return at
}

// adversarial is somebody who knows how limiters are fooled. After a silence he
// takes all there is at a random instant, and then knocks as fast as any of them
// fills up again, for one to two windows.
func adversarial(random *rand.Rand, l ratelimit.Limit) (at []int64) {
	window := l.Window.Milliseconds()
	for now := int64(0); len(at) < 60_000; now += window * 2 {
		now += random.Int64N(window)
		for range l.Requests * 5 / 4 {
			at = append(at, now)
		}
		every := int64(math.Ceil(float64(window) / float64(l.Requests) / 4))
		for end := now + window + random.Int64N(window); now < end; now += every {
			at = append(at, now)
		}
	}
	return at
}
