package seal_test

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/google/go-cmp/cmp"
)

// leaks reports whether text shows the bytes of "sesame" in any usual notation.
func leaks(text string) bool {
	for _, form := range []string{
		"sesame",
		"c2VzYW1l",           // base64
		"736573616d65",       // hex
		"115 101 115 97 109", // %v of bytes
		"0x73, 0x65, 0x73",   // %#v of bytes
		"73 65 73 61",        // % x
	} {
		if strings.Contains(strings.ToLower(text), strings.ToLower(form)) {
			return true
		}
	}
	return false
}

func TestSecretDoesNotPrint(t *testing.T) {
	secret := seal.NewSecret("sesame")
	type outer struct {
		Exported   seal.Secret
		unexported seal.Secret
		pointer    *seal.Secret
		list       []seal.Secret
		fields     seal.Fields
	}
	values := map[string]any{
		"value":   secret,
		"pointer": &secret,
		"slice":   []seal.Secret{secret},
		"map":     seal.Fields{"apiKey": secret},
		"struct":  outer{secret, secret, &secret, []seal.Secret{secret}, seal.Fields{"apiKey": secret}},
		"key":     mustKey(recordA(), masterA),
	}
	for name, value := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "% x", "%X", "%d", "%o", "%T", "%c", "%U"} {
			if text := fmt.Sprintf(verb, value); leaks(text) || strings.Contains(text, masterA.ExposeSecret()) {
				t.Errorf("%s with %s shows the secret", name, verb)
			}
		}
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("m", "value", value)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "value", value)
		if leaks(log.String()) {
			t.Errorf("%s shows in a log", name)
		}
	}
	if got := fmt.Sprint(secret); got != "[secret]" {
		t.Errorf("Sprint gives %q", got)
	}
}

func TestSecretIsNotMarshalled(t *testing.T) {
	secret := seal.NewSecret("sesame")
	if b, err := json.Marshal(map[string]any{"a": secret}); err == nil || leaks(err.Error()) {
		t.Errorf("json.Marshal: %q, %v", b, err)
	}
	if err := gob.NewEncoder(new(bytes.Buffer)).Encode(secret); err == nil {
		t.Error("gob encodes a secret")
	}
	if _, err := secret.MarshalText(); err == nil {
		t.Error("MarshalText gives no error")
	}
	if _, err := secret.Value(); err == nil {
		t.Error("a secret is an SQL argument")
	}
}

func TestSecret(t *testing.T) {
	source := []byte("sesame")
	secret := seal.NewSecret(source)
	clear(source)
	if got := secret.ExposeSecret(); got != "sesame" {
		t.Fatalf("ExposeSecret gives %q; NewSecret must copy", got)
	}
	var read struct{ Key, Absent seal.Secret }
	if err := json.Unmarshal([]byte(`{"Key":"sesame"}`), &read); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		a, b seal.Secret
		want bool
	}{
		{"same bytes", secret, read.Key, true},
		{"itself", secret, secret, true},
		{"other bytes", secret, seal.NewSecret("sesamf"), false},
		{"prefix", secret, seal.NewSecret("sesam"), false},
		{"zero and empty", read.Absent, seal.NewSecret(""), true},
		{"zero", secret, seal.Secret{}, false},
	} {
		if got := test.a.Equal(test.b); got != test.want {
			t.Errorf("%s: Equal gives %v", test.name, got)
		}
		if got := cmp.Equal(test.a, test.b); got != test.want { // it uses the method
			t.Errorf("%s: cmp.Equal gives %v", test.name, got)
		}
	}
	if !read.Absent.IsZero() || secret.IsZero() || secret.Len() != 6 {
		t.Error("IsZero or Len is wrong")
	}
	other := secret
	secret.Wipe()
	if got := other.ExposeSecretBytes(); !bytes.Equal(got, make([]byte, 6)) {
		t.Errorf("after Wipe a copy holds %q", got)
	}
	seal.Secret{}.Wipe()
}
