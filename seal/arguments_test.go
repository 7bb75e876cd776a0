package seal_test

import (
	"errors"
	"testing"

	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/google/go-cmp/cmp"
)

func TestBadArguments(t *testing.T) {
	ctx := t.Context()
	keyring := newKeyring(t)
	good, err := keyring.Seal(ctx, credential, saltA, nil)
	if err != nil {
		t.Fatal(err)
	}
	with := func(change func(*seal.Context)) seal.Context {
		c := credential
		change(&c)
		return c
	}
	for _, test := range []struct {
		name string
		c    seal.Context
		salt seal.OrganizationSalt
		want error
	}{
		{"no environment", with(func(c *seal.Context) { c.Environment = "" }), saltA, seal.ErrContext},
		{"no organization", with(func(c *seal.Context) { c.Organization = "" }), saltA, seal.ErrContext},
		{"no kind", with(func(c *seal.Context) { c.Kind = "" }), saltA, seal.ErrContext},
		{"no id", with(func(c *seal.Context) { c.ID = "" }), saltA, seal.ErrContext},
		{"negative version", with(func(c *seal.Context) { c.Version = -1 }), saltA, seal.ErrContext},
		{"field twice", with(func(c *seal.Context) { c.Fields = []string{"b", "a", "b"} }), saltA, seal.ErrContext},
		{"field without a name", with(func(c *seal.Context) { c.Fields = []string{""} }), saltA, seal.ErrContext},
		{"no salt", credential, seal.OrganizationSalt{}, seal.ErrSalt},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := keyring.Seal(ctx, test.c, test.salt, nil); !errors.Is(err, test.want) {
				t.Errorf("Seal gives %v", err)
			}
			if _, err := keyring.Open(ctx, test.c, test.salt, good); !errors.Is(err, test.want) {
				t.Errorf("Open gives %v", err)
			}
			if _, err := keyring.Rewrap(ctx, test.c, test.salt, good); !errors.Is(err, test.want) {
				t.Errorf("Rewrap gives %v", err)
			}
		})
	}
	if _, err := keyring.Seal(ctx, credential, saltA, make([]byte, seal.MaxPlaintext+1)); !errors.Is(err, seal.ErrTooLarge) {
		t.Errorf("Seal of too much gives %v", err)
	}
	if sealed, err := keyring.Seal(ctx, credential, saltA, make([]byte, seal.MaxPlaintext)); err != nil {
		t.Error(err)
	} else if _, err := keyring.Open(ctx, credential, saltA, sealed); err != nil {
		t.Error(err)
	}
	for _, sealed := range []seal.Sealed{nil, {}, good[:10]} {
		if _, err := keyring.Open(ctx, credential, saltA, sealed); !errors.Is(err, seal.ErrMalformed) {
			t.Errorf("Open of %v gives %v", sealed, err)
		}
		if _, err := keyring.Rewrap(ctx, credential, saltA, sealed); !errors.Is(err, seal.ErrMalformed) {
			t.Errorf("Rewrap of %v gives %v", sealed, err)
		}
	}
	if diff := cmp.Diff([]string{"apiKey", "organization"}, credential.Fields); diff != "" {
		t.Error("a context was changed", diff)
	}
}

func TestKeyringKeys(t *testing.T) {
	keyring, err := seal.NewKeyring(seal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	a, b := keyA().ID(), keyB().ID()
	if _, err := keyring.Seal(t.Context(), credential, saltA, nil); !errors.Is(err, seal.ErrNoSealingKey) {
		t.Errorf("an empty keyring seals: %v", err)
	}
	err = keyring.SetSealing(a)
	if unknown, ok := errors.AsType[seal.UnknownKeyError](err); !ok || unknown.KeyID != a {
		t.Errorf("SetSealing of an absent key: %v", err)
	}
	if got, want := err.Error(), "seal: the keyring does not hold key_00000000-0000-0000-0000-000000000001"; got != want {
		t.Errorf("the error says %q", got)
	}
	if err := errors.Join(keyring.Add(keyB()), keyring.Add(keyA())); err != nil {
		t.Fatal(err)
	}
	if err := keyring.Add(keyA()); !errors.Is(err, seal.ErrDuplicateKey) {
		t.Errorf("a key twice: %v", err)
	}
	if err := keyring.Add(seal.MasterKey{}); !errors.Is(err, seal.ErrKeyRecord) {
		t.Errorf("the zero key: %v", err)
	}
	if _, err := seal.NewKeyring(seal.Options{}, keyA(), keyA()); !errors.Is(err, seal.ErrDuplicateKey) {
		t.Errorf("NewKeyring with a key twice: %v", err)
	}
	if diff := cmp.Diff([]seal.KeyID{a, b}, keyring.KeyIDs()); diff != "" {
		t.Error(diff)
	}
	if !keyring.Holds(a) || keyring.Holds(seal.KeyID{9}) {
		t.Error("Holds is wrong")
	}
	if id, ok := keyring.Sealing(); ok {
		t.Errorf("%v seals without SetSealing", id)
	}
	if err := keyring.SetSealing(b); err != nil {
		t.Fatal(err)
	}
	if id, ok := keyring.Sealing(); !ok || id != b {
		t.Errorf("%v seals", id)
	}
	sealed, err := keyring.Seal(t.Context(), credential, saltA, nil)
	if err != nil || sealed.KeyID() != b || sealed.Iterations() != seal.MinIterations {
		t.Errorf("sealed as %v: %v", sealed, err)
	}
	if got, want := keyring.String(), "keyring(2 keys, sealing key_00000000-0000-0000-0000-000000000002)"; got != want {
		t.Errorf("String gives %q", got)
	}
}

// TestMoreIterations is the way to raise the count: a second key of the same
// secret.
func TestMoreIterations(t *testing.T) {
	record, err := seal.NewKeyRecord(seal.KeyID{15: 3}, masterA, 150_000)
	if err != nil {
		t.Fatal(err)
	}
	keyring := newKeyring(t)
	old, err := keyring.Seal(t.Context(), credential, saltA, []byte("plaintext"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(keyring.Add(mustKey(record, masterA)), keyring.SetSealing(record.ID)); err != nil {
		t.Fatal(err)
	}
	sealed, err := keyring.Rewrap(t.Context(), credential, saltA, old)
	if err != nil || sealed.Iterations() != 150_000 {
		t.Fatalf("rewrapped as %v: %v", sealed, err)
	}
	if _, err := keyring.Open(t.Context(), credential, saltA, sealed); err != nil {
		t.Error(err)
	}
}
