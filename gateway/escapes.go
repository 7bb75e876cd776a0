package gateway

import (
	"bytes"
	"encoding/base64"
	"strconv"
	"strings"
)

// A secret that an upstream says again may be written by the rules of what it
// stands in, and no two libraries agree on which characters those rules take: "+"
// is %2B to Python and \u002B to .NET, "=" is \u003d to Gson, "&" is &amp; in a
// page. So each character is looked for as itself and in every one of its escapes.

// Where one text quotes another that quotes the secret, its escapes are escaped
// again: \\u002B, %252B.

// escapes are the characters that an escape begins with.
const escapes = `%\&`

func isEscape(c byte) bool { return c == '%' || c == '\\' || c == '&' }

// longestEscape is how many bytes one character takes at most: &#x00000000; or
// \u002B within three strings in one another.
const longestEscape = 12

// nestings is how often an escape may have been escaped again.
const nestings = 2

// spells gives how many bytes at the beginning of text spell secret, 0 where they
// do not. It is not whole where text ends before that is known.
func spells(text, secret []byte) (length int, whole bool) {
	at := 0
	for i := range len(secret) {
		if at == len(text) {
			return 0, false
		}
		// A secret with an escape character in it may stand there as it is.
		if text[at] == secret[i] && !isEscape(text[at]) {
			at++
			continue
		}
		n, known := escaped(text[at:], secret[i])
		switch {
		case !known:
			return 0, false
		case n > 0:
			at += n
		case text[at] == secret[i]:
			at++
		default:
			return 0, true
		}
	}
	return at, true
}

// escaped gives how many bytes at the beginning of text are an escape of c, 0
// where they are none. It is not known where text ends inside what could be one.
func escaped(text []byte, c byte) (length int, known bool) {
	switch text[0] {
	case '%': // RFC 3986
		from := 1
		for range nestings {
			if c != '%' && bytes.HasPrefix(text[from:], []byte("25")) {
				from += 2
			}
		}
		return coded(text, from, 2, 16, "", c)
	case '\\': // RFC 8259, and JavaScript
		from := 1
		for c != '\\' && from < 1<<(nestings+1)-1 && from < len(text) && text[from] == '\\' {
			from++
		}
		if len(text) == from {
			return 0, false
		}
		switch text[from] {
		case 'u':
			return coded(text, from+1, 4, 16, "", c)
		case 'x':
			return coded(text, from+1, 2, 16, "", c)
		case c:
			if !alphanumeric(c) { // a letter behind it makes another escape
				return from + 1, true
			}
		}
	case '&': // HTML
		return entity(text, c)
	}
	return 0, true
}

// coded reads digits of a base from text[from:]: exactly so many, or where an end
// is asked for up to so many and the end.
func coded(text []byte, from, digits, base int, end string, c byte) (length int, known bool) {
	to := from
	for to < len(text) && to < from+digits && isHex(text[to]) {
		to++
	}
	if to == len(text) && (to < from+digits || end != "") {
		return 0, false
	}
	if to == from || end == "" && to < from+digits {
		return 0, true
	}
	n, err := strconv.ParseUint(string(text[from:to]), base, 32)
	if err != nil || n != uint64(c) {
		return 0, true
	}
	if bytes.HasPrefix(text[to:], []byte(end)) {
		to += len(end)
	}
	return to, true
}

// entity reads an entity of HTML, by its number or one of the five names that
// escaping functions write.
func entity(text []byte, c byte) (length int, known bool) {
	switch {
	case len(text) == 1, len(text) == 2 && text[1] == '#':
		return 0, false
	case text[1] == '#' && (text[2] == 'x' || text[2] == 'X'):
		return coded(text, 3, longestEscape-4, 16, ";", c)
	case text[1] == '#':
		return coded(text, 2, longestEscape-3, 10, ";", c)
	}
	for _, e := range [...]struct {
		name string
		c    byte
	}{{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}} {
		if e.c != c {
			continue
		}
		if bytes.HasPrefix(text, []byte(e.name)) {
			return len(e.name), true
		}
		if strings.HasPrefix(e.name, string(text)) {
			return 0, false
		}
	}
	return 0, true
}

func alphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// inBase64 gives how secrets look inside of a longer text that was put into
// base64, in both of its alphabets: three forms of each, by where in a group of
// three bytes the secret begins, without the characters that its neighbours have
// a part in.
func inBase64(secrets []string) []string {
	var forms []string
	for _, secret := range secrets {
		for before := range 3 {
			encoded := base64.StdEncoding.EncodeToString([]byte("\x00\x00"[:before] + secret))
			from, to := (before*8+5)/6, (before+len(secret))*8/6
			form := encoded[from:to]
			forms = append(forms, form)
			if strings.ContainsAny(form, "+/") {
				forms = append(forms, strings.NewReplacer("+", "-", "/", "_").Replace(form))
			}
		}
	}
	return forms
}
