package ledger_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/ledger"
	"github.com/gatehouse-io/gatehouse/masterkey"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/vault"
)

// Each signing key that begins is told in the operators' trail, with the one that it took
// the place of.
func TestKeysAreTold(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		b := newBook(t, url, ledger.Options{})
		if err := b.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		first, err := b.Keys(t.Context())
		if err != nil || len(first) != 1 {
			t.Fatalf("%+v, %v", first, err)
		}
		next, err := b.RotateKey(t.Context(), operator)
		if err != nil {
			t.Fatal(err)
		}
		for action, want := range map[audit.Action]struct {
			actor, key string
			retired    any
		}{audit.KeyCreate: {"gatehouse", first[0].ID, nil}, audit.KeyRotate: {"root", next.ID, first[0].ID}} {
			page, err := b.trail.Events(t.Context(), operator, audit.Filter{Organization: access.InstanceOrganization, Action: string(action), Target: want.key})
			if err != nil || len(page.Events) != 1 {
				t.Errorf("%s: %+v, %v", action, page.Events, err)
				continue
			}
			e := page.Events[0]
			if e.Actor.ID != want.actor || e.Targets[0] != (audit.Target{Type: "signing-key", ID: want.key}) || e.Metadata["retired"] != want.retired || e.Permission != access.KeyRotate.String() {
				t.Errorf("%s: %+v", action, e)
			}
		}
	})
}

// sealers seals with whichever of several is next, the last for good.
type sealers struct {
	ledger.Sealer // opens
	next          []ledger.Sealer
}

func (s *sealers) Seal(ctx context.Context, id string, secret []byte) (seal.Sealed, error) {
	with := s.next[0]
	if len(s.next) > 1 {
		s.next = s.next[1:]
	}
	return with.Seal(ctx, id, secret)
}

// A signing key is not written under a master key that is gone when it is: neither the new
// one nor what is kept of the old one. The old one goes on signing.
func TestKeysUnderAMasterKeyThatIsGone(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		b := newBook(t, url, ledger.Options{})
		b.fill(t, 1, 1)
		here, before := b.keys, b.verifyAll(t)
		gone := elsewhere(t)
		for name, next := range map[string][]ledger.Sealer{"the new one": {gone, here}, "the old one": {here, gone}} {
			b.keys = &sealers{here, next}
			if k, err := b.beside().RotateKey(t.Context(), operator); !errors.Is(err, masterkey.ErrSuperseded) {
				t.Errorf("%s is sealed under no key of this database: %+v, %v", name, k, err)
			}
			if keys, err := b.Keys(t.Context()); err != nil || len(keys) != 1 || !keys[0].RetiredAt.IsZero() {
				t.Errorf("%s: there are %+v, %v", name, keys, err)
			}
		}
		b.fill(t, 1, 1)
		if r := b.verifyAll(t); !r.Clean() || r.Events <= before.Events {
			t.Errorf("afterwards: %+v", r)
		}
	})
}

// elsewhere seals under the master key of another database.
func elsewhere(t *testing.T) ledger.Sealer {
	t.Helper()
	db, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "other.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	trail := audit.New(db, audit.Options{})
	keys, err := masterkey.Open(t.Context(), db, trail, masterkey.Options{Environment: "test", Secret: seal.NewSecret("another master secret 0123456789abcdefghijklmnop")})
	if err != nil {
		t.Fatal(err)
	}
	services, err := catalog.New(catalog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return vault.New(db, trail, services, keys.Ring(), vault.Options{Environment: "test"}).SigningKeys()
}
