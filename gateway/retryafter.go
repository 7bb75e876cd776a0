package gateway

import (
	"math"
	"net/http"
	"strconv"
	"time"
)

// longestReset bounds what is taken for the time of a reset; services say it in
// seconds or as a date, and what is neither must keep nobody waiting.
const longestReset = 24 * time.Hour

// addRetryAfter adds Retry-After to a refusal by a service's own limit that says when to
// come back only in a header of its own. That of the usual name is passed on as
// Upstream-NAME, and Intercom's SDK, for one, goes by X-RateLimit-Reset.
func addRetryAfter(out http.Header, answer *http.Response) {
	in := answer.Header
	limited := answer.StatusCode == http.StatusTooManyRequests ||
		answer.StatusCode == http.StatusForbidden && in.Get("X-Ratelimit-Remaining") == "0" // GitHub
	if !limited || out["Retry-After"] != nil {
		return
	}
	for _, name := range [...]string{"X-Ratelimit-Reset", "Ratelimit-Reset"} {
		if wait, ok := untilReset(in.Get(name), time.Now()); ok {
			out["Retry-After"] = []string{strconv.FormatInt(max(1, int64(math.Ceil(wait.Seconds()))), 10)}
			return
		}
	}
}

// untilReset reads a reset: Unix time in seconds or milliseconds, or seconds from
// now.
func untilReset(text string, now time.Time) (time.Duration, bool) {
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || !(n >= 0 && n <= 1e14) {
		return 0, false
	}
	var wait time.Duration
	switch {
	case n >= 1e12:
		wait = time.UnixMilli(int64(n)).Sub(now)
	case n >= 1e9:
		wait = time.Unix(int64(n), 0).Sub(now)
	default:
		wait = time.Duration(n * float64(time.Second))
	}
	return max(wait, 0), wait <= longestReset
}
