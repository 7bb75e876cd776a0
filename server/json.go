package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
)

// strictJSON reads one JSON value without duplicate members (which two parsers
// may read differently), without text that is not Unicode (which the decoder
// would change silently, a secret too) and without anything after it.
var strictJSON = huma.Format{
	Marshal: func(w io.Writer, v any) error {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		return enc.Encode(v)
	},
	Unmarshal: func(data []byte, v any) error {
		if err := refuseAmbiguous(data); err != nil {
			return err
		}
		return json.Unmarshal(data, v)
	},
}

// maxDepth bounds how deep a body may nest; no call takes more than three.
const maxDepth = 32

var errJSON = errors.New("malformed JSON")

// refuseAmbiguous reports an error for JSON that names a member twice in one
// object, nests deeper than maxDepth, or holds bytes or escapes that are no
// Unicode text: those decode to U+FFFD, which no name and no value needs. Other
// faults are left to the decoder.
func refuseAmbiguous(data []byte) error {
	if !utf8.Valid(data) {
		return errJSON
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	type level struct {
		object bool
		key    bool // the next token is a member's name
		seen   map[string]bool
	}
	var stack []level
	for {
		token, err := dec.Token()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return errJSON
		}
		var top *level
		if len(stack) > 0 {
			top = &stack[len(stack)-1]
		}
		if delim, ok := token.(json.Delim); ok {
			switch delim {
			case '{', '[':
				if top != nil {
					top.key = top.object
				}
				if len(stack) == maxDepth {
					return errJSON
				}
				stack = append(stack, level{object: delim == '{', key: delim == '{', seen: map[string]bool{}})
			default:
				stack = stack[:len(stack)-1]
			}
			continue
		}
		if text, ok := token.(string); ok && strings.ContainsRune(text, utf8.RuneError) {
			return errJSON
		}
		if top == nil || !top.object {
			continue
		}
		if name, ok := token.(string); ok && top.key {
			if top.seen[name] {
				return errJSON
			}
			top.seen[name] = true
			top.key = false
			continue
		}
		top.key = true
	}
}
