package stretch_test

import (
	"encoding/hex"
	"testing"

	"github.com/gatehouse-io/gatehouse/seal/internal/stretch"
)

// The vectors of RFC 7914, 11.
func TestKey(t *testing.T) {
	for _, v := range []struct {
		secret, salt string
		iterations   int
		want         string
	}{
		{"passwd", "salt", 1, "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783"},
		{"Password", "NaCl", 80_000, "4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56a1d425a1225833549adb841b51c9b3176a272bdebba1d078478f62b397f33c8d"},
	} {
		got, err := stretch.Key(v.secret, []byte(v.salt), v.iterations, 64)
		if err != nil || hex.EncodeToString(got) != v.want {
			t.Errorf("%q, %q, %d: %x, %v", v.secret, v.salt, v.iterations, got, err)
		}
	}
}
