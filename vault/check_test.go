package vault_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/vault"
	"github.com/gatehouse-io/gatehouse/webhook"
)

const day = 24 * time.Hour

// warnings is how the checkers of these tests are set up unless they say otherwise.
func checkOptions() vault.CheckOptions {
	return vault.CheckOptions{
		TestEvery: day, Warnings: []time.Duration{30 * day, 7 * day, day},
		UnusedAfter: 90 * day, RotateAfter: 200 * day,
	}
}

// hook makes a webhook of acme, so that what is told is in the outbox.
func (h *house) hook(t testing.TB) webhook.Webhook {
	t.Helper()
	hooks, err := webhook.New(h.db, h.trail, h.WebhookSecrets(), webhook.Options{Now: h.clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	w, _, err := hooks.Create(t.Context(), owner, webhook.Content{URL: "https://hooks.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// messages gives the types and the data of the messages in the outbox, oldest first.
func (h *house) messages(t testing.TB) (types []string, data []map[string]any) {
	t.Helper()
	err := h.db.ViewAcross(context.Background(), func(tx *store.Tx) error {
		types, data = nil, nil
		return tx.Each(context.Background(), func(scan func(...any) error) error {
			var body string
			if err := scan(&body); err != nil {
				return err
			}
			var m struct {
				Type      string
				Timestamp time.Time
				Data      map[string]any
			}
			if err := json.Unmarshal([]byte(body), &m); err != nil || m.Timestamp.IsZero() {
				t.Errorf("a message is %s: %v", body, err)
			}
			types, data = append(types, m.Type), append(data, m.Data)
			return nil
		}, `SELECT body FROM webhook_deliveries WHERE organization = 'acme' ORDER BY id`)
	})
	if err != nil {
		t.Fatal(err)
	}
	return types, data
}

func check(t testing.TB, checkers ...*vault.Checker) {
	t.Helper()
	var all sync.WaitGroup
	for _, k := range checkers {
		all.Go(func() {
			if err := k.CheckDue(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

func (h *house) expectTold(t testing.TB, when string, want ...string) {
	t.Helper()
	types, _ := h.messages(t)
	if diff := cmp.Diff(want, types); diff != "" {
		t.Errorf("%s, what was told (-want +got):\n%s", when, diff)
	}
	events := len(h.events(t, "acme", audit.CredentialWarn)) + len(h.events(t, "acme", audit.CredentialExpire))
	if events != len(want) {
		t.Errorf("%s, the trail has %d events, want %d", when, events, len(want))
	}
}

// kinds gives what the health report says of each credential, by name.
func kinds(t testing.TB, k *vault.Checker, caller access.Caller) map[string][]string {
	t.Helper()
	health, err := k.Health(t.Context(), caller, vault.HealthFilter{})
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{}
	for _, item := range health.Items {
		for _, f := range item.Findings {
			all[item.Name] = append(all[item.Name], string(f.Kind))
		}
	}
	return all
}

// Each warning is told once, whoever looks and however often, and again when
// the expiry or the values are others.
func TestExpiryIsToldOnce(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		h := newHouse(t, url, vault.Options{})
		opts := checkOptions()
		opts.UnusedAfter, opts.RotateAfter = 0, 0
		one, two := h.Checker(opts), h.beside(t, url, vault.Options{}).Checker(opts)
		h.hook(t)
		n := openai("", apiKey)
		n.ExpiresAt = h.clock.Now().Add(40 * day)
		c := h.create(t, owner, n)
		var want []string
		look := func(when string, more ...string) {
			t.Helper()
			want = append(want, more...)
			check(t, one, two)
			check(t, two, one)
			h.expectTold(t, when, want...)
		}
		look("40 days before")
		h.clock.Pass(10 * day)
		look("30 days before", "credential.expiring")
		h.clock.Pass(22 * day)
		look("8 days before")
		h.clock.Pass(day)
		look("7 days before", "credential.expiring")
		h.clock.Pass(6 * day)
		look("1 day before", "credential.expiring")
		if diff := cmp.Diff(map[string][]string{"Default": {"expiring"}}, kinds(t, one, owner)); diff != "" {
			t.Error(diff)
		}
		h.clock.Pass(day)
		look("at expiry", "credential.expired")
		h.clock.Pass(50 * day)
		look("long after")

		later := h.clock.Now().Add(20 * day)
		if _, _, err := h.Update(t.Context(), owner, c.ID, store.Match{}, vault.Change{ExpiresAt: &later}); err != nil {
			t.Fatal(err)
		}
		look("20 days before another expiry", "credential.expiring")
		if _, _, err := h.Rotate(t.Context(), owner, c.ID, store.Match{}, vault.Rotation{Fields: map[string]string{"apiKey": apiKeyTwo}}); err != nil {
			t.Fatal(err)
		}
		look("with other values", "credential.expiring")
		if _, _, err := h.Update(t.Context(), owner, c.ID, store.Match{}, vault.Change{Disabled: new(true)}); err != nil {
			t.Fatal(err)
		}
		h.clock.Pass(25 * day)
		look("disabled and expired")
		if len(kinds(t, one, owner)) != 0 {
			t.Error("a disabled credential has findings")
		}

		_, data := h.messages(t)
		credential, _ := data[1]["credential"].(map[string]any)
		if data[1]["within"] != "7d" || data[1]["organizationId"] != "acme" || credential["id"] != c.ID || credential["version"] != 1.0 ||
			credential["service"] != "openai" || !strings.HasPrefix(data[1]["eventId"].(string), "evt_") {
			t.Errorf("the second message says %v", data[1])
		}
		e := h.events(t, "acme", audit.CredentialExpire)[0]
		if e.Actor.Type != "system" || e.Reason != "credential_expired" || e.Targets[0].ID != c.ID || e.ID != data[3]["eventId"] {
			t.Errorf("the event of the expiry is %+v", e)
		}
	})
}

// A use puts the warning of an unused credential off; a rotation that of an old one.
func TestUnusedAndOld(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		h := newHouse(t, url, vault.Options{})
		h.hook(t)
		k := h.Checker(checkOptions())
		c := h.create(t, owner, openai("", apiKey))
		h.create(t, owner, vault.NewCredential{Service: "smtp", Fields: map[string]string{"host": "smtp.example.com", "port": "587", "user": "u", "pass": "a-password"}})
		check(t, k)
		h.clock.Pass(80 * day)
		h.exec(t, `UPDATE credentials SET last_used_at = $1 WHERE organization = 'acme' AND id = $2`, store.At(h.clock.Now()), c.ID)
		check(t, k)
		h.clock.Pass(80 * day)
		check(t, k)
		h.expectTold(t, "80 days after its use")
		h.clock.Pass(10 * day)
		check(t, k)
		check(t, k)
		h.expectTold(t, "90 days after its use", "credential.unused") // smtp is never put on a request, and not unused
		h.clock.Pass(30 * day)
		check(t, k)
		h.expectTold(t, "200 days old", "credential.unused", "credential.rotation_due", "credential.rotation_due")
		if _, _, err := h.Rotate(t.Context(), owner, c.ID, store.Match{}, vault.Rotation{Fields: map[string]string{"apiKey": apiKeyTwo}}); err != nil {
			t.Fatal(err)
		}
		if all := kinds(t, k, owner)["Default"]; slices.Contains(all, "unused") {
			t.Errorf("a rotated credential still has %v before the next look", all)
		}
		check(t, k)
		h.clock.Pass(90 * day)
		check(t, k)
		h.expectTold(t, "90 days after the rotation", "credential.unused", "credential.rotation_due", "credential.rotation_due", "credential.unused")
	})
}

// With everything switched off nothing is told.
func TestSwitchedOff(t *testing.T) {
	h := newHouse(t, t.TempDir()+"/gatehouse.db", vault.Options{})
	h.hook(t)
	k := h.Checker(vault.CheckOptions{})
	n := openai("", apiKey)
	n.ExpiresAt = h.clock.Now().Add(2 * day)
	h.create(t, owner, n)
	for range 3 {
		check(t, k)
		h.clock.Pass(day)
	}
	h.expectTold(t, "after its expiry", "credential.expired") // which is no warning
	health, err := k.Health(t.Context(), owner, vault.HealthFilter{})
	if err != nil || health.Credentials != 1 || health.Healthy != 0 {
		t.Errorf("%+v, %v", health, err)
	}
}
