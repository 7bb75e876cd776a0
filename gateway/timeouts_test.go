package gateway_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
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

// A stream is cut after the whole idle timeout of silence and not before, however
// its chunks came until then, and each write to the caller has its whole time.
func TestStreamsAreCutAfterTheWholeIdleTimeout(t *testing.T) {
	const idle, write = 4 * time.Second, 8 * time.Second
	for name, pauses := range map[string][]time.Duration{
		"at once":              {0},
		"late":                 {3999 * time.Millisecond, 3999 * time.Millisecond},
		"silent after a burst": {950 * time.Millisecond, 3900 * time.Millisecond, 10 * time.Millisecond, 10 * time.Millisecond, 3900 * time.Millisecond},
		"one a second":         {time.Second, time.Second, time.Second, time.Second, time.Second, time.Second, 999 * time.Millisecond},
		"shorter and shorter":  {3 * time.Second, 2 * time.Second, time.Second, 500 * time.Millisecond, 100 * time.Millisecond},
	} {
		for _, contentType := range []string{"text/event-stream", "application/x-ndjson"} {
			t.Run(name+", "+contentType, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newBubble(t, keys{}, func(o *gateway.Options) { o.Idle, o.WriteTimeout, o.Heartbeat = idle, write, 1500*time.Millisecond })
					last := make(chan time.Time, 1)
					b.answer = func(w http.ResponseWriter, r *http.Request) {
						w.Header().Set("Content-Type", contentType)
						rc := http.NewResponseController(w)
						for _, pause := range pauses {
							_ = rc.Flush()
							time.Sleep(pause)
							_, _ = io.WriteString(w, "data: x\n\n")
						}
						_ = rc.Flush()
						last <- time.Now()
						<-r.Context().Done()
					}
					w := &deadlines{ResponseRecorder: httptest.NewRecorder(), t: t, write: write}
					r := b.visitWith(t.Context(), w)
					if silent := time.Since(<-last); silent != idle || r.Reason != "upstream_idle" {
						t.Errorf("cut after %v of silence, want %v: %+v", silent, idle, r)
					}
					if got := strings.Count(w.Body.String(), "data: x\n\n"); got != len(pauses) {
						t.Errorf("%d chunks came, want %d", got, len(pauses))
					}
				})
			})
		}
	}
}

// deadlines is a caller's connection that looks at how long each write may take.
type deadlines struct {
	*httptest.ResponseRecorder
	t     *testing.T
	write time.Duration // what each must have, at least
	mu    sync.Mutex    // heartbeats set it, too
	set   time.Time
}

func (d *deadlines) SetWriteDeadline(at time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.set = at
	return nil
}

func (d *deadlines) Write(b []byte) (int, error) {
	d.mu.Lock()
	left := time.Until(d.set)
	d.mu.Unlock()
	if left < d.write || left > 2*d.write {
		d.t.Errorf("a write has %v, want %v", left, d.write)
	}
	return d.ResponseRecorder.Write(b)
}
