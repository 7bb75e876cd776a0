package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"
)

// Columns are the columns of an event's row that repeat what its canonical bytes
// say, for finding it. They are not hashed, so verification compares them.
type Columns struct {
	Organization, ID                string
	OccurredAt, RecordedAt          time.Time
	Class, Action, Outcome, ActorID string
}

// Differ names the first of the columns that says something else than canonical,
// such as "action", and "" where all agree. commitment is the hex SHA-256 that
// binds the event's personal data, "" where the event has none. It names
// "canonical" where the bytes are no event.
func (c *Columns) Differ(canonical []byte) (column, commitment string) {
	var said struct{ id, occurredAt, recordedAt, organization, class, action, outcome, actorID []byte } // nil: nothing
	ok := eachMember(canonical, func(name, value []byte) bool {
		switch string(name) {
		case "id":
			said.id = value
		case "occurredAt":
			said.occurredAt = value
		case "organization":
			said.organization = value
		case "class":
			said.class = value
		case "action":
			said.action = value
		case "outcome":
			said.outcome = value
		case "recordedAt":
			said.recordedAt = value
		case "personal":
			commitment = string(text(value))
		case "actor":
			return eachMember(value, func(name, value []byte) bool {
				if string(name) == "id" {
					said.actorID = value
				}
				return true
			})
		}
		return true
	})
	if !ok {
		return "canonical", ""
	}
	var at [len(canonicalTime)]byte
	for _, column := range [...]struct {
		name  string
		said  []byte
		value string
	}{
		{"id", said.id, c.ID}, {"occurred_at", said.occurredAt, string(appendTime(at[:0], c.OccurredAt))},
		{"organization", said.organization, c.Organization}, {"class", said.class, c.Class}, {"action", said.action, c.Action},
		{"outcome", said.outcome, c.Outcome}, {"actor_id", said.actorID, c.ActorID},
	} {
		if string(text(column.said)) != column.value {
			return column.name, commitment
		}
	}
	// An event of version 1 does not say it.
	if said.recordedAt != nil && string(text(said.recordedAt)) != string(appendTime(at[:0], c.RecordedAt)) {
		return "recorded_at", commitment
	}
	return "", commitment
}

// Committed reports whether commitment binds this side row. A salt of another length
// would let bytes be moved from one to the other.
func Committed(commitment string, salt, data []byte) bool {
	if len(salt) != saltSize {
		return false
	}
	var buffer [512]byte
	sum := sha256.Sum256(append(append(buffer[:0], salt...), data...))
	var digits [2 * sha256.Size]byte
	hex.Encode(digits[:], sum[:])
	return string(digits[:]) == commitment
}

// text gives the text of a JSON string as it stands in the bytes.
func text(quoted []byte) []byte {
	if len(quoted) < 2 || quoted[0] != '"' {
		return nil
	}
	if bytes.IndexByte(quoted, '\\') < 0 {
		return quoted[1 : len(quoted)-1]
	}
	var s string
	if json.Unmarshal(quoted, &s) != nil {
		return nil
	}
	return []byte(s)
}

// eachMember calls fn with the members of a JSON object until it gives false,
// and reports whether the object could be walked to its end. It is for bytes that
// a hash vouches for, so that it looks at no more than it needs: it takes a tenth
// of the time of encoding/json, of a step that verification does for each event.
func eachMember(object []byte, fn func(name, value []byte) bool) bool {
	if len(object) < 2 || object[0] != '{' {
		return false
	}
	if object[1] == '}' {
		return len(object) == 2
	}
	for i := 1; ; i++ {
		end := valueEnd(object, i)
		if end < 0 || object[i] != '"' || end >= len(object) || object[end] != ':' {
			return false
		}
		name := object[i+1 : end-1]
		i = end + 1
		if end = valueEnd(object, i); end < 0 || end >= len(object) {
			return false
		}
		if !fn(name, object[i:end]) {
			return false
		}
		if object[end] == '}' {
			return end == len(object)-1
		}
		if object[end] != ',' {
			return false
		}
		i = end
	}
}

// valueEnd gives the index behind the JSON value that begins at i, or -1.
func valueEnd(b []byte, i int) int {
	depth := 0
	for ; i < len(b); i++ {
		switch b[i] {
		case '"':
			for i++; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
			if i >= len(b) {
				return -1
			}
			if depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case ',', ':':
			if depth == 0 {
				return i
			}
		}
	}
	return -1
}
