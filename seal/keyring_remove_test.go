package seal_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/gatehouse-io/gatehouse/seal"
)

// TestRemovedKeysOpenNothing: what a key opened a moment ago does not open once
// the key is removed, from no cache either.
func TestRemovedKeysOpenNothing(t *testing.T) {
	keyring := newKeyring(t)
	old, err := keyring.Seal(t.Context(), credential, saltA, []byte("under A"))
	if err != nil {
		t.Fatal(err)
	}
	keyring.Remove(recordA().ID) // it seals: it stays
	if _, err := keyring.Open(t.Context(), credential, saltA, old); err != nil {
		t.Fatalf("the sealing key was removed: %v", err)
	}
	if err := keyring.SetSealing(recordB().ID); err != nil {
		t.Fatal(err)
	}
	moved, err := keyring.Rewrap(t.Context(), credential, saltA, old)
	if err != nil {
		t.Fatal(err)
	}
	keyring.Remove(recordA().ID)
	var unknown seal.UnknownKeyError
	if _, err := keyring.Open(t.Context(), credential, saltA, old); !errors.As(err, &unknown) || unknown.KeyID != recordA().ID {
		t.Errorf("a removed key opens: %v", err)
	}
	if err := keyring.Check(t.Context(), credential, saltA, moved); err != nil {
		t.Errorf("what was rewrapped: %v", err)
	}
	if got := keyring.Stats().DataKeys; got != 0 {
		t.Errorf("%d data keys are kept, want none: neither of a removed key nor of a check", got)
	}
}

// TestCheckFindsWhatDoesNotOpen flips one byte in every place: no check passes.
func TestCheckFindsWhatDoesNotOpen(t *testing.T) {
	keyring := newKeyring(t)
	sealed, err := keyring.Seal(t.Context(), credential, saltA, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range sealed {
		sealed[i] ^= 1
		if err := keyring.Check(t.Context(), credential, saltA, sealed); err == nil {
			t.Errorf("a value with byte %d changed passes the check", i)
		}
		sealed[i] ^= 1
	}
	other := credential
	other.Version++
	if err := keyring.Check(t.Context(), other, saltA, sealed); !errors.Is(err, seal.ErrNotOpened) {
		t.Errorf("another version's: %v", err)
	}
	if err := keyring.Check(t.Context(), credential, saltA, sealed); err != nil {
		t.Error(err)
	}
}

// TestHotOpensHoldTheContext opens the same value in its own context and in
// others by turns, hot: only its own opens, whatever was cached before.
func TestHotOpensHoldTheContext(t *testing.T) {
	keyring := newKeyring(t)
	sealed, err := keyring.Seal(t.Context(), credential, saltA, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	fields := slices.Clone(credential.Fields)
	own := credential
	own.Fields = fields
	for range 3 {
		if _, err := keyring.Open(t.Context(), own, saltA, sealed); err != nil {
			t.Fatal(err)
		}
		for name, change := range map[string]func(*seal.Context){
			"environment":  func(c *seal.Context) { c.Environment += "x" },
			"organization": func(c *seal.Context) { c.Organization += "x" },
			"kind":         func(c *seal.Context) { c.Kind += "x" },
			"id":           func(c *seal.Context) { c.ID += "x" },
			"version":      func(c *seal.Context) { c.Version++ },
			"fields":       func(c *seal.Context) { c.Fields = append(slices.Clone(c.Fields), "zzz") },
			"no fields":    func(c *seal.Context) { c.Fields = nil },
			"twice":        func(c *seal.Context) { c.Fields = append(slices.Clone(c.Fields), c.Fields...) },
		} {
			c := own
			change(&c)
			if _, err := keyring.Open(t.Context(), c, saltA, sealed); err == nil {
				t.Errorf("it opens with another %s", name)
			}
		}
		if _, err := keyring.Open(t.Context(), own, saltB, sealed); !errors.Is(err, seal.ErrNotOpened) {
			t.Errorf("another salt: %v", err)
		}
	}
	fields[0] = "changed" // the caller's own slice
	if _, err := keyring.Open(t.Context(), own, saltA, sealed); !errors.Is(err, seal.ErrNotOpened) {
		t.Errorf("the names of the fields changed under the cache: %v", err)
	}
}

// TestWarm: after a switch, what organizations had derived under the old key is
// derived under the new.
func TestWarm(t *testing.T) {
	keyring := newKeyring(t)
	var sealed []seal.Sealed
	for _, salt := range []seal.OrganizationSalt{saltA, saltB} {
		value, err := keyring.Seal(t.Context(), credential, salt, []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		sealed = append(sealed, value)
	}
	if err := keyring.SetSealing(recordB().ID); err != nil {
		t.Fatal(err)
	}
	if err := keyring.Warm(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := keyring.Stats()
	if before.OrganizationKeys != 4 {
		t.Errorf("%d organization keys are cached, want 4", before.OrganizationKeys)
	}
	for i, salt := range []seal.OrganizationSalt{saltA, saltB} {
		if _, err := keyring.Rewrap(t.Context(), credential, salt, sealed[i]); err != nil {
			t.Error(err)
		}
	}
	if err := keyring.Warm(t.Context()); err != nil {
		t.Error(err)
	}
	if after := keyring.Stats(); after.Derived != before.Derived {
		t.Errorf("%d keys were derived again", after.Derived-before.Derived)
	}
}
