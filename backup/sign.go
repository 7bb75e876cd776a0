package backup

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/gatehouse-io/gatehouse/seal"
)

// Signing is what is known of who made a backup. age says to whom a file is encrypted,
// and not by whom: anybody who knows the recipient can write one that opens.
type Signing int

// What may be known of it.
const (
	Unsigned Signing = iota // nothing says who made it
	Signed                  // signed with a secret that is not among those given, so that nobody looked
	Genuine                 // made by somebody who has one of the given secrets
)

// The errors of signatures.
var (
	// ErrForged says that a backup's signature is none of the master key that it names.
	ErrForged = errors.New("the backup is signed by somebody who has not its master key: it was made or altered elsewhere")

	// ErrUnsigned says that a backup is not signed, and that nobody said to take it nevertheless.
	ErrUnsigned = errors.New("the backup is not signed with a master key, so anybody who knows its recipient may have made it")

	// ErrOtherSigner says that a backup is signed with a secret that is not among those given.
	ErrOtherSigner = errors.New("the backup is signed with a master key that is neither ENCRYPTION_KEY nor among ENCRYPTION_KEYS_OLD; set ENCRYPTION_KEY to the secret that it was made with")
)

// purpose separates the key of signatures from all else that is derived from a secret.
const purpose = "gatehouse/backup/2/signature"

// signature is an HMAC-SHA256 of the hash of all lines, see [seal.Authenticate].
type signature struct {
	Salt       []byte `json:"salt"`
	Iterations int    `json:"iterations"`
	HMAC       []byte `json:"hmac"`
}

// sign signs the hash of a backup's lines.
func sign(secret seal.Secret, iterations int, sum string) (*signature, error) {
	s := &signature{Salt: make([]byte, seal.SaltSize), Iterations: iterations}
	_, _ = rand.Read(s.Salt) // never fails, see crypto/rand
	var err error
	s.HMAC, err = seal.Authenticate(secret, purpose, s.Salt, iterations, []byte(sum))
	return s, err
}

// signers gives which of the secrets may have signed the backup: the one of the key that
// seals, or each where nothing was ever sealed. iterations are those that it signs with.
func (h *Header) signers(secrets []seal.Secret) (signers []seal.Secret, iterations int) {
	if h.SealingKey == "" {
		for _, secret := range secrets {
			if secret.Len() >= seal.MinSecret {
				signers = append(signers, secret)
			}
		}
		return signers, seal.MinIterations
	}
	for _, k := range h.Keys {
		if k.ID.String() != h.SealingKey {
			continue
		}
		for _, secret := range secrets {
			if k.record().Matches(secret) {
				return []seal.Secret{secret}, k.Iterations
			}
		}
		return nil, k.Iterations
	}
	return nil, 0
}

// signing says what the signature at the end of a backup is worth.
func (h *Header) signing(s *signature, sum string, secrets []seal.Secret) (Signing, error) {
	if h.Signed != (s != nil) {
		return Unsigned, damaged("its header and its end do not agree on whether it is signed")
	}
	if s == nil {
		return Unsigned, nil
	}
	signers, iterations := h.signers(secrets)
	if len(s.Salt) != seal.SaltSize || len(s.HMAC) != sha256.Size || s.Iterations != iterations {
		return Unsigned, damaged("its signature is malformed")
	}
	for _, secret := range signers {
		want, err := seal.Authenticate(secret, purpose, s.Salt, s.Iterations, []byte(sum))
		if err != nil {
			return Unsigned, fmt.Errorf("the signature cannot be checked: %w", err)
		}
		if hmac.Equal(want, s.HMAC) {
			return Genuine, nil
		}
	}
	if h.SealingKey != "" && len(signers) > 0 {
		return Unsigned, ErrForged
	}
	return Signed, nil
}
