package webhook_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/webhook"
)

// verifies reports whether the official library takes what was received under
// the secret.
func verifies(t testing.TB, secret string, m received) bool {
	t.Helper()
	wh, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	return wh.Verify(m.body, m.header) == nil
}

// What arrives verifies with the library that Standard Webhooks gives
// receivers, also while a secret is rotated.
func TestSignatures(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		r := newReceiver(t, nil)
		h := newHouse(t, url, r.URL)
		w, first := h.make(t, owner, r.URL+"/in?x=1")
		send := func() received {
			t.Helper()
			before := len(r.got())
			h.enqueue(t, webhook.CredentialExpiring)
			h.deliver(t)
			all := r.got()
			if len(all) != before+1 {
				t.Fatalf("%d requests for one message", len(all)-before)
			}
			return all[before]
		}
		m := send()
		if !verifies(t, first, m) {
			t.Errorf("the signature is not taken: %v", m.header)
		}
		if verifies(t, "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=", m) {
			t.Error("the signature is taken under any secret")
		}
		var body struct {
			Type      string
			Timestamp time.Time
			Data      map[string]any
		}
		if err := json.Unmarshal(m.body, &body); err != nil || body.Type != "credential.expiring" || !body.Timestamp.Equal(h.clock.Now()) || body.Data["organizationId"] != "acme" {
			t.Errorf("%s: %v", m.body, err)
		}
		if m.header.Get("Content-Type") != "application/json" || m.header.Get("Authorization") != "" || !strings.HasPrefix(m.header.Get("webhook-id"), "msg_") {
			t.Errorf("headers %v", m.header)
		}

		_, second, err := h.RotateSecret(t.Context(), owner, w.ID, time.Minute)
		if err != nil || second == first {
			t.Fatal(err)
		}
		if m = send(); !verifies(t, first, m) || !verifies(t, second, m) {
			t.Errorf("within the overlap: %v", m.header)
		}
		_, third, err := h.RotateSecret(t.Context(), owner, w.ID, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if m = send(); verifies(t, first, m) || !verifies(t, second, m) || !verifies(t, third, m) {
			t.Errorf("after two rotations the two newest hold: %v", m.header)
		}
		h.clock.Pass(time.Minute)
		if m = send(); verifies(t, second, m) || !verifies(t, third, m) {
			t.Errorf("after the overlap: %v", m.header)
		}
		if _, fourth, err := h.RotateSecret(t.Context(), owner, w.ID, 0); err != nil {
			t.Fatal(err)
		} else if m = send(); verifies(t, third, m) || !verifies(t, fourth, m) {
			t.Errorf("without an overlap: %v", m.header)
		}
	})
}

// A message exists if and only if what it tells was committed, for those who
// want its type.
func TestEnqueue(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		r := newReceiver(t, nil)
		h := newHouse(t, url, r.URL)
		all, _ := h.make(t, owner, r.URL+"/all")
		some, _ := h.make(t, owner, r.URL+"/some", webhook.CredentialExpired)
		other, _ := h.make(t, stranger, r.URL+"/other")
		off, _, err := h.Create(t.Context(), owner, webhook.Content{URL: r.URL, Disabled: true})
		if err != nil {
			t.Fatal(err)
		}
		gone := errors.New("the change failed")
		err = h.db.Update(t.Context(), "acme", func(tx *store.Tx) error {
			if err := webhook.Enqueue(t.Context(), tx, "acme", h.clock.Now(), webhook.Message{Type: webhook.CredentialExpired, OccurredAt: h.clock.Now()}); err != nil {
				return err
			}
			return gone
		})
		if !errors.Is(err, gone) {
			t.Fatal(err)
		}
		h.enqueue(t, webhook.CredentialUnused)
		h.enqueue(t, webhook.CredentialExpired)
		h.deliver(t)
		for id, want := range map[string]int{all.ID: 2, some.ID: 1, off.ID: 0} {
			if got := h.deliveries(t, id); len(got) != want {
				t.Errorf("%d deliveries, want %d", len(got), want)
			}
		}
		if page, err := h.Deliveries(t.Context(), stranger, other.ID, webhook.Filter{}); err != nil || len(page.Deliveries) != 0 {
			t.Errorf("another organization was told: %v, %v", page, err)
		}
		if n := len(r.got()); n != 3 {
			t.Errorf("%d requests, want 3", n)
		}
		if d := h.deliveries(t, some.ID)[0]; d.Status != webhook.Delivered || d.LastStatus != 204 || d.Attempts != 1 || d.LastAttemptAt.IsZero() {
			t.Errorf("%+v", d)
		}
	})
}
