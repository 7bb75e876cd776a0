package webhook_test

import (
	"context"
	"errors"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/internal/netguard"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/webhook"
)

const somewhere = "https://hooks.example.com/gatehouse"

func TestLifeOfAWebhook(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		h := newHouse(t, url)
		w, secret := h.make(t, owner, somewhere+"?token=a-receivers-secret", webhook.CredentialUnused, webhook.CredentialExpired, webhook.CredentialUnused)
		if !strings.HasPrefix(secret, "whsec_") || len(secret) < 40 {
			t.Errorf("the secret has the form %q...", secret[:6])
		}
		got, err := h.Get(t.Context(), owner, w.ID)
		if diff := cmp.Diff(w, got); diff != "" || err != nil {
			t.Errorf("%v\n%s", err, diff)
		}
		if diff := cmp.Diff([]webhook.Type{webhook.CredentialExpired, webhook.CredentialUnused}, got.Types); diff != "" {
			t.Error(diff)
		}
		c := w.Content
		c.Description, c.Types = "Pages the team", nil
		if _, err := h.Update(t.Context(), owner, w.ID, store.MatchOf(9), c); !errors.Is(err, webhook.ErrStale) {
			t.Errorf("a change of an older state: %v", err)
		}
		h.enqueue(t, webhook.CredentialExpired)
		c.Disabled = true
		if got, err = h.Update(t.Context(), owner, w.ID, store.MatchOf(1), c); err != nil || got.Revision != 2 || got.Description != c.Description {
			t.Errorf("%+v, %v", got, err)
		}
		if d := h.deliveries(t, w.ID); d[0].Status != webhook.Failed || d[0].LastError != "disabled" {
			t.Errorf("what waited when it was disabled: %+v", d)
		}
		if _, err := h.Replay(t.Context(), owner, w.ID, h.deliveries(t, w.ID)[0].ID); !errors.Is(err, webhook.ErrDisabled) {
			t.Errorf("a replay to what is disabled: %v", err)
		}
		if err := h.Delete(t.Context(), owner, w.ID, store.MatchOf(1)); !errors.Is(err, webhook.ErrStale) {
			t.Error(err)
		}
		if err := h.Delete(t.Context(), owner, w.ID, store.Match{}); err != nil {
			t.Error(err)
		}
		for _, table := range []string{"webhooks", "webhook_secrets", "webhook_deliveries"} {
			var n int64
			if err := h.db.ViewAcross(t.Context(), func(tx *store.Tx) error {
				return tx.Row(t.Context(), `SELECT count(*) FROM `+table).Scan(&n)
			}); err != nil || n != 0 {
				t.Errorf("%d rows of %s are left, %v", n, table, err)
			}
		}
		for action, n := range map[audit.Action]int{audit.WebhookCreate: 1, audit.WebhookUpdate: 1, audit.WebhookDelete: 1} {
			events := h.events(t, action)
			if len(events) != n || events[0].Targets[0].ID != w.ID || events[0].Metadata["origin"] != "https://hooks.example.com:443" {
				t.Errorf("%s: %+v", action, events)
			}
		}
	})
}

// Another organization's webhooks do not exist.
func TestOfOthers(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		h := newHouse(t, url)
		w, _ := h.make(t, owner, somewhere)
		h.enqueue(t, webhook.CredentialExpired)
		d := h.deliveries(t, w.ID)[0]
		own, _ := h.make(t, stranger, somewhere)
		for _, id := range []string{w.ID, "whk_0197c3f2-0000-7000-8000-000000000000", "", "x", "whk_'; --"} {
			ctx := t.Context()
			_, get := h.Get(ctx, stranger, id)
			_, update := h.Update(ctx, stranger, id, store.Match{}, w.Content)
			_, _, rotate := h.RotateSecret(ctx, stranger, id, 0)
			_, test := h.SendTest(ctx, stranger, id)
			_, list := h.Deliveries(ctx, stranger, id, webhook.Filter{})
			_, replay := h.Replay(ctx, stranger, id, d.ID)
			for call, err := range map[string]error{"get": get, "update": update, "rotate": rotate, "test": test, "deliveries": list, "replay": replay,
				"delete": h.Delete(ctx, stranger, id, store.Match{})} {
				if !errors.Is(err, webhook.ErrNotFound) {
					t.Errorf("%s %q: %v", call, id, err)
				}
			}
		}
		if _, err := h.Replay(t.Context(), stranger, own.ID, d.ID); !errors.Is(err, webhook.ErrDeliveryNotFound) {
			t.Errorf("another's delivery on one's own webhook: %v", err)
		}
		if all, err := h.List(t.Context(), stranger); err != nil || len(all) != 1 || all[0].ID != own.ID {
			t.Errorf("%v, %v", all, err)
		}
		if got, err := h.Get(t.Context(), owner, w.ID); err != nil || got.Revision != 1 {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

func TestPermissions(t *testing.T) {
	h := newHouse(t, t.TempDir()+"/gatehouse.db")
	w, _ := h.make(t, owner, somewhere)
	for _, role := range []access.Role{access.Developer, access.Auditor, access.Viewer, access.ServiceRole, access.Operator, ""} {
		c := access.NewCaller("acme", access.User, "u-2", role)
		ctx := t.Context()
		_, _, create := h.Create(ctx, c, w.Content)
		_, list := h.List(ctx, c)
		_, get := h.Get(ctx, c, w.ID)
		_, update := h.Update(ctx, c, w.ID, store.Match{}, w.Content)
		_, _, rotate := h.RotateSecret(ctx, c, w.ID, 0)
		_, test := h.SendTest(ctx, c, w.ID)
		_, deliveries := h.Deliveries(ctx, c, w.ID, webhook.Filter{})
		_, replay := h.Replay(ctx, c, w.ID, "x")
		for call, err := range map[string]error{"create": create, "list": list, "get": get, "update": update, "rotate": rotate, "test": test,
			"deliveries": deliveries, "replay": replay, "delete": h.Delete(ctx, c, w.ID, store.Match{})} {
			var denied *access.DeniedError
			if !errors.As(err, &denied) {
				t.Errorf("%s as %s: %v", call, role, err)
			}
		}
	}
}

func TestBadInput(t *testing.T) {
	h := newHouse(t, t.TempDir()+"/gatehouse.db")
	for field, c := range map[string]webhook.Content{
		"url":         {URL: "http://hooks.example.com"},
		"events":      {URL: somewhere, Types: []webhook.Type{"credential.secret_value"}},
		"description": {URL: somewhere, Description: "a\nb"},
	} {
		_, _, err := h.Create(t.Context(), owner, c)
		f, ok := fault.As(err)
		if !ok || len(f.Fields) != 1 || f.Fields[0].Name != field || strings.Contains(f.Fields[0].Message, "secret_value") {
			t.Errorf("%s: %+v", field, err)
		}
	}
	w, _ := h.make(t, owner, somewhere)
	for _, overlap := range []time.Duration{-1, webhook.MaxOverlap + 1} {
		if _, _, err := h.RotateSecret(t.Context(), owner, w.ID, overlap); err == nil {
			t.Errorf("an overlap of %v is taken", overlap)
		}
	}
	for _, f := range []webhook.Filter{{Status: "x"}, {Limit: -1}, {Limit: 201}, {Cursor: "x"}, {Cursor: "ZGx2XycK"}} {
		if _, err := h.Deliveries(t.Context(), owner, w.ID, f); err == nil {
			t.Errorf("%+v is taken", f)
		}
	}
	for range webhook.MaxWebhooks - 1 {
		h.make(t, owner, somewhere)
	}
	if _, _, err := h.Create(t.Context(), owner, webhook.Content{URL: somewhere}); fault.KindOf(err) != fault.Conflict {
		t.Errorf("one webhook too many: %v", err)
	}
}

// Deliveries come in pages; those that are too old are swept, those that wait
// are not.
func TestPagesAndSweep(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		r := newReceiver(t, nil)
		h := newHouse(t, url, r.URL)
		w, _ := h.make(t, owner, r.URL)
		for range 7 {
			h.enqueue(t, webhook.CredentialExpired)
		}
		h.deliver(t)
		h.deliver(t)
		h.enqueue(t, webhook.CredentialUnused)
		var all []string
		f := webhook.Filter{Limit: 3}
		for {
			page, err := h.Deliveries(t.Context(), owner, w.ID, f)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range page.Deliveries {
				all = append(all, d.ID)
			}
			if f.Cursor = page.NextCursor; f.Cursor == "" {
				break
			}
		}
		if len(all) != 8 || all[0] < all[7] {
			t.Errorf("the pages hold %v", all)
		}
		if _, _, err := h.RotateSecret(t.Context(), owner, w.ID, time.Hour); err != nil {
			t.Fatal(err)
		}
		h.clock.Pass(webhook.KeepFor + time.Second)
		if err := h.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if left := h.deliveries(t, w.ID); len(left) != 1 || left[0].Type != webhook.CredentialUnused {
			t.Errorf("after the sweep: %+v", left)
		}
		var secrets int64
		if err := h.db.ViewAcross(t.Context(), func(tx *store.Tx) error {
			return tx.Row(t.Context(), `SELECT count(*) FROM webhook_secrets`).Scan(&secrets)
		}); err != nil || secrets != 1 {
			t.Errorf("%d secrets are left, %v", secrets, err)
		}
	})
}

// A secret's row opens only as what it is: not as another webhook's, another
// organization's or another version.
func TestSecretsAreBound(t *testing.T) {
	h := newHouse(t, t.TempDir()+"/gatehouse.db")
	one, _ := h.make(t, owner, somewhere)
	two, _ := h.make(t, owner, somewhere)
	h.update(t, func(tx *store.Tx) error {
		_, err := tx.Exec(t.Context(), `UPDATE webhook_secrets SET secret_sealed =
			(SELECT secret_sealed FROM webhook_secrets WHERE webhook_id = $1) WHERE webhook_id = $2`, one.ID, two.ID)
		return err
	})
	if _, err := h.SendTest(t.Context(), owner, two.ID); err != nil {
		t.Fatal(err)
	}
	h.deliver(t)
	if d := h.deliveries(t, two.ID)[0]; d.LastError != "secret" || d.Status != webhook.Pending {
		t.Errorf("%+v", d)
	}
}

// Whatever URL is taken is https on port 443 without a password, and not to an
// address that is forbidden as it stands.
func FuzzURL(f *testing.F) {
	for _, seed := range []string{somewhere, "https://[::1]", "http://localhost", "https://a:443/?b#c", "https://0x7f.1/", "https://example.com\\@127.0.0.1/", "https://%31%32%37.0.0.1/", "https://１２７.0.0.1"} {
		f.Add(seed)
	}
	h := newHouse(f, f.TempDir()+"/gatehouse.db")
	f.Fuzz(func(t *testing.T, raw string) {
		if h.CheckURL(raw) != "" {
			return
		}
		u, err := url.Parse(raw)
		if err != nil || u.Scheme != "https" || u.Port() != "" && u.Port() != "443" || u.User != nil || u.Hostname() == "" || len(raw) > 2000 {
			t.Errorf("%q is taken", raw)
		}
		if a, err := netip.ParseAddr(u.Hostname()); err == nil && netguard.Forbidden(a) {
			t.Errorf("%q is taken", raw)
		}
	})
}

// outrun is a sealer beside which somebody else rotates the secret each time.
type outrun struct {
	webhook.Sealer
	times  int
	rotate func()
}

func (o *outrun) Seal(ctx context.Context, organization, id string, version int64, secret seal.Secret) (seal.Sealed, error) {
	if version > 1 { // the first is made, not rotated
		o.times++
		o.rotate()
	}
	return o.Sealer.Seal(ctx, organization, id, version, secret)
}

// A rotation that others always outrun ends.
func TestRotateSecretEnds(t *testing.T) {
	h := newHouse(t, t.TempDir()+"/gatehouse.db")
	o := &outrun{Sealer: h.sealer, rotate: func() {
		h.update(t, func(tx *store.Tx) error {
			_, err := tx.Exec(t.Context(), `UPDATE webhooks SET secret_version = secret_version + 1`)
			return err
		})
	}}
	w, err := webhook.New(h.db, h.trail, o, webhook.Options{})
	if err != nil {
		t.Fatal(err)
	}
	made, _, err := w.Create(t.Context(), owner, webhook.Content{URL: somewhere})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, _, err := w.RotateSecret(ctx, owner, made.ID, 0); !errors.Is(err, webhook.ErrStale) || o.times < 10 {
		t.Errorf("after %d rotations by others: %v", o.times, err)
	}
	for range 20 { // most of the time goes into waits
		soon, cancel := context.WithTimeout(t.Context(), 15*time.Millisecond)
		_, _, err := w.RotateSecret(soon, owner, made.ID, 0)
		cancel()
		if kind := fault.KindOf(err); kind != fault.Unavailable && !errors.Is(err, webhook.ErrStale) {
			t.Fatalf("a rotation out of time: %v", err)
		}
	}
}
