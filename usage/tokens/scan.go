package tokens

import (
	"bytes"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// What the scanner expects next.
type state uint8

const (
	atTop     state = iota // an object; the rest of the outermost level is passed over
	atMember               // a member's name, or the end of the object
	inName                 // the rest of a member's name
	atColon                // the colon after it
	atValue                // a member's value
	inString               // the rest of a string that nobody wants
	inModel                // the rest of a model's name
	inWord                 // the rest of a string of few letters that says what is meant
	atElement              // an object of an array of interest, or the array's end
	inLiteral              // the rest of a number, true, false or null
	inNested               // inside a value that nobody wants
)

// structural are the bytes that matter inside a value that nobody wants.
var structural = [256]bool{'"': true, '{': true, '}': true, '[': true, ']': true}

// scanner finds the fields of the table in JSON that comes in pieces. It checks
// no more of the grammar than it needs to know where it is.
type scanner struct {
	values
	model modelText

	state   state
	after   state // once the string ends
	escaped bool  // the next byte of a string is escaped
	hex     uint8 // digits of a \u that are to come, in a name or a model
	code    rune  // what those before them are

	depth   int             // objects and arrays that are open and of interest
	objects [maxDepth]*node // what they are
	nested  int             // objects and arrays that are open and not of interest
	found   *node           // of the name just read; nil: nobody wants it

	first      bool // the array at hand had no object yet
	compaction bool // the iteration at hand is one
	failed     bool // an error was told of

	name       [maxName]byte // or a word
	nameLen    int           // past maxName: too long
	literal    [24]byte
	literalLen int // past its size: too long
}

// restart forgets where the scanner is and keeps what it found.
func (s *scanner) restart() {
	s.state, s.depth, s.nested, s.escaped, s.hex = atTop, 0, 0, false, 0
}

// scan takes the next piece.
func (s *scanner) scan(p []byte) {
	for i := 0; i < len(p); {
		c := p[i]
		switch s.state {
		case inString:
			i += s.skipString(p[i:])
			continue
		case inNested:
			if !structural[c] {
				for i++; i < len(p) && !structural[p[i]]; i++ {
				}
				continue
			}
			switch c {
			case '"':
				s.state, s.after = inString, inNested
			case '{', '[':
				s.nested++
			case '}', ']':
				if s.nested--; s.nested == 0 {
					s.state = s.within()
				}
			}
		case atTop:
			switch c {
			case '{':
				s.open(answer)
			case '"':
				s.state, s.after = inString, atTop
			}
		case atMember:
			switch c {
			case '"':
				s.state, s.nameLen = inName, 0
			case '}':
				s.endObject()
			case '{', '[': // no JSON; at least the brackets stay paired
				s.state, s.nested = inNested, 1
			}
		case inName:
			if s.nameLen == 0 && !s.escaped { // the whole name at once, where it is there
				if n := bytes.IndexByte(p[i:], '"'); n > 0 && n <= maxName && bytes.IndexByte(p[i:i+n], '\\') < 0 {
					s.find(p[i : i+n])
					i += n + 1
					continue
				}
			}
			s.inName(c)
		case atColon:
			if c == ':' {
				s.state = atValue
			}
		case atValue:
			s.value(c)
		case atElement:
			s.element(c)
		case inModel:
			s.inModel(c)
		case inWord:
			s.inWord(c)
		case inLiteral:
			switch c {
			case ',', '}', ']', ' ', '\t', '\n', '\r':
				s.endLiteral()
				s.state = atMember
				continue // the byte belongs to what is around the literal
			}
			if s.literalLen < len(s.literal) {
				s.literal[s.literalLen] = c
			}
			s.literalLen = min(s.literalLen+1, len(s.literal)+1)
		}
		i++
	}
}

// skipString passes over what p holds of a string, and gives how much that is.
func (s *scanner) skipString(p []byte) int {
	i, quote := 0, -1
	for i < len(p) {
		if s.escaped {
			s.escaped = false
			i++
			continue
		}
		if quote < i { // looked for once for each quote, so that escapes do not make it quadratic
			quote = bytes.IndexByte(p[i:], '"')
			if quote < 0 {
				quote = len(p)
			} else {
				quote += i
			}
		}
		if escape := bytes.IndexByte(p[i:quote], '\\'); escape >= 0 {
			i += escape + 1
			s.escaped = true
			continue
		}
		if quote == len(p) {
			return len(p)
		}
		s.state = s.after
		return quote + 1
	}
	return i
}

func (s *scanner) open(n *node) {
	if s.depth == maxDepth { // the table has none so deep
		s.state, s.nested = inNested, 1
		return
	}
	s.objects[s.depth] = n
	s.depth++
	s.state = s.within()
}

// close ends the innermost object or array.
func (s *scanner) close() {
	s.depth--
	s.state = s.within()
}

// within gives what comes next in the innermost object or array.
func (s *scanner) within() state {
	switch {
	case s.depth == 0:
		return atTop
	case s.objects[s.depth-1].elements != nil:
		return atElement
	}
	return atMember
}

// element takes a byte of an array of interest that is in none of its elements.
func (s *scanner) element(c byte) {
	switch c {
	case '{':
		if s.first {
			s.first = false
			s.noCompaction() // each event tells of all
		}
		s.compaction = false
		s.beginIteration()
		s.open(s.objects[s.depth-1].elements)
	case '"':
		s.state, s.after = inString, atElement
	case '[':
		s.state, s.nested = inNested, 1
	case ']', '}': // the latter is no JSON; at least the brackets stay paired
		s.close()
	}
}

// unescape takes a byte behind a backslash, where it belongs to the escape. Once
// that is whole, and s.escaped false, it gives what it stands for; 0, which no name
// holds, for what is beyond ASCII, a control character or no escape at all.
func (s *scanner) unescape(c byte) (stands byte, taken bool) {
	if s.hex == 0 {
		if c == 'u' {
			s.hex, s.code = 4, 0
			return 0, true
		}
		s.escaped = false
		if c == '"' || c == '\\' || c == '/' {
			return c, true
		}
		return 0, true
	}
	digit := strings.IndexByte("0123456789abcdef", c|0x20) // which leaves digits as they are
	if digit < 0 || c < '0' {
		s.escaped, s.hex = false, 0
		return 0, false
	}
	s.code = s.code<<4 | rune(digit)
	if s.hex--; s.hex == 0 {
		s.escaped = false
		if s.code < utf8.RuneSelf {
			stands = byte(s.code)
		}
	}
	return stands, true
}

func (s *scanner) inName(c byte) {
	if s.escaped {
		stands, taken := s.unescape(c)
		if !s.escaped {
			s.addName(stands)
		}
		if taken {
			return
		}
	}
	switch c {
	case '\\':
		s.escaped = true
	case '"':
		if s.nameLen > maxName {
			s.state, s.found = atColon, nil
			return
		}
		s.find(s.name[:s.nameLen])
	default:
		s.addName(c)
	}
}

func (s *scanner) addName(c byte) {
	if s.nameLen < maxName {
		s.name[s.nameLen] = c
	}
	s.nameLen = min(s.nameLen+1, maxName+1)
}

// find looks for a name that is complete among those of interest.
func (s *scanner) find(name []byte) {
	s.state, s.found = atColon, nil
	members := s.objects[s.depth-1].members
	for i := range members {
		if m := &members[i]; len(m.name) == len(name) && m.name == string(name) {
			s.found = m.node
			return
		}
	}
}

// value takes the first byte of a member's value.
func (s *scanner) value(c byte) {
	switch c {
	case ' ', '\t', '\n', '\r':
	case '"':
		s.state, s.after = inString, atMember
		switch {
		case s.found == nil:
		case s.found.field == fieldModel:
			s.state = inModel
			s.model.begin()
		case s.found.field == fieldIteration, s.found.field == fieldEvent, s.found.field == fieldFailure:
			s.state, s.nameLen = inWord, 0
		}
	case '{':
		if s.found != nil && s.found.members != nil {
			if s.found.field != fieldNone {
				s.set(s.found.field, 1)
			}
			s.open(s.found)
			return
		}
		if s.found != nil && s.found.field == fieldFailure {
			s.failed = true
		}
		s.state, s.nested = inNested, 1
	case '[':
		if s.found != nil && s.found.elements != nil {
			s.first = true
			s.open(s.found)
			return
		}
		s.state, s.nested = inNested, 1
	case '}':
		s.endObject()
	case ',':
		s.state = atMember
	default:
		s.state = inLiteral
		s.literal[0], s.literalLen = c, 1
	}
}

func (s *scanner) inModel(c byte) {
	if s.escaped {
		stands, taken := s.unescape(c)
		if !s.escaped {
			s.model.add(stands)
		}
		if taken {
			return
		}
	}
	switch c {
	case '\\':
		s.escaped = true
	case '"':
		s.model.end()
		s.state = atMember
	default:
		s.model.add(c)
	}
}

func (s *scanner) inWord(c byte) {
	if s.escaped {
		stands, taken := s.unescape(c)
		if !s.escaped {
			s.addName(stands)
		}
		if taken {
			return
		}
	}
	switch c {
	case '\\':
		s.escaped = true
	case '"':
		s.state = atMember
		s.word(s.name[:min(s.nameLen, maxName)])
	default:
		s.addName(c)
	}
}

// word takes the beginning of a word, which is longer than any that is looked for
// where it is not all.
func (s *scanner) word(word []byte) {
	switch s.found.field {
	case fieldIteration:
		s.compaction = string(word) == "compaction"
	case fieldEvent:
		if string(word) == "error" || string(word) == "response.failed" {
			s.failed = true
		}
	case fieldFailure:
		if len(word) > 0 {
			s.failed = true
		}
	}
}

// endObject ends an object.
func (s *scanner) endObject() {
	s.close()
	if s.compaction && s.state == atElement {
		s.compaction = false
		s.endCompaction()
	}
}

// endLiteral takes a number where one is wanted; null and all else says nothing.
func (s *scanner) endLiteral() {
	if s.found == nil || s.found.field < promptTokens || s.literalLen > len(s.literal) {
		return
	}
	n, err := strconv.ParseFloat(string(s.literal[:s.literalLen]), 64)
	if err != nil || n < 0 || n > maxTokens || n != math.Trunc(n) { // NaN is none of these and not equal to itself
		return
	}
	s.set(s.found.field, int64(n))
}
