package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// succeeded says whether the status is one of success.
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

// isJSON says whether the body is a JSON object or array. One that was cut off
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

// tellsError says whether the body is an object that tells of an error, in the
// words of any of the providers.
func (a answer) tellsError() bool {
	var told struct {
		Error  any `json:"error"`
		Errors any `json:"errors"`
		Type   any `json:"type"`
		Status any `json:"status"`
	}
	a.fill(&told)
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
	return something(told.Error) || something(told.Errors) || told.Type == "error" || told.Type == "error.list" || told.Status == "error"
}

// fill takes from the body what v asks for and the body has: a member that is
// missing or of another kind leaves the rest.
func (a answer) fill(v any) { _ = json.Unmarshal(a.body, v) }
