// Package dotenv reads .env files as people have them, so that what stands in
// one can move somewhere better.
//
// A file is lines of NAME=value:
//
//	# a comment
//	PLAIN=value                    # a comment after white space
//	export SHELL_STYLE=value
//	SPACED = value with spaces
//	HASH=abc#def                   # the value is abc#def
//	SINGLE='literally $this \n'
//	DOUBLE="two\nlines, \"quoted\""
//	BACKTICK=`both ' and "`
//	KEY="-----BEGIN KEY-----
//	a quoted value may go over several lines
//	-----END KEY-----"
//
// Inside double quotes \n, \r, \", \\ and \$ are escapes, and any other
// backslash stands for itself; inside single quotes and backticks everything
// does. A value without quotes ends at the end of its line, or at a # that has
// white space before it, and loses the white space at its ends. A name is a
// letter or '_', then letters, digits, '_', '.' or '-'. When a name comes twice,
// the last one counts. Lines may end in LF, CRLF or CR, and a UTF-8 byte order mark in
// front is skipped.
//
// # No expansion
//
// $NAME and ${NAME} stay as they are, on purpose: a password with a $ in it has
// to come out as it went in, and a reader that guesses which is meant gives
// somebody a wrong password without a word.
//
// # JSON
//
// [ParseJSON] reads the same from a JSON object of name to value, which is what
// secret managers export.
//
// # Errors
//
// What cannot be read is refused whole, since half of a file of secrets is
// worse than none. A [*SyntaxError] says on which line and what to do; it never
// holds a piece of the file, not even a name, which may be a secret that lost
// its line.
package dotenv

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// MaxSize is how large a file may be, in bytes.
const MaxSize = 1 << 20

// ErrTooLarge says that the input is larger than [MaxSize].
var ErrTooLarge = fmt.Errorf("the file is larger than %d bytes, which no .env file is; give the right file", MaxSize)

// SyntaxError says where a file cannot be read, and the mend. It never holds
// anything out of the file.
type SyntaxError struct {
	Line    int // from 1; of a quote that is never closed, where it opens
	Message string
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Message) }

// What can be wrong with a line.
const (
	noEquals     = "there is no '='; write NAME=value, put # in front of a comment, and put a value of several lines in quotes"
	badName      = "the name in front of '=' must be letters, digits, '_', '.' or '-', and not start with a digit, '.' or '-'"
	unterminated = "the quote that opens here is never closed; close it, or get the rest of the file: it may have been cut off"
	afterQuote   = "there is text after the closing quote; put the whole value into one pair of quotes, of a kind that is not in it"
	holdsNUL     = "there is a NUL byte, so this is not a text file, or one in UTF-16; save it as UTF-8"
	isUTF16      = "the file is in UTF-16; save it as UTF-8"
)

// Parse reads a whole file and gives its variables by name. Errors are a
// [*SyntaxError], [ErrTooLarge], and those of r.
func Parse(r io.Reader) (map[string]string, error) {
	content, err := io.ReadAll(io.LimitReader(r, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("reading: %w", err)
	}
	if len(content) > MaxSize {
		return nil, ErrTooLarge
	}
	if bytes.HasPrefix(content, []byte("\xff\xfe")) || bytes.HasPrefix(content, []byte("\xfe\xff")) {
		return nil, &SyntaxError{1, isUTF16}
	}
	text := strings.TrimPrefix(string(content), "\ufeff")
	text = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text)
	if nul := strings.IndexByte(text, 0); nul >= 0 {
		return nil, &SyntaxError{1 + strings.Count(text[:nul], "\n"), holdsNUL}
	}

	variables := make(map[string]string)
	line := 1
	for text != "" {
		name, value, length, err := parseEntry(text)
		if err != nil {
			err.Line += line
			return nil, err
		}
		if name != "" {
			variables[name] = value
		}
		line += strings.Count(text[:length], "\n")
		text = text[length:]
	}
	return variables, nil
}

const blank = " \t"

// parseEntry reads the variable at the start of text, or an empty name for a
// blank line or a comment, and gives how many bytes it took, the line end
// included. Line numbers of its errors count from 0.
func parseEntry(text string) (name, value string, length int, fail *SyntaxError) {
	line, _, _ := strings.Cut(text, "\n")
	end := min(len(line)+1, len(text))
	trimmed := strings.Trim(line, blank)
	if trimmed == "" || trimmed[0] == '#' {
		return "", "", end, nil
	}
	before, after, found := strings.Cut(line, "=")
	if !found {
		return "", "", 0, &SyntaxError{0, noEquals}
	}
	name = strings.Trim(before, blank)
	if rest, ok := strings.CutPrefix(name, "export"); ok && strings.TrimLeft(rest, blank) != rest {
		name = strings.TrimLeft(rest, blank)
	}
	if !isName(name) {
		return "", "", 0, &SyntaxError{0, badName}
	}
	start := len(before) + 1
	start += len(after) - len(strings.TrimLeft(after, blank))
	if start < len(line) && strings.IndexByte("'\"`", line[start]) >= 0 {
		value, taken, fail := parseQuoted(text[start:])
		return name, value, start + taken, fail
	}
	return name, unquoted(after), end, nil
}

func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_'
		if !letter && (i == 0 || (c < '0' || c > '9') && c != '.' && c != '-') {
			return false
		}
	}
	return s != ""
}

// unquoted gives the value of what stands after '='.
func unquoted(s string) string {
	for i := 1; i < len(s); i++ {
		if s[i] == '#' && strings.IndexByte(blank, s[i-1]) >= 0 {
			s = s[:i]
			break
		}
	}
	return strings.Trim(s, blank)
}

// parseQuoted reads the quoted value at the start of text and the rest of the
// closing quote's line.
func parseQuoted(text string) (value string, length int, fail *SyntaxError) {
	value, length, err := unquote(text)
	if err != nil {
		return "", 0, &SyntaxError{0, unterminated}
	}
	rest, _, _ := strings.Cut(text[length:], "\n")
	if trimmed := strings.TrimLeft(rest, blank); trimmed != "" && trimmed[0] != '#' {
		return "", 0, &SyntaxError{strings.Count(text[:length], "\n"), afterQuote}
	}
	return value, min(length+len(rest)+1, len(text)), nil
}

var errOpen = errors.New("no closing quote")

// unquote gives the value between the quote that text starts with and the next
// one of its kind, and how many bytes both took.
func unquote(text string) (value string, length int, err error) {
	quote := text[0]
	if quote != '"' {
		end := strings.IndexByte(text[1:], quote)
		if end < 0 {
			return "", 0, errOpen
		}
		return text[1 : 1+end], end + 2, nil
	}
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			return b.String(), i + 1, nil
		case c == '\\' && i+1 < len(text) && escapes[text[i+1]] != 0:
			i++
			b.WriteByte(escapes[text[i]])
		default:
			b.WriteByte(c)
		}
	}
	return "", 0, errOpen
}

// escapes maps the byte after a backslash to what both stand for.
var escapes = [256]byte{'n': '\n', 'r': '\r', '"': '"', '\\': '\\', '$': '$'}
