package seal

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
)

// Authenticate gives the HMAC-SHA256 (RFC 2104) of message, under a key that is derived
// from the master secret for this purpose alone: whoever has the secret can make it, and
// nobody else. Compare two with [crypto/hmac.Equal].
//
// salt is [SaltSize] random bytes that are kept beside the result, as iterations is.
// Errors: [ErrShortSecret], [ErrSalt], [ErrIterations]. It takes one derivation.
func Authenticate(secret Secret, purpose string, salt []byte, iterations int, message []byte) ([]byte, error) {
	if secret.Len() < MinSecret {
		return nil, ErrShortSecret
	}
	if len(salt) != SaltSize {
		return nil, ErrSalt
	}
	if err := checkIterations(iterations); err != nil {
		return nil, err
	}
	stretched, err := stretchKey(secret, labelAuthentication, salt, iterations)
	if err != nil {
		return nil, err
	}
	defer clear(stretched)
	key, err := hkdf.Key(sha256.New, stretched, nil, purpose, keySize)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	mac := hmac.New(sha256.New, key)
	mac.Write(message) // never fails
	return mac.Sum(nil), nil
}
