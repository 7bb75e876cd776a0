package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"math/big"
	"slices"
	"strings"
	"time"
)

// Leeway is how far the clocks of those who sign tokens may be off: a token is
// good for this long past its exp and before its nbf and iat.
const Leeway = 30 * time.Second

// The bounds of a token's parts, in bytes.
const (
	maxHeader = 2 << 10 // as it stands in the token
	maxKeyID  = 256
	maxID     = 256 // of sub and jti
)

// The signature algorithms (RFC 7518, section 3.1; RFC 8037, section 3.1).
const (
	hs256 = "HS256"
	rs256 = "RS256"
	es256 = "ES256"
	eddsa = "EdDSA"
)

// jws is a token in its three parts (RFC 7515, section 7.1), nothing of which
// has been verified but its form.
type jws struct {
	algorithm string
	keyID     string
	signed    string // what the signature is over
	payload   string // as it stands in the token
	signature string // as it stands in the token
}

// refusedHeaders would have a token say by which key, or by which rules, it is
// to be verified (RFC 7515, sections 4.1.2 to 4.1.6 and 4.1.11; RFC 7797), or
// that it is encrypted or holds another token.
var refusedHeaders = []string{"crit", "jku", "jwk", "x5u", "x5c", "b64", "zip", "enc", "cty"}

// splitJWS reads a token's form and header.
func splitJWS(token string) (jws, error) {
	header, rest, ok := strings.Cut(token, ".")
	payload, signature, two := strings.Cut(rest, ".")
	if !ok || !two || len(header) > maxHeader || strings.IndexByte(signature, '.') >= 0 {
		return jws{}, errors.New("not three parts")
	}
	raw, err := decode(header)
	if err != nil {
		return jws{}, err
	}
	var few [8]member
	members, err := readObject(raw, few[:0])
	if err != nil {
		return jws{}, err
	}
	t := jws{signed: token[:len(header)+1+len(payload)], payload: payload, signature: signature}
	for _, m := range members {
		text, isText := readText(m.value)
		switch {
		case m.name == "alg":
			t.algorithm = text
		case m.name == "kid":
			if t.keyID = text; !isText || len(text) > maxKeyID {
				return jws{}, errors.New("kid is no short text")
			}
		case m.name == "typ":
			// RFC 8725, section 3.11: a token that was made for something else.
			if !strings.EqualFold(text, "JWT") && !strings.EqualFold(text, "at+jwt") && !strings.EqualFold(text, "application/at+jwt") {
				return jws{}, errors.New("typ is not JWT")
			}
		case slices.Contains(refusedHeaders, m.name):
			return jws{}, errors.New(m.name + " is not supported")
		}
	}
	return t, nil
}

// strict refuses what two readers may read differently: padding, and bits
// behind the end (RFC 4648, section 3.5). Line breaks, which it would skip, are
// refused before.
var strict = base64.RawURLEncoding.Strict()

func decode(part string) ([]byte, error) { return strict.DecodeString(part) }

// verifyHMAC reports whether the signature is that of secret.
func (t jws) verifyHMAC(secret []byte) bool {
	var mac, given [sha256.Size]byte
	if len(t.signature) != base64.RawURLEncoding.EncodedLen(sha256.Size) {
		return false
	}
	if n, err := strict.Decode(given[:], []byte(t.signature)); err != nil || n != sha256.Size {
		return false
	}
	h := hmac.New(sha256.New, secret)
	h.Write([]byte(t.signed))
	return hmac.Equal(h.Sum(mac[:0]), given[:])
}

// verify reports whether the signature is that of a public key by algorithm.
func (t jws) verify(algorithm string, key crypto.PublicKey) bool {
	signature, err := decode(t.signature)
	if err != nil {
		return false
	}
	switch key := key.(type) {
	case *rsa.PublicKey:
		hash := sha256.Sum256([]byte(t.signed))
		return algorithm == rs256 && rsa.VerifyPKCS1v15(key, crypto.SHA256, hash[:], signature) == nil
	case *ecdsa.PublicKey: // RFC 7518, section 3.4: R and S, 32 bytes each
		hash := sha256.Sum256([]byte(t.signed))
		return algorithm == es256 && len(signature) == 64 &&
			ecdsa.Verify(key, hash[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
	case ed25519.PublicKey:
		return algorithm == eddsa && ed25519.Verify(key, []byte(t.signed), signature)
	}
	return false
}

// claimTimes are when a token is good, leeway included.
type claimTimes struct {
	expires   time.Time
	notBefore time.Time // the later of nbf and iat; zero: at any time
}

// readTimes reads exp, which is required, nbf and iat (RFC 7519, section 4.1):
// whole seconds, as numbers.
func readTimes(members []member) (t claimTimes, ok bool) {
	seconds, ok := readSeconds(find(members, "exp"))
	if !ok {
		return t, false
	}
	t.expires = time.Unix(seconds, 0).Add(Leeway)
	for _, name := range [...]string{"nbf", "iat"} {
		value := find(members, name)
		if value == nil {
			continue
		}
		seconds, ok := readSeconds(value)
		if !ok {
			return t, false
		}
		if at := time.Unix(seconds, 0).Add(-Leeway); at.After(t.notBefore) {
			t.notBefore = at
		}
	}
	return t, true
}

// check gives [ErrExpired] or [ErrBadToken] for a token that is not good at now.
func (t claimTimes) check(now time.Time) error {
	if !now.Before(t.expires) {
		return ErrExpired
	}
	if now.Before(t.notBefore) {
		return ErrBadToken.Because(errors.New("nbf or iat is ahead of this machine's clock"))
	}
	return nil
}

// hasAudience reports whether the claim aud, a text or a list of texts, holds
// audience.
func hasAudience(members []member, audience string) bool {
	value := find(members, "aud")
	if text, ok := readText(value); ok {
		return text == audience
	}
	all, ok := readTexts(value)
	return ok && slices.Contains(all, audience)
}
