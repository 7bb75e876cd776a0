package wiretime_test

import (
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/internal/wiretime"
)

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 23, 8, 41, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "0": 0, "7": 7 * time.Second, "1.5": 1500 * time.Millisecond, "999999": 999999 * time.Second,
		"-7": 0, "-0.5": 0, "NaN": 0, "Inf": 0, "1e30": 1e6 * time.Second, "5m": 0, "86400000": 1e6 * time.Second, "soon": 0,
		"Mon, 23 Nov 2026 08:42:00 GMT": time.Minute, "Mon, 23 Nov 2026 08:40:00 GMT": 0,
	} {
		if got := wiretime.RetryAfter(value, now); got != want {
			t.Errorf("%q asks for %s, want %s", value, got, want)
		}
		if got := wiretime.RetryAfterSeconds(value); len(value) < 10 && got != want || len(value) > 10 && got != 0 {
			t.Errorf("%q are %s, want %s", value, got, want)
		}
	}
}
