package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"

	"github.com/gatehouse-io/gatehouse/seal/internal/stretch"
)

// MinIterations and MaxIterations bound the PBKDF2 iteration count, in what is
// written and in what is read. The maximum keeps a forged count from stopping
// the instance: it is a few seconds of one core.
const (
	MinIterations = 100_000
	MaxIterations = 10_000_000
)

// keySize is the length in bytes of every derived and random key: AES-256.
const keySize = 32

// The labels keep what is derived or authenticated for one purpose from being
// taken for another. They are part of the format.
const (
	labelOrganization   = "gatehouse/seal/1/organization-key"   // salt prefix of PBKDF2
	labelRecord         = "gatehouse/seal/1/key-record"         // salt prefix of PBKDF2
	labelCheck          = "gatehouse/seal/1/key-check"          // info of HKDF
	labelAuthentication = "gatehouse/seal/1/authentication-key" // salt prefix of PBKDF2
	labelWrapKey        = "gatehouse/seal/1/wrap-key"           // info of HKDF
	labelWrap           = "gatehouse/seal/1/wrap"               // additional data of the data key
	labelPayload        = "gatehouse/seal/1/payload"            // additional data of the payload
)

// checkIterations gives [ErrIterations] for a count out of bounds.
func checkIterations(n int) error {
	if n < MinIterations || n > MaxIterations {
		return ErrIterations
	}
	return nil
}

// stretchKey is PBKDF2-HMAC-SHA256 (RFC 8018, 5.2) over label || salt. It takes
// 10 to 30 ms per 100,000 iterations.
func stretchKey(secret Secret, label string, salt []byte, iterations int) ([]byte, error) {
	return stretch.Key(secret.ExposeSecret(), append([]byte(label), salt...), iterations, keySize)
}

// deriveOrganizationKey gives the key of the organization that has this salt.
func deriveOrganizationKey(master MasterKey, salt OrganizationSalt) ([]byte, error) {
	return stretchKey(master.secret, labelOrganization, salt[:], master.iterations)
}

// wrapAEAD gives the cipher for a data key: HKDF-SHA256 (RFC 5869) turns the
// organization's key and the version's salt into its key.
func wrapAEAD(organizationKey, versionSalt []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, organizationKey, versionSalt, labelWrapKey, keySize)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return newAEAD(key)
}

// newAEAD gives AES-256-GCM (NIST SP 800-38D) that draws a fresh random 96-bit
// IV for each encryption and stores it before the ciphertext.
func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}
