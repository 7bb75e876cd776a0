package store

import (
	"strings"
	"unicode/utf8"
)

// Text gives s as a column of text takes it on both databases: at most n bytes of
// whole characters, valid UTF-8 without NUL. PostgreSQL refuses anything else, and so
// the whole row. What is no text becomes "?".
func Text(s string, n int) string {
	if len(s) > n {
		cut := n
		for cut > max(0, n-utf8.UTFMax) && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = strings.Clone(s[:cut]) // not the whole of it in memory
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "?"), "\x00", "?")
}
