package webhook_test

import (
	"context"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/webhook"
)

// Whoever sends a message again, or a test, stands in the trail with the webhook and the delivery.
func TestReplaysAndTestsAreTold(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		r := newReceiver(t, nil)
		h := newHouse(t, url, r.URL)
		w, _ := h.make(t, owner, r.URL)
		tested, err := h.SendTest(t.Context(), owner, w.ID)
		if err != nil {
			t.Fatal(err)
		}
		h.deliver(t)
		if _, err := h.Replay(t.Context(), owner, w.ID, tested.ID); err != nil {
			t.Fatal(err)
		}
		for _, action := range []audit.Action{audit.WebhookTest, audit.WebhookReplay} {
			told := h.events(t, action)
			if len(told) != 1 || told[0].Actor.ID != owner.ID || told[0].Permission != access.WebhookManage.String() || len(told[0].Targets) != 2 ||
				told[0].Targets[0].ID != w.ID || told[0].Targets[1] != (audit.Target{Type: "delivery", ID: tested.ID}) {
				t.Errorf("%s: %+v", action, told)
			}
		}
	})
}

// A delivery that another instance has made since it was found is not made again, nor one that
// was given up since.
func TestNothingIsTakenTwice(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		r := newReceiver(t, nil)
		h := newHouse(t, url, r.URL)
		w, _ := h.make(t, owner, r.URL)
		other := h.instance(t, r.URL)
		for name, test := range map[string]struct {
			answer    int
			meanwhile func()
			left      webhook.Status
		}{
			"delivered":       {http.StatusNoContent, func() {}, webhook.Delivered},
			"tried":           {http.StatusInternalServerError, func() {}, webhook.Pending},
			"tried and again": {http.StatusInternalServerError, func() { h.clock.Pass(time.Minute); h.deliver(t, other) }, webhook.Pending},
		} {
			r.answers(status(test.answer))
			h.enqueue(t, webhook.CredentialExpired)
			before := len(r.got())
			taken, err := h.TakeLate(t.Context(), func() { h.deliver(t, other); test.meanwhile() })
			if err != nil || taken != 0 {
				t.Errorf("%s meanwhile: %d were taken, %v", name, taken, err)
			}
			if d := h.deliveries(t, w.ID)[0]; d.Status != test.left || d.Attempts != int64(len(r.got())-before) {
				t.Errorf("%s meanwhile: %+v after %d attempts", name, d, len(r.got())-before)
			}
			h.update(t, func(tx *store.Tx) error {
				_, err := tx.Exec(context.Background(), `DELETE FROM webhook_deliveries`)
				return err
			})
		}
		h.enqueue(t, webhook.CredentialExpired)
		if taken, err := h.TakeLate(t.Context(), func() {}); err != nil || taken != 1 {
			t.Errorf("what nobody took: %d, %v", taken, err)
		}
		h.enqueue(t, webhook.CredentialUnused)
		taken, err := h.TakeLate(t.Context(), func() {
			if _, err := h.Update(t.Context(), owner, w.ID, store.Match{}, webhook.Content{URL: r.URL, Disabled: true}); err != nil {
				t.Error(err)
			}
		})
		if d := h.deliveries(t, w.ID)[0]; err != nil || taken != 0 || d.Status != webhook.Failed {
			t.Errorf("of what was switched off meanwhile %d were taken, %v; it is %+v", taken, err, d)
		}
	})
}

// What is swept is what ended long ago: neither what ended lately nor what waits, whoever's.
func TestSweepTakesNothingElse(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		r := newReceiver(t, nil)
		h := newHouse(t, url, r.URL)
		w, _ := h.make(t, owner, r.URL)
		theirs, _ := h.make(t, stranger, r.URL)
		send := func(caller access.Caller, id string) string {
			t.Helper()
			d, err := h.SendTest(t.Context(), caller, id)
			if err != nil {
				t.Fatal(err)
			}
			return d.ID
		}
		send(owner, w.ID)
		send(stranger, theirs.ID)
		h.deliver(t)
		r.answers(status(http.StatusInternalServerError))
		waits := send(owner, w.ID)
		h.deliver(t)
		r.answers(nil)
		h.clock.Pass(webhook.KeepFor)
		if err := h.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := len(h.deliveries(t, w.ID)); n != 2 {
			t.Errorf("at their very age %d are left, want 2", n)
		}
		h.clock.Pass(time.Second)
		lately, here := send(stranger, theirs.ID), send(owner, w.ID)
		h.update(t, func(tx *store.Tx) error {
			_, err := tx.Exec(context.Background(), `UPDATE webhook_deliveries SET status = 'delivered' WHERE id <> $1`, waits)
			return err
		})
		if err := h.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		var left []string
		for id, caller := range map[string]access.Caller{w.ID: owner, theirs.ID: stranger} {
			page, err := h.Deliveries(t.Context(), caller, id, webhook.Filter{})
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range page.Deliveries {
				left = append(left, d.ID)
			}
		}
		want := []string{waits, lately, here}
		slices.Sort(want)
		slices.Sort(left)
		if diff := cmp.Diff(want, left); diff != "" {
			t.Errorf("left are (-want +got):\n%s", diff)
		}
	})
}

// A sink that says that it is gone is switched off, and told of; others get on, and so does the
// operator's, which nobody could switch on again.
func TestSinkThatIsGone(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		gone, works := newReceiver(t, status(http.StatusGone)), newReceiver(t, nil)
		h := newHouse(t, url, gone.URL, works.URL)
		hook, _ := h.make(t, owner, gone.URL, webhook.AuditEvents)
		beside, _ := h.make(t, owner, works.URL, webhook.AuditEvents)
		h.record(t, "acme", 0, 3)
		for range 3 {
			h.deliverTrail(t)
			h.record(t, "acme", 3, 1)
			h.clock.Pass(17 * time.Minute)
		}
		if got, err := h.Get(t.Context(), owner, hook.ID); err != nil || !got.Disabled || got.DisabledReason != "gone" {
			t.Errorf("it is %+v, %v", got, err)
		}
		if n := len(gone.got()); n != 1 {
			t.Errorf("%d batches were sent to what is gone, want 1", n)
		}
		told := h.events(t, audit.WebhookDisable)
		if len(told) != 1 || told[0].Reason != "gone" || told[0].Actor.Type != "system" || told[0].Targets[0].ID != hook.ID {
			t.Errorf("the trail tells %+v", told)
		}
		if got, err := h.Get(t.Context(), owner, beside.ID); err != nil || got.Disabled || len(works.got()) < 3 {
			t.Errorf("the sink beside it got %d batches and is %+v, %v", len(works.got()), got, err)
		}

		gone.answers(status(http.StatusGone))
		w, err := webhook.New(h.db, h.trail, h.sealer, webhook.Options{Now: h.clock.Now, Operator: webhook.OperatorSink{
			URL: gone.URL, Secret: seal.NewSecret([]byte("0123456789abcdef0123456789abcdef")),
		}})
		if err != nil {
			t.Fatal(err)
		}
		h.deliverTrail(t, w) // which begins it
		h.record(t, access.InstanceOrganization, 0, 3)
		h.deliverTrail(t, w)
		gone.answers(nil)
		h.clock.Pass(17 * time.Minute)
		before := len(gone.got())
		h.deliverTrail(t, w)
		if got, _ := reasonsOf(t, gone.got()[before:]); !slices.Equal(got, numbered(3)) {
			t.Errorf("the operator's got %v afterwards", got)
		}
	})
}
