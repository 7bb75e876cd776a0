package auth_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/auth"
	"github.com/gatehouse-io/gatehouse/internal/fault"
)

// An issuer whose answer the test writes; it stands where the network would.
type publisher struct {
	mu      sync.Mutex
	status  int
	body    string
	err     error
	fetches atomic.Int64
}

func (p *publisher) set(status int, body string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status, p.body, p.err = status, body, err
}

// RoundTrip implements [http.RoundTripper].
func (p *publisher) RoundTrip(r *http.Request) (*http.Response, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fetches.Add(1)
	if p.err != nil {
		return nil, p.err
	}
	return &http.Response{StatusCode: p.status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(p.body)), Request: r}, nil
}

type edKey struct {
	id  string
	key ed25519.PrivateKey
}

func newEdKey(t testing.TB, id string) edKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return edKey{id, key}
}

func keySet(keys ...edKey) string {
	var all []string
	for _, k := range keys {
		all = append(all, fmt.Sprintf(`{"kty":"OKP","crv":"Ed25519","kid":%q,"x":%q}`, k.id, base64.RawURLEncoding.EncodeToString(k.key.Public().(ed25519.PublicKey))))
	}
	return `{"keys":[` + strings.Join(all, ",") + `]}`
}

func (k edKey) sign(t testing.TB, at time.Time) string {
	t.Helper()
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{
		"iss": "https://idp.example", "aud": "gatehouse", "sub": "ann", "organizationId": "acme", "roles": []string{"viewer"}, "exp": at.Add(48 * time.Hour).Unix(),
	})
	token.Header["kid"] = k.id
	signed, err := token.SignedString(k.key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

const oneIssuer = `[{"issuer":"https://idp.example","jwks":"https://idp.example/keys","algorithm":"EdDSA","audience":"gatehouse"}]`

func withIssuer(t testing.TB, p *publisher, now func() time.Time) (*auth.Authenticator, *auth.Issuers) {
	t.Helper()
	configs, err := auth.ParseIssuers([]byte(oneIssuer), false)
	if err != nil {
		t.Fatal(err)
	}
	issuers := auth.NewIssuers(configs, auth.IssuersOptions{Client: &http.Client{Transport: p}, Now: now})
	return verifier(auth.Options{Issuers: issuers, Now: now}), issuers
}

func TestKeyRotation(t *testing.T) {
	var moved atomic.Int64
	clock := func() time.Time { return now.Add(time.Duration(moved.Load())) }
	pass := func(d time.Duration) { moved.Add(int64(d)) }
	p, first, second, stranger := &publisher{}, newEdKey(t, "1"), newEdKey(t, "2"), newEdKey(t, "9")
	p.set(200, keySet(first), nil)
	a, _ := withIssuer(t, p, clock)
	verify := func(what string, k edKey, want error, fetches int64) {
		t.Helper()
		if _, err := a.Verify(t.Context(), k.sign(t, now)); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
		if n := p.fetches.Load(); n != fetches {
			t.Errorf("%s: %d fetches, want %d", what, n, fetches)
		}
	}
	verify("the first token", first, nil, 1)
	verify("the same again", first, nil, 1)
	for range 50 {
		verify("a forged key id, at once", stranger, auth.ErrBadToken, 1)
	}
	pass(auth.KeysPause)
	for range 50 {
		verify("a forged key id", stranger, auth.ErrBadToken, 2)
	}
	p.set(200, keySet(first, second), nil)
	verify("a new key, too soon", second, auth.ErrBadToken, 2)
	pass(auth.KeysPause)
	verify("a new key", second, nil, 3)
	verify("the old key beside it", first, nil, 3)

	// What a key signed goes with the key, also what was remembered.
	p.set(200, keySet(second), nil)
	pass(auth.KeysPause)
	verify("somebody makes it look", stranger, auth.ErrBadToken, 4)
	verify("a key that was taken away", first, auth.ErrBadToken, 4)
	verify("the one that stayed", second, nil, 4)
	// Another key under the same id.
	impostor := newEdKey(t, "2")
	p.set(200, keySet(impostor), nil)
	pass(auth.KeysPause)
	verify("somebody makes it look again", stranger, auth.ErrBadToken, 5)
	verify("the key was exchanged", second, auth.ErrBadToken, 5)
	verify("for this one", impostor, nil, 5)

	// Away: known keys hold for a stated time.
	for _, failure := range []struct {
		status int
		body   string
		err    error
	}{{500, "", nil}, {200, "<html>", nil}, {200, `{}`, nil}, {302, keySet(first), nil}, {0, "", errors.New("refused")},
		{200, `{"keys":[],"x":"` + strings.Repeat("x", 300<<10) + `"}`, nil}} {
		p.set(failure.status, failure.body, failure.err)
		pass(auth.KeysPause)
		verify("while it is away", stranger, auth.ErrBadToken, p.fetches.Load()+1)
		verify("while it is away", impostor, nil, p.fetches.Load())
	}
	pass(auth.KeysStaleMax)
	if _, err := a.Verify(t.Context(), impostor.sign(t, now)); !errors.Is(err, auth.ErrIssuerAway) || fault.KindOf(err) != fault.Unavailable {
		t.Errorf("after a day: %v", err)
	}
	p.set(200, keySet(impostor), nil)
	pass(auth.KeysPause)
	verify("back", impostor, nil, p.fetches.Load()+1)

	// All keys taken away, as in an emergency, or all but such as cannot be used.
	for _, left := range []string{`{"keys":[]}`, `{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}`} {
		p.set(200, left, nil)
		pass(auth.KeysPause)
		verify("somebody makes it look", stranger, auth.ErrBadToken, p.fetches.Load()+1)
		verify("no key is left", impostor, auth.ErrBadToken, p.fetches.Load())
		p.set(200, keySet(impostor), nil)
		pass(auth.KeysPause)
		verify("and back", impostor, nil, p.fetches.Load()+1)
	}
}

// A key under which one signature holds for any token is none.
func TestSmallOrderKeys(t *testing.T) {
	for _, key := range []string{
		"0100000000000000000000000000000000000000000000000000000000000000", "0100000000000000000000000000000000000000000000000000000000000080",
		"0000000000000000000000000000000000000000000000000000000000000000", "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85", "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
	} {
		raw, err := hex.DecodeString(key)
		if err != nil {
			t.Fatal(err)
		}
		keys, weak, err := auth.KeysIn([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"`+base64.RawURLEncoding.EncodeToString(raw)+`"}]}`), "EdDSA")
		if err != nil || keys != 0 || weak != 1 {
			t.Errorf("%s: %d keys, %d weak, %v", key, keys, weak, err)
		}
	}
}

// Keys are fetched in the background, with a pause that differs each time.
func TestKeysAreRefreshed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, first, second := &publisher{}, newEdKey(t, "1"), newEdKey(t, "2")
		p.set(200, keySet(first), nil)
		a, issuers := withIssuer(t, p, time.Now)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { issuers.Run(ctx); close(done) }()
		synctest.Wait()
		if p.fetches.Load() != 1 {
			t.Fatalf("%d fetches at the start", p.fetches.Load())
		}
		p.set(200, keySet(second), nil)
		time.Sleep(auth.KeysEvery * 9 / 10)
		time.Sleep(auth.KeysEvery / 5)
		synctest.Wait()
		if _, err := a.Verify(t.Context(), second.sign(t, time.Now())); err != nil || p.fetches.Load() != 2 {
			t.Errorf("a key that is new since: %v, %d fetches", err, p.fetches.Load())
		}
		if _, err := a.Verify(t.Context(), first.sign(t, time.Now())); !errors.Is(err, auth.ErrBadToken) {
			t.Errorf("a key that is gone: %v", err)
		}
		stop()
		<-done
	})
}

func TestIssuerClaims(t *testing.T) {
	key := newEdKey(t, "1")
	p := &publisher{}
	p.set(200, keySet(key), nil)
	configs, err := auth.ParseIssuers([]byte(`[{"issuer":"https://idp.example","jwks":"https://idp.example/keys","algorithm":"EdDSA","audience":"g",
		"member":"/https:~1~1x.example~1who/id","memberPrefix":"idp|","organization":"tenant","roles":"/realm_access/roles","roleMap":{"eng":["developer","support"],"root":["operator"]}}]`), false)
	if err != nil {
		t.Fatal(err)
	}
	a := verifier(auth.Options{Issuers: auth.NewIssuers(configs, auth.IssuersOptions{Client: &http.Client{Transport: p}, Now: func() time.Time { return now }})})
	sign := func(claims object) string {
		all := jwt.MapClaims{"iss": "https://idp.example", "aud": "g", "exp": now.Add(time.Hour).Unix()}
		for name, value := range claims {
			all[name] = value
		}
		token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, all)
		token.Header["kid"] = "1"
		signed, err := token.SignedString(key.key)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	who := object{"id": "ann"}
	c, err := a.Verify(t.Context(), sign(object{"https://x.example/who": who, "tenant": "acme", "realm_access": object{"roles": []string{"eng", "owner", "eng"}}}))
	if err != nil || c.ID != "idp|ann" || c.Organization != "acme" || strings.Join(c.RoleNames(), " ") != "developer support" || c.Operator() {
		t.Errorf("%+v, %v", c, err)
	}
	if c, err := a.Verify(t.Context(), sign(object{"https://x.example/who": who, "tenant": "acme", "realm_access": object{"roles": "root"}})); err != nil || !c.Operator() {
		t.Errorf("an operator by the map: %+v, %v", c, err)
	}
	if c, err := a.Verify(t.Context(), sign(object{"https://x.example/who": who, "tenant": "acme"})); err != nil || len(c.Roles) != 0 || c.Can(access.LimitRead) {
		t.Errorf("no roles: %+v, %v", c, err)
	}
	for name, claims := range map[string]object{
		"no member": {"tenant": "acme"}, "member is an object": {"https://x.example/who": object{"id": who}, "tenant": "acme"},
		"organization is a list": {"https://x.example/who": who, "tenant": []string{"acme"}}, "reserved": {"https://x.example/who": who, "tenant": "_instance"},
		"roles hold a number": {"https://x.example/who": who, "tenant": "acme", "realm_access": object{"roles": []any{1}}},
	} {
		if _, err := a.Verify(t.Context(), sign(claims)); !errors.Is(err, auth.ErrBadToken) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseIssuers(t *testing.T) {
	for text, want := range map[string]string{
		`{}`:                    "must be a JSON array",
		`[] []`:                 "nothing after",
		`[{"secret-CANARY":1}]`: "is no field",
		`[{}]`:                  "issuer must be", `[{"issuer":"a"}]`: "jwks must be", `[{"issuer":"b"}]`: "algorithm must be", `[{"issuer":"c"}]`: "audience must be",
		`[{"issuer":"a","jwks":"http://127.0.0.1/k","algorithm":"RS256","audience":"x"}]`:                                                                 "jwks must be an https",
		`[{"issuer":"a","jwks":"https://u:CANARY@h/k","algorithm":"RS256","audience":"x"}]`:                                                               "jwks must be an https",
		`[{"issuer":"a","jwks":"https://h/k","algorithm":"HS256","audience":"x"}]`:                                                                        "algorithm must be",
		`[{"issuer":"a","jwks":"https://h/k","algorithm":"none","audience":"x"}]`:                                                                         "algorithm must be",
		`[{"issuer":"a","jwks":"https://h/k","algorithm":"RS256","audience":"x","fixedOrganization":"_x"}]`:                                               "fixedOrganization must be",
		`[{"issuer":"a","jwks":"https://h/k","algorithm":"RS256","audience":"x","fixedOrganization":"x","organization":"o"}]`:                             "not both",
		`[{"issuer":"a","jwks":"https://h/k","algorithm":"RS256","audience":"x"},{"issuer":"a","jwks":"https://h/k","algorithm":"RS256","audience":"x"}]`: "named twice",
		strings.Repeat(" ", auth.MaxIssuersFile+1):                                                                                                        "at most",
	} {
		if _, err := auth.ParseIssuers([]byte(text), false); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "u:CANARY") {
			t.Errorf("%.80s: %v, want %q", text, err, want)
		}
	}
	for address, want := range map[string]bool{
		"http://127.0.0.1:9/k": true, "http://localhost/k": true, "http://[::1]/k": true, "http://10.0.0.1/k": false, "http://example.com/k": false, "ftp://localhost/k": false, "/k": false,
	} {
		_, err := auth.ParseIssuers([]byte(`[{"issuer":"a","jwks":"`+address+`","algorithm":"RS256","audience":"x"}]`), true)
		if (err == nil) != want {
			t.Errorf("%s in development: %v", address, err)
		}
	}
}

func TestKeySets(t *testing.T) {
	number := func(bits int) string {
		n := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
		return base64.RawURLEncoding.EncodeToString(n.SetBit(n, 0, 1).Bytes())
	}
	real, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	n := base64.RawURLEncoding.EncodeToString(real.N.Bytes())
	for text, want := range map[string]struct{ keys, weak int }{
		`{"keys":[{"kty":"RSA","kid":"1","n":"` + n + `","e":"AQAB"}]}`:                                                                            {1, 0},
		`{"keys":[{"kty":"RSA","kid":"1","n":"` + n + `","e":"AQAB","use":"enc"}]}`:                                                                {0, 0},
		`{"keys":[{"kty":"RSA","kid":"1","n":"` + n + `","e":"AQAB","alg":"RS512"}]}`:                                                              {0, 0},
		`{"keys":[{"kty":"RSA","kid":"1","n":"` + n + `","e":"AQAB","key_ops":["sign"]}]}`:                                                         {0, 0},
		`{"keys":[{"kty":"RSA","kid":"1","n":"` + n + `","e":"AQ"}]}`:                                                                              {0, 0}, // e of 1 signs nothing
		`{"keys":[{"kty":"RSA","kid":"1","n":"` + n + `","e":"AQABAAAA"}]}`:                                                                        {0, 0},
		`{"keys":[{"kty":"RSA","kid":"1","n":"` + number(1024) + `","e":"AQAB"},{"kty":"RSA","kid":"2","n":"` + number(2047) + `","e":"AQAB"}]}`:   {0, 2},
		`{"keys":[{"kty":"RSA","kid":"1","n":"` + number(8193) + `","e":"AQAB"}]}`:                                                                 {0, 0},
		`{"keys":[{"kty":"RSA","kid":"1","n":"` + n + `","e":"AQAB"},{"kty":"RSA","kid":"1","n":"` + number(2048) + `","e":"AQAB"}]}`:              {0, 0}, // which is meant?
		`{"keys":[{"kty":"RSA","kid":"1","n":"` + n + `","e":"AQAB","alg":"RS256"},{"kty":"RSA","kid":"1","n":"` + n + `","e":"AQAB","x5t":"a"}]}`: {1, 0}, // twice the same
		`{"keys":[{"kty":"oct","kid":"1","k":"c2VjcmV0"},{"kty":"EC","crv":"P-256","x":"AA","y":"AA"},7,null,"x",{}]}`:                             {0, 0},
	} {
		keys, weak, err := auth.KeysIn([]byte(text), "RS256")
		if err != nil || keys != want.keys || weak != want.weak {
			t.Errorf("%.120s: %d keys, %d weak, %v", text, keys, weak, err)
		}
	}
	off := `{"keys":[{"kty":"EC","crv":"P-256","kid":"1","x":"` + strings.Repeat("A", 42) + `E","y":"` + strings.Repeat("A", 42) + `E"}]}`
	if keys, _, err := auth.KeysIn([]byte(off), "ES256"); err != nil || keys != 0 {
		t.Errorf("a point that is not on the curve: %d, %v", keys, err)
	}
	for _, text := range []string{``, `[]`, `{}`, `{"keys":7}`, `{"keys":[` + strings.Repeat(`{},`, 100) + `{}]}`} {
		if _, _, err := auth.KeysIn([]byte(text), "RS256"); err == nil {
			t.Errorf("%.40s is taken", text)
		}
	}
}

func FuzzKeySet(f *testing.F) {
	f.Add([]byte(keySet(newEdKey(f, "1"))))
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AQ","e":"AQAB"},{"kty":"EC","crv":"P-256","x":"","y":""}]}`))
	f.Fuzz(func(_ *testing.T, data []byte) {
		for _, algorithm := range []string{"RS256", "ES256", "EdDSA"} {
			_, _, _ = auth.KeysIn(data, algorithm)
		}
		_, _ = auth.ParseIssuers(data, true)
	})
}

// A fetch that a request began is given up when the issuers end, also where the
// request has left; then none begins.
func TestFetchesEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		configs, err := auth.ParseIssuers([]byte(oneIssuer), false)
		if err != nil {
			t.Fatal(err)
		}
		var asked, running atomic.Int64
		hangs := roundTripper(func(r *http.Request) (*http.Response, error) {
			asked.Add(1)
			running.Add(1)
			defer running.Add(-1)
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		issuers := auth.NewIssuers(configs, auth.IssuersOptions{Client: &http.Client{Transport: hangs}, Now: time.Now})
		a := verifier(auth.Options{Issuers: issuers, Now: time.Now})
		token := newEdKey(t, "1").sign(t, time.Now())
		left, leave := context.WithCancel(t.Context())
		leave()
		if _, err := a.Verify(left, token); !errors.Is(err, auth.ErrIssuerAway) {
			t.Errorf("without keys: %v", err)
		}
		synctest.Wait()
		if running.Load() != 1 {
			t.Errorf("%d fetches run", running.Load())
		}
		ended, end := context.WithCancel(t.Context())
		end()
		issuers.Run(ended)
		if running.Load() != 0 {
			t.Errorf("%d fetches run after the end", running.Load())
		}
		time.Sleep(2 * auth.KeysPause)
		_, _ = a.Verify(t.Context(), token)
		if asked.Load() != 1 {
			t.Errorf("%d fetches", asked.Load())
		}
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
