package masterkey_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/masterkey"
	"github.com/gatehouse-io/gatehouse/seal"
)

// Who starts with a secret that lost or got a line break, white space or quotes is told
// so, and nothing of the secret.
func TestNearly(t *testing.T) {
	t.Parallel()
	for i, test := range []struct{ sealed, given, how string }{
		{first, first + "\n", "without the white space around it"},
		{first, " " + first, "without the white space around it"},
		{first, `"` + first + `"`, "without the quotes around it"},
		{first, "'" + first + "'\r\n", "without the quotes and the white space around it"},
		{first + "\n", first, "with a line break at its end"},
		{first + "\r\n", first, "with a line break (CR LF) at its end"},
		{first + " ", first, "with a space at its end"},
		{`"` + first + `"`, first, "in double quotes"},
		{"'" + first + "'", first, "in single quotes"},
		{first, second, ""},
	} {
		h := newHouse(t, filepath.Join(t.TempDir(), "gatehouse.db"))
		h.open(t, h.options(test.sealed))
		given := map[string]masterkey.Options{"ENCRYPTION_KEY": h.options(test.given)}
		if i == 0 {
			asFallback := h.options(second)
			asFallback.Fallback = seal.NewSecret(test.given)
			given["an entry of ENCRYPTION_KEYS_OLD"], given["JWT_SECRET"] = h.options(second, test.given), asFallback
		}
		for variable, o := range given {
			_, err := masterkey.Open(t.Context(), h.db, h.trail, o)
			if err == nil || strings.Contains(err.Error(), first) || strings.Contains(err.Error(), "is that secret") != (test.how != "") ||
				!strings.Contains(err.Error(), test.how) || test.how != "" && !strings.HasSuffix(err.Error(), ": "+variable+" "+test.how+" is that secret") {
				t.Errorf("sealed under %q, %s is %q: %v", test.sealed, variable, test.given, err)
			}
		}
	}
}
