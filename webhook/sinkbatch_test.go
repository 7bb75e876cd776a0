package webhook_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/webhook"
)

// atMost takes bodies up to size, and answers a larger one with 413.
func atMost(size int64) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength > size {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}
}

// taken gives of what was received the part that is at most size.
func taken(all []received, size int) (some []received) {
	for _, r := range all {
		if len(r.body) <= size {
			some = append(some, r)
		}
	}
	return some
}

// A body is at most 1 MiB as a whole, whatever the events in it measure.
func TestSinkBody(t *testing.T) {
	r := newReceiver(t, nil)
	h := newHouse(t, t.TempDir()+"/gatehouse.db", r.URL)
	h.make(t, owner, r.URL, webhook.AuditEvents)
	for length := range 8 { // no two of the same length
		h.update(t, func(tx *store.Tx) error {
			for i := range 150 {
				err := h.trail.Append(context.Background(), tx, owner, audit.Event{Organization: "acme", Action: audit.PolicyUpdate, Outcome: audit.Success,
					Reason: fmt.Sprint("n", length*150+i), Metadata: map[string]any{"padding": strings.Repeat("x", 2000+100*length)}})
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	h.record(t, "acme", 1200, 1)
	h.deliverTrail(t)
	largest := 0
	for _, got := range r.got() {
		largest = max(largest, len(got.body))
	}
	if largest > 1<<20 || largest < 1<<20-8<<10 {
		t.Errorf("the largest body has %d bytes; want just under 1 MiB", largest)
	}
	if got, _ := reasonsOf(t, r.got()); !slices.Equal(got, numbered(1201)) {
		t.Errorf("%d events came, or not in order", len(got))
	}
}

// A sink whose server takes only small bodies gets every event, in order, in smaller batches,
// and larger ones again when it takes them.
func TestSinkTooLarge(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		const size = 20_000
		r := newReceiver(t, atMost(size))
		h := newHouse(t, url, r.URL)
		h.make(t, owner, r.URL, webhook.AuditEvents)
		h.record(t, "acme", 0, 700)
		for range 60 {
			h.deliverTrail(t)
		}
		got, batches := reasonsOf(t, taken(r.got(), size))
		if !slices.Equal(got, numbered(700)) {
			t.Errorf("%d events were taken, or not in order", len(got))
		}
		for id, times := range batches {
			if times != 1 {
				t.Errorf("batch %s was taken %d times", id, times)
			}
		}
		if refused := len(r.got()) - len(batches); refused > len(batches) {
			t.Errorf("%d batches were refused and %d taken: it does not remember what the sink takes", refused, len(batches))
		}
		sinks, err := h.Sinks(t.Context(), owner, "")
		if err != nil || sinks[0].LagEvents != 0 || sinks[0].Attempts != 0 || sinks[0].LastError != "" {
			t.Errorf("%+v, %v", sinks, err)
		}
		r.answers(nil)
		before := len(r.got())
		h.record(t, "acme", 700, 6000)
		h.deliverTrail(t)
		all := r.got()[before:]
		if first, last := len(all[0].body), len(all[len(all)-2].body); last < 4*first {
			t.Errorf("batches grow from %d bytes to %d", first, last)
		}
		if told := h.events(t, audit.WebhookFail); len(told) != 0 {
			t.Errorf("the trail tells of failures: %v", told)
		}
	})
}

// One event that is refused for its size is a failure that stays, and never skipped.
func TestSinkOneTooLarge(t *testing.T) {
	r := newReceiver(t, status(http.StatusRequestEntityTooLarge))
	h := newHouse(t, t.TempDir()+"/gatehouse.db", r.URL)
	h.make(t, owner, r.URL, webhook.AuditEvents)
	h.record(t, "acme", 0, 5)
	h.deliverTrail(t)
	for range 12 {
		h.clock.Pass(17 * time.Minute)
		h.deliverTrail(t)
	}
	sinks, err := h.Sinks(t.Context(), owner, "")
	if err != nil || sinks[0].Attempts < 10 || sinks[0].LastStatus != 413 || sinks[0].LagEvents != 6 {
		t.Errorf("%+v, %v", sinks, err)
	}
	if told := h.events(t, audit.WebhookFail); len(told) != 1 {
		t.Errorf("the trail tells of it %d times", len(told))
	}
	all := r.got()
	if _, batches := reasonsOf(t, all[len(all)-10:]); len(batches) != 1 {
		t.Errorf("the last attempts were at %d batches; want one", len(batches))
	}
	r.answers(nil)
	h.clock.Pass(17 * time.Minute)
	h.deliverTrail(t)
	if got, _ := reasonsOf(t, r.got()[len(all):]); !slices.Equal(got, numbered(5)) {
		t.Errorf("afterwards %v came", got)
	}
}
