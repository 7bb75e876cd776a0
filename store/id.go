package store

import (
	"strings"

	"github.com/google/uuid"
)

// NewID gives a new identifier: prefix, an underscore and a dashed UUIDv7
// (RFC 9562), such as cred_0197c3f2-..., which sorts by the time it was made.
func NewID(prefix string) string {
	return prefix + "_" + uuid.Must(uuid.NewV7()).String()
}

// IsID reports whether id has the form that [NewID] gives for prefix. A
// malformed id is answered like an unknown one.
func IsID(prefix, id string) bool {
	rest, ok := strings.CutPrefix(id, prefix+"_")
	if !ok || len(rest) != 36 {
		return false
	}
	_, err := uuid.Parse(rest)
	return err == nil
}
