package tokens

import (
	"bytes"
	"encoding/json"
)

// part is one member of a JSON object, by its place in the text.
type part struct {
	name       []byte
	start      int // of its name's quote
	value, end int // of its value
}

// eachMember calls fn for each member of the object that text is, in order. It
// reports whether text is one object and nothing else, as far as it looks:
// values inside are only passed over. It stops where fn gives false.
func eachMember(text []byte, fn func(part) bool) bool {
	i := space(text, 0)
	if i >= len(text) || text[i] != '{' {
		return false
	}
	i = space(text, i+1)
	if i < len(text) && text[i] == '}' {
		return space(text, i+1) == len(text)
	}
	for {
		if i >= len(text) || text[i] != '"' {
			return false
		}
		m := part{start: i}
		end := stringEnd(text, i)
		if end < 0 {
			return false
		}
		name, ok := memberName(text[i:end])
		if !ok {
			return false
		}
		m.name = name
		if i = space(text, end); i >= len(text) || text[i] != ':' {
			return false
		}
		m.value = space(text, i+1)
		if m.end = valueEnd(text, m.value); m.end <= m.value {
			return false
		}
		if !fn(m) {
			return true
		}
		i = space(text, m.end)
		switch {
		case i >= len(text):
			return false
		case text[i] == '}':
			return space(text, i+1) == len(text)
		case text[i] != ',':
			return false
		}
		i = space(text, i+1)
	}
}

// memberName reads a quoted name. A long one is none that anybody asks for.
func memberName(quoted []byte) ([]byte, bool) {
	const long = 64 * len(`\u0000`)
	if len(quoted) > long {
		return nil, true
	}
	if bytes.IndexByte(quoted, '\\') < 0 {
		return quoted[1 : len(quoted)-1], true
	}
	var name string
	err := json.Unmarshal(quoted, &name)
	return []byte(name), err == nil
}

func space(text []byte, i int) int {
	for i < len(text) && (text[i] == ' ' || text[i] == '\n' || text[i] == '\t' || text[i] == '\r') {
		i++
	}
	return i
}

// stringEnd gives where the string that begins at i ends, after its quote; -1
// where it does not.
func stringEnd(text []byte, i int) int {
	for from := i + 1; ; {
		quote := bytes.IndexByte(text[from:], '"')
		if quote < 0 {
			return -1
		}
		quote += from
		escapes := 0
		for quote-escapes > i+1 && text[quote-escapes-1] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			return quote + 1
		}
		from = quote + 1
	}
}

// valueEnd gives where the value that begins at i ends; -1 where it does not.
func valueEnd(text []byte, i int) int {
	if i >= len(text) {
		return -1
	}
	switch text[i] {
	case '"':
		return stringEnd(text, i)
	case '{', '[':
		depth := 0
		for i < len(text) {
			switch text[i] {
			case '"':
				if i = stringEnd(text, i); i < 0 {
					return -1
				}
				continue
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
			i++
		}
		return -1
	}
	for i < len(text) {
		switch text[i] {
		case ',', '}', ']', ' ', '\n', '\t', '\r', '"', '{', '[', ':':
			return i
		}
		i++
	}
	return i
}
