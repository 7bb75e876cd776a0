package catalog_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/catalog"
)

const missingScopes = `You have insufficient permissions for this operation. Missing scopes: api.model.read. Check that you have the correct role in your organization (Reader, Writer, Owner) and project (Member, Owner), and if you're using a restricted API key, that it has the necessary scopes.`

// Bodies are of the providers' documented shapes.
func TestRead(t *testing.T) {
	type out = catalog.Outcome
	runReadCases(t, []readCase{
		{name: "works", service: "openai", status: 200, header: http.Header{"X-Request-Id": {"req_1"}, "Openai-Organization": {"acme-inc"}},
			body: `{"object":"list","data":[{"id":"gpt-4o"}]}`, want: out{Result: catalog.Valid, Account: "acme-inc", RequestID: "req_1"}, detail: "works"},
		{name: "data first", service: "openai", status: 200, body: `{"data":[],"object":"list"}`, want: out{Result: catalog.Valid}},
		{name: "cut list", service: "openai", status: 200, body: (`{"object":"list","data":[{"id":"` + strings.Repeat("x", catalog.MaxProbeBody))[:catalog.MaxProbeBody], want: out{Result: catalog.Valid}},
		{name: "short cut", service: "openai", status: 200, body: `{"object":"list","data":[{"id":`, want: out{Result: catalog.Indeterminate}},
		{name: "garbage", service: "openai", status: 200, body: `<html>Welcome to the hotel</html>`, want: out{Result: catalog.Indeterminate}},
		{name: "empty", service: "openai", status: 200, body: ``, want: out{Result: catalog.Indeterminate}},
		{name: "JSON that says nothing", service: "openai", status: 200, body: `null`, want: out{Result: catalog.Indeterminate}},
		{name: "cut off, but no JSON", service: "openai", status: 200, body: strings.Repeat("{x", catalog.MaxProbeBody/2), want: out{Result: catalog.Indeterminate}},
		{name: "bare list", service: "local", status: 200, body: `[{"id":"m"}]`, want: out{Result: catalog.Valid}},
		{name: "error with 200", service: "openai", status: 200, body: `{"error":{"code":"invalid_api_key"}}`, want: out{Result: catalog.Indeterminate, Code: "invalid_api_key"}},
		{name: "null error", service: "openai", status: 200, body: `{"error":null,"data":[]}`, want: out{Result: catalog.Valid}},
		{name: "wrong key", service: "openai", status: 401, body: `{"error":{"message":"Incorrect API key provided: sk-proj-****0000.","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}`,
			want: out{Result: catalog.Invalid, Code: "invalid_api_key"}},
		{name: "missing scopes", service: "openai", status: 401, body: `{"error":{"message":` + quote(missingScopes) + `,"type":"invalid_request_error","param":null,"code":null}}`,
			want: out{Result: catalog.Restricted, Code: "invalid_request_error"}, detail: "scope"},
		{name: "missing scopes as text", service: "openai", status: 401, body: `{"error":` + quote(missingScopes) + `}`, want: out{Result: catalog.Restricted}},
		{name: "other organization", service: "openai", status: 401, body: `{"error":{"message":"OpenAI-Organization header should match organization for API key","type":"invalid_request_error","param":null,"code":"mismatched_organization"}}`,
			want: out{Result: catalog.Misconfigured, Code: "mismatched_organization"}, detail: "organization"},
		{name: "other organization, none given", service: "openai", fields: map[string]string{"apiKey": openAIKey}, status: 401,
			body: `{"error":{"code":"mismatched_organization"}}`, want: out{Result: catalog.Invalid, Code: "mismatched_organization"}},
		{name: "401 without a body", service: "openai", status: 401, want: out{Result: catalog.Invalid}},
		{name: "401 with a null error", service: "openai", status: 401, body: `{"error":null}`, want: out{Result: catalog.Invalid}},
		{name: "numeric code", service: "local", status: 401, body: `{"error":{"message":"no","type":"AuthenticationError","code":401}}`, want: out{Result: catalog.Invalid}},
		{name: "forbidden", service: "openai", status: 403, body: `{"error":{"code":"permission_denied"}}`, want: out{Result: catalog.Restricted, Code: "permission_denied"}},
		{name: "country", service: "openai", status: 403, body: `{"error":{"code":"unsupported_country_region_territory","type":"request_forbidden"}}`,
			want: out{Result: catalog.Indeterminate, Code: "unsupported_country_region_territory"}},
		{name: "busy", service: "openai", status: 429, body: `{"error":{"code":"rate_limit_exceeded"}}`, want: out{Result: catalog.Indeterminate, Code: "rate_limit_exceeded"}, detail: "later"},
		{name: "quota", service: "openai", status: 429, body: `{"error":{"code":"insufficient_quota"}}`, want: out{Result: catalog.Indeterminate, Code: "insufficient_quota"}, detail: "quota"},
		{name: "fault", service: "openai", status: 500, body: `{"error":{"type":"server_error"}}`, want: out{Result: catalog.Indeterminate, Code: "server_error"}},
		{name: "redirect", service: "openai", status: 302, header: http.Header{"Location": {"http://169.254.169.254/"}}, want: out{Result: catalog.Indeterminate}, detail: "redirect"},
		{name: "teapot", service: "openai", status: 418, want: out{Result: catalog.Indeterminate}},
		{name: "no models route", service: "local", status: 404, want: out{Result: catalog.Indeterminate}},
		{name: "no content", service: "openai", status: 204, want: out{Result: catalog.Indeterminate}},

		{name: "works", service: "anthropic", status: 200, header: http.Header{"Request-Id": {"req_011"}, "Anthropic-Organization-Id": {"0f3c6d1e-aaaa"}},
			body: `{"data":[{"type":"model","id":"claude"}],"has_more":true,"first_id":"a","last_id":"b"}`, want: out{Result: catalog.Valid, Account: "0f3c6d1e-aaaa", RequestID: "req_011"}},
		{name: "wrong key", service: "anthropic", status: 401, body: `{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"},"request_id":"req_1"}`,
			want: out{Result: catalog.Invalid, Code: "authentication_error"}},
		{name: "forbidden", service: "anthropic", status: 403, body: `{"type":"error","error":{"type":"permission_error"}}`, want: out{Result: catalog.Restricted, Code: "permission_error"}},
		{name: "not found", service: "anthropic", status: 404, body: `{"type":"error","error":{"type":"not_found_error"}}`, want: out{Result: catalog.Indeterminate, Code: "not_found_error"}},
		{name: "overloaded", service: "anthropic", status: 529, body: `{"type":"error","error":{"type":"overloaded_error"}}`, want: out{Result: catalog.Indeterminate, Code: "overloaded_error"}},
		{name: "error with 200", service: "anthropic", status: 200, body: `{"type":"error","error":{"type":"api_error"}}`, want: out{Result: catalog.Indeterminate, Code: "api_error"}},

		{name: "live", service: "stripe", status: 200, header: http.Header{"Request-Id": {"req_abc"}}, body: `{"object":"list","data":[],"has_more":false,"url":"/v1/charges"}`,
			want: out{Result: catalog.Valid, RequestID: "req_abc"}, detail: "live mode"},
		{name: "test", service: "stripe", fields: map[string]string{"secretKey": "sk_test_aaaabbbbcccc"}, status: 200, body: `{"object":"list","data":[{"id":"ch_1"}]}`,
			want: out{Result: catalog.Valid}, detail: "test mode"},
		{name: "unknown prefix", service: "stripe", fields: map[string]string{"secretKey": "key"}, status: 200, body: `{"data":[]}`, want: out{Result: catalog.Valid}, detail: "works"},
		{name: "restricted", service: "stripe", status: 403, body: `{"error":{"message":"The provided key 'rk_live_***' does not have the required permissions","type":"invalid_request_error"}}`,
			want: out{Result: catalog.Restricted, Code: "invalid_request_error"}, detail: "charges"},
		{name: "wrong key", service: "stripe", status: 401, body: `{"error":{"message":"Invalid API Key provided","type":"invalid_request_error"}}`, want: out{Result: catalog.Invalid, Code: "invalid_request_error"}},
		{name: "expired", service: "stripe", status: 401, body: `{"error":{"code":"api_key_expired","type":"invalid_request_error"}}`, want: out{Result: catalog.Invalid, Code: "api_key_expired"}},
		{name: "publishable", service: "stripe", status: 403, body: `{"error":{"code":"secret_key_required"}}`, want: out{Result: catalog.Invalid, Code: "secret_key_required"}, detail: "publishable"},
		{name: "fault says so", service: "stripe", status: 500, body: `{"error":{"code":"secret_key_required"}}`, want: out{Result: catalog.Indeterminate, Code: "secret_key_required"}},
		{name: "busy", service: "stripe", status: 429, body: `{"error":{"code":"rate_limit"}}`, want: out{Result: catalog.Indeterminate, Code: "rate_limit"}},

		{name: "works", service: "zendesk", status: 200, header: http.Header{"X-Zendesk-Request-Id": {"abc-1"}}, body: `{"users":[{"id":1,"email":"somebody@example.com"}],"count":1}`,
			want: out{Result: catalog.Valid, Account: "acme", RequestID: "abc-1"}},
		{name: "me", service: "zendesk", status: 200, body: `{"user":{"id":35436,"role":"agent"}}`, want: out{Result: catalog.Valid, Account: "acme"}},
		{name: "anonymous", service: "zendesk", status: 200, body: `{"user":{"id":null,"name":"Anonymous user","role":"end-user"}}`, want: out{Result: catalog.Invalid}, detail: "anonymous"},
		{name: "no user", service: "zendesk", status: 200, body: `{"user":null}`, want: out{Result: catalog.Invalid}, detail: "anonymous"},
		{name: "help center page", service: "zendesk", status: 200, body: `<!doctype html>`, want: out{Result: catalog.Indeterminate}},
		{name: "wrong token", service: "zendesk", status: 401, body: `{"error":"Couldn't authenticate you"}`, want: out{Result: catalog.Invalid}},
		{name: "end user", service: "zendesk", status: 403, body: `{"error":{"title":"Forbidden","message":"You do not have access to this page."}}`, want: out{Result: catalog.Restricted}},
		{name: "no such subdomain", service: "zendesk", status: 404, body: `{"error":{"title":"No help desk at acme.zendesk.com"}}`, want: out{Result: catalog.Misconfigured}, detail: "subdomain"},
		{name: "moved", service: "zendesk", status: 301, want: out{Result: catalog.Indeterminate}},
		{name: "busy", service: "zendesk", status: 429, want: out{Result: catalog.Indeterminate}},
		{name: "down", service: "zendesk", status: 503, want: out{Result: catalog.Indeterminate}},

		{name: "works", service: "intercom", status: 200, body: `{"type":"admin","id":"1","email":"a@example.com","app":{"type":"app","id_code":"ab12","name":"Acme","region":"EU"}}`,
			want: out{Result: catalog.Valid, Account: "Acme (ab12)"}},
		{name: "other region", service: "intercom", status: 200, body: `{"type":"admin","app":{"id_code":"ab12","region":"US"}}`, want: out{Result: catalog.Misconfigured, Account: "(ab12)"}, detail: "region to us"},
		{name: "default region", service: "intercom", fields: map[string]string{"accessToken": intercomKey}, status: 200, body: `{"app":{"name":"Acme","region":"AU"}}`,
			want: out{Result: catalog.Misconfigured, Account: "Acme"}, detail: "region to au"},
		{name: "region left out is us", service: "intercom", fields: map[string]string{"accessToken": intercomKey}, status: 200, body: `{"app":{"name":"Acme","region":"US"}}`, want: out{Result: catalog.Valid, Account: "Acme"}},
		{name: "to Europe", service: "intercom", fields: map[string]string{"accessToken": intercomKey}, status: 200, body: `{"app":{"region":"eu"}}`, want: out{Result: catalog.Misconfigured}, detail: "region to eu"},
		{name: "new region", service: "intercom", status: 200, body: `{"app":{"name":"Acme","region":"JP"}}`, want: out{Result: catalog.Valid, Account: "Acme"}},
		{name: "no app", service: "intercom", status: 200, body: `{"type":"admin","id":"1","email":"a@b"}`, want: out{Result: catalog.Valid}},
		{name: "wrong token", service: "intercom", status: 401, body: `{"type":"error.list","request_id":"r","errors":[{"code":"unauthorized","message":"Access Token Invalid"}]}`, want: out{Result: catalog.Invalid, Code: "unauthorized"}},
		{name: "plan", service: "intercom", status: 403, body: `{"type":"error.list","errors":[{"code":"api_plan_restricted"}]}`, want: out{Result: catalog.Restricted, Code: "api_plan_restricted"}, detail: "plan"},
		{name: "no errors", service: "intercom", status: 401, body: `{"errors":[]}`, want: out{Result: catalog.Invalid}},
	})
}

// What a success holds beside being one is for the details: providers add and
// leave out members, and a success that is not understood makes every key look dead.
func TestReadAnySuccess(t *testing.T) {
	told := []string{"slack", "cohere", "smtp"} // whose success is told in the body, or that speak no HTTP
	for _, name := range slices.DeleteFunc(append([]string{"local"}, every...), func(name string) bool { return slices.Contains(told, name) }) {
		s, in := service(t, name), prepare(t, name, sound(name))
		for _, body := range []string{`{}`, `{"type":"admin","id":"1","email":"a@b"}`, `{"usageLimit":1,"currentUsage":1}`, `{"data":null,"sid":1,"login":{},"acls":"x","is_available":"x","scopes":2,"name":3,"app":4}`} {
			if got := s.Read(in, 200, nil, []byte(body)); got.Result != catalog.Valid || len(got.Scopes) > 0 || got.ExpiresAt != nil {
				t.Errorf("%s, %s: %+v", name, body, got)
			}
		}
		for _, body := range []string{``, ` `, `<!doctype html>`, `{"data":[`, `"ok"`, `true`, `{} {}`, `{"error":"no"}`, `{"errors":[{"message":"no"}]}`} {
			if got := s.Read(in, 200, nil, []byte(body)); got.Result != catalog.Indeterminate {
				t.Errorf("%s, %s: %+v", name, body, got)
			}
		}
	}
}

func quote(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// A provider, or who stands in its place, was sent the secret and can say it back.
func TestReadNeverEchoesTheSecret(t *testing.T) {
	const lower = "gsk_aaaabbbbccccddddeeee" // could be an error code by its letters
	in := prepare(t, "local", map[string]string{"apiKey": lower})
	got := service(t, "local").Read(in, 401, http.Header{"X-Request-Id": {lower}}, []byte(`{"error":{"code":"bad_`+lower+`"}}`))
	if got.Code != "" || got.RequestID != "" {
		t.Errorf("%+v", got)
	}
	got = service(t, "local").Read(in, 200, http.Header{"Openai-Organization": {"acme " + lower}}, []byte(`{"data":[]}`))
	if got.Result != catalog.Valid || got.Account != "" {
		t.Errorf("%+v", got)
	}
	zendesk := prepare(t, "intercom", map[string]string{"accessToken": "AAAABBBB=CCCC", "region": "eu"})
	// Dropping a sign from what was echoed must not get it past the check.
	got = service(t, "intercom").Read(zendesk, 200, nil, []byte(`{"app":{"name":"AAAABBBB=CCCC","region":"EU"}}`))
	if strings.Contains(got.Account, "AAAABBBB") {
		t.Errorf("%+v", got)
	}
}

func TestReadBoundsTheAccount(t *testing.T) {
	in := prepare(t, "intercom", sound("intercom"))
	name := "Acme\x1b[31m <script>\u202e Ünited & Söhne " + strings.Repeat("x", 500)
	got := service(t, "intercom").Read(in, 200, nil, []byte(`{"app":{"name":`+quote(name)+`,"region":"EU"}}`))
	if want := "Acme31m script Ünited & Söhne "; !strings.HasPrefix(got.Account, want) || len([]rune(got.Account)) > 100 {
		t.Errorf("%q", got.Account)
	}
}

func TestReadSMTP(t *testing.T) {
	for _, test := range []struct {
		code     int
		enhanced string
		want     catalog.Result
		says     string
	}{
		{235, "2.7.0", catalog.Valid, ""},
		{535, "5.7.8", catalog.Invalid, ""},
		{535, "", catalog.Invalid, ""},
		{535, "5.7.139", catalog.Misconfigured, "SMTP"},
		{534, "5.7.9", catalog.Misconfigured, "app password"},
		{538, "5.7.11", catalog.Misconfigured, "port"},
		{504, "5.5.4", catalog.Misconfigured, ""},
		{432, "4.7.12", catalog.Restricted, "changed"},
		{454, "4.7.0", catalog.Indeterminate, "later"},
		{421, "", catalog.Indeterminate, "later"},
		{530, "5.7.0", catalog.Indeterminate, ""},
		{550, "", catalog.Indeterminate, ""},
		{250, "", catalog.Indeterminate, ""},
		{0, "", catalog.Indeterminate, ""},
	} {
		got := catalog.ReadSMTP(test.code, test.enhanced)
		if got.Result != test.want || got.Code != test.enhanced || got.Detail == "" || !strings.Contains(got.Detail, test.says) {
			t.Errorf("%d %s: %+v", test.code, test.enhanced, got)
		}
	}
	if got := catalog.ReadSMTP(535, "Hunter2 WORD"); got.Code != "" {
		t.Errorf("%+v", got)
	}
}

var (
	sentence = regexp.MustCompile(`^[A-Z][A-Za-z ,:;]+([0-9]{1,13}\.[0-9]{2} [A-Za-z ,:;]+)*\.( [A-Z][A-Za-z ,:;]+\.)*$`)
	code     = regexp.MustCompile(`^[a-z0-9_.-]{0,64}$`)
	request  = regexp.MustCompile(`^[A-Za-z0-9_.:-]{0,128}$`)
	account  = regexp.MustCompile(`^[\p{L}\p{Nd} ._:@()&,'/+-]{0,100}$`)
)

// Whatever a provider answers, nothing breaks and nothing of it gets out except
// through the narrow fields.
func FuzzRead(f *testing.F) {
	names := slices.DeleteFunc(append([]string{"local"}, every...), func(name string) bool { return name == "smtp" })
	for i, name := range names {
		f.Add(i, 200, "req_1", []byte(`{"object":"list","data":[],"users":[],"user":{"id":null},"app":{"name":"A","region":"EU"}}`))
		f.Add(i, 401, "", []byte(`{"error":{"message":"Missing scopes: `+sound(name)["apiKey"]+`","code":"x","type":"y"},"errors":[{"code":"z"}]}`))
	}
	f.Fuzz(func(t *testing.T, which, status int, header string, body []byte) {
		name := names[uint(which)%uint(len(names))]
		if len(body) > catalog.MaxProbeBody {
			body = body[:catalog.MaxProbeBody]
		}
		in := prepare(t, name, sound(name))
		h := http.Header{"X-Request-Id": {header}, "Openai-Organization": {header}, "Anthropic-Organization-Id": {header}}
		got := service(t, name).Read(in, status, h, body)
		if !sentence.MatchString(got.Detail) || !code.MatchString(got.Code) || !request.MatchString(got.RequestID) || !account.MatchString(got.Account) {
			t.Errorf("%+v", got)
		}
		if got.Result == catalog.Valid && (status < 200 || status > 299) {
			t.Errorf("status %d is valid", status)
		}
		all := fmt.Sprintf("%+v", got)
		for _, secret := range in.ExposeSecretValues() {
			if strings.Contains(all, secret) {
				t.Errorf("a secret is in %s", all)
			}
		}
		if again := service(t, name).Read(in, status, h, body); !cmp.Equal(got, again) {
			t.Error("the same answer is read in two ways")
		}
	})
}
