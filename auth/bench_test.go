package auth_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/gatehouse-io/gatehouse/auth"
)

// BenchmarkJWT sets a check of a token that was not seen before beside
// golang-jwt's bare parse and verify of it, in turns, and prints the ratio.
func BenchmarkJWT(b *testing.B) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		b.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	_, edPrivate, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	point, err := ecKey.PublicKey.Bytes()
	if err != nil {
		b.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	set, _ := json.Marshal(map[string]any{"keys": []map[string]string{
		{"kty": "RSA", "kid": "1", "n": b64(rsaKey.N.Bytes()), "e": b64(big.NewInt(int64(rsaKey.E)).Bytes())},
		{"kty": "EC", "kid": "1", "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:])},
		{"kty": "OKP", "kid": "1", "crv": "Ed25519", "x": b64(edPrivate.Public().(ed25519.PublicKey))},
	}})
	for _, c := range []struct {
		method          jwt.SigningMethod
		private, public any
	}{
		{jwt.SigningMethodHS256, []byte(secret), []byte(secret)}, {jwt.SigningMethodRS256, rsaKey, &rsaKey.PublicKey},
		{jwt.SigningMethodES256, ecKey, &ecKey.PublicKey}, {jwt.SigningMethodEdDSA, edPrivate, edPrivate.Public()},
	} {
		b.Run(c.method.Alg(), func(b *testing.B) {
			p := &publisher{}
			p.set(200, string(set), nil)
			opts := auth.Options{Now: time.Now}
			if c.method != jwt.SigningMethodHS256 {
				configs, err := auth.ParseIssuers(fmt.Appendf(nil, `[{"issuer":"https://idp.example","jwks":"https://idp.example","algorithm":%q,"audience":"g"}]`, c.method.Alg()), false)
				if err != nil {
					b.Fatal(err)
				}
				opts.Issuers = auth.NewIssuers(configs, auth.IssuersOptions{Client: &http.Client{Transport: p}})
			}
			a := verifier(opts)
			tokens := make([]string, 64)
			bare := jwt.NewParser(jwt.WithValidMethods([]string{c.method.Alg()}))
			key := func(*jwt.Token) (any, error) { return c.public, nil }
			var ours, theirs time.Duration
			turn := 0
			for b.Loop() {
				b.StopTimer()
				for i := range tokens { // none that was seen before
					turn++
					tokens[i] = benchToken(b, c.method, c.private, turn)
				}
				b.StartTimer()
				start := time.Now()
				for _, token := range tokens {
					if _, err := a.Verify(b.Context(), token); err != nil {
						b.Fatal(err)
					}
				}
				between := time.Now()
				for _, token := range tokens {
					if _, err := bare.ParseWithClaims(token, jwt.MapClaims{}, key); err != nil {
						b.Fatal(err)
					}
				}
				ours, theirs = ours+between.Sub(start), theirs+time.Since(between)
			}
			b.ReportMetric(float64(ours.Nanoseconds())/float64(turn), "ns/check")
			b.ReportMetric(float64(theirs.Nanoseconds())/float64(turn), "ns/bare")
			b.ReportMetric(float64(ours)/float64(theirs), "ratio")
		})
	}
}

func benchToken(b *testing.B, method jwt.SigningMethod, key any, turn int) string {
	token := jwt.NewWithClaims(method, jwt.MapClaims{
		"iss": "https://idp.example", "aud": "g", "sub": "u-42", "organizationId": "acme", "roles": []string{"developer"}, "jti": fmt.Sprint("t-", turn),
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(), "email": "ann@example.com", "name": "Ann Example",
	})
	token.Header["kid"] = "1"
	signed, err := token.SignedString(key)
	if err != nil {
		b.Fatal(err)
	}
	return signed
}
