package wiretime

import (
	"math"
	"net/http"
	"strconv"
	"time"
)

// RetryAfter reads the header Retry-After (RFC 9110, 10.2.3), seconds or a date: how
// long from now is asked to be waited, 0 where nothing is asked that can be read.
func RetryAfter(value string, now time.Time) time.Duration {
	if d := RetryAfterSeconds(value); d > 0 {
		return d
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}

// maxRetryAfter is the most that is made of a number of seconds.
const maxRetryAfter = 1e6

// RetryAfterSeconds reads the header where it says seconds, also a part of one, as
// some services do.
func RetryAfterSeconds(value string) time.Duration {
	s, err := strconv.ParseFloat(value, 64)
	if err != nil || math.IsInf(s, 0) || !(s > 0) {
		return 0
	}
	return time.Duration(min(s, maxRetryAfter) * float64(time.Second))
}
