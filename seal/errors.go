package seal

import (
	"errors"
	"fmt"
)

// The errors of this package. None holds a secret, a plaintext or a byte of a
// ciphertext, so all of them may be logged.
var (
	// ErrNotOpened says that a sealed value does not open: it was altered, or
	// the context or the organization's salt is not the one it was sealed
	// with. It does not say which, on purpose.
	ErrNotOpened = errors.New("seal: the sealed value does not open in this context")

	// ErrMalformed says that bytes are not in the format of a sealed value, or
	// a payload is not in that of [Fields].
	ErrMalformed = errors.New("seal: malformed")

	// ErrUnsupported says that a sealed value is of a suite that this program
	// does not know, most likely written by a newer one.
	ErrUnsupported = errors.New("seal: unsupported suite")

	// ErrIterations says that a PBKDF2 iteration count is not between
	// [MinIterations] and [MaxIterations]. Nothing was derived.
	ErrIterations = fmt.Errorf("seal: iterations not between %d and %d", MinIterations, MaxIterations)

	// ErrBusy says that too many derivations are waiting already. It passes
	// by itself; at the HTTP edge it is a 503.
	ErrBusy = errors.New("seal: too many keys are being derived, try again")

	// ErrContext says that a [Context] lacks a part, has a negative version,
	// or names a field twice.
	ErrContext = errors.New("seal: incomplete or ambiguous context")

	// ErrSalt says that an organization's salt is all zero bytes or not
	// [SaltSize] bytes long.
	ErrSalt = errors.New("seal: not an organization salt")

	// ErrTooLarge says that a plaintext is longer than [MaxPlaintext].
	ErrTooLarge = fmt.Errorf("seal: plaintext over %d bytes", MaxPlaintext)

	// ErrShortSecret says that a master secret is shorter than [MinSecret].
	ErrShortSecret = fmt.Errorf("seal: master secret under %d bytes", MinSecret)

	// ErrWrongSecret says that a master secret is not the one that a
	// [KeyRecord] was made of.
	ErrWrongSecret = errors.New("seal: the master secret does not match the key's record")

	// ErrKeyRecord says that a [KeyRecord] has no id, or a salt or check value
	// of the wrong length.
	ErrKeyRecord = errors.New("seal: malformed key record")

	// ErrDuplicateKey says that a keyring holds a key of this id already.
	ErrDuplicateKey = errors.New("seal: the keyring holds a key of this id already")

	// ErrNoSealingKey says that [Keyring.SetSealing] has not been called.
	ErrNoSealingKey = errors.New("seal: no sealing key has been set")
)

// UnknownKeyError says that the keyring does not hold the master key that a
// value is sealed under. The id is not secret.
type UnknownKeyError struct {
	KeyID KeyID
}

func (e UnknownKeyError) Error() string {
	return "seal: the keyring does not hold " + e.KeyID.String()
}
