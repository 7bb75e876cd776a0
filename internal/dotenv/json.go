package dotenv

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// What can be wrong with a JSON document.
const (
	noObject  = "the document must be one JSON object of names to values, such as {\"OPENAI_API_KEY\": \"...\"}"
	noText    = "a value must be text, a number, true, false or null; give a flat object"
	comesMore = "there is something after the end of the object"
	badMember = "a name must be letters, digits, '_', '.' or '-', and not start with a digit, '.' or '-'"
	isTwice   = "a name stands there twice; which of the two is meant cannot be told"
	badJSON   = "the document is not JSON from here on, or it was cut off"
	badEscape = "a value holds an escape that is no character, so that it cannot be read as it was meant"
	badUTF8   = "the file is not UTF-8 text"
)

// ParseJSON reads a JSON object of names to values and gives them as Parse
// does. Numbers and booleans are taken as they are written, null is not set.
// Errors are a [*SyntaxError], [ErrTooLarge], and those of r.
func ParseJSON(r io.Reader) (map[string]string, error) {
	content, err := io.ReadAll(io.LimitReader(r, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("reading: %w", err)
	}
	if len(content) > MaxSize {
		return nil, ErrTooLarge
	}
	content = bytes.TrimPrefix(content, []byte("\xef\xbb\xbf"))
	if !utf8.Valid(content) {
		return nil, &SyntaxError{1, badUTF8}
	}
	d := json.NewDecoder(bytes.NewReader(content))
	d.UseNumber()
	line := func() int { return 1 + bytes.Count(content[:min(int(d.InputOffset()), len(content))], []byte("\n")) }
	token, err := d.Token()
	if err != nil {
		return nil, &SyntaxError{line(), badJSON}
	}
	if token != json.Delim('{') {
		return nil, &SyntaxError{line(), noObject}
	}
	variables := make(map[string]string)
	seen := make(map[string]bool)
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, &SyntaxError{line(), badJSON}
		}
		name, _ := key.(string) // the decoder refuses any other
		value, err := d.Token()
		if err != nil {
			return nil, &SyntaxError{line(), badJSON}
		}
		switch {
		case !isName(name):
			return nil, &SyntaxError{line(), badMember}
		case seen[name]:
			return nil, &SyntaxError{line(), isTwice}
		}
		seen[name] = true
		switch v := value.(type) {
		case nil:
		case string:
			if strings.ContainsRune(v, utf8.RuneError) { // also what the decoder makes of half a surrogate pair
				return nil, &SyntaxError{line(), badEscape}
			}
			variables[name] = v
		case json.Number:
			variables[name] = v.String()
		case bool:
			variables[name] = fmt.Sprint(v)
		default:
			return nil, &SyntaxError{line(), noText}
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, &SyntaxError{line(), badJSON}
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, &SyntaxError{line(), comesMore}
	}
	return variables, nil
}
