package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// succeeded reports whether the status is one of success.
func (a answer) succeeded() bool { return a.status >= 200 && a.status < 300 }

// success reads an answer of success. A provider that does not know a key says so
// by its status, so whatever JSON it answers with speaks for the key, whether or
// not it has the members that this version knows. No JSON (a page, nothing, half
// a body) comes from something in between, and an error is one whatever its status.
func (a answer) success() Outcome {
	if !a.isJSON() {
		return unknownAnswer()
	}
	if a.tellsError() {
		o := unknownAnswer()
		o.Code = errorCode(a)
		return o
	}
	return works()
}

// isJSON reports whether the body is a JSON object or array. One that was cut off
// need only be one as far as it goes.
func (a answer) isJSON() bool {
	d := json.NewDecoder(bytes.NewReader(a.body))
	if t, err := d.Token(); err != nil || t != json.Delim('{') && t != json.Delim('[') {
		return false
	}
	if len(a.body) < MaxProbeBody {
		return json.Valid(a.body)
	}
	for {
		if _, err := d.Token(); err != nil {
			return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		}
	}
}

// tellsError reports whether the body is an object that tells of an error, in the words of
// any of the providers, or that says nothing but a message: some hosts refuse with a 200.
func (a answer) tellsError() bool {
	told, plain := make(map[string]any), 0
	d := json.NewDecoder(bytes.NewReader(a.body)) // which may be cut off
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return false
	}
	for d.More() {
		name, err := d.Token()
		var value any
		if err != nil || d.Decode(&value) != nil {
			if name == "error" || name == "errors" { // it goes on behind what was read
				return true
			}
			break
		}
		told[name.(string)] = value //nolint:forcetypeassert // a member's name is a string
		if plainMembers[name.(string)] {
			plain++
		}
	}
	something := func(v any) bool {
		switch v := v.(type) {
		case nil:
			return false
		case bool:
			return v
		case string:
			return v != ""
		case []any:
			return len(v) > 0
		case map[string]any:
			return len(v) > 0
		}
		return true
	}
	refuses := func(v any) bool {
		status, ok := v.(float64)
		return ok && status >= 400
	}
	return something(told["error"]) || something(told["errors"]) || told["type"] == "error" || told["type"] == "error.list" || told["status"] == "error" ||
		told["success"] == false || told["ok"] == false || refuses(told["code"]) || refuses(told["status"]) || plain > 0 && plain == len(told)
}

// plainMembers are those of an object that says why it is no answer.
var plainMembers = map[string]bool{"message": true, "msg": true, "detail": true, "code": true, "status": true, "success": true, "error_description": true, "title": true}

// fill takes from the body what v asks for and the body has: a member that is
// missing or of another kind leaves the rest.
func (a answer) fill(v any) { _ = json.Unmarshal(a.body, v) }
