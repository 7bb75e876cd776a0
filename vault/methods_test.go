package vault_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/masterkey"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/vault"
)

// call is one method on one credential, with good arguments.
type call struct {
	permission access.Permission
	action     audit.Action
	run        func(ctx context.Context, h *house, c access.Caller, id string) error
}

func calls() map[string]call {
	return map[string]call{
		"Get": {access.CredentialList, audit.CredentialRead, func(ctx context.Context, h *house, c access.Caller, id string) error {
			_, err := h.Get(ctx, c, id)
			return err
		}},
		"Update": {access.CredentialUpdate, audit.CredentialUpdate, func(ctx context.Context, h *house, c access.Caller, id string) error {
			_, _, err := h.Update(ctx, c, id, store.Match{}, vault.Change{Fields: map[string]*string{"apiKey": text(apiKeyTwo)}})
			return err
		}},
		"Rotate": {access.CredentialRotate, audit.CredentialRotate, func(ctx context.Context, h *house, c access.Caller, id string) error {
			_, _, err := h.Rotate(ctx, c, id, store.Match{}, vault.Rotation{Fields: map[string]string{"apiKey": apiKeyTwo}})
			return err
		}},
		"Reveal": {access.CredentialReveal, audit.CredentialReveal, func(ctx context.Context, h *house, c access.Caller, id string) error {
			_, fields, err := h.Reveal(ctx, c, id, "a reason")
			if err != nil && fields != nil {
				return errors.New("fields beside an error")
			}
			return err
		}},
		"TestStored": {access.CredentialTest, audit.CredentialTest, func(ctx context.Context, h *house, c access.Caller, id string) error {
			_, err := h.TestStored(ctx, c, id)
			return err
		}},
		"Versions": {access.CredentialList, audit.CredentialRead, func(ctx context.Context, h *house, c access.Caller, id string) error {
			_, err := h.Versions(ctx, c, id, vault.VersionFilter{})
			return err
		}},
		"Stage": {access.CredentialRotate, audit.CredentialStage, stage},
		"Activate": {access.CredentialRotate, audit.CredentialActivate, func(ctx context.Context, h *house, c access.Caller, id string) error {
			if err := stage(ctx, h, c, id); err != nil && c.Can(access.CredentialRotate) {
				return err
			}
			_, err := h.Activate(ctx, c, id, store.Match{}, 2, vault.Activation{})
			return err
		}},
		"RollBack": {access.CredentialRotate, audit.CredentialRollback, func(ctx context.Context, h *house, c access.Caller, id string) error {
			_, _, err := h.Rotate(ctx, c, id, store.Match{}, vault.Rotation{Fields: map[string]string{"apiKey": apiKeyTwo}, Grace: time.Hour})
			if err != nil && c.Can(access.CredentialRotate) {
				return err
			}
			_, err = h.RollBack(ctx, c, id, store.Match{}, vault.Rollback{})
			return err
		}},
		"DestroyVersion": {access.CredentialRotate, audit.CredentialDestroy, func(ctx context.Context, h *house, c access.Caller, id string) error {
			if err := stage(ctx, h, c, id); err != nil && c.Can(access.CredentialRotate) {
				return err
			}
			_, err := h.DestroyVersion(ctx, c, id, store.Match{}, 2)
			return err
		}},
		"TestVersion": {access.CredentialTest, audit.CredentialTest, func(ctx context.Context, h *house, c access.Caller, id string) error {
			if c.Can(access.CredentialRotate) {
				if err := stage(ctx, h, c, id); err != nil {
					return err
				}
			}
			_, err := h.TestVersion(ctx, c, id, 2)
			return err
		}},
		"Delete": {access.CredentialDelete, audit.CredentialDelete, func(ctx context.Context, h *house, c access.Caller, id string) error {
			return h.Delete(ctx, c, id, store.Match{})
		}},
	}
}

func stage(ctx context.Context, h *house, c access.Caller, id string) error {
	_, _, _, err := h.Stage(ctx, c, id, store.Match{}, map[string]string{"apiKey": apiKeyTwo}, "")
	return err
}

func TestMethods(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		h := newHouse(t, url, vault.Options{Reveal: true})
		ctx := t.Context()
		theirs := h.create(t, stranger, openai("", apiKey))
		other := h.create(t, stranger, openai("other", apiKey))
		malformed := []string{
			"", "cred_", "cred_x", "' OR 1=1 --", strings.ToUpper(theirs.ID), theirs.ID + "\x00", theirs.ID + " ", "evt" + theirs.ID[4:],
			strings.Repeat("x", 1<<16), "cred_" + strings.Repeat("0", 36), "\xff",
		}
		for name, call := range calls() {
			mine := h.create(t, owner, openai(name, apiKey))
			for _, role := range append(access.Roles(), "stranger") {
				caller := access.NewCaller("acme", access.User, "u-2", role)
				if caller.Can(call.permission) {
					continue
				}
				for _, id := range []string{mine.ID, theirs.ID, "malformed"} {
					var denied *access.DeniedError
					if err := call.run(ctx, h, caller, id); !errors.As(err, &denied) || denied.Permission != call.permission {
						t.Errorf("%s as %s: %v", name, role, err)
					}
				}
			}
			// Another organization's, none at all, malformed: one answer.
			for _, id := range append([]string{theirs.ID, other.ID, "cred_0197c3f2-6a1e-7c3a-9f00-0123456789ab"}, malformed...) {
				err := call.run(ctx, h, owner, id)
				if !errors.Is(err, vault.ErrNotFound) || err.Error() != vault.ErrNotFound.Message || strings.Contains(err.Error(), "globex") {
					t.Errorf("%s of %.50q: %v", name, id, err)
				}
			}
			before := len(h.events(t, "acme", call.action))
			if err := call.run(ctx, h, owner, mine.ID); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			events := h.events(t, "acme", call.action)
			if len(events) != before+1 {
				t.Errorf("%s left %d events", name, len(events)-before)
				continue
			}
			e := events[len(events)-1]
			want := []audit.Target{{Type: "credential", ID: mine.ID, Name: name}}
			if diff := cmp.Diff(want, e.Targets); diff != "" || e.Actor.ID != "u-1" || e.Permission != call.permission.String() {
				t.Errorf("%s: the event %+v (-want +got targets):\n%s", name, e, diff)
			}
		}
		if got := h.values(t, stranger, theirs.ID); got["apiKey"] != apiKey {
			t.Errorf("the other organization's credential was touched: %v", got)
		}
		for _, c := range []access.Caller{access.NewCaller("acme", access.User, "u", access.Auditor), {}} {
			var denied *access.DeniedError
			if _, _, err := h.Create(ctx, c, openai("x", apiKey)); !errors.As(err, &denied) {
				t.Errorf("Create as %v: %v", c.Roles, err)
			}
			if _, err := h.Test(ctx, c, "openai", map[string]string{"apiKey": apiKey}); !errors.As(err, &denied) {
				t.Errorf("Test as %v: %v", c.Roles, err)
			}
		}
		if _, err := h.List(ctx, access.NewCaller("acme", access.Service, "u", access.ServiceRole), vault.Filter{}); err == nil {
			t.Error("List as a service")
		}
		if _, err := h.use(t, access.NewCaller("acme", access.User, "u", access.Viewer), "openai", ""); err == nil {
			t.Error("OpenForUse as a viewer")
		}
	})
}

// Without its event no change happens, whichever change it is.
func TestNoChangeWithoutItsEvent(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		h := newHouse(t, url, vault.Options{Reveal: true})
		c := h.create(t, owner, openai("", apiKey))
		state := func() (all []string) {
			for _, query := range []string{
				`SELECT CAST(count(*) AS TEXT) || ':' || CAST(max(revision) AS TEXT) || ':' || CAST(max(updated_at) AS TEXT) FROM credentials`,
				`SELECT CAST(count(*) AS TEXT) || ':' || CAST(max(version) AS TEXT) || ':' || max(fingerprint) FROM credential_versions`,
				`SELECT coalesce(max(last_test), 'never') FROM credentials`,
			} {
				var s string
				h.scan(t, &s, query)
				all = append(all, s)
			}
			return all
		}
		before := state()
		refuse := []string{
			`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no events today'; END $$`,
			`CREATE TRIGGER refuse BEFORE INSERT ON events FOR EACH ROW WHEN (NEW.class = 'control') EXECUTE FUNCTION refuse()`,
		}
		if h.db.Kind() == "sqlite" {
			refuse = []string{`CREATE TRIGGER refuse BEFORE INSERT ON events WHEN NEW.class = 'control' BEGIN SELECT RAISE(ABORT, 'no events today'); END`}
		}
		for _, s := range refuse {
			h.exec(t, s)
		}
		for name, call := range calls() {
			if name == "Get" || name == "Versions" { // visits: their events wait in the spool
				continue
			}
			if err := call.run(t.Context(), h, owner, c.ID); err == nil || strings.Contains(err.Error(), apiKey) {
				t.Errorf("%s without its event: %v", name, err)
			}
			if diff := cmp.Diff(before, state()); diff != "" {
				t.Errorf("%s without its event changed something (-before +after):\n%s", name, diff)
			}
		}
		if _, _, err := h.Create(t.Context(), owner, openai("second", apiKeyTwo)); err == nil {
			t.Error("Create without its event")
		}
		if diff := cmp.Diff(before, state()); diff != "" {
			t.Errorf("Create without its event changed something (-before +after):\n%s", diff)
		}
		h.uses(t, "", apiKey, nil)
	})
}

// When the trail takes no further visits, nothing is read or tested.
func TestNoVisitWithoutRoomForItsEvent(t *testing.T) {
	h := newHouse(t, t.TempDir()+"/gatehouse.db", vault.Options{})
	c := h.create(t, owner, openai("", apiKey))
	full := audit.New(h.db, audit.Options{Spool: 1})
	slot, err := full.Reserve()
	if err != nil {
		t.Fatal(err)
	}
	keys, err := masterkey.Open(t.Context(), h.db, full, masterkey.Options{Environment: "test", Secret: keySecret})
	if err != nil {
		t.Fatal(err)
	}
	v := vault.New(h.db, full, h.services, keys.Ring(), vault.Options{Environment: "test"})
	_, listErr := v.List(t.Context(), owner, vault.Filter{})
	_, getErr := v.Get(t.Context(), owner, c.ID)
	_, testErr := v.Test(t.Context(), owner, "openai", map[string]string{"apiKey": apiKey})
	for what, err := range map[string]error{"List": listErr, "Get": getErr, "Test": testErr} {
		if !errors.Is(err, audit.ErrFull) {
			t.Errorf("%s: %v", what, err)
		}
	}
	slot.Release()
	if _, err := v.Get(t.Context(), owner, "cred_unknown"); !errors.Is(err, vault.ErrNotFound) {
		t.Error(err)
	}
	if _, err := v.Get(t.Context(), owner, c.ID); err != nil { // the one that failed gave its place back
		t.Error(err)
	}
}

func TestReveal(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		off := newHouse(t, url, vault.Options{})
		c := off.create(t, owner, zendesk())
		if _, fields, err := off.Reveal(t.Context(), owner, c.ID, "why"); !errors.Is(err, vault.ErrRevealOff) || fields != nil {
			t.Errorf("switched off: %v, %v", fields, err)
		}
		on := off.beside(t, url, vault.Options{Reveal: true})
		if diff := cmp.Diff(zendesk().Fields, on.values(t, owner, c.ID)); diff != "" {
			t.Errorf("(-stored +revealed):\n%s", diff)
		}
		for _, reason := range []string{"", "  \n\t ", strings.Repeat("é", 501), "\xff"} {
			_, fields, err := on.Reveal(t.Context(), owner, c.ID, reason)
			if fault.KindOf(err) != fault.Invalid || fields != nil {
				t.Errorf("reason %.20q: %v", reason, err)
			}
		}
		if _, _, err := on.Reveal(t.Context(), owner, c.ID, "Marie asked <\x00'\"> "+strings.Repeat("é", 400)); err != nil {
			t.Error(err)
		}
		events := on.events(t, "acme", audit.CredentialReveal)
		if len(events) != 2 || events[0].Personal["reason"] != "test" || !strings.HasPrefix(events[1].Personal["reason"], "Marie asked") {
			t.Errorf("the events: %+v", events)
		}
		var hashed []byte
		on.scan(t, &hashed, `SELECT canonical FROM events WHERE organization = 'acme' AND id = $1`, events[1].ID)
		if bytes.Contains(hashed, []byte("Marie")) {
			t.Error("the reason is in what is hashed")
		}
	})
}

func TestListing(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		h := newHouse(t, url, vault.Options{})
		now := h.clock.Now()
		add := func(name string, expires time.Time) string {
			n := openai(name, apiKey)
			n.ExpiresAt = expires
			return h.create(t, owner, n).ID
		}
		add("active", time.Time{})
		add("far", now.Add(vault.ExpiringWithin+2*time.Minute))
		add("expiring", now.Add(vault.ExpiringWithin))
		add("expired", now.Add(time.Minute))
		disabled := add("disabled", now.Add(time.Minute))
		yes := true
		if _, _, err := h.Update(t.Context(), owner, disabled, store.Match{}, vault.Change{Disabled: &yes}); err != nil {
			t.Fatal(err)
		}
		h.create(t, owner, zendesk())
		h.create(t, stranger, openai("theirs", apiKey))
		h.clock.Pass(time.Minute)
		tests := []struct {
			name   string
			filter vault.Filter
			want   []string
		}{
			{"all", vault.Filter{}, []string{"Default", "disabled", "expired", "expiring", "far", "active"}},
			{"service", vault.Filter{Service: "zendesk"}, []string{"Default"}},
			{"no such service", vault.Filter{Service: "' OR 1=1 --"}, nil},
			{"active", vault.Filter{Status: vault.Active}, []string{"Default", "far", "active"}},
			{"expiring", vault.Filter{Status: vault.Expiring}, []string{"expiring"}},
			{"expired", vault.Filter{Status: vault.Expired}, []string{"expired"}},
			{"disabled", vault.Filter{Status: vault.Disabled, Service: "openai"}, []string{"disabled"}},
		}
		for _, test := range tests {
			for _, limit := range []int{1, 2, 6, vault.MaxLimit} {
				var got []string
				f := test.filter
				f.Limit = limit
				for range 10 {
					page, err := h.List(t.Context(), owner, f)
					if err != nil {
						t.Fatal(test.name, err)
					}
					for _, c := range page.Credentials {
						got = append(got, c.Name)
						if f.Status != "" && c.Status != f.Status {
							t.Errorf("%s: %s is %s", test.name, c.Name, c.Status)
						}
					}
					if f.Cursor = page.NextCursor; f.Cursor == "" {
						break
					}
				}
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("%s, limit %d (-want +got):\n%s", test.name, limit, diff)
				}
			}
		}
		for field, f := range map[string]vault.Filter{
			"service": {Service: "a\x00"}, "status": {Status: "gone"}, "limit": {Limit: vault.MaxLimit + 1}, "cursor": {Cursor: "x"},
		} {
			_, err := h.List(t.Context(), owner, f)
			if e, ok := fault.As(err); !ok || e.Kind != fault.Invalid || e.Fields[0].Name != field {
				t.Errorf("%s: %v", field, err)
			}
		}
	})
}
