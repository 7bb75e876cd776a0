package masterkey

import (
	"strings"

	"github.com/gatehouse-io/gatehouse/seal"
)

// Near says in what form a secret, which is not that of the record, would be it: where
// a line break or quotes came to it, or went, on its way into the environment. "" where
// it would be in none.
func Near(r seal.KeyRecord, secret seal.Secret) string {
	s := secret.ExposeSecret()
	tried := map[string]bool{s: true}
	for _, form := range []struct{ text, how string }{
		{strings.TrimSpace(s), "without the white space around it"},
		{unquoted(s), "without the quotes around it"},
		{strings.TrimSpace(unquoted(strings.TrimSpace(s))), "without the quotes and the white space around it"},
		{s + "\n", "with a line break at its end"},
		{s + "\r\n", "with a line break (CR LF) at its end"},
		{s + " ", "with a space at its end"},
		{`"` + s + `"`, "in double quotes"},
		{`'` + s + `'`, "in single quotes"},
	} {
		if len(form.text) < seal.MinSecret || tried[form.text] {
			continue
		}
		tried[form.text] = true
		if r.Matches(seal.NewSecret(form.text)) {
			return form.how
		}
	}
	return ""
}

// unquoted gives s without a pair of quotes around it.
func unquoted(s string) string {
	if len(s) >= 2 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0] {
		return s[1 : len(s)-1]
	}
	return s
}

// near gives a hint where one of the secrets at hand would be that of the key in
// another form.
func (k *Keys) near(st state, id seal.KeyID) string {
	r := st.find(id)
	if r == nil {
		return ""
	}
	for _, s := range k.opts.secrets() {
		if s.to-s.from > 1 {
			continue // a reading of a list
		}
		if how := Near(r.KeyRecord, s.Secret); how != "" {
			source := string(s.source)
			if s.source == FromOld {
				source = "an entry of " + source
			}
			return ": " + source + " " + how + " is that secret"
		}
	}
	return ""
}
