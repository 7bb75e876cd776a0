package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"hash/crc32"
	"math/big"
	"strings"
)

// The form of a service token: the prefix, 43 digits to the base of 62 that are
// 256 random bits, and 6 that are the CRC-32 (IEEE) of all before them, in the
// same digits. The checksum keeps no secret: it lets a mistyped or cut token be
// refused, and a leaked one be recognised, without asking the database. For secret
// scanners docs/access.md has the regular expression.
const (
	servicePrefix   = "gth_"
	randomDigits    = 43
	checkDigits     = 6
	serviceTokenLen = len(servicePrefix) + randomDigits + checkDigits
	digits62        = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// isServiceToken reports whether token is meant to be a service token, by its
// prefix. No JWT begins so.
func isServiceToken(token string) bool { return strings.HasPrefix(token, servicePrefix) }

// checkServiceToken reports whether token has the form and the checksum of a
// service token.
func checkServiceToken(token string) bool {
	if len(token) != serviceTokenLen || !isServiceToken(token) {
		return false
	}
	body := token[:len(token)-checkDigits]
	return strings.Trim(body[len(servicePrefix):], digits62) == "" && token[len(body):] == checksum62(body)
}

// newServiceToken makes a token of 256 random bits.
func newServiceToken() string {
	var random [32]byte
	rand.Read(random[:]) // never fails (crypto/rand)
	body := servicePrefix + base62(new(big.Int).SetBytes(random[:]), randomDigits)
	return body + checksum62(body)
}

func checksum62(body string) string {
	return base62(big.NewInt(int64(crc32.ChecksumIEEE([]byte(body)))), checkDigits)
}

// base62 gives n in exactly width digits.
func base62(n *big.Int, width int) string {
	out := make([]byte, width)
	rest, base, digit := new(big.Int).Set(n), big.NewInt(int64(len(digits62))), new(big.Int)
	for at := width - 1; at >= 0; at-- {
		rest.DivMod(rest, base, digit)
		out[at] = digits62[digit.Int64()]
	}
	return string(out)
}

// hashOf is what is kept of a token: its SHA-256. A slow hash protects what
// people choose, by making each guess dear; nobody guesses 256 random bits, and
// a slow one would let anybody make us work.
func hashOf(token string) [sha256.Size]byte { return sha256.Sum256([]byte(token)) }
