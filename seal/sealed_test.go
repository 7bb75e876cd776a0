package seal_test

import (
	"bytes"
	"database/sql"
	"database/sql/driver"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/google/go-cmp/cmp"
)

var (
	_ sql.Scanner   = (*seal.Sealed)(nil)
	_ driver.Valuer = seal.Sealed{}
)

// forge gives the shortest well-formed value, changed.
func forge(change func(b []byte) []byte) []byte {
	b := make([]byte, seal.Overhead)
	copy(b, "GHS\x01")
	b[19] = 7 // the last byte of the key id
	binary.BigEndian.PutUint32(b[20:], seal.MinIterations)
	return change(b)
}

func withIterations(n uint32) []byte {
	return forge(func(b []byte) []byte { binary.BigEndian.PutUint32(b[20:], n); return b })
}

func TestParseSealed(t *testing.T) {
	same := func(b []byte) []byte { return b }
	for _, test := range []struct {
		name string
		in   []byte
		want error
	}{
		{"shortest", forge(same), nil},
		{"longest", forge(func(b []byte) []byte { return append(b, make([]byte, seal.MaxPlaintext)...) }), nil},
		{"most iterations", withIterations(seal.MaxIterations), nil},
		{"nil", nil, seal.ErrMalformed},
		{"magic alone", []byte("GHS"), seal.ErrMalformed},
		{"other magic", forge(func(b []byte) []byte { b[0] = 'g'; return b }), seal.ErrMalformed},
		{"suite 0", forge(func(b []byte) []byte { b[3] = 0; return b }), seal.ErrUnsupported},
		{"suite 2", forge(func(b []byte) []byte { b[3] = 2; return b }), seal.ErrUnsupported},
		{"suite 2, of another length", []byte("GHS\x02"), seal.ErrUnsupported},
		{"too short", forge(func(b []byte) []byte { return b[:len(b)-1] }), seal.ErrMalformed},
		{"too long", forge(func(b []byte) []byte { return append(b, make([]byte, seal.MaxPlaintext+1)...) }), seal.ErrMalformed},
		{"no key id", forge(func(b []byte) []byte { b[19] = 0; return b }), seal.ErrMalformed},
		{"no iterations", withIterations(0), seal.ErrIterations},
		{"few iterations", withIterations(seal.MinIterations - 1), seal.ErrIterations},
		{"many iterations", withIterations(seal.MaxIterations + 1), seal.ErrIterations},
		{"all iterations", withIterations(1<<32 - 1), seal.ErrIterations},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := seal.ParseSealed(test.in)
			if !errors.Is(err, test.want) {
				t.Fatalf("got error %v, want %v", err, test.want)
			}
			var scanned seal.Sealed
			if test.in != nil { // which is NULL to Scan
				if err := scanned.Scan(test.in); !errors.Is(err, test.want) {
					t.Errorf("Scan gives %v", err)
				}
				if _, err := seal.Sealed(test.in).Value(); !errors.Is(err, test.want) {
					t.Errorf("Value gives %v", err)
				}
			}
			if test.want == nil && (!bytes.Equal(got, test.in) || !bytes.Equal(scanned, test.in)) {
				t.Error("the bytes changed")
			}
			_ = got.String()
		})
	}
}

func TestSealedAccessors(t *testing.T) {
	b := withIterations(123_456)
	sealed, err := seal.ParseSealed(b)
	if err != nil {
		t.Fatal(err)
	}
	clear(b)
	if got, want := sealed.KeyID(), (seal.KeyID{15: 7}); got != want {
		t.Errorf("KeyID gives %v, want %v", got, want)
	}
	if got := sealed.Iterations(); got != 123_456 {
		t.Errorf("Iterations gives %d", got)
	}
	const want = "sealed(key_00000000-0000-0000-0000-000000000007, 144 bytes)"
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(verb, sealed); got != want {
			t.Errorf("%s gives %q", verb, got)
		}
	}
	if got := sealed.LogValue().String(); got != want {
		t.Errorf("a log shows %q", got)
	}
	if _, err := json.Marshal(sealed); err == nil {
		t.Error("a sealed value is JSON")
	}
	var none seal.Sealed
	if !none.KeyID().IsZero() || none.Iterations() != 0 || none.String() != "sealed(malformed, 0 bytes)" {
		t.Error("nil has a key")
	}
}

func TestSealedNull(t *testing.T) {
	sealed := seal.Sealed{1}
	if err := sealed.Scan(nil); err != nil || sealed != nil {
		t.Errorf("NULL is read as %v, %v", sealed, err)
	}
	if value, err := sealed.Value(); err != nil || value != nil {
		t.Errorf("nil is written as %v, %v", value, err)
	}
	if err := sealed.Scan("GHS"); !errors.Is(err, seal.ErrMalformed) {
		t.Errorf("text is read: %v", err)
	}
	if _, err := (seal.Sealed{}).Value(); !errors.Is(err, seal.ErrMalformed) {
		t.Errorf("no bytes are written: %v", err)
	}
}

// TestSealedScanCopies is there since a driver reuses its buffer.
func TestSealedScanCopies(t *testing.T) {
	buffer := withIterations(seal.MinIterations)
	var sealed seal.Sealed
	if err := sealed.Scan(buffer); err != nil {
		t.Fatal(err)
	}
	clear(buffer)
	if diff := cmp.Diff(withIterations(seal.MinIterations), []byte(sealed)); diff != "" {
		t.Error(diff)
	}
}

func TestKeyID(t *testing.T) {
	id := seal.KeyID{0x01, 0x92, 0xe0, 0xa5, 0x7f, 0x9c, 0x7c, 0x3e, 0x9d, 0x6b, 0x3a, 0x1f, 0x00, 0xc4, 0xd2, 0xe8}
	const text = "key_0192e0a5-7f9c-7c3e-9d6b-3a1f00c4d2e8"
	if got := id.String(); got != text {
		t.Errorf("String gives %q", got)
	}
	if b, err := json.Marshal(id); err != nil || string(b) != `"`+text+`"` {
		t.Errorf("as JSON it is %s, %v", b, err)
	}
	value, err := id.Value()
	if err != nil || value != text {
		t.Errorf("Value gives %v, %v", value, err)
	}
	for _, src := range []any{text, []byte(text)} {
		var got seal.KeyID
		if err := got.Scan(src); err != nil || got != id {
			t.Errorf("Scan of %T gives %v, %v", src, got, err)
		}
	}
	for _, src := range []any{
		nil, "", "key_", text[4:], "cred_" + text[4:], strings.ToUpper(text), text + "0", text[:len(text)-1],
		strings.ReplaceAll(text, "-", ""), "key_0192e0a57-f9c-7c3e-9d6b-3a1f00c4d2e8", "key_0192e0a5-7f9c-7c3e-9d6b-3a1f00c4d2eg",
		"key_-192e0a5-7f9c-7c3e-9d6b-3a1f00c4d2e8",
	} {
		got := id
		if err := got.Scan(src); !errors.Is(err, seal.ErrMalformed) || got != id {
			t.Errorf("Scan of %v gives %v, %v", src, got, err)
		}
	}
}

func FuzzParseSealed(f *testing.F) {
	f.Add(forge(func(b []byte) []byte { return b }))
	f.Add([]byte("GHS\x01"))
	// The page's value, since a value made here would be another one in each
	// of the fuzzer's processes.
	page := readDocs(f)
	keyring, salt, c := docsKeyring(f, page)
	sealed := page.sealed()
	f.Add(sealed)
	f.Fuzz(func(t *testing.T, b []byte) {
		parsed, err := seal.ParseSealed(b)
		if err != nil {
			if parsed != nil {
				t.Error("an error and a value")
			}
			return
		}
		if !bytes.Equal(parsed, b) || parsed.KeyID().IsZero() || parsed.Iterations() < seal.MinIterations {
			t.Errorf("parsed as %v", parsed)
		}
		if value, err := parsed.Value(); err != nil || !bytes.Equal(value.([]byte), b) {
			t.Errorf("Value gives %v", err)
		}
		if _, err := keyring.Open(t.Context(), c, salt, parsed); (err == nil) != bytes.Equal(b, sealed) {
			t.Errorf("a forgery opens, or the value itself does not: %v", err)
		}
	})
}

func FuzzParseKeyID(f *testing.F) {
	f.Add("key_0192e0a5-7f9c-7c3e-9d6b-3a1f00c4d2e8")
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := seal.ParseKeyID(s); err == nil && id.String() != s {
			t.Errorf("%q is read as %v", s, id)
		}
	})
}
