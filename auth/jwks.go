package auth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"slices"
	"strings"
)

// The bounds of a key set.
const (
	maxKeySet     = 256 << 10 // bytes
	maxKeys       = 100
	maxUnnamed    = 4    // that are tried for a token which names none (RFC 7515, 4.1.4 lets it)
	minRSABits    = 2048 // NIST SP 800-131A revision 2, section 3
	maxRSABits    = 8192 // what verifying may cost
	maxRSAExp     = 1<<31 - 1
	ed25519Size   = ed25519.PublicKeySize
	p256Size      = 32
	signatureUse  = "sig"
	verifyKeyOp   = "verify"
	acceptKeySets = "application/jwk-set+json, application/json"
)

// jwk is one key of a key set (RFC 7517, section 4; RFC 7518, section 6; RFC
// 8037, section 2). Private members are not read.
type jwk struct {
	Type      string   `json:"kty"`
	Use       string   `json:"use"`
	Ops       []string `json:"key_ops"`
	Algorithm string   `json:"alg"`
	KeyID     string   `json:"kid"`
	Curve     string   `json:"crv"`
	X         string   `json:"x"`
	Y         string   `json:"y"`
	N         string   `json:"n"`
	E         string   `json:"e"`
}

// verifyKey is a public key of an issuer.
type verifyKey struct {
	id     string
	public crypto.PublicKey
}

func (k *verifyKey) equal(other *verifyKey) bool {
	same, ok := k.public.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.id == other.id && same.Equal(other.public)
}

var errKeySet = errors.New("the answer is no key set")

// readKeySet gives the keys of a key set that can verify algorithm. What else
// is in it is passed over; weak says how many of them give no safety: RSA keys that
// are too short, and Ed25519 keys of a small order.
func readKeySet(data []byte, algorithm string) (keys []*verifyKey, weak int, err error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil || set.Keys == nil {
		return nil, 0, errKeySet
	}
	if len(set.Keys) > maxKeys {
		return nil, 0, fmt.Errorf("the key set has more than %d keys", maxKeys)
	}
	for _, raw := range set.Keys {
		var k jwk
		if json.Unmarshal(raw, &k) != nil || len(k.KeyID) > maxKeyID {
			continue
		}
		if k.Use != "" && k.Use != signatureUse || k.Ops != nil && !slices.Contains(k.Ops, verifyKeyOp) || k.Algorithm != "" && k.Algorithm != algorithm {
			continue
		}
		public, err := k.public(algorithm)
		if errors.Is(err, errWeak) {
			weak++
		}
		if err != nil {
			continue
		}
		key := &verifyKey{k.KeyID, public}
		if !slices.ContainsFunc(keys, key.equal) { // the same key is listed again where only a member differs that is not read
			keys = append(keys, key)
		}
	}
	// Two keys of one id: which is meant cannot be known. Those without an id are for
	// tokens that name none.
	times := make(map[string]int, len(keys))
	for _, k := range keys {
		times[k.id]++
	}
	return slices.DeleteFunc(keys, func(k *verifyKey) bool { return k.id != "" && times[k.id] > 1 }), weak, nil
}

var (
	errWeak     = errors.New("the key is too weak")
	errOtherKey = errors.New("not a key for this algorithm")
)

func (k jwk) public(algorithm string) (crypto.PublicKey, error) {
	switch {
	case algorithm == rs256 && k.Type == "RSA":
		n, nErr := base64.RawURLEncoding.DecodeString(k.N)
		e, eErr := base64.RawURLEncoding.DecodeString(k.E)
		if nErr != nil || eErr != nil || len(n) > maxRSABits/8+1 || len(e) > 4 {
			return nil, errOtherKey
		}
		key := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
		if key.N.BitLen() < minRSABits {
			return nil, errWeak
		}
		if key.N.BitLen() > maxRSABits || key.E < 3 || key.E > maxRSAExp || key.E%2 == 0 || key.N.Bit(0) == 0 {
			return nil, errOtherKey
		}
		return key, nil
	case algorithm == es256 && k.Type == "EC" && k.Curve == "P-256":
		x, xErr := base64.RawURLEncoding.DecodeString(k.X)
		y, yErr := base64.RawURLEncoding.DecodeString(k.Y)
		if xErr != nil || yErr != nil || len(x) != p256Size || len(y) != p256Size {
			return nil, errOtherKey
		}
		return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x...), y...)) // refuses what is not on the curve
	case algorithm == eddsa && k.Type == "OKP" && k.Curve == "Ed25519":
		x, err := base64.RawURLEncoding.DecodeString(k.X)
		if err != nil || len(x) != ed25519Size {
			return nil, errOtherKey
		}
		if smallOrder(x) {
			return nil, errWeak
		}
		return ed25519.PublicKey(x), nil
	}
	return nil, errOtherKey
}

// smallOrder reports whether an Ed25519 key is one of the few points under which one
// signature holds for any message (RFC 8032, 5.1.7 does not refuse them; libsodium does).
func smallOrder(key []byte) bool {
	y := slices.Clone(key)
	y[len(y)-1] &= 0x7f // the sign of x
	return slices.Contains(smallOrders[:], string(y))
}

// smallOrders are the points of an order up to 8 by their y, also where it is not reduced.
var smallOrders = [...]string{
	strings.Repeat("\x00", 32),
	"\x01" + strings.Repeat("\x00", 31),
	"\xec" + strings.Repeat("\xff", 30) + "\x7f",
	"\xed" + strings.Repeat("\xff", 30) + "\x7f",
	"\xee" + strings.Repeat("\xff", 30) + "\x7f",
	"\x26\xe8\x95\x8f\xc2\xb2\x27\xb0\x45\xc3\xf4\x89\xf2\xef\x98\xf0\xd5\xdf\xac\x05\xd3\xc6\x33\x39\xb1\x38\x02\x88\x6d\x53\xfc\x05",
	"\xc7\x17\x6a\x70\x3d\x4d\xd8\x4f\xba\x3c\x0b\x76\x0d\x10\x67\x0f\x2a\x20\x53\xfa\x2c\x39\xcc\xc6\x4e\xc7\xfd\x77\x92\xac\x03\x7a",
}

// fetchKeySet asks an issuer for its keys. Nothing of the answer is in the error.
func fetchKeySet(ctx context.Context, client *http.Client, address string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, errors.New("the address of the keys cannot be asked")
	}
	r.Header.Set("Accept", acceptKeySets)
	resp, err := client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("the issuer does not answer: %w", err)
	}
	defer func() { _ = resp.Body.Close() }() // it was only read
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the issuer answers %d", resp.StatusCode)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxKeySet+1))
	if err != nil {
		return nil, fmt.Errorf("the issuer's answer broke off: %w", err)
	}
	if len(data) > maxKeySet {
		return nil, fmt.Errorf("the key set is larger than %d bytes", maxKeySet)
	}
	return data, nil
}
