package catalog_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/gatehouse-io/gatehouse/catalog"
)

func TestReadPlatforms(t *testing.T) {
	type out = catalog.Outcome
	at := time.Date(2026, 11, 23, 8, 41, 0, 0, time.UTC)
	const user = `{"login":"octocat","id":1,"type":"User"}`
	pair := map[string]string{"accountSid": twilioSID, "apiKeySid": "SK00112233445566778899aabbccddeeff", "apiKeySecret": "aaaabbbbccccddddaaaabbbbccccdddd"}
	oauth := map[string]string{"subdomain": "acme", "oauthToken": "0123456789abcdef0123456789abcdef"}
	runReadCases(t, []readCase{
		{name: "works", service: "slack", status: 200, header: http.Header{"X-Oauth-Scopes": {"chat:write,users:read"}, "X-Slack-Req-Id": {"r1"}},
			body: `{"ok":true,"url":"https://acme.slack.com/","team":"Acme","user":"bot","team_id":"T012","user_id":"U1","bot_id":"B1"}`,
			want: out{Result: catalog.Valid, Account: "Acme (T012) bot", Scopes: []string{"chat:write", "users:read"}, RequestID: "r1"}},
		{name: "wrong token", service: "slack", status: 200, body: `{"ok":false,"error":"invalid_auth"}`, want: out{Result: catalog.Invalid, Code: "invalid_auth"}},
		{name: "revoked", service: "slack", status: 200, body: `{"ok":false,"error":"token_revoked"}`, want: out{Result: catalog.Invalid, Code: "token_revoked"}},
		{name: "inactive", service: "slack", status: 200, body: `{"ok":false,"error":"account_inactive"}`, want: out{Result: catalog.Invalid, Code: "account_inactive"}},
		{name: "scope", service: "slack", status: 200, body: `{"ok":false,"error":"missing_scope","needed":"x"}`, want: out{Result: catalog.Restricted, Code: "missing_scope"}},
		{name: "app token", service: "slack", status: 200, body: `{"ok":false,"error":"not_allowed_token_type"}`, want: out{Result: catalog.Misconfigured, Code: "not_allowed_token_type"}, detail: "xoxb"},
		{name: "own fault", service: "slack", status: 200, body: `{"ok":false,"error":"internal_error"}`, want: out{Result: catalog.Indeterminate, Code: "internal_error"}},
		{name: "no JSON", service: "slack", status: 200, body: `ok`, want: out{Result: catalog.Indeterminate}},
		{name: "says nothing", service: "slack", status: 200, body: `{}`, want: out{Result: catalog.Indeterminate}},
		{name: "busy", service: "slack", status: 429, want: out{Result: catalog.Indeterminate}},

		{name: "classic", service: "github", status: 200, body: user, header: http.Header{
			"X-Oauth-Scopes": {"repo, read:org"}, "Github-Authentication-Token-Expiration": {"2026-11-23 08:41:00 UTC"}, "X-Github-Request-Id": {"ABCD:1"}},
			want: out{Result: catalog.Valid, Account: "octocat", Scopes: []string{"repo", "read:org"}, ExpiresAt: &at, RequestID: "ABCD:1"}},
		{name: "another zone", service: "github", status: 200, body: user, header: http.Header{"Github-Authentication-Token-Expiration": {"2026-11-23 00:41:00 -0800"}},
			want: out{Result: catalog.Valid, Account: "octocat", ExpiresAt: &at}},
		{name: "fine-grained, no end", service: "github", status: 200, body: user, want: out{Result: catalog.Valid, Account: "octocat"}},
		{name: "odd end", service: "github", status: 200, body: user, header: http.Header{"Github-Authentication-Token-Expiration": {"tomorrow"}}, want: out{Result: catalog.Valid, Account: "octocat"}},
		{name: "wrong token", service: "github", status: 401, body: `{"message":"Bad credentials","documentation_url":"https://docs.github.com/rest","status":"401"}`, want: out{Result: catalog.Invalid}},
		{name: "app's token", service: "github", status: 403, body: `{"message":"Resource not accessible by integration","status":"403"}`, want: out{Result: catalog.Restricted}},
		{name: "limit", service: "github", status: 403, body: `{"message":"API rate limit exceeded for user ID 1."}`, want: out{Result: catalog.Indeterminate}},
		{name: "abuse", service: "github", status: 403, want: out{Result: catalog.Indeterminate}},
		{name: "no API there", service: "github", fields: map[string]string{"token": "ghp_aaaabbbbcccc", "baseUrl": "https://ghe.example"}, status: 404, want: out{Result: catalog.Misconfigured}, detail: "base URL"},
		{name: "404", service: "github", status: 404, want: out{Result: catalog.Indeterminate}},
		{name: "a page", service: "github", status: 200, body: `<html>`, want: out{Result: catalog.Indeterminate}},
		{name: "down", service: "github", status: 503, want: out{Result: catalog.Indeterminate}},

		{name: "works", service: "sendgrid", status: 200, body: `{"scopes":["mail.send","user.account.read"]}`, want: out{Result: catalog.Valid, Scopes: []string{"mail.send", "user.account.read"}}},
		{name: "restricted", service: "sendgrid", status: 403, body: `{"errors":[{"field":null,"message":"access forbidden"}]}`, want: out{Result: catalog.Restricted}},
		{name: "wrong key", service: "sendgrid", status: 401, body: `{"errors":[{"field":null,"message":"The provided authorization grant is invalid, expired, or revoked"}]}`, want: out{Result: catalog.Invalid}},
		{name: "garbage", service: "sendgrid", status: 200, body: ``, want: out{Result: catalog.Indeterminate}},
		{name: "busy", service: "sendgrid", status: 429, want: out{Result: catalog.Indeterminate}},

		{name: "works", service: "twilio", status: 200, header: http.Header{"Twilio-Request-Id": {"RQ1"}}, body: `{"sid":"AC1","friendly_name":"Acme","status":"active","type":"Full","auth_token":"0a1b2c3d0a1b2c3d0a1b2c3d0a1b2c3d"}`,
			want: out{Result: catalog.Valid, Account: "Acme (AC1)", RequestID: "RQ1"}},
		{name: "key pair", service: "twilio", fields: pair, status: 200, body: `{"sid":"AC1","friendly_name":"Acme","status":"active"}`, want: out{Result: catalog.Valid, Account: "Acme (AC1)"}},
		{name: "suspended", service: "twilio", status: 200, body: `{"sid":"AC1","friendly_name":"Acme","status":"suspended"}`, want: out{Result: catalog.Restricted, Account: "Acme (AC1)"}},
		{name: "wrong token", service: "twilio", status: 401, body: `{"code":20003,"message":"Authenticate","status":401}`, want: out{Result: catalog.Invalid}},
		{name: "forbidden", service: "twilio", status: 403, body: `{"code":20003}`, want: out{Result: catalog.Indeterminate}},
		{name: "other account", service: "twilio", status: 404, body: `{"code":20404,"status":404}`, want: out{Result: catalog.Misconfigured}},
		{name: "garbage", service: "twilio", status: 200, body: `{"sid":"AC1"`, want: out{Result: catalog.Indeterminate}},
		{name: "busy", service: "twilio", status: 429, want: out{Result: catalog.Indeterminate}},

		{name: "works", service: "hubspot", status: 200, header: http.Header{"X-Hubspot-Correlation-Id": {"c-1"}}, body: `[{"name":"private-apps-api-calls-daily","usageLimit":250000,"currentUsage":10,"fetchStatus":"CACHED"}]`, want: out{Result: catalog.Valid, RequestID: "c-1"}},
		{name: "works, wrapped", service: "hubspot", status: 200, body: `{"results":[]}`, want: out{Result: catalog.Valid}},
		{name: "restricted", service: "hubspot", status: 403, body: `{"status":"error","message":"This app hasn't been granted all required scopes","category":"MISSING_SCOPES"}`, want: out{Result: catalog.Restricted, Code: "missing_scopes"}},
		{name: "wrong token", service: "hubspot", status: 401, body: `{"status":"error","category":"INVALID_AUTHENTICATION"}`, want: out{Result: catalog.Invalid, Code: "invalid_authentication"}},
		{name: "expired", service: "hubspot", status: 401, body: `{"status":"error","category":"EXPIRED_AUTHENTICATION"}`, want: out{Result: catalog.Invalid, Code: "expired_authentication"}, detail: "expired"},
		{name: "error with 200", service: "hubspot", status: 200, body: `{"status":"error","category":"RATE_LIMITS"}`, want: out{Result: catalog.Indeterminate, Code: "rate_limits"}},
		{name: "busy", service: "hubspot", status: 429, body: `{"status":"error","category":"RATE_LIMITS"}`, want: out{Result: catalog.Indeterminate, Code: "rate_limits"}},

		{name: "works", service: "replicate", status: 200, body: `{"next":null,"previous":null,"results":[]}`, want: out{Result: catalog.Valid}},
		{name: "wrong token", service: "replicate", status: 401, body: `{"title":"Unauthenticated","detail":"You did not pass a valid authentication token","status":401}`, want: out{Result: catalog.Invalid}},
		{name: "forbidden", service: "replicate", status: 403, want: out{Result: catalog.Restricted}},
		{name: "busy", service: "replicate", status: 429, want: out{Result: catalog.Indeterminate}},

		{name: "OAuth", service: "zendesk", fields: oauth, status: 200, body: `{"users":[],"count":0}`, want: out{Result: catalog.Valid, Account: "acme"}},
		{name: "OAuth, revoked", service: "zendesk", fields: oauth, status: 401, body: `{"error":"invalid_token","error_description":"The access token provided is expired, revoked, malformed or invalid for other reasons."}`, want: out{Result: catalog.Invalid}},
	})
}

// The second question of services whose first answer can mean two things.
func TestFollow(t *testing.T) {
	pair := map[string]string{"accountSid": twilioSID, "apiKeySid": "SK00112233445566778899aabbccddeeff", "apiKeySecret": "aaaabbbbccccddddaaaabbbbccccdddd"}
	for _, test := range []struct {
		name, service string
		fields        map[string]string
		first         int
		path          string // "": nothing more is asked
		second        int
		body          string
		want          catalog.Result
	}{
		{"API key that may not read the account", "twilio", pair, 401, "/2010-04-01/Accounts/" + twilioSID + "/Queues.json", 200, `{"queues":[]}`, catalog.Valid},
		{"restricted API key", "twilio", pair, 401, "/2010-04-01/Accounts/" + twilioSID + "/Queues.json", 403, `{"code":70051}`, catalog.Restricted},
		{"wrong API key", "twilio", pair, 401, "/2010-04-01/Accounts/" + twilioSID + "/Queues.json", 401, `{"code":20003}`, catalog.Invalid},
		{"wrong API key, and no list", "twilio", pair, 401, "/2010-04-01/Accounts/" + twilioSID + "/Queues.json", 404, ``, catalog.Invalid},
		{"project key of OpenAI", "openai", sound("openai"), 401, "", 0, ``, catalog.Invalid},
		{"workspace key of Anthropic", "anthropic", sound("anthropic"), 401, "", 0, ``, catalog.Invalid},
		{"busy the second time", "twilio", pair, 401, "/2010-04-01/Accounts/" + twilioSID + "/Queues.json", 429, ``, catalog.Indeterminate},
		{"garbage the second time", "twilio", pair, 401, "/2010-04-01/Accounts/" + twilioSID + "/Queues.json", 200, `queues`, catalog.Indeterminate},
		{"auth token", "twilio", sound("twilio"), 401, "", 0, "", catalog.Invalid},
		{"API key that works", "twilio", pair, 200, "", 0, "", ""},
		{"no list of models", "codestral", sound("codestral"), 404, "/v1/fim/completions", 422, `{"detail":[]}`, catalog.Valid},
		{"no list of models, wrong key", "codestral", sound("codestral"), 404, "/v1/fim/completions", 401, `{"message":"Unauthorized"}`, catalog.Invalid},
		{"no list of models, no completions", "codestral", sound("codestral"), 404, "/v1/fim/completions", 404, ``, catalog.Indeterminate},
		{"any other service", "groq", sound("groq"), 401, "", 0, "", catalog.Invalid},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, in := service(t, test.service), prepare(t, test.service, test.fields)
			first := s.Read(in, test.first, nil, nil)
			r, err := s.Follow(t.Context(), in, test.first)
			if err != nil {
				t.Fatal(err)
			}
			if (r == nil) != (test.path == "") {
				t.Fatalf("asks %v", r)
			}
			if r == nil {
				return
			}
			if r.URL.Path != test.path || r.Header.Get("Authorization")+r.Header.Get("X-Api-Key") == "" {
				t.Errorf("asks %s %s", r.Method, r.URL)
			}
			if got := s.ReadFollow(in, first, test.second, nil, []byte(test.body)); got.Result != test.want || got.Detail == "" {
				t.Errorf("%+v, want %s", got, test.want)
			}
		})
	}
}

// An admin key is asked about where it can be used, and nowhere else: at the list
// of models a real one is told what a wrong one is told.
func TestAdminKeys(t *testing.T) {
	for _, test := range []struct {
		service, key, path string
		status             int
		body               string
		want               catalog.Result
	}{
		{"openai", "sk-admin-", "/v1/organization/admin_api_keys", 200, `{"object":"list","data":[]}`, catalog.Restricted},
		{"openai", "sk-admin-", "/v1/organization/admin_api_keys", 200, `<html>`, catalog.Indeterminate},
		{"openai", "sk-admin-", "/v1/organization/admin_api_keys", 401, `{"error":{"code":"invalid_api_key"}}`, catalog.Invalid},
		{"openai", "sk-admin-", "/v1/organization/admin_api_keys", 401, `{"error":` + quote(missingScopes) + `}`, catalog.Restricted},
		{"openai", "sk-admin-", "/v1/organization/admin_api_keys", 403, ``, catalog.Restricted},
		{"openai", "sk-admin-", "/v1/organization/admin_api_keys", 404, ``, catalog.Indeterminate},
		{"openai", "sk-admin-", "/v1/organization/admin_api_keys", 429, ``, catalog.Indeterminate},
		{"openai", "sk-proj-", "/v1/models", 200, `{"data":[]}`, catalog.Valid},
		{"anthropic", "sk-ant-admin01-", "/v1/organizations/api_keys", 200, `{"data":[],"has_more":false}`, catalog.Restricted},
		{"anthropic", "sk-ant-admin01-", "/v1/organizations/api_keys", 401, `{"type":"error","error":{"type":"authentication_error"}}`, catalog.Invalid},
		{"anthropic", "sk-ant-api03-", "/v1/models", 200, `{"data":[]}`, catalog.Valid},
	} {
		s := service(t, test.service)
		in := prepare(t, test.service, map[string]string{"apiKey": test.key + strings.Repeat("aB3d", 20)})
		r, err := s.Probe(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		if r.URL.Path != test.path || r.Header.Get("Authorization")+r.Header.Get("X-Api-Key") == "" {
			t.Errorf("%s asks %s", test.key, r.URL)
		}
		if more, err := s.Follow(t.Context(), in, test.status); more != nil || err != nil {
			t.Errorf("%s asks more: %v %v", test.key, more, err)
		}
		if got := s.Read(in, test.status, nil, []byte(test.body)); got.Result != test.want || got.Detail == "" {
			t.Errorf("%s, %d %s: %+v, want %s", test.key, test.status, test.body, got, test.want)
		}
	}
}

// readCase is an answer and what it means.
type readCase struct {
	name    string
	service string
	fields  map[string]string // sound ones when nil
	status  int
	header  http.Header
	body    string
	want    catalog.Outcome // without Detail
	detail  string
}

func runReadCases(t *testing.T, cases []readCase) {
	t.Helper()
	services := newCatalog(t, catalog.Options{Echo: true, GitHubHosts: []string{"https://ghe.example"}, ChatHosts: map[string]string{"local": "http://127.0.0.1:8000"}})
	for _, test := range cases {
		t.Run(test.service+"/"+test.name, func(t *testing.T) {
			fields := test.fields
			if fields == nil {
				fields = sound(test.service)
			}
			s, _ := services.Service(test.service)
			in, err := s.Prepare(fields)
			if err != nil {
				t.Fatal(err)
			}
			got := s.Read(in, test.status, test.header, []byte(test.body))
			if diff := cmp.Diff(test.want, got, cmpopts.IgnoreFields(catalog.Outcome{}, "Detail"), cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
			if !sentence.MatchString(got.Detail) || !strings.Contains(got.Detail, test.detail) {
				t.Errorf("detail %q, want %q in it", got.Detail, test.detail)
			}
		})
	}
}
