package seal

import (
	"encoding/binary"
	"math"
	"slices"
)

// Context is what a sealed value is bound to: it opens only where every part
// is equal to the one it was sealed with. Nothing of it is stored in the
// sealed value, so it must come from the row that holds it.
type Context struct {
	Environment  string // the instance's environment, such as "production"
	Organization string // the tenant's id
	Kind         string // what the value is, such as "credential" or "fingerprint-key"
	ID           string // the id of the thing within its kind
	Version      int64  // the version of that thing, 0 or more

	// Fields are the names of the fields in the payload, in any order and
	// each once; empty for a payload that is not made of fields.
	Fields []string
}

// canonical gives the context with its fields in ascending byte order, or
// [ErrContext]. It does not allocate where they are in order already.
func (c Context) canonical() (Context, error) {
	for _, part := range [...]string{c.Environment, c.Organization, c.Kind, c.ID} {
		if part == "" || uint64(len(part)) > math.MaxUint32 {
			return Context{}, ErrContext
		}
	}
	if c.Version < 0 {
		return Context{}, ErrContext
	}
	if !slices.IsSorted(c.Fields) {
		c.Fields = slices.Clone(c.Fields)
		slices.Sort(c.Fields)
	}
	for i, field := range c.Fields {
		if field == "" || i > 0 && field == c.Fields[i-1] {
			return Context{}, ErrContext
		}
	}
	return c, nil
}

// appendPayloadData appends the additional data of the payload's layer.
// The context must be canonical.
func (c Context) appendPayloadData(b []byte) []byte {
	b = appendString(b, labelPayload)
	return c.append(b)
}

// appendWrapData appends the additional data of the data key's layer.
// The context must be canonical.
func (c Context) appendWrapData(b []byte, key KeyID, iterations uint32, versionSalt []byte) []byte {
	b = appendString(b, labelWrap)
	b = c.append(b)
	b = append(b, key[:]...)
	b = binary.BigEndian.AppendUint32(b, iterations)
	return append(b, versionSalt...)
}

// append appends what both layers bind. Every part is of fixed length or
// carries its length, so no two contexts have the same encoding.
func (c Context) append(b []byte) []byte {
	b = append(b, suite1)
	b = appendString(b, c.Environment)
	b = appendString(b, c.Organization)
	b = appendString(b, c.Kind)
	b = appendString(b, c.ID)
	b = binary.BigEndian.AppendUint64(b, uint64(c.Version))     // canonical refuses negative versions
	b = binary.BigEndian.AppendUint32(b, uint32(len(c.Fields))) // a slice of names does not reach 2^32
	for _, field := range c.Fields {
		b = appendString(b, field)
	}
	return b
}

// appendString appends the length of s as a big-endian uint32, then s.
func appendString(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s))) // canonical bounds the length
	return append(b, s...)
}
