package server_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// An identityProvider publishes real keys, as an issuer does.
type identityProvider struct {
	url     string
	rsa     *rsa.PrivateKey
	ec      *ecdsa.PrivateKey
	ed      ed25519.PrivateKey
	fetches atomic.Int64
}

func b64url(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func newIdentityProvider(t *testing.T) *identityProvider {
	t.Helper()
	p := &identityProvider{}
	var err error
	if p.rsa, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	if p.ec, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	if _, p.ed, err = ed25519.GenerateKey(rand.Reader); err != nil {
		t.Fatal(err)
	}
	point, err := p.ec.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]any{"keys": []map[string]any{
		{"kty": "RSA", "kid": "rsa-1", "use": "sig", "n": b64url(p.rsa.N.Bytes()), "e": b64url(big.NewInt(int64(p.rsa.E)).Bytes())},
		{"kty": "EC", "kid": "ec-1", "crv": "P-256", "x": b64url(point[1:33]), "y": b64url(point[33:])},
		{"kty": "OKP", "kid": "ed-1", "crv": "Ed25519", "x": b64url(p.ed.Public().(ed25519.PublicKey))},
	}}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		p.fetches.Add(1)
		_ = json.NewEncoder(w).Encode(keys)
	}))
	t.Cleanup(s.Close)
	p.url = s.URL
	return p
}

// issuers gives AUTH_ISSUERS for the provider, an issuer for each algorithm.
func (p *identityProvider) issuers() string {
	var all []string
	for _, alg := range []string{"RS256", "ES256", "EdDSA"} {
		all = append(all, fmt.Sprintf(`{"issuer":"https://%s.example","jwks":%q,"algorithm":%q,"audience":"gatehouse","organization":"org",
			"roles":"/realm/roles","roleMap":{"eng":["developer"],"boss":["owner"]}}`, strings.ToLower(alg), p.url+"/keys", alg))
	}
	return "[" + strings.Join(all, ",") + "]"
}

func issuerClaims(alg string, changes map[string]any) map[string]any {
	c := map[string]any{
		"iss": "https://" + strings.ToLower(alg) + ".example", "aud": []string{"gatehouse"}, "sub": "ann", "org": "acme",
		"realm": map[string]any{"roles": []string{"eng", "unmapped"}}, "exp": time.Now().Add(time.Hour).Unix(),
	}
	for name, value := range changes {
		if c[name] = value; value == nil {
			delete(c, name)
		}
	}
	return c
}

// handmade puts a token together from the parts as they are written.
func handmade(method jwt.SigningMethod, key any, header, payload string) string {
	signed := b64url([]byte(header)) + "." + b64url([]byte(payload))
	signature, err := method.Sign(signed, key)
	if err != nil {
		return signed + "."
	}
	return signed + "." + b64url(signature)
}

// TestJWTAttackCorpus sends every known trick with tokens through a running
// server; each is answered 401, and the good tokens beside them are let in.
func TestJWTAttackCorpus(t *testing.T) {
	idp := newIdentityProvider(t)
	s := instancetest.Serve(t, map[string]string{
		"AUTH_FAILURE_LIMIT": "100000/1h", "GATEHOUSE_ENV": "development", "AUTH_ISSUERS": idp.issuers(), "JWT_AUDIENCE": "gatehouse",
	})
	secret := []byte(gatehousetest.JWTSecret)
	c := anonymous(t, s)
	knock := func(token string) answer { return c.get(credentialsPath, "Authorization", "Bearer "+token) }

	keys := map[string]struct {
		method jwt.SigningMethod
		key    any
		kid    string
	}{
		"RS256": {jwt.SigningMethodRS256, idp.rsa, "rsa-1"}, "ES256": {jwt.SigningMethodES256, idp.ec, "ec-1"}, "EdDSA": {jwt.SigningMethodEdDSA, idp.ed, "ed-1"},
	}
	for alg, k := range keys {
		if a := knock(sign(t, k.method, k.key, map[string]any{"kid": k.kid}, issuerClaims(alg, nil))); a.Status != 200 {
			t.Fatalf("a good token by %s: %d %s", alg, a.Status, a.Body)
		}
	}
	host := with(map[string]any{"aud": "gatehouse"})
	if a := knock(sign(t, jwt.SigningMethodHS256, secret, nil, host)); a.Status != 200 {
		t.Fatalf("a good token of the host: %d %s", a.Status, a.Body)
	}

	payload := func(claims map[string]any) string { b, _ := json.Marshal(claims); return string(b) }
	hs := func(header, body string) string { return handmade(jwt.SigningMethodHS256, secret, header, body) }
	rs := func(header, body string) string { return handmade(jwt.SigningMethodRS256, idp.rsa, header, body) }
	const hsHeader, rsHeader = `{"alg":"HS256","typ":"JWT"}`, `{"alg":"RS256","kid":"rsa-1"}`
	good, rsGood := payload(host), payload(issuerClaims("RS256", nil))
	exp := fmt.Sprint(time.Now().Add(time.Hour).Unix())
	body := func(member string) string {
		return `{"sub":"u1","organizationId":"acme","roles":["owner"],"aud":"gatehouse","exp":` + exp + `,` + member + `}`
	}
	timed := func(times string) string {
		return `{"sub":"u1","organizationId":"acme","roles":["owner"],"aud":"gatehouse",` + times + `}`
	}
	der, err := x509.MarshalPKIXPublicKey(&idp.rsa.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	weak, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}

	corpus := map[string]string{
		// Algorithms: another than the one that is pinned, or none.
		"HS256 with the issuer's public key as PEM":  handmade(jwt.SigningMethodHS256, publicPEM, `{"alg":"HS256","kid":"rsa-1"}`, rsGood),
		"HS256 with the issuer's public key as DER":  handmade(jwt.SigningMethodHS256, der, `{"alg":"HS256","kid":"rsa-1"}`, rsGood),
		"HS256 with the issuer's modulus":            handmade(jwt.SigningMethodHS256, idp.rsa.N.Bytes(), `{"alg":"HS256","kid":"rsa-1"}`, rsGood),
		"HS256 with the host's secret, as an issuer": hs(hsHeader, payload(issuerClaims("RS256", map[string]any{"organizationId": "acme", "roles": []string{"owner"}}))),
		"RS256 for the host":                         rs(rsHeader, good),
		"RS256 in the name of the ES256 issuer":      rs(rsHeader, payload(issuerClaims("ES256", nil))),
		"RS512":                                      handmade(jwt.SigningMethodRS512, idp.rsa, `{"alg":"RS512","kid":"rsa-1"}`, rsGood),
		"PS256":                                      handmade(jwt.SigningMethodPS256, idp.rsa, `{"alg":"PS256","kid":"rsa-1"}`, rsGood),
		"PS256 that says RS256":                      handmade(jwt.SigningMethodPS256, idp.rsa, rsHeader, rsGood),
		"ES256 of nothing but zeros":                 b64url([]byte(`{"alg":"ES256","kid":"ec-1"}`)) + "." + b64url([]byte(payload(issuerClaims("ES256", nil)))) + "." + b64url(make([]byte, 64)),
		"EdDSA of nothing but zeros":                 b64url([]byte(`{"alg":"EdDSA","kid":"ed-1"}`)) + "." + b64url([]byte(payload(issuerClaims("EdDSA", nil)))) + "." + b64url(make([]byte, 64)),
		"two alg":                                    hs(`{"alg":"HS256","alg":"none"}`, good),
		"two alg, one escaped":                       hs(`{"alg":"HS256","\u0061lg":"none"}`, good),
		// Keys that the token brings or points to.
		"jku":                       rs(`{"alg":"RS256","kid":"rsa-1","jku":"https://evil.example/keys"}`, rsGood),
		"x5u":                       rs(`{"alg":"RS256","kid":"rsa-1","x5u":"https://evil.example/cert"}`, rsGood),
		"jwk":                       handmade(jwt.SigningMethodRS256, weak, `{"alg":"RS256","jwk":{"kty":"RSA","n":"`+b64url(weak.N.Bytes())+`","e":"AQAB"}}`, rsGood),
		"x5c":                       rs(`{"alg":"RS256","kid":"rsa-1","x5c":["MIIB"]}`, rsGood),
		"crit":                      hs(`{"alg":"HS256","crit":["exp"],"exp":1}`, good),
		"b64 false":                 hs(`{"alg":"HS256","b64":false}`, good),
		"zip":                       hs(`{"alg":"HS256","zip":"DEF"}`, good),
		"nested by cty":             hs(`{"alg":"HS256","cty":"JWT"}`, good),
		"another key, the right id": handmade(jwt.SigningMethodRS256, weak, rsHeader, rsGood),
		"no kid where keys differ":  handmade(jwt.SigningMethodRS256, weak, `{"alg":"RS256"}`, rsGood),
		"kid is a path":             rs(`{"alg":"RS256","kid":"../../../../dev/null"}`, rsGood),
		"kid is SQL":                rs(`{"alg":"RS256","kid":"x' UNION SELECT 'key"}`, rsGood),
		"kid is an address":         rs(`{"alg":"RS256","kid":"http://127.0.0.1:1/"}`, rsGood),
		"kid of another key":        rs(`{"alg":"RS256","kid":"ec-1"}`, rsGood),
		"kid is a number":           rs(`{"alg":"RS256","kid":1}`, rsGood),
		"kid is huge":               rs(`{"alg":"RS256","kid":"`+strings.Repeat("a", 1000)+`"}`, rsGood),
		// A token that was made for something else.
		"typ of another use":     hs(`{"alg":"HS256","typ":"secevent+jwt"}`, good),
		"typ dpop":               hs(`{"alg":"HS256","typ":"dpop+jwt"}`, good),
		"another audience":       hs(hsHeader, payload(with(map[string]any{"aud": "gatehouse-staging"}))),
		"no audience":            hs(hsHeader, payload(with(nil))),
		"issuer, other audience": rs(rsHeader, payload(issuerClaims("RS256", map[string]any{"aud": "another-app"}))),
		"issuer, no audience":    rs(rsHeader, payload(issuerClaims("RS256", map[string]any{"aud": nil}))),
		"unknown issuer":         rs(rsHeader, payload(issuerClaims("RS256", map[string]any{"iss": "https://evil.example"}))),
		"issuer with a slash":    rs(rsHeader, payload(issuerClaims("RS256", map[string]any{"iss": "https://rs256.example/"}))),
		"issuer is a list":       rs(rsHeader, payload(issuerClaims("RS256", map[string]any{"iss": []string{"https://rs256.example"}}))),
		"two iss":                rs(rsHeader, strings.Replace(rsGood, `"iss":`, `"iss":"https://evil.example","iss":`, 1)),
		"organization reserved":  rs(rsHeader, payload(issuerClaims("RS256", map[string]any{"org": "_instance"}))),
		"no organization":        rs(rsHeader, payload(issuerClaims("RS256", map[string]any{"org": nil}))),
		"roles are an object":    rs(rsHeader, payload(issuerClaims("RS256", map[string]any{"realm": map[string]any{"roles": map[string]any{}}}))),
		// Members twice, also where a lenient reader would not see it.
		"two sub":                hs(hsHeader, body(`"sub":"root"`)),
		"two sub, one escaped":   hs(hsHeader, body(`"\u0073ub":"root"`)),
		"two roles":              hs(hsHeader, body(`"roles":["operator"]`)),
		"two exp":                hs(hsHeader, body(`"exp":99999999999`)),
		"twice, deep inside":     hs(hsHeader, body(`"x":{"a":{"b":1,"b":2}}`)),
		"text that is no text":   hs(hsHeader, body(`"x":"\ud800"`)),
		"text that is no UTF-8":  hs(hsHeader, body("\"x\":\"\xff\"")),
		"NUL in the member":      hs(hsHeader, strings.Replace(timed(`"exp":`+exp), `"u1"`, `"u1\u0000"`, 1)),
		"a comment":              hs(hsHeader, body(`/* */"x":1`)),
		"a comma too many":       hs(hsHeader, body(`"x":1,`)),
		"NaN":                    hs(hsHeader, body(`"x":NaN`)),
		"a byte order mark":      hs(hsHeader, "\ufeff"+good),
		"two documents":          hs(hsHeader, good+good),
		"a JSON text, not a set": hs(hsHeader, `"x"`),
		// Times that readers disagree about.
		"exp a float":         hs(hsHeader, timed(`"exp":`+exp+`.5`)),
		"exp a float of .0":   hs(hsHeader, timed(`"exp":`+exp+`.0`)),
		"exp an exponent":     hs(hsHeader, timed(`"exp":9e9`)),
		"exp text":            hs(hsHeader, timed(`"exp":"`+exp+`"`)),
		"exp a list":          hs(hsHeader, timed(`"exp":[`+exp+`]`)),
		"exp null":            hs(hsHeader, timed(`"exp":null`)),
		"exp true":            hs(hsHeader, timed(`"exp":true`)),
		"exp beyond int64":    hs(hsHeader, timed(`"exp":99999999999999999999`)),
		"exp negative":        hs(hsHeader, timed(`"exp":-1`)),
		"exp missing":         hs(hsHeader, timed(`"x":1`)),
		"exp past":            hs(hsHeader, timed(fmt.Sprintf(`"exp":%d`, time.Now().Add(-31*time.Second).Unix()))),
		"nbf a float":         hs(hsHeader, body(`"nbf":1.5`)),
		"nbf text":            hs(hsHeader, body(`"nbf":"1"`)),
		"nbf past the leeway": hs(hsHeader, body(fmt.Sprintf(`"nbf":%d`, time.Now().Add(45*time.Second).Unix()))),
		"iat past the leeway": hs(hsHeader, body(fmt.Sprintf(`"iat":%d`, time.Now().Add(45*time.Second).Unix()))),
		// Tokens that cost more than they are worth.
		"8 KiB and one":   strings.Repeat("a", 8<<10+1),
		"deep lists":      hs(hsHeader, body(`"x":`+strings.Repeat("[", 2000)+strings.Repeat("]", 2000))),
		"deep objects":    hs(hsHeader, body(`"x":`+strings.Repeat(`{"a":`, 500)+"1"+strings.Repeat("}", 500))),
		"deep header":     hs(`{"alg":"HS256","x":`+strings.Repeat("[", 500)+strings.Repeat("]", 500)+`}`, good),
		"many members":    hs(hsHeader, body(`"x":{"0":0`+many(300)+`}`)),
		"a long header":   hs(`{"alg":"HS256","x":"`+strings.Repeat("a", 3000)+`"}`, good),
		"nothing at all":  "..",
		"a bomb of parts": strings.Repeat(".", 4000),
		// What looks like a service token.
		"gth_ alone":              "gth_",
		"gth_, wrong checksum":    "gth_" + strings.Repeat("0", 49),
		"gth_ with a JWT":         "gth_" + hs(hsHeader, good),
		"gth_ with strange signs": "gth_" + strings.Repeat("é", 24) + "x",
	}
	for _, none := range []string{"none", "None", "NONE", "nOnE", "", " ", "none ", "null", "hs256", "HS256 ", "HS256\\u0000"} {
		corpus["alg "+none+", no signature"] = b64url([]byte(`{"alg":"`+none+`"}`)) + "." + b64url([]byte(good)) + "."
		corpus["alg "+none+", signed"] = hs(`{"alg":"`+none+`"}`, good)
	}
	fetches := idp.fetches.Load()
	for name, token := range corpus {
		a := knock(token)
		code := "token_invalid"
		if name == "exp past" {
			code = "token_expired"
		}
		if p := checkProblem(t, a, http.StatusUnauthorized, code); p.Status != 401 {
			t.Errorf("%s: %d %s", name, a.Status, a.Body)
		}
		if len(token) > 20 && strings.Contains(a.Body, token[:20]) {
			t.Errorf("%s: the answer repeats the token", name)
		}
	}
	// Dozens of unknown key ids cost the issuers at most one question each.
	if n := idp.fetches.Load() - fetches; n > 3 {
		t.Errorf("the keys were fetched %d times for forged tokens", n)
	}
	if strings.Contains(s.Logs.String(), b64url([]byte(good))[:40]) {
		t.Error("the log holds a token")
	}
	// None of it kept the good ones out.
	for alg, k := range keys {
		if a := knock(sign(t, k.method, k.key, map[string]any{"kid": k.kid}, issuerClaims(alg, nil))); a.Status != 200 {
			t.Errorf("afterwards, a good token by %s: %d %s", alg, a.Status, a.Body)
		}
	}
	// Clocks within the leeway.
	for name, times := range map[string]string{
		"exp":         fmt.Sprintf(`"exp":%d`, time.Now().Add(-15*time.Second).Unix()),
		"nbf and iat": fmt.Sprintf(`"exp":%s,"nbf":%[2]d,"iat":%[2]d`, exp, time.Now().Add(15*time.Second).Unix()),
	} {
		if a := knock(hs(hsHeader, timed(times))); a.Status != 200 {
			t.Errorf("%s within the leeway: %d %s", name, a.Status, a.Body)
		}
	}
}

func many(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"m%d":0`, i)
	}
	return b.String()
}

// An issuer's names count by its map alone, and nobody becomes an operator
// by a group's name.
func TestIssuersRoles(t *testing.T) {
	idp := newIdentityProvider(t)
	issuers := fmt.Sprintf(`[{"issuer":"https://plain.example","jwks":%q,"algorithm":"EdDSA","audience":"g","fixedOrganization":"acme","roles":"groups","memberPrefix":"idp|"}]`, idp.url)
	s := instancetest.Serve(t, map[string]string{"GATEHOUSE_ENV": "development", "AUTH_ISSUERS": issuers})
	owner := as(t, s, "acme", "boss", access.Owner)
	base := map[string]any{"iss": "https://plain.example", "aud": "g", "sub": "ann", "exp": time.Now().Add(time.Hour).Unix()}
	token := func(groups any) *client {
		c := anonymous(t, s)
		claims := maps.Clone(base)
		claims["groups"] = groups
		c.token = sign(t, jwt.SigningMethodEdDSA, idp.ed, map[string]any{"kid": "ed-1"}, claims)
		return c
	}
	checkProblem(t, token([]string{"operator"}).get("/api/organizations"), 403, "permission_denied")
	if a := token("viewer").get(credentialsPath); a.Status != 200 {
		t.Errorf("one role as a text: %d %s", a.Status, a.Body)
	}
	nobody := token([]string{})
	checkProblem(t, nobody.get(credentialsPath), 403, "permission_denied")
	if a := owner.do("PUT", "/api/members/idp%7Cann", `{"roles":["viewer"]}`); a.Status != 200 {
		t.Fatalf("giving a role: %d %s", a.Status, a.Body)
	}
	if a := nobody.get(credentialsPath); a.Status != 200 {
		t.Errorf("with a role that is stored here: %d %s", a.Status, a.Body)
	}
	if a := owner.do("PUT", "/api/members/idp%7Cann", `{"disabled":true}`); a.Status != 200 {
		t.Fatalf("disabling: %d %s", a.Status, a.Body)
	}
	checkProblem(t, token([]string{"owner"}).get(credentialsPath), 403, "member_disabled")
}
