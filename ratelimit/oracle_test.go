package ratelimit_test

import (
	"slices"
	"time"

	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// oracle is the limiter at its plainest: it remembers every request it ever
// admitted and counts them again for each question. Everything else must give
// the same answers.
type oracle struct {
	admitted map[string][]int64 // by type and key: instants in milliseconds, sorted
	exact    int                // limits of more requests count in sub-buckets; 0 if none does
}

func newOracle() *oracle { return &oracle{admitted: map[string][]int64{}} }

func (o *oracle) decide(now time.Time, subjects []ratelimit.Subject, take bool) ratelimit.Decision {
	ms := now.UnixMilli()
	d := ratelimit.Decision{Admitted: true, Now: time.UnixMilli(ms).UTC()}
	for _, s := range subjects {
		if o.status(ms, s).Full {
			d.Admitted = false
		}
	}
	if take && d.Admitted {
		for _, s := range subjects {
			stamps := o.admitted[name(s)]
			o.admitted[name(s)] = append(stamps, clock(stamps, ms))
		}
	}
	for _, s := range subjects {
		status := o.status(ms, s)
		d.Statuses = append(d.Statuses, status)
		if !d.Admitted {
			d.RetryAfter = max(d.RetryAfter, status.RetryAfter)
		}
	}
	return d
}

// status is that of the tightest limit.
func (o *oracle) status(now int64, s ratelimit.Subject) ratelimit.Status {
	var tightest ratelimit.Status
	for i, l := range s.Limits {
		status := o.limitStatus(now, o.seen(o.admitted[name(s)], l), l)
		if i == 0 || status.Remaining < tightest.Remaining ||
			status.Remaining == tightest.Remaining && status.Reset.After(tightest.Reset) {
			tightest = status
		}
	}
	return tightest
}

// seen is how a limit sees the stamps: one that counts in sub-buckets takes each
// for the last of its sub-bucket.
func (o *oracle) seen(stamps []int64, l ratelimit.Limit) []int64 {
	if o.exact == 0 || l.Requests <= o.exact {
		return stamps
	}
	width := (l.Window.Milliseconds() + 255) / 256
	seen := slices.Clone(stamps)
	for i := len(seen) - 2; i >= 0; i-- {
		if seen[i]/width == seen[i+1]/width {
			seen[i] = seen[i+1]
		}
	}
	return seen
}

func (o *oracle) limitStatus(now int64, stamps []int64, l ratelimit.Limit) ratelimit.Status {
	window := l.Window.Milliseconds()
	var counted []int64
	for _, s := range stamps {
		if clock(stamps, now)-s < window {
			counted = append(counted, s)
		}
	}
	status := ratelimit.Status{Limit: l, Used: len(counted), Remaining: max(0, l.Requests-len(counted))}
	reset := now
	if status.Remaining == 0 {
		// It admits again when fewer than the limit count: when the oldest of
		// the newest `limit` requests comes free.
		reset = counted[len(counted)-l.Requests] + window
		status.Full = true
		status.RetryAfter = time.Duration(reset-now) * time.Millisecond
	} else if len(counted) > 0 {
		reset = counted[0] + window
	}
	status.Reset = time.UnixMilli(reset).UTC()
	return status
}

func (o *oracle) reset(subjectType, key string) {
	delete(o.admitted, name(ratelimit.Subject{Type: subjectType, Key: key}))
}

// clock is the time for a key: never before its last admitted request.
func clock(stamps []int64, now int64) int64 {
	if n := len(stamps); n > 0 {
		return max(now, stamps[n-1])
	}
	return now
}

func name(s ratelimit.Subject) string { return s.Type + "\x00" + s.Key }
