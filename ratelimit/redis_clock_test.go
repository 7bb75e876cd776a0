package ratelimit_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// Redis's clock is set back and forth by hours while a subject is asked about: the
// script is told the instants. What is decided is the oracle's, so time stands still
// for a subject until the clock has caught up, and no window ever admits more.
func TestRedisClockIsSet(t *testing.T) {
	for _, limit := range []string{"40/10m", "200/10m", "3/10m", "500/10m"} {
		t.Run(limit, func(t *testing.T) {
			r := startRedis(t).open(ratelimit.RedisOptions{Timeout: patient, MaxExact: 300}).Scripted()
			want := newOracle()
			want.exact = 300
			subjects := []ratelimit.Subject{subject("ip", "a", limit), subject("organization", "acme", "1000/1h")}
			now := epoch
			var d ratelimit.Decision
			var admitted ledger
			for i, set := range []time.Duration{
				0, time.Minute, -2 * time.Minute, -5 * time.Hour, 5 * time.Hour, 10 * time.Minute, -time.Millisecond,
				24 * time.Hour, -24 * time.Hour, 24*time.Hour - time.Millisecond, 2 * time.Millisecond, 10 * time.Minute, -20 * time.Minute, 366 * 24 * time.Hour,
			} {
				now = now.Add(set)
				for range 70 {
					s := step{now: now, subjects: subjects}
					expected := want.perform(s)
					if err := perform(t.Context(), r, s, &d); err != nil {
						t.Fatal(err)
					}
					if diff := cmp.Diff(expected, d, answer); diff != "" {
						t.Fatalf("after step %d by %v (-oracle +redis):\n%s", i, set, diff)
					}
					if d.Admitted {
						at := now.UnixMilli()
						if n := len(admitted); n > 0 {
							at = max(at, admitted[n-1]) // time stands still
						}
						admitted = append(admitted, at)
						if n := admitted.within(at, subjects[0].Limits[0].Window.Milliseconds()); n > subjects[0].Limits[0].Requests {
							t.Fatalf("%d admitted in a window of %s", n, limit)
						}
					}
					now = now.Add(time.Millisecond)
				}
			}
		})
	}
}
