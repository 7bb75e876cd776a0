package seal

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"unicode/utf8"
)

// Fields are the fields of a credential by name.
type Fields map[string]Secret

// Names gives the names in ascending byte order, as [Context.Fields] wants them.
func (f Fields) Names() []string { return slices.Sorted(maps.Keys(f)) }

// ExposeSecrets gives the plaintexts by name, as copies that [Fields.Wipe] does not
// reach; see [Secret.ExposeSecret].
func (f Fields) ExposeSecrets() map[string]string {
	plain := make(map[string]string, len(f))
	for name, value := range f {
		plain[name] = value.ExposeSecret()
	}
	return plain
}

// Wipe wipes every field; see [Secret.Wipe].
func (f Fields) Wipe() {
	for _, value := range f {
		value.Wipe()
	}
}

// SealFields is [Keyring.Seal] for fields: the plaintext is their JSON object,
// and c.Fields is set to their names. Names and values must be UTF-8, or it
// gives [ErrMalformed].
func (k *Keyring) SealFields(ctx context.Context, c Context, salt OrganizationSalt, fields Fields) (Sealed, error) {
	c.Fields = fields.Names()
	plaintext, err := encodeFields(fields)
	if err != nil {
		return nil, err
	}
	defer clear(plaintext)
	return k.Seal(ctx, c, salt, plaintext)
}

// OpenFields is [Keyring.Open] for what [Keyring.SealFields] gave; c.Fields
// holds the names of all fields. A payload that is not of these fields gives
// [ErrMalformed].
func (k *Keyring) OpenFields(ctx context.Context, c Context, salt OrganizationSalt, sealed Sealed) (Fields, error) {
	plaintext, err := k.openAppend(ctx, nil, c, salt, sealed)
	if err != nil {
		return nil, err
	}
	defer clear(plaintext)
	var fields Fields
	// The decoder's error is dropped since it may quote the plaintext.
	if json.Unmarshal(plaintext, &fields) != nil || fields == nil || len(fields) != len(c.Fields) {
		return nil, fmt.Errorf("%w fields", ErrMalformed)
	}
	for _, name := range c.Fields {
		if _, found := fields[name]; !found {
			return nil, fmt.Errorf("%w fields", ErrMalformed)
		}
	}
	return fields, nil
}

// encodeFields gives the one JSON object that stands for fields: names in
// ascending byte order, no white space, strings as in RFC 8785, 3.2.2.2.
func encodeFields(fields Fields) ([]byte, error) {
	size := 2
	for name, value := range fields {
		size += len(name) + value.Len() + 6
	}
	b := append(make([]byte, 0, size), '{')
	for i, name := range fields.Names() {
		value := fields[name].ExposeSecretBytes()
		if !utf8.ValidString(name) || !utf8.Valid(value) {
			clear(b)
			return nil, fmt.Errorf("%w fields: not UTF-8", ErrMalformed)
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = appendJSONString(b, []byte(name))
		b = append(b, ':')
		b = appendJSONString(b, value)
	}
	return append(b, '}'), nil
}

// appendJSONString appends s in quotes. Only what JSON demands is escaped, so
// that <, > and & stand as they are.
func appendJSONString(b, s []byte) []byte {
	const hexDigits = "0123456789abcdef"
	b = append(b, '"')
	for _, char := range s {
		switch {
		case char == '"' || char == '\\':
			b = append(b, '\\', char)
		case char >= ' ':
			b = append(b, char)
		case char == '\b':
			b = append(b, '\\', 'b')
		case char == '\t':
			b = append(b, '\\', 't')
		case char == '\n':
			b = append(b, '\\', 'n')
		case char == '\f':
			b = append(b, '\\', 'f')
		case char == '\r':
			b = append(b, '\\', 'r')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[char>>4], hexDigits[char&15])
		}
	}
	return append(b, '"')
}
