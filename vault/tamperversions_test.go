package vault_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/masterkey"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/vault"
)

// A place is one version of one credential of one organization.
type place struct {
	caller access.Caller
	id     string
	number int64
	state  vault.State
}

func (p place) String() string { return fmt.Sprint(p.caller.Organization, " ", p.id, " ", p.number) }

// open has the version opened, in the way that its state allows, and gives the
// code of the refusal, "" for none.
func (h *house) openAt(t *testing.T, p place) string {
	t.Helper()
	var err error
	switch p.state {
	case vault.StateActive:
		_, _, err = h.Reveal(t.Context(), p.caller, p.id, "test")
	case vault.StateStaged:
		_, err = h.TestVersion(t.Context(), p.caller, p.id, p.number)
	default: // as the gateway does
		service, _ := h.services.Service("openai")
		_, err = h.OpenPrevious(t.Context(), p.caller, service, vault.Opened{ID: p.id, Version: p.number + 1, Previous: p.number})
	}
	if f, ok := fault.As(err); ok {
		return f.Code
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// names says that the trail tells of this very version that it does not open.
func (h *house) namesUnreadable(t *testing.T, p place) bool {
	return slices.ContainsFunc(h.events(t, p.caller.Organization, audit.CredentialUse), func(e audit.Event) bool {
		return e.Outcome == audit.Failure && e.Reason == "seal_not_opened" && e.Class == audit.Security &&
			e.Targets[0].ID == p.id && e.Targets[1] == audit.Target{Type: "version", ID: fmt.Sprint(p.number)} && fmt.Sprint(e.Metadata["version"]) == fmt.Sprint(p.number)
	})
}

func (h *house) sealedAt(t *testing.T, p place) (b []byte) {
	t.Helper()
	h.scan(t, &b, `SELECT fields_sealed FROM credential_versions WHERE organization = $1 AND credential_id = $2 AND version = $3`,
		p.caller.Organization, p.id, p.number)
	return b
}

func (h *house) putAt(t *testing.T, p place, sealed []byte) {
	t.Helper()
	h.exec(t, `UPDATE credential_versions SET fields_sealed = $1 WHERE organization = $2 AND credential_id = $3 AND version = $4`,
		sealed, p.caller.Organization, p.id, p.number)
}

// places makes a staged version, an active one and one in grace of two credentials
// of one organization and one of another; all hold the same values.
func (h *house) places(t *testing.T) []place {
	t.Helper()
	var all []place
	for _, at := range []struct {
		caller access.Caller
		name   string
	}{{owner, "a"}, {owner, "b"}, {stranger, "a"}} {
		c := h.create(t, at.caller, openai(at.name, apiKey))
		_, _, err := h.Rotate(t.Context(), at.caller, c.ID, store.Match{}, vault.Rotation{Fields: key(apiKey), Grace: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, _, err := h.Stage(t.Context(), at.caller, c.ID, store.Match{}, key(apiKey), ""); err != nil {
			t.Fatal(err)
		}
		all = append(all, place{at.caller, c.ID, 1, vault.StateRetiring}, place{at.caller, c.ID, 2, vault.StateActive}, place{at.caller, c.ID, 3, vault.StateStaged})
	}
	return all
}

// Every swap of rows between versions, credentials and organizations is refused,
// whatever state the versions are in, and the trail names what does not open.
func TestSwappedVersions(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		h := newHouse(t, url, vault.Options{Reveal: true, Probe: accepts(apiKey)})
		places := h.places(t)
		sealed := make([][]byte, len(places))
		for i, p := range places {
			sealed[i] = h.sealedAt(t, p)
		}
		for i, p := range places {
			for j := range places {
				if i == j {
					continue
				}
				h.putAt(t, p, sealed[j])
				h.clock.Pass(2 * vault.Fresh) // past what is cached
				if code := h.openAt(t, p); code != "credential_unreadable" {
					t.Errorf("the seal of %v in the place of %v: %q", places[j], p, code)
				}
			}
			h.putAt(t, p, sealed[i])
			if code := h.openAt(t, p); code != "" {
				t.Errorf("%v put back: %q", p, code)
			}
			if !h.namesUnreadable(t, p) {
				t.Errorf("the trail does not name %v", p)
			}
		}
		// Whole rows that change their numbers.
		p, q := places[0], places[1]
		h.exec(t, `UPDATE credential_versions SET version = -1 WHERE credential_id = $1 AND version = 1`, p.id)
		h.exec(t, `UPDATE credential_versions SET version = 1 WHERE credential_id = $1 AND version = 2`, p.id)
		h.exec(t, `UPDATE credential_versions SET version = 2 WHERE credential_id = $1 AND version = -1`, p.id)
		h.clock.Pass(2 * vault.Fresh)
		for _, p := range []place{p, q} {
			if code := h.openAt(t, p); code != "credential_unreadable" {
				t.Errorf("%v with another's number: %q", p, code)
			}
		}
	})
}

// A byte that is changed in a version that is staged or in grace is found out as
// it is in the active one.
func TestAlteredVersions(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		h := newHouse(t, url, vault.Options{Reveal: true, Probe: accepts(apiKey)})
		for _, p := range h.places(t)[:3] {
			good := h.sealedAt(t, p)
			for i := range good {
				bad := slices.Clone(good)
				bad[i] ^= 1 << (i % 7) // not the top bit: in the number of rounds it would be a second of work
				h.putAt(t, p, bad)
				h.clock.Pass(2 * vault.Fresh)
				if code := h.openAt(t, p); code != "credential_unreadable" {
					t.Errorf("%v, byte %d: %q", p, i, code)
				}
			}
			h.putAt(t, p, good)
			h.exec(t, `UPDATE credential_versions SET fields = '["apiKey","model"]' WHERE credential_id = $1 AND version = $2`, p.id, p.number)
			h.exec(t, `UPDATE credential_version_history SET fields = '["apiKey","model"]' WHERE credential_id = $1 AND version = $2`, p.id, p.number)
			h.clock.Pass(2 * vault.Fresh)
			if code := h.openAt(t, p); code != "credential_unreadable" {
				t.Errorf("%v with other field names: %q", p, code)
			}
			if !h.namesUnreadable(t, p) {
				t.Errorf("the trail does not name %v", p)
			}
		}
	})
}

// Rows of another environment do not open, even where its database is started as
// this one's and has the same master key.
func TestRowsOfAnotherEnvironment(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		h := newHouse(t, url, vault.Options{Reveal: true, Probe: accepts(apiKey)})
		places := h.places(t)
		h.exec(t, `UPDATE instance SET environment = 'other'`)
		_, err := masterkey.Open(t.Context(), h.db, h.trail, masterkey.Options{Environment: "test", Secret: keySecret})
		if err == nil {
			t.Error("a database of another environment is opened")
		}
		keys, err := masterkey.Open(t.Context(), h.db, h.trail, masterkey.Options{Environment: "other", Secret: keySecret})
		if err != nil {
			t.Fatal(err)
		}
		h.Vault = vault.New(h.db, h.trail, h.services, keys.Ring(), vault.Options{Environment: "other", Reveal: true, Probe: accepts(apiKey), Now: h.clock.Now})
		for _, p := range places {
			if code := h.openAt(t, p); code != "credential_unreadable" {
				t.Errorf("%v: %q", p, code)
			}
			if !h.namesUnreadable(t, p) {
				t.Errorf("the trail does not name %v", p)
			}
		}
	})
}

// An altered key of an organization lets nothing be opened or sealed, and is told.
func TestAlteredOrganizationKeys(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		h := newHouse(t, url, vault.Options{Reveal: true})
		c := h.create(t, owner, openai("", apiKey))
		var good []byte
		h.scan(t, &good, `SELECT fingerprint_key_sealed FROM organization_keys WHERE organization = 'acme'`)
		const put = `UPDATE organization_keys SET fingerprint_key_sealed = $1 WHERE organization = 'acme'`
		for i := 0; i < len(good); i++ {
			bad := slices.Clone(good)
			bad[i] ^= 1 << (i % 7)
			h.exec(t, put, bad)
			if code := h.openAt(t, place{owner, c.ID, 1, vault.StateActive}); code != "credential_unreadable" {
				t.Errorf("byte %d: %q", i, code)
			}
		}
		_, _, err := h.Create(context.Background(), owner, openai("another", apiKey))
		if f, ok := fault.As(err); !ok || f.Code != "credential_unreadable" {
			t.Errorf("sealing under it: %v", err)
		}
		told := h.events(t, "acme", audit.CredentialUse)
		if !slices.ContainsFunc(told, func(e audit.Event) bool { return e.Reason == "organization_key_not_opened" }) {
			t.Errorf("the trail: %+v", told)
		}
		h.exec(t, put, good)
		if got := h.values(t, owner, c.ID); got["apiKey"] != apiKey {
			t.Errorf("put back: %v", got)
		}
	})
}
