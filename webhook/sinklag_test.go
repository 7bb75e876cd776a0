package webhook_test

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/webhook"
)

// A sink is behind as long as there is one and nobody has delivered to it.
func TestSinkLagEnds(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, h *house, hook webhook.Webhook, r *receiver){
		"delivered by another instance": func(t *testing.T, h *house, _ webhook.Webhook, r *receiver) {
			r.answers(nil)
			h.deliverTrail(t, h.instance(t, r.URL))
		},
		"deleted": func(t *testing.T, h *house, hook webhook.Webhook, _ *receiver) {
			if err := h.Delete(t.Context(), owner, hook.ID, store.Match{}); err != nil {
				t.Fatal(err)
			}
		},
		"disabled": func(t *testing.T, h *house, hook webhook.Webhook, r *receiver) {
			if _, err := h.Update(t.Context(), owner, hook.ID, store.Match{}, webhook.Content{URL: r.URL, Types: hook.Types, Disabled: true}); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			gatehousetest.Databases(t, func(t *testing.T, url string) {
				r := newReceiver(t, status(500))
				h := newHouse(t, url, r.URL)
				hook, _ := h.make(t, owner, r.URL, webhook.AuditEvents)
				h.record(t, "acme", 0, 3)
				h.deliverTrail(t)
				h.clock.Pass(time.Hour)
				h.deliverTrail(t)
				if lag := h.SinkLag(); lag < 59*time.Minute { // the clock of the events is the real one
					t.Errorf("while it is behind, the lag is %v", lag)
				}
				h.clock.Pass(time.Hour)
				end(t, h, hook, r)
				h.deliverTrail(t)
				h.clock.Pass(100 * time.Hour)
				if lag := h.SinkLag(); lag != 0 {
					t.Errorf("afterwards the lag is %v", lag)
				}
			})
		})
	}
}

// A receiver that says that it is gone speaks for itself, and not for the one that the webhook
// has by now.
func TestGoneAtAFormerURL(t *testing.T) {
	var h *house
	var hook webhook.Webhook
	current := newReceiver(t, nil)
	former := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
		moved := webhook.Content{URL: current.URL, Types: hook.Types}
		if _, err := h.Update(t.Context(), owner, hook.ID, store.Match{}, moved); err != nil {
			t.Error(err)
		}
		w.WriteHeader(http.StatusGone)
	})
	h = newHouse(t, t.TempDir()+"/gatehouse.db", former.URL, current.URL)
	hook, _ = h.make(t, owner, former.URL, webhook.AuditEvents)
	h.record(t, "acme", 0, 1)
	h.deliverTrail(t)
	if got, err := h.Get(t.Context(), owner, hook.ID); err != nil || got.Disabled || got.URL != current.URL {
		t.Errorf("%+v, %v; want it enabled", got, err)
	}
	h.clock.Pass(time.Minute)
	h.deliverTrail(t)
	if len(current.got()) == 0 {
		t.Error("the receiver that it has now got nothing")
	}
}

// A batch that could not be sent for want of a key is no failure of its sink.
func TestNoBatchWithoutASecret(t *testing.T) {
	r := newReceiver(t, nil)
	h := newHouse(t, t.TempDir()+"/gatehouse.db", r.URL)
	h.make(t, owner, r.URL, webhook.AuditEvents)
	h.record(t, "acme", 0, 3)
	h.sealer = busy{h.sealer, new(atomic.Int64)}
	const busyFor = 12 // more than what is told of in the trail
	h.sealer.(busy).left.Store(busyFor)
	hurried := h.instance(t, r.URL)
	for range busyFor {
		if err := hurried.DeliverTrail(t.Context()); err != nil {
			t.Fatal(err)
		}
		sinks, err := h.Sinks(t.Context(), owner, "")
		if err != nil || sinks[0].Attempts != 0 || sinks[0].LastError != "" || len(r.got()) != 0 {
			t.Fatalf("%+v, %v, %d requests", sinks, err, len(r.got()))
		}
		h.clock.Pass(5 * time.Second)
	}
	if err := hurried.DeliverTrail(t.Context()); err != nil || len(r.got()) != 1 {
		t.Errorf("%d requests, %v; want 1", len(r.got()), err)
	}
	if told := h.events(t, audit.WebhookFail); len(told) != 0 {
		t.Errorf("the trail tells of failures: %v", told)
	}
}
