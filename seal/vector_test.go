package seal_test

import (
	"testing"

	"github.com/gatehouse-io/gatehouse/seal"
)

// docsKeyring gives a keyring with the page's master key, which seals, and the
// page's salt and context.
func docsKeyring(tb testing.TB, page *docsPage) (*seal.Keyring, seal.OrganizationSalt, seal.Context) {
	tb.Helper()
	id, err := seal.ParseKeyID(page.record.ID)
	if err != nil {
		tb.Fatal(err)
	}
	record := seal.KeyRecord{ID: id, Salt: page.record.Salt, Iterations: page.record.Iterations, Check: page.record.Check}
	key, err := seal.NewMasterKey(record, seal.NewSecret(page.input.MasterSecret))
	if err != nil {
		tb.Fatal(err)
	}
	keyring, err := seal.NewKeyring(seal.Options{}, key)
	if err != nil {
		tb.Fatal(err)
	}
	if err := keyring.SetSealing(id); err != nil {
		tb.Fatal(err)
	}
	salt, err := seal.ParseOrganizationSalt(page.input.OrganizationSalt)
	if err != nil {
		tb.Fatal(err)
	}
	return keyring, salt, seal.Context(page.input.Context)
}

// TestVector opens the worked example of docs/sealing.md, which nothing of
// this package has made. It fails when the format changes, and then the
// change needs a new suite.
func TestVector(t *testing.T) {
	page := readDocs(t)
	keyring, salt, c := docsKeyring(t, page)
	sealed, err := seal.ParseSealed(page.sealed())
	if err != nil {
		t.Fatal(err)
	}
	got, err := keyring.Open(t.Context(), c, salt, sealed)
	if err != nil {
		t.Fatal(err)
	}
	if got.ExposeSecret() != page.intermediate.Plaintext {
		t.Error("another plaintext")
	}

	// And the fields encode to the same plaintext.
	fields, err := keyring.OpenFields(t.Context(), c, salt, sealed)
	if err != nil {
		t.Fatal(err)
	}
	again, err := keyring.SealFields(t.Context(), c, salt, fields)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := keyring.Open(t.Context(), c, salt, again); err != nil || got.ExposeSecret() != page.intermediate.Plaintext {
		t.Errorf("sealed again, another plaintext: %v", err)
	}
}
