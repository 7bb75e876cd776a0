package gateway_test

import (
	"io"
	"net/http"
	"strconv"
	"testing"
	"time"
)

// A provider that says when to come back only in a header whose name is ours is
// understood all the same: Retry-After says it too.
func TestWhenToComeBack(t *testing.T) {
	soon := time.Now().Add(time.Hour)
	seconds, milliseconds := strconv.FormatInt(soon.Unix(), 10), strconv.FormatInt(soon.UnixMilli(), 10)
	for name, test := range map[string]struct {
		status    int
		header    []string
		low, most int    // seconds of Retry-After; 0: there is none
		exactly   string // Retry-After, where it is the provider's own
	}{
		"Intercom":            {status: 429, header: []string{"X-RateLimit-Reset", seconds}, low: 3000, most: 3601},
		"in milliseconds":     {status: 429, header: []string{"X-RateLimit-Reset", milliseconds}, low: 3000, most: 3601},
		"from now":            {status: 429, header: []string{"RateLimit-Reset", "41"}, low: 41, most: 41},
		"a part of a second":  {status: 429, header: []string{"X-RateLimit-Reset", "0.2"}, low: 1, most: 1},
		"GitHub":              {status: 403, header: []string{"X-RateLimit-Reset", seconds, "X-RateLimit-Remaining", "0"}, low: 3000, most: 3601},
		"another 403":         {status: 403, header: []string{"X-RateLimit-Reset", seconds, "X-RateLimit-Remaining", "7"}},
		"a success":           {status: 200, header: []string{"X-RateLimit-Reset", seconds}},
		"its own Retry-After": {status: 429, header: []string{"X-RateLimit-Reset", seconds, "Retry-After", "7"}, exactly: "7"},
		"passed":              {status: 429, header: []string{"X-RateLimit-Reset", "1750000000"}, low: 1, most: 1},
		"far away":            {status: 429, header: []string{"X-RateLimit-Reset", "9999999999"}},
		"a duration in words": {status: 429, header: []string{"X-RateLimit-Reset", "120ms"}},
		"a date":              {status: 429, header: []string{"X-RateLimit-Reset", soon.Format(time.RFC3339)}},
		"nonsense":            {status: 429, header: []string{"X-RateLimit-Reset", "NaN"}},
		"too much":            {status: 429, header: []string{"X-RateLimit-Reset", "1e300"}},
		"nothing":             {status: 429},
	} {
		t.Run(name, func(t *testing.T) {
			upstream, _ := recorder(t, func(w http.ResponseWriter, _ *http.Request) {
				for i := 0; i < len(test.header); i += 2 {
					w.Header().Set(test.header[i], test.header[i+1])
				}
				w.WriteHeader(test.status)
				_, _ = io.WriteString(w, "{}")
			})
			answer, _ := serve(t, upstream).call(t, "GET", "/api/chat/up/v1", "")
			got := answer.Header.Get("Retry-After")
			if test.exactly != "" || test.most == 0 {
				if got != test.exactly {
					t.Errorf("Retry-After is %q, want %q", got, test.exactly)
				}
				return
			}
			if n, err := strconv.Atoi(got); err != nil || n < test.low || n > test.most {
				t.Errorf("Retry-After is %q, want %d to %d", got, test.low, test.most)
			}
		})
	}
}
