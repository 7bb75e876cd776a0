package audit

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
)

// What is appended here is byte for byte what encoding/json gives for the same
// structs without HTML escapes: a test compares the two. Written out, it takes a
// fifth of the time, of a step that every visit pays for.

// append adds c's canonical bytes to b.
func (c *canonicalEvent) append(b []byte) ([]byte, error) {
	if b == nil {
		b = make([]byte, 0, 512)
	}
	b = append(b, `{"v":`...)
	b = strconv.AppendInt(b, int64(c.Version), 10)
	b = appendText(b, `,"id":`, c.ID)
	b = appendText(b, `,"occurredAt":`, c.OccurredAt)
	b = appendPresent(b, `,"recordedAt":`, c.RecordedAt)
	b = appendText(b, `,"organization":`, c.Organization)
	b = appendText(b, `,"class":`, string(c.Class))
	b = appendText(b, `,"action":`, string(c.Action))
	b = appendText(b, `,"outcome":`, string(c.Outcome))
	b = appendPresent(b, `,"reason":`, c.Reason)
	b = appendPresent(b, `,"severity":`, string(c.Severity))
	b = appendText(b, `,"actor":{"type":`, c.Actor.Type)
	b = appendText(b, `,"id":`, c.Actor.ID)
	b = appendPresent(b, `,"tokenId":`, c.Actor.TokenID)
	for i, role := range c.Actor.Roles {
		b = appendText(b, nth(i, `,"roles":[`), role)
	}
	if len(c.Actor.Roles) > 0 {
		b = append(b, ']')
	}
	b = append(b, '}')
	for i, t := range c.Targets {
		b = appendText(b, nth(i, `,"targets":[`)+`{"type":`, t.Type)
		b = appendText(b, `,"id":`, t.ID)
		b = append(b, '}')
	}
	if len(c.Targets) > 0 {
		b = append(b, ']')
	}
	b = appendPresent(b, `,"permission":`, c.Permission)
	if c.Request != nil {
		b = c.Request.append(append(b, `,"request":`...))
	}
	if c.Count != 0 {
		b = strconv.AppendInt(append(b, `,"count":`...), c.Count, 10)
	}
	if len(c.Metadata) > 0 {
		var err error
		if b, err = appendMetadata(append(b, `,"metadata":`...), c.Metadata); err != nil {
			return nil, err
		}
	}
	b = appendPresent(b, `,"personal":`, c.Personal)
	return append(b, '}'), nil
}

func (q *canonicalRequest) append(b []byte) []byte {
	start := len(b)
	b = appendPresent(b, `,"id":`, q.ID)
	b = appendPresent(b, `,"method":`, q.Method)
	b = appendPresent(b, `,"route":`, q.Route)
	if q.Status != 0 {
		b = strconv.AppendInt(append(b, `,"status":`...), int64(q.Status), 10)
	}
	return endObject(b, start)
}

// append adds the side row's bytes to b.
func (p *personalData) append(b []byte) ([]byte, error) {
	start := len(b)
	b = appendPresent(b, `,"ip":`, p.IP)
	b = appendPresent(b, `,"userAgent":`, p.UserAgent)
	for i, name := range p.Names {
		b = appendText(b, nth(i, `,"names":[`), name)
	}
	if len(p.Names) > 0 {
		b = append(b, ']')
	}
	if len(p.More) > 0 {
		more, err := marshal(p.More)
		if err != nil {
			return nil, err
		}
		b = append(append(b, `,"more":`...), more...)
	}
	return endObject(b, start), nil
}

// nth gives what stands before an element of a list: open for the first one.
func nth(i int, open string) string {
	if i == 0 {
		return open
	}
	return ","
}

// endObject makes an object of members that were appended from start on, each
// with a comma before it.
func endObject(b []byte, start int) []byte {
	if len(b) == start {
		return append(b, "{}"...)
	}
	b[start] = '{'
	return append(b, '}')
}

// appendMetadata adds an object with its names in ascending byte order.
func appendMetadata(b []byte, metadata map[string]any) ([]byte, error) {
	open := byte('{')
	for _, name := range slices.Sorted(maps.Keys(metadata)) {
		b = append(b, open)
		open = ','
		b = append(appendString(b, name), ':')
		switch v := metadata[name].(type) {
		case string:
			b = appendString(b, v)
		case bool:
			b = strconv.AppendBool(b, v)
		case int:
			b = strconv.AppendInt(b, int64(v), 10)
		case int64:
			b = strconv.AppendInt(b, v, 10)
		default:
			value, err := marshal(v)
			if err != nil {
				return nil, err
			}
			b = append(b, value...)
		}
	}
	return append(b, '}'), nil
}

func appendText(b []byte, before, text string) []byte {
	return appendString(append(b, before...), text)
}

func appendPresent(b []byte, before, text string) []byte {
	if text == "" {
		return b
	}
	return appendText(b, before, text)
}

// appendString adds text as a JSON string.
func appendString(b []byte, text string) []byte {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			quoted, err := marshal(text)
			if err != nil { // a string always has a form
				quoted = []byte(`""`)
			}
			return append(b, quoted...)
		}
	}
	b = append(append(b, '"'), text...)
	return append(b, '"')
}

func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
