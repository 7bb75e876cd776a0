package server_test

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// sign makes a token of any claims, by any method.
func sign(t *testing.T, method jwt.SigningMethod, key any, header, claims map[string]any) string {
	t.Helper()
	token := jwt.NewWithClaims(method, jwt.MapClaims(claims))
	for name, value := range header {
		token.Header[name] = value
	}
	signed, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// with gives good claims with some changed; nil takes one away.
func with(changes map[string]any) map[string]any {
	claims := map[string]any{
		"sub": "u1", "organizationId": "acme", "roles": []string{"owner"}, "exp": time.Now().Add(time.Hour).Unix(),
	}
	for name, value := range changes {
		if claims[name] = value; value == nil {
			delete(claims, name)
		}
	}
	return claims
}

func TestRefusedTokens(t *testing.T) {
	s := instancetest.Serve(t, map[string]string{"AUTH_FAILURE_LIMIT": "1000/1h", "JWT_ISSUER": "host", "JWT_AUDIENCE": "gate"})
	key := []byte(gatehousetest.JWTSecret)
	hs256 := jwt.SigningMethodHS256
	base := map[string]any{"iss": "host", "aud": []string{"gate", "other"}}
	token := func(changes map[string]any) string {
		all := with(base)
		for name, value := range changes {
			if all[name] = value; value == nil {
				delete(all, name)
			}
		}
		return sign(t, hs256, key, nil, all)
	}
	good := token(nil)
	c := anonymous(t, s)
	if a := c.get(statusPath, "Authorization", "Bearer "+good); a.Status != 200 {
		t.Fatalf("a good token: %d %s", a.Status, a.Body)
	}
	parts := strings.Split(good, ".")
	soon, past := time.Now().Add(time.Hour).Unix(), time.Now().Add(-time.Hour).Unix()
	for name, test := range map[string]struct{ token, code string }{
		"nothing of a token":     {"x", "token_invalid"},
		"an empty signature":     {parts[0] + "." + parts[1] + ".", "token_invalid"},
		"another signature":      {parts[0] + "." + parts[1] + "." + strings.Repeat("A", 43), "token_invalid"},
		"padding":                {good + "=", "token_invalid"},
		"four parts":             {good + ".x", "token_invalid"},
		"alg none":               {sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil, with(base)), "token_invalid"},
		"alg HS512":              {sign(t, jwt.SigningMethodHS512, key, nil, with(base)), "token_invalid"},
		"another secret":         {sign(t, hs256, []byte("another-secret-0123456789abcdefghijkl"), nil, with(base)), "token_invalid"},
		"a critical extension":   {sign(t, hs256, key, map[string]any{"crit": []string{"b64"}, "b64": false}, with(base)), "token_invalid"},
		"over 8 KB":              {token(map[string]any{"x": strings.Repeat("a", 9000)}), "token_invalid"},
		"expired":                {token(map[string]any{"exp": past}), "token_expired"},
		"without exp":            {token(map[string]any{"exp": nil}), "token_invalid"},
		"exp a string":           {token(map[string]any{"exp": "soon"}), "token_invalid"},
		"not yet":                {token(map[string]any{"nbf": soon}), "token_invalid"},
		"issued in the future":   {token(map[string]any{"iat": soon}), "token_invalid"},
		"without sub":            {token(map[string]any{"sub": nil}), "token_invalid"},
		"sub empty":              {token(map[string]any{"sub": ""}), "token_invalid"},
		"sub with a line break":  {token(map[string]any{"sub": "a\nb"}), "token_invalid"},
		"sub too long":           {token(map[string]any{"sub": strings.Repeat("a", 257)}), "token_invalid"},
		"sub a number":           {token(map[string]any{"sub": 5}), "token_invalid"},
		"without organizationId": {token(map[string]any{"organizationId": nil}), "token_invalid"},
		"the reserved one":       {token(map[string]any{"organizationId": "_instance"}), "token_invalid"},
		"an organization's path": {token(map[string]any{"organizationId": "../acme"}), "token_invalid"},
		"without roles":          {token(map[string]any{"roles": nil}), "token_invalid"},
		"roles a string":         {token(map[string]any{"roles": "owner"}), "token_invalid"},
		"another issuer":         {token(map[string]any{"iss": "evil"}), "token_invalid"},
		"without issuer":         {token(map[string]any{"iss": nil}), "token_invalid"},
		"another audience":       {token(map[string]any{"aud": "other"}), "token_invalid"},
	} {
		for _, path := range []string{statusPath, chatPath} {
			a := c.get(path, "Authorization", "Bearer "+test.token)
			p := checkProblem(t, a, http.StatusUnauthorized, test.code)
			if t.Failed() {
				t.Fatal(name, path)
			}
			if gateway := path == chatPath; (p.Error != nil) != gateway || (a.Header.Get("Gatehouse-Error") == test.code) != gateway {
				t.Errorf("%s: %s: error object %+v, Gatehouse-Error %q", name, path, p.Error, a.Header.Get("Gatehouse-Error"))
			}
			if a.Header.Get("X-Ratelimit-Limit") != "" {
				t.Errorf("%s: limits are told to nobody in particular", name)
			}
		}
	}
	operator := &client{t: t, url: s.URL, http: newHTTP(t), token: token(map[string]any{"roles": []string{"operator"}})}
	denied := operator.events("organization", "_instance", "action", "access.deny")
	if len(denied) == 0 {
		t.Fatal("no failed authentication is recorded")
	}
	for _, e := range denied {
		if e.Outcome != "denied" || e.Class != "security" || e.Actor.Type != "anonymous" || e.Request == nil || e.Request.Status != 401 ||
			e.Request.IP != "127.0.0.1" || e.Organization != "_instance" || e.Reason != "token_invalid" && e.Reason != "token_expired" {
			t.Errorf("a failed authentication is recorded as %+v of %+v", e, e.Request)
		}
	}
}

// Why a token is refused is in the log at debug level, under the request's id, and
// nowhere else; nothing of the token is.
func TestWhyTokensAreRefused(t *testing.T) {
	key := []byte(gatehousetest.JWTSecret)
	ahead := time.Now().Add(time.Hour).Unix()
	for _, level := range []string{"debug", "info"} {
		s := instancetest.Serve(t, map[string]string{"JWT_AUDIENCE": "gate", "GATEHOUSE_LOG_LEVEL": level})
		c := anonymous(t, s)
		for i, test := range []struct {
			key    []byte
			claims map[string]any
			why    string
		}{
			{[]byte("another-secret-0123456789abcdefghijkl"), map[string]any{"aud": "gate"}, "the signature is not of JWT_SECRET"},
			{key, map[string]any{"aud": "CANARY"}, "aud does not hold JWT_AUDIENCE"},
			{key, map[string]any{"aud": "gate", "nbf": ahead}, "nbf or iat is ahead of this machine's clock"},
			{key, map[string]any{"aud": "gate", "sub": "CANARY\n"}, "the member is missing or not usable"},
			{key, map[string]any{"aud": "gate", "x": strings.Repeat("CANARY", 2000)}, "it is too long, or has a line break"},
		} {
			token := sign(t, jwt.SigningMethodHS256, test.key, nil, with(test.claims))
			id := fmt.Sprintf("req_of_test_%d", i)
			a := c.get(statusPath, "Authorization", "Bearer "+token, "X-Request-Id", id)
			if p := checkProblem(t, a, http.StatusUnauthorized, "token_invalid"); strings.Contains(a.Body, test.why) || p.RequestID != id {
				t.Errorf("%s: answered %s", test.why, a.Body)
			}
			line := fmt.Sprintf(`"msg":"the token was refused","code":"token_invalid","why":%q,"requestId":%q}`, test.why, id)
			if told := strings.Contains(s.Logs.String(), line); told != (level == "debug") {
				t.Errorf("%s, at %s: in the log %v, %s", test.why, level, told, s.Logs)
			}
			if strings.Contains(s.Logs.String(), token) {
				t.Errorf("%s: the token is in the log", test.why)
			}
		}
		if strings.Contains(s.Logs.String(), "CANARY") {
			t.Errorf("a claim is in the log: %s", s.Logs)
		}
	}
}

// A token is taken wherever an SDK puts a provider's key.
func TestPlacesOfTokens(t *testing.T) {
	s := instancetest.Serve(t, nil)
	c := anonymous(t, s)
	token, other := s.Token(t, "acme", "u1", access.Owner), s.Token(t, "acme", "u2", access.Owner)
	basic := func(user, password string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	}
	for name, test := range map[string]struct {
		header []string
		code   string // "" for let in
	}{
		"bearer":                  {[]string{"Authorization", "Bearer " + token}, ""},
		"bearer in small letters": {[]string{"Authorization", "bearer " + token}, ""},
		"bearer with more spaces": {[]string{"Authorization", "Bearer   " + token + " "}, ""},
		"as GitHub's SDKs do":     {[]string{"Authorization", "token " + token}, ""},
		"x-api-key":               {[]string{"x-api-key", token}, ""},
		"api-key":                 {[]string{"api-key", token}, ""},
		"x-goog-api-key":          {[]string{"x-goog-api-key", token}, ""},
		"basic":                   {[]string{"Authorization", basic("anybody", token)}, ""},
		"basic without a user":    {[]string{"Authorization", basic("", token)}, ""},
		"the same one twice":      {[]string{"Authorization", "Bearer " + token, "x-api-key", token, "api-key", token}, ""},
		"two":                     {[]string{"Authorization", "Bearer " + token, "x-api-key", other}, "token_ambiguous"},
		"one good, one bad":       {[]string{"x-api-key", token, "api-key", "x"}, "token_ambiguous"},
		"basic and another":       {[]string{"Authorization", basic("u", token), "x-goog-api-key", other}, "token_ambiguous"},
		"no token":                {nil, "token_missing"},
		"bearer of nothing":       {[]string{"Authorization", "Bearer "}, "token_missing"},
		"another scheme":          {[]string{"Authorization", "Digest " + token}, "token_missing"},
		"no scheme":               {[]string{"Authorization", token}, "token_missing"},
		"basic as the user":       {[]string{"Authorization", basic(token, "")}, "token_missing"},
		"in a cookie":             {[]string{"Cookie", "token=" + token}, "token_missing"},
		"in the query":            {nil, "token_missing"},
	} {
		path := statusPath
		if test.code != "" { // never taken from there
			path += "?token=" + token + "&access_token=" + token
		}
		a := c.get(path, test.header...)
		switch {
		case test.code == "" && a.Status != 200:
			t.Errorf("%s: %d %s", name, a.Status, a.Body)
		case test.code == "token_ambiguous":
			checkProblem(t, a, 400, test.code)
		case test.code != "":
			checkProblem(t, a, 401, test.code)
		}
	}
	r := c.request("GET", statusPath, nil)
	r.Header["Authorization"] = []string{"Bearer " + token, "Bearer " + other}
	checkProblem(t, c.send(r), 400, "token_ambiguous")
}

// An address that sent too many bad tokens is shut out, whatever it sends
// then; a request without a token is no try.
func TestAuthenticationBudget(t *testing.T) {
	s := instancetest.Serve(t, map[string]string{"AUTH_FAILURE_LIMIT": "3/1h", "TRUSTED_PROXIES": "127.0.0.1"})
	good := s.Token(t, "acme", "u1", access.Owner, access.Operator)
	c := anonymous(t, s)
	from := func(ip, token string) answer {
		header := []string{"X-Forwarded-For", ip}
		if token != "" {
			header = append(header, "Authorization", "Bearer "+token)
		}
		return c.get(statusPath, header...)
	}
	for range 10 {
		checkProblem(t, from("203.0.113.7", ""), 401, "token_missing")
		checkProblem(t, c.get(statusPath, "X-Forwarded-For", "203.0.113.7", "Authorization", "Bearer a", "Api-Key", "b"), 400, "token_ambiguous")
	}
	for range 3 {
		checkProblem(t, from("203.0.113.7", "x"), 401, "token_invalid")
	}
	for _, token := range []string{"x", good, ""} {
		a := from("203.0.113.7", token)
		checkProblem(t, a, 429, "authentication_limited")
		if wait, err := strconv.Atoi(a.Header.Get("Retry-After")); err != nil || wait < 1 || wait > 3600 {
			t.Errorf("Retry-After %q, want 1 to 3600", a.Header.Get("Retry-After"))
		}
	}
	// On chat routes too, in their form.
	a := c.do("POST", chatPath, chatBody, "X-Forwarded-For", "203.0.113.7", "Authorization", "Bearer "+good)
	if p := checkProblem(t, a, 429, "authentication_limited"); p.Error == nil || p.Error.Type != "rate_limit_error" {
		t.Errorf("a chat request of a shut out address: %s", a.Body)
	}
	// What the client writes on the left does not help; another address is not
	// shut out; an IPv6 client is its /64.
	checkProblem(t, from("198.51.100.1, 203.0.113.7", good), 429, "authentication_limited")
	if a := from("203.0.113.8", good); a.Status != 200 {
		t.Errorf("another address: %d %s", a.Status, a.Body)
	}
	for i := range 3 {
		checkProblem(t, from(fmt.Sprintf("2001:db8:1:2::%d", i), "x"), 401, "token_invalid")
	}
	checkProblem(t, from("2001:db8:1:2:ffff::1", good), 429, "authentication_limited")
	if a := from("2001:db8:1:3::1", good); a.Status != 200 {
		t.Errorf("another /64: %d %s", a.Status, a.Body)
	}

	// Every one of them is in the trail of the instance, repeats as a count.
	s.Stop()
	again := instancetest.ServeConfig(t, s.Config)
	operator := as(t, again, "acme", "u1", access.Operator)
	got := map[string]int{}
	for _, e := range operator.events("organization", "_instance", "action", "access.deny") {
		got[e.Reason] += int(max(e.Count, 1))
	}
	if want := map[string]int{"token_invalid": 6, "authentication_limited": 6}; !maps.Equal(got, want) {
		t.Errorf("the trail counts %v, want %v", got, want)
	}
}

// Without organizations from tokens, a good token of an unknown organization is
// denied, and the operator reads of it.
func TestUnknownOrganization(t *testing.T) {
	s := instancetest.Serve(t, map[string]string{"ORGANIZATIONS_FROM_TOKENS": "false", "AUTH_FAILURE_LIMIT": "2/1h"})
	stranger := as(t, s, "acme", "u1", access.Owner)
	for range 5 { // a good token is no failure
		checkProblem(t, stranger.get(statusPath), 403, "unknown_organization")
	}
	a := stranger.do("POST", chatPath, chatBody)
	checkProblem(t, a, 403, "unknown_organization")
	if a.Header.Get("X-Ratelimit-Limit") != "" {
		t.Error("a caller who was not let in is told of limits")
	}

	if _, err := s.Orgs.Create(t.Context(), access.NewCaller("_instance", access.System, "test", access.Operator), "ops", ""); err != nil {
		t.Fatal(err)
	}
	operator := as(t, s, "ops", "root", access.Operator)
	denied := operator.events("organization", "_instance", "action", "access.deny", "actor", "u1")
	if len(denied) == 0 || denied[len(denied)-1].Reason != "unknown_organization" || denied[0].Request.Status != 403 || denied[0].Actor.ID != "u1" {
		t.Fatalf("the trail of the instance tells %+v", denied)
	}

	// Once it is made, the token is good; what came before is not in its trail.
	decode[api.Organization](t, operator.do("POST", "/api/organizations", `{"id":"acme","name":"Acme"}`), 201)
	checkProblem(t, operator.do("POST", "/api/organizations", `{"id":"acme"}`), 409, "organization_exists")
	if a := stranger.get(statusPath); a.Status != 200 && a.Status != 403 {
		t.Errorf("after it was made: %d %s", a.Status, a.Body)
	}
}

// A disabled member is refused whatever its token says, and the denial is in
// its organization's trail.
func TestDisabledMember(t *testing.T) {
	s := instancetest.Serve(t, nil)
	owner, member := as(t, s, "acme", "u1", access.Owner), as(t, s, "acme", "u2", access.Owner)
	if a := member.get(statusPath); a.Status != 200 {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	caller := access.NewCaller("acme", access.User, "u1", access.Owner)
	if err := s.Orgs.SetDisabled(t.Context(), caller, "acme", "u2", true); err != nil {
		t.Fatal(err)
	}
	checkProblem(t, member.get(statusPath), 403, "member_disabled")
	checkProblem(t, member.do("POST", chatPath, chatBody), 403, "member_disabled")
	denied := owner.events("action", "access.deny", "actor", "u2")
	if !slices.ContainsFunc(denied, func(e api.Event) bool {
		return e.Reason == "member_disabled" && e.Organization == "acme" && e.Request.Status == 403
	}) {
		t.Errorf("the trail tells %+v", denied)
	}
	if err := s.Orgs.SetDisabled(t.Context(), caller, "acme", "u2", false); err != nil {
		t.Fatal(err)
	}
	if a := member.get(statusPath); a.Status != 200 {
		t.Errorf("after it was let in again: %d %s", a.Status, a.Body)
	}
}

// Roles that nobody knows grant nothing, and a token without any is let in to
// what any caller may do.
func TestUnknownRoles(t *testing.T) {
	s := instancetest.Serve(t, nil)
	for _, roles := range [][]access.Role{{}, {"root"}, {"Owner"}, {"owner "}, {"superuser", "*"}} {
		c := as(t, s, "acme", "u1", roles...)
		if a := c.get(statusPath); a.Status != 200 {
			t.Errorf("%q: own status: %d", roles, a.Status)
		}
		checkProblem(t, c.get(credentialsPath), 403, "permission_denied")
		checkProblem(t, c.do("POST", chatPath, chatBody), 403, "permission_denied")
	}
}
