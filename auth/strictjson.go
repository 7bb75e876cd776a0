package auth

import (
	"bytes"
	"errors"
	"unicode/utf16"
	"unicode/utf8"
)

// What a token is made of is read by a reader of its own: encoding/json takes
// the last of two members of one name, other readers the first, and a token
// that two readers read differently is two tokens. This one refuses such a
// token, and whatever else is not plain JSON (RFC 8259, RFC 7493), in one pass
// that allocates nothing for what is not asked for.

// The bounds of a token's JSON.
const (
	maxDepth   = 8   // of objects and lists in each other
	maxMembers = 128 // of one object
)

var errJSON = errors.New("not JSON as a token has it: an object without duplicate members, in UTF-8, not nested too deep")

// member is one member of an object; value is its JSON as it stands.
type member struct {
	name  string
	value []byte
}

// readObject reads an object and nothing after it, and gives its members in
// their order. What is inside of the values is checked too.
func readObject(data []byte, into []member) ([]member, error) {
	s := scanner{data: data}
	s.space()
	members, ok := s.object(1, into[:0])
	s.space()
	if !ok || s.at != len(data) {
		return nil, errJSON
	}
	return members, nil
}

// find gives the value of a member, nil where there is none.
func find(members []member, name string) []byte {
	for i := range members {
		if members[i].name == name {
			return members[i].value
		}
	}
	return nil
}

// readText gives a string's text, and whether value is a string. The value has
// been checked by readObject.
func readText(value []byte) (string, bool) {
	if len(value) < 2 || value[0] != '"' {
		return "", false
	}
	inner := value[1 : len(value)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return string(inner), true
	}
	return unescape(inner)
}

// readTexts gives the texts of a list of strings, and whether value is one.
func readTexts(value []byte) ([]string, bool) {
	if len(value) == 0 || value[0] != '[' {
		return nil, false
	}
	s := scanner{data: value, at: 1}
	var all []string
	for {
		s.space()
		if s.next(']') {
			return all, true
		}
		if len(all) > 0 && !s.next(',') {
			return nil, false
		}
		s.space()
		start := s.at
		if !s.text() {
			return nil, false
		}
		text, ok := readText(value[start:s.at])
		if !ok {
			return nil, false
		}
		all = append(all, text)
	}
}

// readSeconds gives a whole number of seconds, and whether value is one: digits
// alone, so that no two readers can disagree about it.
func readSeconds(value []byte) (n int64, ok bool) {
	if len(value) == 0 || len(value) > 11 {
		return 0, false
	}
	for _, c := range value {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// scanner walks over JSON.
type scanner struct {
	data []byte
	at   int
}

func (s *scanner) space() {
	for s.at < len(s.data) {
		switch s.data[s.at] {
		case ' ', '\t', '\n', '\r':
			s.at++
		default:
			return
		}
	}
}

func (s *scanner) next(c byte) bool {
	if s.at < len(s.data) && s.data[s.at] == c {
		s.at++
		return true
	}
	return false
}

// object passes an object and adds its members to into.
func (s *scanner) object(depth int, into []member) ([]member, bool) {
	if depth > maxDepth || !s.next('{') {
		return into, false
	}
	s.space()
	if s.next('}') {
		return into, true
	}
	for first := len(into); ; {
		s.space()
		start := s.at
		if !s.text() {
			return into, false
		}
		name, ok := readText(s.data[start:s.at])
		if !ok || len(into)-first == maxMembers || find(into[first:], name) != nil {
			return into, false
		}
		s.space()
		if !s.next(':') {
			return into, false
		}
		s.space()
		start = s.at
		if !s.value(depth) {
			return into, false
		}
		into = append(into, member{name, s.data[start:s.at]})
		s.space()
		if s.next('}') {
			return into, true
		}
		if !s.next(',') {
			return into, false
		}
	}
}

func (s *scanner) list(depth int) bool {
	if depth > maxDepth || !s.next('[') {
		return false
	}
	s.space()
	if s.next(']') {
		return true
	}
	for {
		s.space()
		if !s.value(depth) {
			return false
		}
		s.space()
		if s.next(']') {
			return true
		}
		if !s.next(',') {
			return false
		}
	}
}

// value passes a value inside of something at depth.
func (s *scanner) value(depth int) bool {
	if s.at == len(s.data) {
		return false
	}
	switch s.data[s.at] {
	case '{':
		var few [16]member
		_, ok := s.object(depth+1, few[:0])
		return ok
	case '[':
		return s.list(depth + 1)
	case '"':
		return s.text()
	case 't':
		return s.word("true")
	case 'f':
		return s.word("false")
	case 'n':
		return s.word("null")
	}
	return s.number()
}

func (s *scanner) word(w string) bool {
	if len(s.data)-s.at < len(w) || string(s.data[s.at:s.at+len(w)]) != w {
		return false
	}
	s.at += len(w)
	return true
}

// text passes a string, in UTF-8 and with escapes that are text.
func (s *scanner) text() bool {
	if !s.next('"') {
		return false
	}
	start, escaped := s.at, false
	for s.at < len(s.data) {
		switch c := s.data[s.at]; {
		case c == '"':
			inner := s.data[start:s.at]
			s.at++
			if escaped {
				_, ok := unescape(inner)
				return ok
			}
			return utf8.Valid(inner)
		case c == '\\':
			escaped = true
			s.at += 2
		case c < ' ':
			return false
		default:
			s.at++
		}
	}
	return false
}

func (s *scanner) digits() bool {
	start := s.at
	for s.at < len(s.data) && s.data[s.at] >= '0' && s.data[s.at] <= '9' {
		s.at++
	}
	return s.at > start
}

func (s *scanner) number() bool {
	s.next('-')
	if !s.next('0') && !s.digits() {
		return false
	}
	if s.next('.') && !s.digits() {
		return false
	}
	if s.next('e') || s.next('E') {
		if !s.next('+') {
			s.next('-')
		}
		return s.digits()
	}
	return true
}

// unescape gives the text of a string with escapes, and whether it is text: a
// half of a surrogate pair is none.
func unescape(inner []byte) (string, bool) {
	out := make([]byte, 0, len(inner))
	for i := 0; i < len(inner); i++ {
		c := inner[i]
		if c != '\\' {
			out = append(out, c)
			continue
		}
		if i++; i == len(inner) {
			return "", false
		}
		if at := bytes.IndexByte([]byte(`"\/bfnrt`), inner[i]); at >= 0 {
			out = append(out, "\"\\/\b\f\n\r\t"[at])
			continue
		}
		r, ok := hexRune(inner[i:])
		if !ok {
			return "", false
		}
		i += 4
		if utf16.IsSurrogate(r) {
			if len(inner)-i < 7 || inner[i+1] != '\\' {
				return "", false
			}
			low, ok := hexRune(inner[i+2:])
			if r = utf16.DecodeRune(r, low); !ok || r == utf8.RuneError {
				return "", false
			}
			i += 6
		}
		out = utf8.AppendRune(out, r)
	}
	return string(out), utf8.Valid(out)
}

// hexRune reads uXXXX.
func hexRune(b []byte) (r rune, ok bool) {
	if len(b) < 5 || b[0] != 'u' {
		return 0, false
	}
	for _, c := range b[1:5] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	return r, true
}
