package ratelimit_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gatehouse-io/gatehouse/ratelimit"
)

func denial(key string) ([]ratelimit.Subject, *ratelimit.Decision) {
	return []ratelimit.Subject{{Type: "ip", Key: key}, {Type: "organization", Key: "acme"}},
		&ratelimit.Decision{Statuses: []ratelimit.Status{{Full: true}, {}}}
}

// A count is never below the truth, never above it by more than it says, and who
// is denied more than a capacity-th of the time is there.
func TestOffendersKeepTheirBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const capacity = 5
		o := ratelimit.NewOffenders(time.Hour, capacity)
		truth := map[string]int64{}
		keys := rapid.SliceOfN(rapid.Map(rapid.IntRange(0, 400), func(n int) string { return fmt.Sprint(n * n / 4000) }), 1, 300).Draw(t, "keys")
		parts := rapid.IntRange(1, 4).Draw(t, "parts")
		for i, key := range keys {
			s, d := denial(key)
			o.Add(epoch.Add(time.Duration(i*parts/len(keys))*5*time.Minute), s, d)
			truth[key]++
		}
		top := map[string]ratelimit.Offender{}
		for _, offender := range o.Top(epoch.Add(time.Duration(parts-1)*5*time.Minute), 100) {
			top[offender.Key] = offender
			if n := truth[offender.Key]; offender.Type != "ip" || offender.Denied < n || offender.Denied-offender.Over > n {
				t.Fatalf("%+v, want %d", offender, n)
			}
		}
		if len(top) > capacity*parts {
			t.Fatalf("%d kept", len(top))
		}
		for key, n := range truth {
			if _, ok := top[key]; !ok && n > int64(len(keys)/capacity) {
				t.Fatalf("%s is missing with %d of %d", key, n, len(keys))
			}
		}
	})
}

func TestOffendersOfTheLastHour(t *testing.T) {
	o := ratelimit.NewOffenders(time.Hour, 100)
	add := func(now time.Time, key string, n int) {
		for range n {
			s, d := denial(key)
			o.Add(now, s, d)
		}
	}
	add(epoch, "early", 9)
	add(epoch.Add(30*time.Minute), "both", 3)
	add(epoch.Add(50*time.Minute), "both", 4)
	admitted := &ratelimit.Decision{Admitted: true, Statuses: []ratelimit.Status{{Full: true}}}
	o.Add(epoch, []ratelimit.Subject{{Type: "ip", Key: "admitted"}}, admitted)
	if top := o.Top(epoch.Add(50*time.Minute), 1); len(top) != 1 || top[0].Key != "early" || top[0].Denied != 9 {
		t.Errorf("within the hour: %+v", top)
	}
	if top := o.Top(epoch.Add(66*time.Minute), 9); len(top) != 1 || top[0].Key != "both" || top[0].Denied != 7 || top[0].Over != 0 {
		t.Errorf("an hour later: %+v", top)
	}
	if top := o.Top(epoch.Add(3*time.Hour), 9); len(top) != 0 {
		t.Errorf("three hours later: %+v", top)
	}
}

// Whatever is done to the wall clock, the last hour is the last hour.
func TestOffendersBesideAClockThatIsSet(t *testing.T) {
	for _, hours := range []int{-3, 3} {
		o := ratelimit.NewOffenders(time.Hour, 100)
		o.Count(time.Now(), "ip", "before")
		now := set(t, time.Now(), hours*3600)
		o.Count(now, "ip", "after")
		if top := o.Top(now, 9); len(top) != 2 {
			t.Errorf("set by %d h: %+v", hours, top)
		}
	}
}
