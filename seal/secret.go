package seal

import (
	"crypto/subtle"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
)

// redacted is what every way of printing a [Secret] gives.
const redacted = "[secret]"

// errSecretMarshalled is what every way of encoding a [Secret] gives.
var errSecretMarshalled = errors.New("seal: a secret cannot be marshalled")

// Secret holds bytes that must not be printed, logged or marshalled by
// accident: fmt and slog show "[secret]", and encoding it as JSON, text or an
// SQL argument is an error. [Secret.ExposeSecret] and
// [Secret.ExposeSecretBytes] are the only ways out.
//
// A Secret does not compile with ==, and reflect.DeepEqual of two of them is
// false; use [Secret.Equal]. Copies share their bytes. The zero Secret is
// empty.
type Secret struct {
	// The bytes stand behind a func since fmt and reflective dumpers walk
	// through unexported fields of a surrounding struct without asking
	// Format; none of them can look inside a func.
	bytes func() []byte
}

// NewSecret gives a Secret with a copy of value.
func NewSecret[T ~string | ~[]byte](value T) Secret {
	return ownSecret([]byte(string(value)))
}

// ownSecret gives a Secret that keeps b itself.
func ownSecret(b []byte) Secret {
	return Secret{bytes: func() []byte { return b }}
}

// ExposeSecret gives the plaintext as a string, which cannot be wiped.
func (s Secret) ExposeSecret() string { return string(s.ExposeSecretBytes()) }

// ExposeSecretBytes gives the plaintext itself, not a copy: it must not be
// changed, and [Secret.Wipe] clears it.
func (s Secret) ExposeSecretBytes() []byte {
	if s.bytes == nil {
		return nil
	}
	return s.bytes()
}

// Len gives the length in bytes.
func (s Secret) Len() int { return len(s.ExposeSecretBytes()) }

// IsZero reports whether the secret is empty.
func (s Secret) IsZero() bool { return s.Len() == 0 }

// Equal reports whether both hold the same bytes, in time that depends on the
// lengths alone.
func (s Secret) Equal(other Secret) bool {
	return subtle.ConstantTimeCompare(s.ExposeSecretBytes(), other.ExposeSecretBytes()) == 1
}

// Wipe overwrites the bytes of this Secret and of all its copies with zeros.
// It is a best effort: the garbage collector, the operating system and strings
// made by [Secret.ExposeSecret] may hold further copies. No other goroutine
// may be using the Secret.
func (s Secret) Wipe() { clear(s.ExposeSecretBytes()) }

// String gives "[secret]".
func (Secret) String() string { return redacted }

// GoString gives "[secret]".
func (Secret) GoString() string { return redacted }

// Format writes "[secret]", whatever the verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue gives "[secret]" to slog.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON is always an error.
func (Secret) MarshalJSON() ([]byte, error) { return nil, errSecretMarshalled }

// MarshalText is always an error.
func (Secret) MarshalText() ([]byte, error) { return nil, errSecretMarshalled }

// MarshalBinary is always an error.
func (Secret) MarshalBinary() ([]byte, error) { return nil, errSecretMarshalled }

// Value is always an error: a secret reaches the database as [Sealed] only.
func (Secret) Value() (driver.Value, error) { return nil, errSecretMarshalled }

// UnmarshalText keeps a copy of text, so that configuration and JSON strings
// can be read straight into a Secret.
func (s *Secret) UnmarshalText(text []byte) error {
	*s = NewSecret(text)
	return nil
}
