// Package stretch is the one slow function of package seal, which makes guessing a secret as
// slow as itself:
//
//	key, err := stretch.Key(secret, salt, 100_000, 32)
//
// It is a package of its own so that the race detector can leave it out (see the Makefile): it has
// no goroutine, and with the detector most of the tests' time would be spent here.
package stretch

import (
	"crypto/pbkdf2"
	"crypto/sha256"
)

// Key gives size bytes of PBKDF2-HMAC-SHA256 (RFC 8018, 5.2). It takes 10 to 30 ms per 100,000
// iterations and 32 bytes.
func Key(secret string, salt []byte, iterations, size int) ([]byte, error) {
	return pbkdf2.Key(sha256.New, secret, salt, iterations, size)
}
