package server_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// documentedService is a service whose fake is gatehousetest.Documented: where
// the key goes among its fields, and what its answers mean.
type documentedService struct {
	name    string
	key     string            // the field that the fake's key is the value of; "" at Twilio
	fields  map[string]string // beside it
	lacking string            // of a key that may not be tested this way
	account string
	scopes  []string
	expires string // day of the provider's own expiry
}

const twilioSID = "AC00112233445566778899aabbccddeeff"

var documentedServices = []documentedService{
	{name: "gemini", key: "apiKey", lacking: "misconfigured"},
	{name: "azure-openai", key: "apiKey", fields: map[string]string{"endpoint": "https://acme.openai.azure.com"}, lacking: "misconfigured"},
	{name: "mistral", key: "apiKey", lacking: "restricted"},
	{name: "codestral", key: "apiKey", lacking: "restricted"},
	{name: "cohere", key: "apiKey", lacking: "restricted", account: "0f3c6d1e"},
	{name: "groq", key: "apiKey", lacking: "restricted"},
	{name: "xai", key: "apiKey", lacking: "restricted", account: "ci (5ea6f6bd)", scopes: []string{"api-key:model:*", "api-key:endpoint:*"}},
	{name: "deepseek", key: "apiKey", lacking: "restricted"},
	{name: "openrouter", key: "apiKey", lacking: "restricted", account: "user_1", expires: "2099-12-31"},
	{name: "huggingface", key: "accessToken", lacking: "restricted", account: "acme", scopes: []string{"read"}},
	{name: "perplexity", key: "apiKey", lacking: "restricted"},
	{name: "replicate", key: "apiToken", lacking: "restricted"},
	{name: "slack", key: "botToken", lacking: "restricted", account: "Acme (T012) bot", scopes: []string{"chat:write", "users:read"}},
	{name: "github", key: "token", lacking: "restricted", account: "octocat", scopes: []string{"repo", "read:org"}, expires: "2099-11-23"},
	{name: "sendgrid", key: "apiKey", lacking: "restricted", scopes: []string{"mail.send", "user.account.read"}},
	{name: "twilio", fields: map[string]string{"accountSid": twilioSID, "authToken": "0123456789abcdef0123456789abcdef"}, lacking: "indeterminate", account: "Acme (" + twilioSID + ")"},
	{name: "hubspot", key: "accessToken", lacking: "restricted"},
}

// TestEveryTester asks each provider's fake with the documented answers, over a
// socket, through the API.
func TestEveryTester(t *testing.T) {
	fakes := make(map[string]*gatehousetest.Provider)
	var hosts []string
	for _, d := range documentedServices {
		var opts []gatehousetest.Option
		if d.name == "twilio" {
			opts = append(opts, gatehousetest.Key(twilioSID+":"+d.fields["authToken"]))
		}
		fakes[d.name] = gatehousetest.Documented(t, d.name, opts...)
		hosts = append(hosts, d.name+"="+fakes[d.name].URL)
	}
	s := instancetest.Serve(t, map[string]string{"SERVICE_HOSTS": strings.Join(hosts, ","), "CREDENTIAL_TEST_LIMIT": "10000/1m"})
	c := as(t, s, "acme", "u1", access.Developer)
	for _, d := range documentedServices {
		fake := fakes[d.name]
		fields := func(key string) map[string]string {
			all := map[string]string{}
			for name, value := range d.fields {
				all[name] = value
			}
			if d.key != "" {
				all[d.key] = key
			} else if key != fake.Key() {
				all["authToken"] = key
			}
			return all
		}
		test := func(t *testing.T, key string, next ...gatehousetest.Behaviour) api.TestResult {
			t.Helper()
			fake.Next(next...)
			a := c.json("POST", credentialsPath+"/test", api.CredentialTest{Service: d.name, Credentials: fields(key)})
			if strings.Contains(a.Body, key) || strings.Contains(a.Body, "bm90IGZvciB1cw") {
				t.Error("the answer holds a secret")
			}
			return decode[api.TestResult](t, a, http.StatusOK)
		}
		t.Run(d.name, func(t *testing.T) {
			const wrong = "wrong-0123456789abcdefghijklmnop"
			got := test(t, fake.Key())
			if got.Result != "valid" || got.Account != d.account || !cmp.Equal(got.Scopes, d.scopes) || got.RequestID == "" {
				t.Errorf("works: %+v", got)
			}
			if expires, _ := json.Marshal(got.ExpiresAt); !strings.Contains(string(expires), d.expires) || (got.ExpiresAt == nil) != (d.expires == "") {
				t.Errorf("expires %s, want %s", expires, d.expires)
			}
			if seen := fake.Requests(); strings.Contains(seen[0].RequestURI, fake.Key()) || len(seen[0].Body) > 0 || seen[0].Header.Get("Cookie") != "" {
				t.Errorf("asked with %s", seen[0].RequestURI)
			}
			for _, step := range []struct {
				name, key string
				next      []gatehousetest.Behaviour
				want      string
			}{
				{"wrong key", wrong, nil, "invalid"},
				{"lacks the scope", fake.Key(), []gatehousetest.Behaviour{gatehousetest.MissingScope("probe")}, d.lacking},
				{"busy", fake.Key(), []gatehousetest.Behaviour{gatehousetest.RateLimited(1)}, "indeterminate"},
				{"overloaded", fake.Key(), []gatehousetest.Behaviour{gatehousetest.Overloaded()}, "indeterminate"},
				{"a fault", fake.Key(), []gatehousetest.Behaviour{gatehousetest.ServerError()}, "indeterminate"},
				{"garbage", fake.Key(), []gatehousetest.Behaviour{gatehousetest.Garbage()}, "indeterminate"},
				{"a redirect", fake.Key(), []gatehousetest.Behaviour{gatehousetest.Redirect("http://169.254.169.254/")}, "indeterminate"},
				// Twice: a request on a kept connection is repeated on a new one (net/http).
				{"hangs up", fake.Key(), []gatehousetest.Behaviour{gatehousetest.HangUp(), gatehousetest.HangUp()}, "indeterminate"},
			} {
				got := test(t, step.key, step.next...)
				if got.Result != step.want || got.Detail == "" {
					t.Errorf("%s: %+v, want %s", step.name, got, step.want)
				}
			}
		})
	}
}

// TestProvidersExpiry: what a provider says of a token's end becomes the
// credential's, and goes with the token.
func TestProvidersExpiry(t *testing.T) {
	fake := gatehousetest.Documented(t, "github", gatehousetest.Key("ghp_first0123456789", "ghp_second0123456789"))
	s := instancetest.Serve(t, map[string]string{"SERVICE_HOSTS": "github=" + fake.URL})
	c := as(t, s, "acme", "u1", access.Owner)
	expiry := func(id string) string {
		t.Helper()
		got := decode[api.Credential](t, c.get(credentialsPath+"/"+id), http.StatusOK)
		text, _ := json.Marshal(got.ExpiresAt)
		return strings.Trim(string(text), `"`)
	}
	test := func(id string) {
		t.Helper()
		if got := decode[api.TestResult](t, c.do("POST", credentialsPath+"/"+id+"/test", ""), http.StatusOK); got.Result != "valid" {
			t.Fatalf("%+v", got)
		}
	}
	const providers = "2099-11-23T08:41:00.000Z"
	id := c.store("github", map[string]string{"token": "ghp_first0123456789"})
	test(id)
	if got := expiry(id); got != providers {
		t.Errorf("after a test it expires %s, want %s", got, providers)
	}
	decode[api.Credential](t, c.do("POST", credentialsPath+"/"+id+"/rotate", `{"credentials":{"token":"ghp_second0123456789"}}`), http.StatusOK)
	if got := expiry(id); got != "null" {
		t.Errorf("with a new token it expires %s", got)
	}
	// A person's own date stays when it is the earlier one.
	decode[api.Credential](t, c.do("PUT", credentialsPath+"/"+id, `{"expiresAt":"2090-01-01T00:00:00Z"}`), http.StatusOK)
	test(id)
	if got := expiry(id); got != "2090-01-01T00:00:00.000Z" {
		t.Errorf("a person's date became %s", got)
	}
	// The provider's earlier one counts, and gives way again.
	decode[api.Credential](t, c.do("PUT", credentialsPath+"/"+id, `{"expiresAt":"2199-01-01T00:00:00Z"}`), http.StatusOK)
	test(id)
	if got := expiry(id); got != providers {
		t.Errorf("the earlier one is %s, want %s", got, providers)
	}
	decode[api.Credential](t, c.do("POST", credentialsPath+"/"+id+"/rotate", `{"credentials":{"token":"ghp_first0123456789"}}`), http.StatusOK)
	if got := expiry(id); got != "2199-01-01T00:00:00.000Z" {
		t.Errorf("with a new token it expires %s, want the person's date", got)
	}
}
