package server_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// A token that its caller put where it does not belong, as tools with mixed-up
// variables do, is recorded nowhere.
func TestATokenInTheWrongPlaceIsNotRecorded(t *testing.T) {
	openai := gatehousetest.OpenAI(t)
	s := instancetest.Serve(t, map[string]string{"SERVICE_HOSTS": "openai=" + openai.URL, "GATEHOUSE_METRICS_ADDR": "127.0.0.1:0"})
	admin := as(t, s, "acme", "u1", access.Owner)
	admin.store("openai", map[string]string{"apiKey": openai.Key()})
	service, made := admin.makeToken(map[string]any{"roles": []string{"developer"}})
	token := service.token
	service.do("POST", chatPath, `{"model":"`+token+`","messages":[]}`, "User-Agent", "sdk/1 "+token, "X-Request-Id", token)
	service.do("POST", chatPath, chatBody, "User-Agent", token, "X-Request-Id", "id-"+token)
	anonymous(t, s).get("/api/services", "User-Agent", token, "X-Request-Id", token)
	service.get("/api/services/"+token, "Gatehouse-Credential", token)
	visits := admin.await(2, "action", "chat.request")
	events, err := json.Marshal(admin.events())
	if err != nil {
		t.Fatal(err)
	}
	usage := admin.get("/api/usage?groupBy=model")
	for place, text := range map[string]string{"the trail": string(events), "the log": s.Logs.String(), "usage": usage.Body} {
		if strings.Contains(text, token[4:]) {
			t.Errorf("the token of %s stands in %s: %s", made, place, text)
		}
	}
	if visits[1].Request.UserAgent != "sdk/1 [a token]" {
		t.Errorf("the user agent is %q", visits[1].Request.UserAgent)
	}
}

// The provider gets the organization's key, and nothing of the caller's.
func TestChatCarriesTheKeyAndNothingElse(t *testing.T) {
	openai, stripe := gatehousetest.OpenAI(t), gatehousetest.Stripe(t)
	s := instancetest.Serve(t, map[string]string{"SERVICE_HOSTS": "openai=" + openai.URL + ",stripe=" + stripe.URL})
	c := as(t, s, "acme", "u1", access.Developer)
	c.store("openai", map[string]string{"apiKey": openai.Key(), "organization": "org-theirs"})
	c.store("stripe", map[string]string{"secretKey": stripe.Key()})

	a := c.do("POST", chatPath+"?x=%2F+1", chatBody,
		"X-Api-Key", c.token, "Api-Key", c.token, "X-Goog-Api-Key", c.token, "Cookie", "session="+c.token,
		"Connection", "Authorization, X-Hop, Openai-Organization", "X-Hop", "1", "Proxy-Authorization", "Basic eDp5",
		"X-Forwarded-For", "203.0.113.7", "X-Forwarded-Host", "evil.example", "Forwarded", "for=203.0.113.7", "X-Real-Ip", "203.0.113.7",
		"Gatehouse-Subject", "root", "Gatehouse_Subject", "root", "Openai-Organization", "org-mine", "Openai-Beta", "assistants=v2",
		"Idempotency-Key", "k1", "X-Original-Url", "/v1/files")
	if a.Status != 200 || !strings.Contains(a.Body, "Hello there") {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	sent := openai.Requests()[0]
	if sent.RequestURI != "/v1/chat/completions?x=%2F+1" || string(sent.Body) != chatBody || sent.Host != strings.TrimPrefix(openai.URL, "http://") {
		t.Errorf("the provider saw %s of %s: %s", sent.RequestURI, sent.Host, sent.Body)
	}
	for name, want := range map[string]string{
		"Authorization": "Bearer " + openai.Key(), "Openai-Organization": "org-theirs", "Openai-Beta": "assistants=v2", "Idempotency-Key": "k1",
		"Content-Type": "application/json", "X-Api-Key": "", "Api-Key": "", "X-Goog-Api-Key": "", "Cookie": "", "X-Hop": "", "Proxy-Authorization": "",
		"X-Forwarded-For": "", "X-Forwarded-Host": "", "Forwarded": "", "X-Real-Ip": "", "Gatehouse-Subject": "", "Gatehouse_Subject": "", "X-Original-Url": "",
	} {
		if got := strings.Join(sent.Header.Values(name), "|"); got != want {
			t.Errorf("the provider saw %s: %q, want %q", name, got, want)
		}
	}
	for name, values := range sent.Header {
		if strings.Contains(strings.Join(values, ""), c.token) {
			t.Errorf("the provider saw the caller's token in %s", name)
		}
	}

	// The provider's limits stand beside ours, its cookies nowhere.
	if a.Header.Get("Set-Cookie") != "" || a.Header.Get("Gatehouse-Error") != "" {
		t.Errorf("the answer carries %q", a.Header)
	}
	if a.Header.Get("X-Ratelimit-Limit-Requests") != "500" || a.Header.Get("Upstream-X-Ratelimit-Limit-Requests") != "" ||
		!strings.HasPrefix(a.Header.Get("Upstream-X-Request-Id"), "req_") || a.Header.Get("Upstream-X-Request-Id") == a.Header.Get("X-Request-Id") {
		t.Errorf("the provider's limits and request id: %q", a.Header)
	}
	checkLimitHeaders(t, a.Header)

	if a := c.get("/api/proxy/stripe/v1/charges?limit=3"); a.Status != 200 {
		t.Errorf("stripe: %d %s", a.Status, a.Body)
	}
	if sent := stripe.Requests(); len(sent) != 1 || sent[0].Header.Get("Authorization") != "Bearer "+stripe.Key() || sent[0].RequestURI != "/v1/charges?limit=3" {
		t.Errorf("stripe saw %+v", sent)
	}

	// Each visit is one event, on its credential.
	auditor := as(t, s, "acme", "u2", access.Auditor)
	for action, service := range map[string]string{"chat.request": "openai", "credential.use": "stripe"} {
		visits := auditor.events("action", action)
		if len(visits) != 1 || visits[0].Targets[0].ID != service || visits[0].Outcome != "success" || visits[0].Actor.ID != "u1" ||
			len(visits[0].Targets) != 2 || visits[0].Request.Status != 200 || visits[0].Class != "access" {
			t.Errorf("%s: the trail tells %+v", action, visits)
		}
	}
	used := decode[api.CredentialList](t, c.get(credentialsPath+"?service=openai"), 200)
	if len(used.Credentials) != 1 {
		t.Errorf("the credentials: %+v", used)
	}
}

// What a provider says itself is passed on as it is, and is not marked as ours.
func TestProvidersOwnErrors(t *testing.T) {
	openai := gatehousetest.OpenAI(t)
	s := instancetest.Serve(t, map[string]string{"SERVICE_HOSTS": "openai=" + openai.URL})
	c := as(t, s, "acme", "u1", access.Owner)
	c.store("openai", map[string]string{"apiKey": openai.Key()})
	for _, test := range []struct {
		behave gatehousetest.Behaviour
		status int
		text   string
	}{
		{gatehousetest.InvalidKey(), 401, "invalid_api_key"},
		{gatehousetest.MissingScope("model.request"), 401, "Missing scopes"},
		{gatehousetest.RateLimited(20 * time.Second), 429, "rate_limit_exceeded"},
		{gatehousetest.OutOfQuota(), 429, "insufficient_quota"},
		{gatehousetest.Overloaded(), 503, "overloaded"},
		{gatehousetest.ServerError(), 500, "server_error"},
	} {
		openai.Next(test.behave)
		a := c.do("POST", chatPath, chatBody)
		if a.Status != test.status || !strings.Contains(a.Body, test.text) || a.Header.Get("Gatehouse-Error") != "" ||
			a.Header.Get("Content-Type") != "application/json" || a.Header.Get("WWW-Authenticate") != "" {
			t.Errorf("want %d %s untouched: %d %q %s", test.status, test.text, a.Status, a.Header, a.Body)
		}
		checkLimitHeaders(t, a.Header)
		if test.text == "rate_limit_exceeded" && (a.Header.Get("Retry-After") != "20" || a.Header.Get("X-Ratelimit-Remaining-Requests") != "0") {
			t.Errorf("the provider's limit: %q", a.Header)
		}
	}
	if n := len(c.events("action", "limit.exceed")); n != 0 {
		t.Errorf("a provider's limit is taken for ours in %d events", n)
	}

	// What is no answer at all is an error of ours.
	for name, behave := range map[string]gatehousetest.Behaviour{
		"cut before the end": gatehousetest.CutAfter(10), "no answer": gatehousetest.HangUp(),
	} {
		openai.Next(behave, behave)
		a := c.do("POST", chatPath, chatBody)
		if a.Status != 502 {
			t.Errorf("%s: %d %s", name, a.Status, a.Body)
		}
		checkSDKError(t, a)
		openai.Next()
	}
}

// Without a usable credential the answer is 424 and says why.
func TestNoUsableCredential(t *testing.T) {
	openai := gatehousetest.OpenAI(t)
	s := instancetest.Serve(t, map[string]string{"SERVICE_HOSTS": "openai=" + openai.URL})
	c := as(t, s, "acme", "u1", access.Owner)
	key := map[string]string{"apiKey": openai.Key()}
	refused := func(code string, header ...string) {
		t.Helper()
		a := c.do("POST", chatPath, chatBody, header...)
		if p := checkProblem(t, a, http.StatusFailedDependency, code); p.Error == nil || p.Error.Code != code || a.Header.Get("Gatehouse-Error") != code {
			t.Errorf("the error object: %s", a.Body)
		}
	}
	refused("credential_missing")
	refused("credential_missing", "Gatehouse-Credential", "nope")
	one := c.store("openai", key, "name", "one")
	if a := c.do("POST", chatPath, chatBody); a.Status != 200 { // the only one there is
		t.Errorf("with one credential: %d %s", a.Status, a.Body)
	}
	c.store("openai", key, "name", "two")
	refused("credential_ambiguous")
	if a := c.do("POST", chatPath, chatBody, "Gatehouse-Credential", "two"); a.Status != 200 {
		t.Errorf("by name: %d %s", a.Status, a.Body)
	}
	decode[api.Credential](t, c.do("PUT", credentialsPath+"/"+one, `{"disabled":true}`), 200)
	refused("credential_disabled", "Gatehouse-Credential", "one")
	decode[api.Credential](t, c.do("PUT", credentialsPath+"/"+one, `{"disabled":false}`), 200)
	if a := c.do("POST", chatPath, chatBody, "Gatehouse-Credential", "one"); a.Status != 200 {
		t.Errorf("enabled again: %d %s", a.Status, a.Body)
	}
	soon := time.Now().Add(500 * time.Millisecond)
	c.store("openai", key, "name", "three", "expiresAt", soon.UTC().Format(time.RFC3339Nano))
	time.Sleep(time.Until(soon))
	refused("credential_expired", "Gatehouse-Credential", "three")
	if a := c.do("DELETE", credentialsPath+"/"+one, ""); a.Status != 204 {
		t.Fatalf("deleting: %d", a.Status)
	}
	refused("credential_missing", "Gatehouse-Credential", "one")

	// Another organization's is no help.
	c = as(t, s, "other", "u1", access.Owner)
	refused("credential_missing", "Gatehouse-Credential", "two")
	if n := len(openai.Requests()); n != 3 {
		t.Errorf("the provider saw %d requests, want the 3 with a key", n)
	}
	missing := c.events("action", "chat.request")
	if len(missing) != 1 || missing[0].Outcome != "failure" || missing[0].Reason != "credential_missing" || missing[0].Request.Status != 424 {
		t.Errorf("the trail tells %+v", missing)
	}
}

// The team's own backend gets no key; it learns who is calling from headers
// that nobody else can sign.
func TestAppUpstream(t *testing.T) {
	var seen []*http.Request
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Clone(t.Context()))
		w.Header().Set("Gatehouse-Error", "forged")
		_, _ = w.Write([]byte("ok"))
	}))
	defer app.Close()
	s := instancetest.Serve(t, map[string]string{"CHAT_UPSTREAM": app.URL})
	c := as(t, s, "acme", "u 1/ö\u202e", access.Developer, access.Viewer)
	a := c.do("POST", "/api/chat/app/chat?x=1", `{}`, "Gatehouse-Organization", "other", "Gatehouse-Roles", "owner", "X-Api-Key", c.token, "Cookie", "a=b")
	if a.Status != 200 || a.Body != "ok" || a.Header.Get("Gatehouse-Error") != "" {
		t.Fatalf("%d %q %s", a.Status, a.Header, a.Body)
	}
	if len(seen) != 1 {
		t.Fatalf("the backend saw %d requests", len(seen))
	}
	r := seen[0]
	for name, want := range map[string][]string{
		"Gatehouse-Organization": {"acme"}, "Gatehouse-Subject": {"u%201/%C3%B6%E2%80%AE"}, "Gatehouse-Roles": {"developer,viewer"},
		"Gatehouse-Request-Id": {a.Header.Get("X-Request-Id")}, "Authorization": nil, "X-Api-Key": nil, "Cookie": nil,
	} {
		if !slices.Equal(r.Header.Values(name), want) {
			t.Errorf("the backend saw %s: %q, want %q", name, r.Header.Values(name), want)
		}
	}
	// The key is made of the JWT secret, which the backend has.
	derive := hmac.New(sha256.New, []byte(gatehousetest.JWTSecret))
	derive.Write([]byte("gatehouse-upstream-key-v1"))
	mac := hmac.New(sha256.New, derive.Sum(nil))
	stamp := r.Header.Get("Gatehouse-Timestamp")
	mac.Write([]byte(strings.Join([]string{"v1", stamp, "POST", "/chat?x=1", "acme", "u%201/%C3%B6%E2%80%AE", "developer,viewer", a.Header.Get("X-Request-Id")}, "\n")))
	if got, want := r.Header.Get("Gatehouse-Signature"), "v1="+hex.EncodeToString(mac.Sum(nil)); got != want {
		t.Errorf("the signature is %s, want %s", got, want)
	}
	if at, err := strconv.ParseInt(stamp, 10, 64); err != nil || time.Since(time.Unix(at, 0)).Abs() > time.Hour {
		t.Errorf("the timestamp is %q", stamp)
	}

	bare := instancetest.Serve(t, nil)
	checkProblem(t, as(t, bare, "acme", "u1", access.Owner).get("/api/chat/app/x"), 404, "unknown_service")
	checkProblem(t, as(t, bare, "acme", "u1", access.Owner).get("/api/chat/echo/v1/models"), 404, "unknown_service")
}

// A host of the operator's own is a service like any other.
func TestChatHosts(t *testing.T) {
	fake := gatehousetest.OpenAI(t)
	s := instancetest.Serve(t, map[string]string{"CHAT_HOSTS": "local=" + fake.URL + "/v1"})
	c := as(t, s, "acme", "u1", access.Owner)
	c.store("local", map[string]string{"apiKey": fake.Key()})
	if a := c.do("POST", "/api/chat/local/chat/completions", chatBody); a.Status != 200 {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	checkProblem(t, c.do("POST", "/api/proxy/local/chat/completions", chatBody), 404, "wrong_route")
	visits := c.events("action", "chat.request")
	if len(visits) != 1 || visits[0].Targets[0].ID != "local" {
		t.Errorf("the trail tells %+v", visits)
	}
}
