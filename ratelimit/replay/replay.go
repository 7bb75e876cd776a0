// Package replay plays recorded traffic through a rate limit, to see what the
// limit would have done.
//
// The traffic is a CSV file with a header line and a request a line. [Run] sends
// each request through [ratelimit.Memory], the limiter that serves real traffic,
// on the file's own clock, and counts what was admitted and denied:
//
//	limit, _ := ratelimit.ParseLimit("100/1m")
//	report, err := replay.Run(ctx, file, replay.Options{Limit: limit, KeyColumn: "client"})
//
// # Times
//
// A time is one of
//
//	2023-11-16T18:15:46.680Z    RFC 3339, any zone and fraction
//	2023-11-16 18:15:46.68059   the same without a zone: UTC
//	1700158546.68               a number: seconds since 1970 below 1e11,
//	                            milliseconds below 1e14, microseconds below 1e17
//
// and is taken in whole milliseconds, rounded down. Lines need not be in order:
// they are sorted first, those of the same millisecond staying as they stand.
//
// The whole file is read before the first decision, at 16 bytes a request and
// what the distinct keys take.
package replay

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// MaxKeys is how many keys a [Report] lists.
const MaxKeys = 1000

// Options says what to replay.
type Options struct {
	// Limit is the limit of each key. It is required.
	Limit ratelimit.Limit

	// TimeColumn is the name of the column with the time of each request; ""
	// means "TIMESTAMP".
	TimeColumn string

	// KeyColumn is the name of the column that says who asks: each value has
	// the limit to itself. With "", all requests share one key, "".
	KeyColumn string

	// Progress, unless nil, is told now and then how many bytes were read.
	Progress func(readBytes int64)
}

// Report is what the limit would have done.
type Report struct {
	Limit         int     `json:"limit"`         // requests in a window
	WindowSeconds float64 `json:"windowSeconds"` // may be fractional
	Requests      int     `json:"requests"`
	Admitted      int     `json:"admitted"`
	Denied        int     `json:"denied"`

	// MaxInWindow is the most requests of one key that were admitted in any
	// window, counted from the times alone: it never exceeds Limit.
	MaxInWindow int `json:"maxInWindow"`

	// Keys are the keys with the most denied requests first, then by name: at
	// most MaxKeys of them.
	Keys []Key `json:"keys"`

	// OmittedKeys is how many keys are not listed.
	OmittedKeys int `json:"omittedKeys,omitempty"`

	// Unsorted is how many lines were earlier than one before them.
	Unsorted int `json:"unsorted,omitempty"`
}

// Key is the part of a [Report] about one key.
type Key struct {
	Key         string `json:"key"`
	Requests    int    `json:"requests"`
	Admitted    int    `json:"admitted"`
	Denied      int    `json:"denied"`
	MaxInWindow int    `json:"maxInWindow"`
}

// request is one line of the file.
type request struct {
	at  int64 // milliseconds since 1970
	key int   // index of the key
}

// Run replays the CSV file that r holds. An error about the file names the line
// or the column that is wrong, never a value; a limit out of bounds is
// [ratelimit.ErrInvalidLimit]; when ctx ends, its cause is returned.
func Run(ctx context.Context, r io.Reader, options Options) (Report, error) {
	if err := options.Limit.Validate(); err != nil {
		return Report{}, err
	}
	requests, names, err := read(ctx, r, options)
	if err != nil {
		return Report{}, err
	}
	report := Report{
		Limit:         options.Limit.Requests,
		WindowSeconds: options.Limit.Window.Seconds(),
		Requests:      len(requests),
		Unsorted:      sortByTime(requests),
	}
	keys, err := decide(ctx, requests, names, options.Limit)
	if err != nil {
		return Report{}, err
	}
	for _, k := range keys {
		report.Admitted += k.Admitted
		report.Denied += k.Denied
		report.MaxInWindow = max(report.MaxInWindow, k.MaxInWindow)
	}
	slices.SortFunc(keys, func(a, b Key) int {
		return cmp.Or(cmp.Compare(b.Denied, a.Denied), cmp.Compare(a.Key, b.Key))
	})
	if len(keys) > MaxKeys {
		report.OmittedKeys = len(keys) - MaxKeys
		keys = slices.Clone(keys[:MaxKeys])
	}
	report.Keys = keys
	return report, nil
}

// sortByTime sorts the requests and returns how many came too late.
func sortByTime(requests []request) (late int) {
	latest := int64(0)
	for _, q := range requests {
		if q.at < latest {
			late++
		}
		latest = max(latest, q.at)
	}
	if late > 0 {
		slices.SortStableFunc(requests, func(a, b request) int { return cmp.Compare(a.at, b.at) })
	}
	return late
}

// decide plays the requests, which are sorted, and counts by key.
func decide(ctx context.Context, requests []request, names []string, limit ratelimit.Limit) ([]Key, error) {
	// Room for any number of keys: none may be pushed out here.
	limiter := ratelimit.NewMemory(ratelimit.MemoryOptions{MaxKeys: 1 << 30})
	subjects := []ratelimit.Subject{{Type: "key", Limits: []ratelimit.Limit{limit}}}
	keys := make([]Key, len(names))
	for i, name := range names {
		keys[i].Key = name
	}
	windows := make([][]int64, len(names)) // admitted within the last window, by key
	var d ratelimit.Decision
	for i, q := range requests {
		if i%checkEvery == 0 && ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		k := &keys[q.key]
		subjects[0].Key = k.Key
		if err := limiter.Take(ctx, time.UnixMilli(q.at), subjects, &d); err != nil {
			return nil, fmt.Errorf("request %d: %w", i+1, err)
		}
		k.Requests++
		if !d.Admitted {
			k.Denied++
			continue
		}
		k.Admitted++
		// Count again, without the limiter.
		w := append(windows[q.key], q.at)
		for q.at-w[0] >= limit.Window.Milliseconds() {
			w = w[1:]
		}
		windows[q.key] = w
		k.MaxInWindow = max(k.MaxInWindow, len(w))
	}
	return keys, nil
}
