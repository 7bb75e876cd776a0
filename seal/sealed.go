package seal

import (
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
)

// The layout of a sealed value of suite 1: where each part starts. Integers
// are big endian. docs/sealing.md is the reference.
const (
	offsetSuite      = 3
	offsetKeyID      = 4
	offsetIterations = 20
	offsetSalt       = 24
	offsetWrap       = 56  // IV (12), encrypted data key (32), tag (16)
	offsetPayload    = 116 // IV (12), ciphertext, tag (16)

	ivSize  = 12
	tagSize = 16

	magic  = "GHS"
	suite1 = 1
)

// MaxPlaintext is the length in bytes of the longest plaintext that can be sealed.
const MaxPlaintext = 1 << 20

// Overhead is by how many bytes a sealed value is longer than its plaintext.
const Overhead = offsetPayload + ivSize + tagSize

// Sealed is a ciphertext with all that is needed to find its key, except for
// the organization's salt and the master secret. It is the one type through
// which every sealed column is written and read: it implements
// [database/sql.Scanner] and [driver.Valuer], and neither lets malformed bytes
// pass. Nil is SQL's NULL.
//
// The id of the master key stands at bytes 4 to 19 of every Sealed, so a query
// can count what a key still seals: substr(column, 5, 16) = $1.
type Sealed []byte

// ParseSealed gives a copy of b as a Sealed after checking its format:
// [ErrMalformed], [ErrUnsupported] or [ErrIterations] otherwise. It decrypts
// nothing.
func ParseSealed(b []byte) (Sealed, error) {
	if err := Sealed(b).check(); err != nil {
		return nil, err
	}
	return slices.Clone(Sealed(b)), nil
}

// check tells whether s has the format of a sealed value.
func (s Sealed) check() error {
	if len(s) <= offsetSuite || string(s[:offsetSuite]) != magic {
		return ErrMalformed
	}
	if s[offsetSuite] != suite1 {
		return ErrUnsupported
	}
	if len(s) < Overhead || len(s) > Overhead+MaxPlaintext {
		return ErrMalformed
	}
	if s.KeyID().IsZero() {
		return ErrMalformed
	}
	return checkIterations(s.Iterations())
}

// KeyID gives the id of the master key that s is sealed under, or the zero id
// if s is malformed.
func (s Sealed) KeyID() KeyID {
	if len(s) < Overhead {
		return KeyID{}
	}
	return s.keyID()
}

// keyID is [Sealed.KeyID] of a value that is long enough.
func (s Sealed) keyID() KeyID { return KeyID(s[offsetKeyID:offsetIterations]) }

// Iterations gives the PBKDF2 iteration count that s names, or 0 if s is
// malformed.
func (s Sealed) Iterations() int {
	if len(s) < Overhead {
		return 0
	}
	return int(binary.BigEndian.Uint32(s[offsetIterations:]))
}

// String gives the key's id and the length, not the bytes.
func (s Sealed) String() string {
	if err := s.check(); err != nil {
		return fmt.Sprintf("sealed(malformed, %d bytes)", len(s))
	}
	return fmt.Sprintf("sealed(%v, %d bytes)", s.KeyID(), len(s))
}

// GoString is as [Sealed.String].
func (s Sealed) GoString() string { return s.String() }

// LogValue gives [Sealed.String] to slog.
func (s Sealed) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText is always an error, so that a sealed value does not end up in a
// JSON answer by accident. Convert to []byte where it must be encoded.
func (s Sealed) MarshalText() ([]byte, error) {
	return nil, errors.New("seal: a sealed value cannot be marshalled")
}

// Scan reads a column of bytes; NULL gives nil.
func (s *Sealed) Scan(src any) error {
	switch src := src.(type) {
	case nil:
		*s = nil
		return nil
	case []byte:
		parsed, err := ParseSealed(src)
		if err != nil {
			return err
		}
		*s = parsed
		return nil
	default:
		return fmt.Errorf("%w: a sealed column is read as %T", ErrMalformed, src)
	}
}

// Value writes a column of bytes; nil gives NULL.
func (s Sealed) Value() (driver.Value, error) {
	if s == nil {
		return nil, nil
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	return []byte(s), nil
}
