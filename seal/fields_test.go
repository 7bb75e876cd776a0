package seal_test

import (
	"encoding/json"
	"errors"
	"maps"
	"testing"
	"unicode/utf8"

	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestFieldsEncoding(t *testing.T) {
	keyring := newKeyring(t)
	for _, test := range []struct {
		name   string
		fields map[string]string
		want   string
	}{
		{"none", nil, `{}`},
		{"one", map[string]string{"apiKey": "sk-1"}, `{"apiKey":"sk-1"}`},
		{"sorted by bytes", map[string]string{"b": "2", "a": "1", "B": "3", "é": "4", "": ""}, ""},
		{"order", map[string]string{"b": "2", "a": "1", "B": "3", "é": "4"}, `{"B":"3","a":"1","b":"2","é":"4"}`},
		{"no HTML escapes", map[string]string{"a": "<&>\u2028/\x7f"}, "{\"a\":\"<&>\u2028/\x7f\"}"},
		{"escapes", map[string]string{"a": "\"\\\b\t\n\f\r\x00\x1f"}, `{"a":"\"\\\b\t\n\f\r\u0000\u001f"}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			fields := secrets(test.fields)
			c := credential
			sealed, err := keyring.SealFields(t.Context(), c, saltA, fields)
			if test.want == "" {
				if !errors.Is(err, seal.ErrContext) {
					t.Fatalf("a field without a name: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			c.Fields = fields.Names()
			got, err := keyring.Open(t.Context(), c, saltA, sealed)
			if err != nil || got.ExposeSecret() != test.want {
				t.Errorf("got %q, want %q (%v)", got.ExposeSecret(), test.want, err)
			}
		})
	}
}

func TestFieldsRoundTrip(t *testing.T) {
	keyring := newKeyring(t)
	names := rapid.StringN(1, 8, 32)
	rapid.Check(t, func(rt *rapid.T) {
		plain := rapid.MapOf(names, rapid.String()).Draw(rt, "fields")
		fields := secrets(plain)
		c := credential
		sealed, err := keyring.SealFields(t.Context(), c, saltA, fields)
		if err != nil {
			rt.Fatal(err)
		}
		c.Fields = fields.Names()
		got, err := keyring.OpenFields(t.Context(), c, saltA, sealed)
		if err != nil {
			rt.Fatal(err)
		}
		if diff := cmp.Diff(fields, got); diff != "" {
			rt.Error(diff)
		}
		payload, err := keyring.Open(t.Context(), c, saltA, sealed)
		if err != nil {
			rt.Fatal(err)
		}
		var decoded map[string]string
		if err := json.Unmarshal(payload.ExposeSecretBytes(), &decoded); err != nil || !maps.Equal(decoded, plain) {
			rt.Errorf("the payload is not the JSON object of the fields: %v", err)
		}
		got.Wipe()
		for name := range got {
			if payload := got[name].ExposeSecretBytes(); len(payload) > 0 && payload[0] != 0 {
				rt.Error("a field is there after Wipe")
			}
		}
	})
}

func TestFieldsRefused(t *testing.T) {
	ctx := t.Context()
	keyring := newKeyring(t)
	for _, fields := range []map[string]string{{"a": "\xff"}, {"\xff": "a"}} {
		if _, err := keyring.SealFields(ctx, credential, saltA, secrets(fields)); !errors.Is(err, seal.ErrMalformed) {
			t.Errorf("what is not UTF-8 is sealed: %v", err)
		}
	}
	for _, payload := range []string{"", "null", "[]", "{}", `{"apiKey":"sesame"}`, `{"apiKey":"sesame","organization":1}`, `{"apiKey":"sesame","other":""}`, `sesame`} {
		sealed, err := keyring.Seal(ctx, credential, saltA, []byte(payload))
		if err != nil {
			t.Fatal(err)
		}
		fields, err := keyring.OpenFields(ctx, credential, saltA, sealed)
		if !errors.Is(err, seal.ErrMalformed) || fields != nil {
			t.Errorf("%s: %v", payload, err)
		} else if leaks(err.Error()) {
			t.Errorf("%s: the error shows the plaintext", payload)
		}
	}
}

func secrets(plain map[string]string) seal.Fields {
	fields := seal.Fields{}
	for name, value := range plain {
		fields[name] = seal.NewSecret(value)
	}
	return fields
}

func FuzzFields(f *testing.F) {
	f.Add("apiKey", "sk-\u2028<\x00\"\\")
	keyring := newKeyring(f)
	f.Fuzz(func(t *testing.T, name, value string) {
		fields := seal.Fields{name: seal.NewSecret(value)}
		c := credential
		sealed, err := keyring.SealFields(t.Context(), c, saltA, fields)
		if err != nil {
			if name != "" && utf8.ValidString(name) && utf8.ValidString(value) {
				t.Errorf("not sealed: %v", err)
			}
			return
		}
		c.Fields = fields.Names()
		got, err := keyring.OpenFields(t.Context(), c, saltA, sealed)
		if err != nil || !got[name].Equal(fields[name]) {
			t.Errorf("opened as something else: %v", err)
		}
	})
}
