package auth_test

import (
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256"
	_ "crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/auth"
	"github.com/gatehouse-io/gatehouse/internal/fault"
)

const secret = "test-signing-secret-0123456789abcdefghijklmnop"

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

type object map[string]any

// goodClaims are those of a token that is let in.
func goodClaims() object {
	return object{"sub": "u-1", "organizationId": "acme", "roles": []string{"admin"}, "exp": now.Add(time.Hour).Unix()}
}

// with gives the good claims with a change; a value of nothing takes a claim out.
type nothing struct{}

func with(change object) object {
	c := goodClaims()
	maps.Copy(c, change)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nothing{} })
	return c
}

func b64(v any) string {
	b, ok := v.([]byte)
	if !ok {
		b, _ = json.Marshal(v)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// token puts a token together by hand, signed with HMAC of the hash.
func token(header, claims any, hash crypto.Hash, key string) string {
	signed := b64(header) + "." + b64(claims)
	mac := hmac.New(hash.New, []byte(key))
	mac.Write([]byte(signed))
	return signed + "." + b64(mac.Sum(nil))
}

func hs256(claims any) string {
	return token(object{"alg": "HS256", "typ": "JWT"}, claims, crypto.SHA256, secret)
}

func verifier(opts auth.Options) *auth.Authenticator {
	opts.Secret = []byte(secret)
	if opts.Now == nil {
		opts.Now = func() time.Time { return now }
	}
	return auth.New(nil, opts)
}

func TestGoodTokens(t *testing.T) {
	a := verifier(auth.Options{})
	tests := []struct {
		name  string
		token string
		want  access.Caller
	}{
		{"least", hs256(goodClaims()), access.NewCaller("acme", access.User, "u-1", access.Admin)},
		{"no typ", token(object{"alg": "HS256"}, goodClaims(), crypto.SHA256, secret), access.NewCaller("acme", access.User, "u-1", access.Admin)},
		{"no role", hs256(with(object{"roles": []string{}})), access.NewCaller("acme", access.User, "u-1")},
		{"unknown roles", hs256(with(object{"roles": []string{"root", "Admin"}})), access.NewCaller("acme", access.User, "u-1", "root", "Admin")},
		{"service", hs256(with(object{"roles": []string{"service"}})), access.NewCaller("acme", access.Service, "u-1", access.ServiceRole)},
		{"service and more", hs256(with(object{"roles": []string{"service", "viewer"}})), access.NewCaller("acme", access.User, "u-1", access.ServiceRole, access.Viewer)},
		{"further claims", hs256(with(object{"nbf": now.Unix(), "iat": now.Unix(), "iss": "x", "aud": []string{"y"}, "email": 7})), access.NewCaller("acme", access.User, "u-1", access.Admin)},
	}
	for _, test := range tests {
		for range 2 { // the second time from what is remembered
			got, err := a.Verify(t.Context(), test.token)
			if err != nil {
				t.Errorf("%s: %v", test.name, err)
				continue
			}
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(access.Caller{}), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", test.name, diff)
			}
		}
	}
	got, err := a.Verify(t.Context(), hs256(with(object{"jti": "t-1"})))
	if err != nil || got.TokenID != "t-1" {
		t.Errorf("jti: %q, %v", got.TokenID, err)
	}
}

// forged are tokens that no secret of ours has signed, or not as we sign.
func forged(t *testing.T) map[string]string {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rs256, err := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims(goodClaims())).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	good := hs256(goodClaims())
	parts := strings.Split(good, ".")
	tokens := map[string]string{
		"RS256":                         rs256,
		"HS384":                         token(object{"alg": "HS384"}, goodClaims(), crypto.SHA384, secret),
		"HS512":                         token(object{"alg": "HS512"}, goodClaims(), crypto.SHA512, secret),
		"says RS256, signed as HS256":   token(object{"alg": "RS256"}, goodClaims(), crypto.SHA256, secret),
		"says HS384, signed as HS256":   token(object{"alg": "HS384"}, goodClaims(), crypto.SHA256, secret),
		"hs256 in small letters":        token(object{"alg": "hs256"}, goodClaims(), crypto.SHA256, secret),
		"no alg":                        token(object{"typ": "JWT"}, goodClaims(), crypto.SHA256, secret),
		"alg is a list":                 token(object{"alg": []string{"HS256"}}, goodClaims(), crypto.SHA256, secret),
		"ALG instead of alg":            token(object{"ALG": "HS256"}, goodClaims(), crypto.SHA256, secret),
		"crit":                          token(object{"alg": "HS256", "crit": []string{"b64"}, "b64": false}, goodClaims(), crypto.SHA256, secret),
		"empty crit":                    token(object{"alg": "HS256", "crit": nil}, goodClaims(), crypto.SHA256, secret),
		"another secret":                token(object{"alg": "HS256"}, goodClaims(), crypto.SHA256, secret+"x"),
		"empty secret":                  token(object{"alg": "HS256"}, goodClaims(), crypto.SHA256, ""),
		"no signature":                  parts[0] + "." + parts[1] + ".",
		"two parts":                     parts[0] + "." + parts[1],
		"four parts":                    good + ".x",
		"changed claims":                parts[0] + "." + b64(with(object{"roles": []string{"owner"}})) + "." + parts[2],
		"changed header":                b64(object{"alg": "HS256", "kid": "1"}) + "." + parts[1] + "." + parts[2],
		"a shorter signature":           good[:len(good)-4],
		"a longer signature":            good + "AAAA",
		"padding":                       good + "=",
		"space within":                  parts[0] + " ." + parts[1] + "." + parts[2],
		"line break at the end":         good + "\n",
		"space before":                  " " + good,
		"trailing bits":                 trailing(good),
		"two tokens":                    good + " " + good,
		"with its scheme":               "Bearer " + good,
		"empty":                         "",
		"dots":                          "..",
		"no base64":                     "a$.b$.c$",
		"header is no JSON":             token([]byte("HS256"), goodClaims(), crypto.SHA256, secret),
		"claims are no JSON":            hs256([]byte("claims")),
		"claims are a list":             hs256([]any{goodClaims()}),
		"claims are null":               hs256(nil),
		"something after the claims":    hs256([]byte(string(mustJSON(goodClaims())) + `{"roles":["owner"]}`)),
		"huge":                          hs256(with(object{"padding": strings.Repeat("x", 1<<20)})),
		"a little too long":             hs256(with(object{"padding": strings.Repeat("x", 6<<10)})),
		"a service's own key":           "sk-proj-0123456789abcdefghijklmnop",
		"JSON serialization of RFC7515": `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
	}
	for _, none := range []string{"none", "None", "NONE", "nOnE", "", " none", "null"} {
		tokens["alg "+none] = b64(object{"alg": none, "typ": "JWT"}) + "." + b64(goodClaims()) + "."
		tokens["alg "+none+", signed"] = token(object{"alg": none}, goodClaims(), crypto.SHA256, secret)
	}
	return tokens
}

func mustJSON(v any) []byte { b, _ := json.Marshal(v); return b }

// trailing sets bits behind the end of the signature, which some readers drop.
func trailing(token string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, token[len(token)-1])
	return token[:len(token)-1] + string(alphabet[last^1])
}

func refused(t *testing.T, a *auth.Authenticator, name, token string, want error) {
	t.Helper()
	for range 2 {
		caller, err := a.Verify(t.Context(), token)
		if !errors.Is(err, want) || fault.KindOf(err) != fault.Unauthenticated {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
		if caller.ID != "" || caller.Organization != "" || caller.Roles != nil {
			t.Errorf("%s: a caller was made: %+v", name, caller)
		}
		if err != nil && len(token) > 10 && strings.Contains(err.Error(), token[:10]) {
			t.Errorf("%s: the error tells of the token", name)
		}
	}
}

func TestForgedTokens(t *testing.T) {
	a := verifier(auth.Options{})
	for name, token := range forged(t) {
		refused(t, a, name, token, auth.ErrBadToken)
	}
}

func TestMalformedClaims(t *testing.T) {
	a := verifier(auth.Options{})
	tests := map[string]object{}
	for _, claim := range []string{"sub", "organizationId", "roles", "exp"} {
		tests["no "+claim] = object{claim: nothing{}}
		tests[claim+" is null"] = object{claim: nil}
		tests[claim+" is an object"] = object{claim: object{}}
		tests[claim+" is true"] = object{claim: true}
		tests[claim+" in capitals"] = object{claim: nothing{}, strings.ToUpper(claim): goodClaims()[claim]}
	}
	maps.Copy(tests, map[string]object{
		"sub is a number": {"sub": 7}, "sub is empty": {"sub": ""}, "sub is too long": {"sub": strings.Repeat("x", 257)},
		"sub with a line break": {"sub": "u\n1"}, "sub with NUL": {"sub": "u\x001"}, "sub is a list": {"sub": []string{"u"}},
		"organizationId is a number": {"organizationId": 7}, "organizationId is empty": {"organizationId": ""},
		"organizationId is reserved": {"organizationId": access.InstanceOrganization}, "organizationId is a path": {"organizationId": "../acme"},
		"organizationId is too long": {"organizationId": strings.Repeat("a", 65)}, "organizationId with a line break": {"organizationId": "acme\n"},
		"organizationId is a list": {"organizationId": []string{"acme"}}, "organizationId is not ASCII": {"organizationId": "acm\u00e9"},
		"roles is text": {"roles": "admin"}, "roles holds a number": {"roles": []any{"admin", 7}}, "roles holds null": {"roles": []any{nil}},
		"roles holds a list": {"roles": []any{[]string{"admin"}}}, "jti is a number": {"jti": 7},
		"exp is text": {"exp": fmt.Sprint(now.Add(time.Hour).Unix())}, "exp is a list": {"exp": []int64{now.Add(time.Hour).Unix()}}, "exp has a fraction": {"exp": float64(now.Unix()) + 1.5}, "exp is a power": {"exp": json.Number("2e9")}, "exp is negative": {"exp": -1},
		"nbf has a fraction": {"nbf": 1.5},
		"nbf in the future":  {"nbf": now.Unix() + 31}, "nbf is text": {"nbf": "1"}, "iat in the future": {"iat": now.Unix() + 31}, "iat is text": {"iat": "1"},
		"sub twice, by case": {"sub": nothing{}, "Sub": "u-1"},
	})
	for name, change := range tests {
		refused(t, a, name, hs256(with(change)), auth.ErrBadToken)
	}
	// A claim whose name differs in case is another claim, and changes nothing.
	got, err := a.Verify(t.Context(), hs256(with(object{"Roles": []string{"owner"}, "ROLES": []string{"operator"}, "SUB": "root", "ORGANIZATIONID": "globex"})))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(access.NewCaller("acme", access.User, "u-1", access.Admin), got, cmp.AllowUnexported(access.Caller{})); diff != "" {
		t.Errorf("claims in other cases (-want +got):\n%s", diff)
	}
}

func TestTimes(t *testing.T) {
	clock := now
	a := verifier(auth.Options{Now: func() time.Time { return clock }})
	for name, exp := range map[string]any{"the leeway ago": now.Add(-auth.Leeway).Unix(), "past": now.Unix() - 31, "1970": 0} {
		refused(t, a, "exp "+name, hs256(with(object{"exp": exp})), auth.ErrExpired)
	}
	// Another secret's expired token does not say that it is expired.
	stranger := token(object{"alg": "HS256"}, with(object{"exp": now.Unix() - 31}), crypto.SHA256, "another secret of another application")
	refused(t, a, "a stranger's", stranger, auth.ErrBadToken)

	// What is remembered is still looked at for its times.
	tok := hs256(with(object{"nbf": now.Unix(), "exp": now.Add(time.Minute).Unix()}))
	for _, step := range []struct {
		after time.Duration
		want  error
	}{{0, nil}, {time.Minute + auth.Leeway - time.Millisecond, nil}, {time.Minute + auth.Leeway, auth.ErrExpired},
		{-auth.Leeway - time.Millisecond, auth.ErrBadToken}, {-auth.Leeway, nil}, {time.Second, nil}} {
		clock = now.Add(step.after)
		if _, err := a.Verify(t.Context(), tok); !errors.Is(err, step.want) {
			t.Errorf("at %v: %v, want %v", step.after, err, step.want)
		}
	}
	for _, huge := range []any{1e300, -1e300, 1e19} { // no instant at all: whatever it means, no panic
		_, _ = a.Verify(t.Context(), hs256(with(object{"exp": huge})))
	}
}

func TestIssuerAndAudience(t *testing.T) {
	a := verifier(auth.Options{Issuer: "https://host.example", Audience: "gatehouse"})
	good := object{"iss": "https://host.example", "aud": "gatehouse"}
	for name, change := range map[string]object{
		"one audience": {}, "one of several": {"aud": []string{"other", "gatehouse"}},
	} {
		claims := with(good)
		maps.Copy(claims, change)
		if _, err := a.Verify(t.Context(), hs256(claims)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, change := range map[string]object{
		"no iss": {"iss": nothing{}}, "no aud": {"aud": nothing{}}, "another iss": {"iss": "https://host.example.evil"},
		"iss is a list": {"iss": []string{"https://host.example"}}, "another aud": {"aud": "gatehouse2"}, "aud is empty": {"aud": []string{}},
		"aud is a number": {"aud": 7}, "aud holds a number": {"aud": []any{"gatehouse", 7}},
	} {
		claims := with(good)
		maps.Copy(claims, change)
		maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nothing{} })
		refused(t, a, name, hs256(claims), auth.ErrBadToken)
	}
}

func TestSign(t *testing.T) {
	caller := access.NewCaller("acme", access.User, "u-1", access.Owner, "stranger")
	caller.TokenID = "t-1"
	signed, err := auth.Sign([]byte(secret), caller, "iss", "aud", now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	got, err := verifier(auth.Options{Issuer: "iss", Audience: "aud"}).Verify(t.Context(), signed)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(caller, got, cmp.AllowUnexported(access.Caller{})); diff != "" {
		t.Errorf("(-signed +verified):\n%s", diff)
	}
	plain, err := auth.Sign([]byte(secret), access.NewCaller("acme", access.User, "u-1"), "", "", now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := verifier(auth.Options{}).Verify(t.Context(), plain); err != nil || len(got.Roles) != 0 {
		t.Errorf("without roles: %+v, %v", got, err)
	}
}

func FuzzVerify(f *testing.F) {
	good := hs256(goodClaims())
	f.Add(good)
	f.Add(good + "=")
	f.Add(b64(object{"alg": "none"}) + "." + b64(goodClaims()) + ".")
	a := verifier(auth.Options{})
	f.Fuzz(func(t *testing.T, s string) {
		if c, err := a.Verify(t.Context(), s); err == nil && s != good {
			t.Errorf("a token that nobody signed made %+v", c)
		}
	})
}
