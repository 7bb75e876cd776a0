package gateway_test

import (
	"io"
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gateway"
)

// An answer is timed by what it is late with: its header, or what follows on its header.
func TestSmallAnswersTimeouts(t *testing.T) {
	const firstByte, idle = 10 * time.Second, 3 * time.Second
	const half = `{"error":"half`
	for name, c := range map[string]struct {
		header, between, end time.Duration // of silence: before the header, before the body, inside it
		status               int           // that the upstream answers
		reason               string        // "": it comes through
	}{
		"all in time":               {header: 9 * time.Second, between: 2 * time.Second, end: 2 * time.Second, status: 200},
		"silent before the header":  {header: 11 * time.Second, status: 200, reason: "upstream_timeout"},
		"silent before the body":    {header: time.Second, between: 4 * time.Second, status: 200, reason: "upstream_idle"},
		"silent inside the body":    {header: time.Second, end: 4 * time.Second, status: 200, reason: "upstream_idle"},
		"an error, all in time":     {header: 9 * time.Second, between: 2 * time.Second, end: 2 * time.Second, status: 400},
		"silent inside an error":    {header: time.Second, end: 4 * time.Second, status: 400, reason: "upstream_idle"},
		"a refusal, all in time":    {header: 9 * time.Second, between: 2 * time.Second, end: 2 * time.Second, status: 401},
		"silent inside the refusal": {header: time.Second, end: 4 * time.Second, status: 401, reason: "upstream_idle"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBubble(t, keys{}, func(o *gateway.Options) { o.FirstByte, o.Idle = firstByte, idle })
				b.answer = func(w http.ResponseWriter, _ *http.Request) {
					time.Sleep(c.header)
					w.Header().Set("Content-Type", "application/json")
					w.Header().Set("Content-Length", strconv.Itoa(2*len(half)))
					w.WriteHeader(c.status)
					rc := http.NewResponseController(w)
					_ = rc.Flush()
					time.Sleep(c.between)
					_, _ = io.WriteString(w, half)
					_ = rc.Flush()
					time.Sleep(c.end)
					_, _ = io.WriteString(w, half)
				}
				w, r := b.visit(t.Context(), "acme", "", "POST")
				time.Sleep(time.Minute) // until the upstream is done
				switch {
				case c.reason == "" && (w.Code != c.status || w.Body.String() != half+half):
					t.Errorf("%d %s, %+v; want %d and all of the body", w.Code, w.Body, r, c.status)
				case c.reason != "" && (r.Reason != c.reason || r.Outcome == audit.Success):
					t.Errorf("%d %s, %+v; want %s", w.Code, w.Body, r, c.reason)
				}
			})
		})
	}
}
