package seal_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

const offsetPayload = 116

func drawContext(t *rapid.T) seal.Context {
	text := rapid.StringN(1, 12, 24)
	return seal.Context{
		Environment:  text.Draw(t, "environment"),
		Organization: rapid.SampledFrom([]string{"acme", "umbrella"}).Draw(t, "organization"), // a derivation each
		Kind:         text.Draw(t, "kind"),
		ID:           text.Draw(t, "id"),
		Version:      rapid.Int64Min(0).Draw(t, "version"),
		Fields:       rapid.SliceOfNDistinct(text, 0, 4, rapid.ID[string]).Draw(t, "fields"),
	}
}

func TestRoundTrip(t *testing.T) {
	keyring := newKeyring(t)
	rapid.Check(t, func(rt *rapid.T) {
		c := drawContext(rt)
		plaintext := rapid.SliceOf(rapid.Byte()).Draw(rt, "plaintext")
		sealed, err := keyring.Seal(t.Context(), c, saltA, plaintext)
		if err != nil {
			rt.Fatal(err)
		}
		if got, want := len(sealed), len(plaintext)+seal.Overhead; got != want {
			rt.Errorf("%d bytes, want %d", got, want)
		}
		parsed, err := seal.ParseSealed(sealed)
		if err != nil {
			rt.Fatal(err)
		}
		c.Fields = rapid.Permutation(c.Fields).Draw(rt, "fields in another order")
		for _, way := range []string{"first", "cached"} {
			got, err := keyring.Open(t.Context(), c, saltA, parsed)
			if err != nil {
				rt.Fatalf("%s: %v", way, err)
			}
			if !bytes.Equal(got.ExposeSecretBytes(), plaintext) {
				rt.Fatalf("%s: another plaintext", way)
			}
		}
		got, err := keyring.OpenAppend(t.Context(), []byte("before"), c, saltA, parsed)
		if err != nil || string(got) != "before"+string(plaintext) {
			rt.Errorf("OpenAppend gives %q, %v", got, err)
		}
	})
}

// TestFlippedBitsAreRefused flips every bit of a sealed value, both before and
// after the keyring has its data key cached.
func TestFlippedBitsAreRefused(t *testing.T) {
	keyring := newKeyring(t)
	sealed, err := keyring.Seal(t.Context(), credential, saltA, []byte("plaintext"))
	if err != nil {
		t.Fatal(err)
	}
	for _, way := range []string{"cold", "hot"} {
		for i := range sealed {
			for bit := range 8 {
				forged := slices.Clone(sealed)
				forged[i] ^= 1 << bit
				if got, err := keyring.Open(t.Context(), credential, saltA, forged); err == nil || !got.IsZero() {
					t.Errorf("%s: opens with bit %d of byte %d flipped", way, bit, i)
				}
				if _, err := keyring.Rewrap(t.Context(), credential, saltA, forged); err == nil &&
					forged.KeyID() != keyA().ID() {
					t.Errorf("%s: is rewrapped with bit %d of byte %d flipped", way, bit, i)
				}
			}
		}
		for n := range sealed {
			if _, err := keyring.Open(t.Context(), credential, saltA, sealed[:n]); err == nil {
				t.Errorf("%s: opens when cut to %d bytes", way, n)
			}
		}
		if _, err := keyring.Open(t.Context(), credential, saltA, append(slices.Clone(sealed), 0)); err == nil {
			t.Errorf("%s: opens with a byte appended", way)
		}
		if _, err := keyring.Open(t.Context(), credential, saltA, sealed); err != nil {
			t.Fatal(err)
		}
	}
	if got := keyring.Stats().Derived; got > 2 { // under key A, and for the flip that makes it key B
		t.Errorf("forgeries cost %d derivations", got)
	}
}

// TestParts swaps each part between two values of one context.
func TestParts(t *testing.T) {
	keyring := newKeyring(t)
	var values [2]seal.Sealed
	for i := range values {
		sealed, err := keyring.Seal(t.Context(), credential, saltA, []byte("plaintext"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := keyring.Open(t.Context(), credential, saltA, sealed); err != nil {
			t.Fatal(err)
		}
		values[i] = sealed
	}
	for name, part := range map[string][2]int{
		"version salt":    {24, 56},
		"wrap IV":         {56, 68},
		"wrapped key":     {68, 116},
		"whole wrap":      {24, 116},
		"payload IV":      {116, 128},
		"payload":         {128, len(values[0])},
		"IV and payload":  {116, len(values[0])},
		"wrapped key tag": {100, 116},
	} {
		forged := slices.Clone(values[0])
		copy(forged[part[0]:part[1]], values[1][part[0]:])
		if _, err := keyring.Open(t.Context(), credential, saltA, forged); !errors.Is(err, seal.ErrNotOpened) {
			t.Errorf("%s of another value: %v", name, err)
		}
	}
}

// contextChanges gives every kind of change that makes c another context.
func contextChanges(c seal.Context) map[string]seal.Context {
	changes := make(map[string]seal.Context)
	change := func(name string, f func(*seal.Context)) {
		changed := c
		changed.Fields = slices.Clone(c.Fields)
		f(&changed)
		changes[name] = changed
	}
	change("environment", func(c *seal.Context) { c.Environment += "2" })
	change("organization", func(c *seal.Context) { c.Organization += "2" })
	change("kind", func(c *seal.Context) { c.Kind += "2" })
	change("id", func(c *seal.Context) { c.ID += "2" })
	change("version", func(c *seal.Context) { c.Version ^= 1 })
	change("version, high bit", func(c *seal.Context) { c.Version ^= 1 << 62 })
	change("field renamed", func(c *seal.Context) { c.Fields[0] += "2" })
	change("field added", func(c *seal.Context) { c.Fields = append(c.Fields, "zz") })
	change("field removed", func(c *seal.Context) { c.Fields = c.Fields[1:] })
	change("no fields", func(c *seal.Context) { c.Fields = nil })
	change("fields joined", func(c *seal.Context) { c.Fields = []string{c.Fields[0] + c.Fields[1]} })
	change("two parts swapped", func(c *seal.Context) { c.Kind, c.ID = c.ID, c.Kind })
	change("boundary moved", func(c *seal.Context) {
		c.Environment, c.Organization = c.Environment+c.Organization[:1], c.Organization[1:]
	})
	return changes
}

func TestOtherContextIsRefused(t *testing.T) {
	keyring := newKeyring(t)
	sealed, err := keyring.Seal(t.Context(), credential, saltA, []byte("plaintext"))
	if err != nil {
		t.Fatal(err)
	}
	for _, way := range []string{"cold", "hot"} {
		for name, c := range contextChanges(credential) {
			if _, err := keyring.Open(t.Context(), c, saltA, sealed); !errors.Is(err, seal.ErrNotOpened) {
				t.Errorf("%s: opens with another %s: %v", way, name, err)
			}
		}
		if _, err := keyring.Open(t.Context(), credential, saltB, sealed); !errors.Is(err, seal.ErrNotOpened) {
			t.Errorf("%s: opens with another salt: %v", way, err)
		}
		if _, err := keyring.Open(t.Context(), credential, saltA, sealed); err != nil {
			t.Fatal(err)
		}
	}
	if err := keyring.SetSealing(keyB().ID()); err != nil {
		t.Fatal(err)
	}
	for name, c := range contextChanges(credential) {
		if _, err := keyring.Rewrap(t.Context(), c, saltA, sealed); !errors.Is(err, seal.ErrNotOpened) {
			t.Errorf("is rewrapped with another %s: %v", name, err)
		}
	}
}

// TestContextsDiffer seals in one random context and opens in another.
func TestContextsDiffer(t *testing.T) {
	keyring := newKeyring(t)
	rapid.Check(t, func(rt *rapid.T) {
		a, b := drawContext(rt), drawContext(rt)
		slices.Sort(a.Fields)
		slices.Sort(b.Fields)
		sealed, err := keyring.Seal(t.Context(), a, saltA, nil)
		if err != nil {
			rt.Fatal(err)
		}
		_, err = keyring.Open(t.Context(), b, saltA, sealed)
		if same := cmp.Equal(a, b); same != (err == nil) {
			rt.Errorf("same context: %v, but error %v", same, err)
		}
	})
}

func TestRewrap(t *testing.T) {
	onlyA, err := seal.NewKeyring(seal.Options{}, keyA())
	if err != nil {
		t.Fatal(err)
	}
	onlyB, err := seal.NewKeyring(seal.Options{}, keyB())
	if err != nil {
		t.Fatal(err)
	}
	both := newKeyring(t)
	if err := onlyA.SetSealing(keyA().ID()); err != nil {
		t.Fatal(err)
	}
	if err := both.SetSealing(keyB().ID()); err != nil {
		t.Fatal(err)
	}

	rapid.Check(t, func(rt *rapid.T) {
		c := drawContext(rt)
		plaintext := rapid.SliceOf(rapid.Byte()).Draw(rt, "plaintext")
		sealed, err := onlyA.Seal(t.Context(), c, saltA, plaintext)
		if err != nil {
			rt.Fatal(err)
		}
		rewrapped, err := both.Rewrap(t.Context(), c, saltA, sealed)
		if err != nil {
			rt.Fatal(err)
		}
		if !bytes.Equal(sealed[offsetPayload:], rewrapped[offsetPayload:]) {
			rt.Error("the payload changed")
		}
		for name, part := range map[string][2]int{"key id": {4, 20}, "salt": {24, 56}, "IV": {56, 68}, "key": {68, 116}} {
			if bytes.Equal(sealed[part[0]:part[1]], rewrapped[part[0]:part[1]]) {
				rt.Errorf("%s did not change", name)
			}
		}
		again, err := both.Rewrap(t.Context(), c, saltA, rewrapped)
		if err != nil || !bytes.Equal(again, rewrapped) {
			rt.Errorf("a second rewrap changes the value: %v", err)
		}
		got, err := onlyB.Open(t.Context(), c, saltA, rewrapped)
		if err != nil || !bytes.Equal(got.ExposeSecretBytes(), plaintext) {
			rt.Errorf("the new key does not open it: %v", err)
		}
		if _, err := onlyA.Open(t.Context(), c, saltA, rewrapped); err != error(seal.UnknownKeyError{KeyID: keyB().ID()}) {
			rt.Errorf("without the new key: %v", err)
		}
		// The old wrap does not fit the new one's key, nor the other way round.
		forged := slices.Clone(rewrapped)
		copy(forged[4:20], sealed[4:20])
		if _, err := both.Open(t.Context(), c, saltA, forged); !errors.Is(err, seal.ErrNotOpened) {
			rt.Errorf("with the old key's id: %v", err)
		}
	})
}

func TestNothingIsDrawnTwice(t *testing.T) {
	keyring := newKeyring(t)
	seen := make(map[string]bool)
	for range 2000 {
		sealed, err := keyring.Seal(t.Context(), credential, saltA, []byte("the same plaintext"))
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range [][]byte{sealed[24:56], sealed[56:68], sealed[68:100], sealed[116:128], sealed[128:144]} {
			if seen[string(part)] {
				t.Fatal("a salt, an IV or a ciphertext came twice")
			}
			seen[string(part)] = true
		}
	}
}

// TestForgedIterations is about cost: a row with a forged count must not buy
// seconds of CPU.
func TestForgedIterations(t *testing.T) {
	keyring := newKeyring(t)
	sealed, err := keyring.Seal(t.Context(), credential, saltA, []byte("plaintext"))
	if err != nil {
		t.Fatal(err)
	}
	keyring.Forget(credential.Organization)
	before := keyring.Stats().Derived
	for _, test := range []struct {
		iterations uint32
		want       error
	}{
		{0, seal.ErrIterations},
		{1, seal.ErrIterations},
		{seal.MinIterations - 1, seal.ErrIterations},
		{seal.MinIterations + 1, seal.ErrNotOpened},
		{seal.MaxIterations, seal.ErrNotOpened},
		{seal.MaxIterations + 1, seal.ErrIterations},
		{1<<32 - 1, seal.ErrIterations},
	} {
		forged := slices.Clone(sealed)
		binary.BigEndian.PutUint32(forged[20:], test.iterations)
		if _, err := keyring.Open(t.Context(), credential, saltA, forged); !errors.Is(err, test.want) {
			t.Errorf("%d iterations: got %v, want %v", test.iterations, err, test.want)
		}
	}
	if got := keyring.Stats().Derived; got != before {
		t.Errorf("forged counts cost %d derivations", got-before)
	}
}
