package seal

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"database/sql/driver"
	"encoding/hex"
	"fmt"
	"log/slog"
	"slices"
	"strings"
)

// SaltSize is the length in bytes of every salt.
const SaltSize = 32

// MinSecret is the length in bytes of the shortest master secret for which a
// [KeyRecord] is made.
const MinSecret = 32

// KeyID is the id of a master key: a UUID. Make one by converting a UUIDv7 of
// any library: this package has no clock.
type KeyID [16]byte

const keyIDPrefix = "key_"

// ParseKeyID reads what [KeyID.String] gives. The error does not repeat s.
func ParseKeyID(s string) (KeyID, error) {
	var id KeyID
	digits, found := strings.CutPrefix(s, keyIDPrefix)
	if !found || len(digits) != 36 ||
		digits[8] != '-' || digits[13] != '-' || digits[18] != '-' || digits[23] != '-' {
		return KeyID{}, fmt.Errorf("%w key id", ErrMalformed)
	}
	if _, err := hex.Decode(id[:], []byte(strings.ReplaceAll(digits, "-", ""))); err != nil || id.String() != s {
		return KeyID{}, fmt.Errorf("%w key id", ErrMalformed)
	}
	return id, nil
}

// String gives "key_" and the UUID in lower case with dashes.
func (id KeyID) String() string {
	return fmt.Sprintf("%s%x-%x-%x-%x-%x", keyIDPrefix, id[0:4], id[4:6], id[6:8], id[8:10], id[10:16])
}

// IsZero reports whether id is the zero id, which no key has.
func (id KeyID) IsZero() bool { return id == KeyID{} }

// MarshalText is [KeyID.String].
func (id KeyID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText is [ParseKeyID].
func (id *KeyID) UnmarshalText(text []byte) error {
	parsed, err := ParseKeyID(string(text))
	if err != nil {
		return err
	}
	*id = parsed
	return nil
}

// Scan reads a column of text.
func (id *KeyID) Scan(src any) error {
	switch src := src.(type) {
	case string:
		return id.UnmarshalText([]byte(src))
	case []byte:
		return id.UnmarshalText(src)
	default:
		return fmt.Errorf("%w key id: read as %T", ErrMalformed, src)
	}
}

// Value writes a column of text.
func (id KeyID) Value() (driver.Value, error) { return id.String(), nil }

// OrganizationSalt is an organization's own random salt. It is stored in the
// organization's row and nowhere else: once it is destroyed, nothing of that
// organization opens again, with whatever master secret. It is therefore not
// printed, logged or marshalled.
type OrganizationSalt [SaltSize]byte

// NewOrganizationSalt draws a random salt.
func NewOrganizationSalt() OrganizationSalt {
	var salt OrganizationSalt
	_, _ = rand.Read(salt[:]) // never fails, see crypto/rand
	return salt
}

// ParseOrganizationSalt reads a salt of [SaltSize] bytes that are not all
// zero, or gives [ErrSalt].
func ParseOrganizationSalt(b []byte) (OrganizationSalt, error) {
	if len(b) != SaltSize || OrganizationSalt(b).IsZero() {
		return OrganizationSalt{}, ErrSalt
	}
	return OrganizationSalt(b), nil
}

// IsZero reports whether the salt was never set.
func (s OrganizationSalt) IsZero() bool { return s == OrganizationSalt{} }

// Format writes a placeholder, whatever the verb.
func (OrganizationSalt) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[organization salt]")) }

// LogValue gives a placeholder to slog.
func (OrganizationSalt) LogValue() slog.Value { return slog.StringValue("[organization salt]") }

// MarshalText is always an error.
func (OrganizationSalt) MarshalText() ([]byte, error) { return nil, errSecretMarshalled }

// Scan reads a column of bytes.
func (s *OrganizationSalt) Scan(src any) error {
	b, ok := src.([]byte)
	if !ok {
		return ErrSalt
	}
	salt, err := ParseOrganizationSalt(b)
	if err != nil {
		return err
	}
	*s = salt
	return nil
}

// Value writes a column of bytes.
func (s OrganizationSalt) Value() (driver.Value, error) {
	if s.IsZero() {
		return nil, ErrSalt
	}
	return s[:], nil
}

// KeyRecord is what is stored of a master key: enough to tell whether a secret
// is the right one, nothing that opens a value. It never changes. To raise the
// iterations, make a new record, of the same secret or another, and rotate.
type KeyRecord struct {
	ID         KeyID
	Salt       []byte // SaltSize random bytes, for Check alone
	Iterations int    // of Check and of every key derived from the secret
	Check      []byte // 32 bytes; guessing the secret by it costs one PBKDF2 per guess
}

// NewKeyRecord makes the record of a new master key. It gives [ErrShortSecret],
// [ErrIterations], or [ErrKeyRecord] for the zero id. It takes one derivation.
func NewKeyRecord(id KeyID, secret Secret, iterations int) (KeyRecord, error) {
	if secret.Len() < MinSecret {
		return KeyRecord{}, ErrShortSecret
	}
	record := KeyRecord{ID: id, Salt: make([]byte, SaltSize), Iterations: iterations, Check: make([]byte, keySize)}
	_, _ = rand.Read(record.Salt) // never fails, see crypto/rand
	if err := record.validate(); err != nil {
		return KeyRecord{}, err
	}
	check, err := record.checkValue(secret)
	if err != nil {
		return KeyRecord{}, err
	}
	record.Check = check
	return record, nil
}

// Matches reports whether secret is the one that the record was made of; a
// malformed record matches nothing. It takes one derivation, and compares in
// constant time.
func (r KeyRecord) Matches(secret Secret) bool {
	if r.validate() != nil {
		return false
	}
	check, err := r.checkValue(secret)
	return err == nil && subtle.ConstantTimeCompare(check, r.Check) == 1
}

func (r KeyRecord) validate() error {
	if r.ID.IsZero() || len(r.Salt) != SaltSize || len(r.Check) != keySize {
		return ErrKeyRecord
	}
	return checkIterations(r.Iterations)
}

// checkValue derives the check value. The HKDF step is for separation: what is
// stored is not itself the output of the function that makes keys.
func (r KeyRecord) checkValue(secret Secret) ([]byte, error) {
	stretched, err := stretchKey(secret, labelRecord, r.Salt, r.Iterations)
	if err != nil {
		return nil, err
	}
	defer clear(stretched)
	return hkdf.Key(sha256.New, stretched, nil, labelCheck, keySize)
}

// MasterKey is a master secret that has been checked against its record.
// Printing one shows neither.
type MasterKey struct {
	id         KeyID
	iterations int
	secret     Secret
}

// NewMasterKey gives the master key of a record, or [ErrWrongSecret] if secret
// is another's, [ErrKeyRecord] or [ErrIterations] if the record is malformed.
// It takes one derivation.
func NewMasterKey(record KeyRecord, secret Secret) (MasterKey, error) {
	if err := record.validate(); err != nil {
		return MasterKey{}, err
	}
	if !record.Matches(secret) {
		return MasterKey{}, ErrWrongSecret
	}
	// A copy of its own, so that the caller may wipe theirs.
	return MasterKey{record.ID, record.Iterations, ownSecret(slices.Clone(secret.ExposeSecretBytes()))}, nil
}

// ID gives the key's id.
func (m MasterKey) ID() KeyID { return m.id }

// Iterations gives the PBKDF2 iteration count of what is sealed under the key.
func (m MasterKey) Iterations() int { return m.iterations }

// String gives the key's id.
func (m MasterKey) String() string { return m.id.String() }
