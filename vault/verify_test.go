package vault_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/masterkey"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/vault"
)

func TestOpenSeals(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		h := newHouse(t, url, vault.Options{})
		for i := range 3 {
			for _, caller := range []string{"acme", "globex"} {
				who := owner
				if caller == "globex" {
					who = stranger
				}
				_, _, err := h.Create(t.Context(), who, vault.NewCredential{Service: "openai", Name: fmt.Sprint("n", i), Fields: map[string]string{"apiKey": apiKey}})
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		ring := func(secrets ...seal.Secret) *seal.Keyring {
			r, err := masterkey.Open(t.Context(), h.db, h.trail, masterkey.Options{Environment: "test", Secret: keySecret, Old: secrets})
			if err != nil {
				t.Fatal(err)
			}
			return r.Ring()
		}
		verify := func(r *seal.Keyring, environment string, perKey int64) masterkey.SealReport {
			t.Helper()
			var report masterkey.SealReport
			err := h.db.ViewAcross(t.Context(), func(tx *store.Tx) (err error) {
				report, err = masterkey.OpenSeals(t.Context(), tx, vault.SealedColumns(), r, environment, perKey, nil)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			return report
		}
		if r := verify(ring(), "test", 0); r.Err() != nil || r.Total() != 8 || r.Broken != 0 || r.Destroyed != 0 {
			t.Errorf("all of 6 versions and 2 fingerprint keys: %+v", r)
		}
		if r := verify(ring(), "test", 1); r.Err() != nil || r.Total() != 2 {
			t.Errorf("one for each column: %+v", r)
		}
		if r := verify(ring(), "production", 0); r.Broken != 8 || r.Err() == nil || len(r.Examples) != 8 {
			t.Errorf("of another environment: %+v", r)
		}
		empty, err := seal.NewKeyring(seal.Options{})
		if err != nil {
			t.Fatal(err)
		}
		sealing, _ := ring().Sealing()
		if r := verify(empty, "test", 0); r.Missing[sealing] != 8 || r.Err() == nil || !strings.Contains(r.Err().Error(), sealing.String()) {
			t.Errorf("without the key: %+v, %v", r, r.Err())
		}
		h.exec(t, `UPDATE credential_versions SET fields_sealed = $1 WHERE organization = 'acme' AND version = 1`, []byte("GHS\x01 and nothing more"))
		h.exec(t, `DELETE FROM organization_keys WHERE organization = 'globex'`)
		if r := verify(ring(), "test", 0); r.Broken != 6 || r.Total() != 1 {
			t.Errorf("altered rows, and a salt that is gone: %+v", r)
		}
		h.exec(t, `UPDATE organizations SET deleted_at = 1 WHERE id = 'globex'`)
		if r := verify(ring(), "test", 0); r.Broken != 3 || r.Destroyed != 3 {
			t.Errorf("of a deleted organization: %+v", r)
		}
		for _, secret := range []struct {
			secret seal.Secret
			want   bool
		}{{keySecret, true}, {seal.NewSecret("another-master-secret-0123456789abcdefgh"), false}} {
			if id, under, err := masterkey.SealsUnder(t.Context(), h.db, secret.secret); id != sealing || under != secret.want || err != nil {
				t.Errorf("SealsUnder: %v, %v, %v; want %v", id, under, err, secret.want)
			}
		}
	})
}
