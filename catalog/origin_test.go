package catalog_test

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/catalog"
)

// Where each service's credential goes, what it looks like there, and how it is
// tested: by hand out of the fact sheet.
func TestRequests(t *testing.T) {
	basic := func(s string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(s)) }
	pair := map[string]string{"accountSid": twilioSID, "apiKeySid": "SK1", "apiKeySecret": "s3cr3t-0123", "authToken": "not-this-one"}
	for _, test := range []struct {
		service, method, url string
		fields               map[string]string // sound ones when nil
		want                 http.Header       // of the credential
	}{
		{"gemini", "GET", "https://generativelanguage.googleapis.com/v1/models?pageSize=1", nil, http.Header{"X-Goog-Api-Key": {sound("gemini")["apiKey"]}}},
		{"azure-openai", "GET", "https://acme.openai.azure.com/openai/models?api-version=2024-10-21", nil, http.Header{"Api-Key": {sound("azure-openai")["apiKey"]}}},
		{"mistral", "GET", "https://api.mistral.ai/v1/models", nil, http.Header{"Authorization": {"Bearer " + sound("mistral")["apiKey"]}}},
		{"codestral", "GET", "https://codestral.mistral.ai/v1/models", nil, http.Header{"Authorization": {"Bearer " + sound("codestral")["apiKey"]}}},
		{"cohere", "POST", "https://api.cohere.com/v1/check-api-key", nil, http.Header{"Authorization": {"Bearer " + sound("cohere")["apiKey"]}}},
		{"groq", "GET", "https://api.groq.com/openai/v1/models", nil, http.Header{"Authorization": {"Bearer " + sound("groq")["apiKey"]}}},
		{"xai", "GET", "https://api.x.ai/v1/api-key", nil, http.Header{"Authorization": {"Bearer " + sound("xai")["apiKey"]}}},
		{"deepseek", "GET", "https://api.deepseek.com/user/balance", nil, http.Header{"Authorization": {"Bearer " + sound("deepseek")["apiKey"]}}},
		{"openrouter", "GET", "https://openrouter.ai/api/v1/key", nil, http.Header{"Authorization": {"Bearer " + sound("openrouter")["apiKey"]}}},
		{"huggingface", "GET", "https://huggingface.co/api/whoami-v2", nil, http.Header{"Authorization": {"Bearer " + sound("huggingface")["accessToken"]}}},
		{"perplexity", "GET", "https://api.perplexity.ai/async/chat/completions?limit=1", nil, http.Header{"Authorization": {"Bearer " + sound("perplexity")["apiKey"]}}},
		{"replicate", "GET", "https://api.replicate.com/v1/predictions", nil, http.Header{"Authorization": {"Token " + sound("replicate")["apiToken"]}}},
		{"slack", "POST", "https://slack.com/api/auth.test", nil, http.Header{"Authorization": {"Bearer " + sound("slack")["botToken"]}}},
		{"github", "GET", "https://api.github.com/user", nil, http.Header{"Authorization": {"Bearer " + sound("github")["token"]},
			"Accept": {"application/vnd.github+json"}, "X-Github-Api-Version": {"2022-11-28"}}},
		{"zendesk", "GET", "https://a_b.zendesk.com/api/v2/users.json?per_page=1", map[string]string{"subdomain": "a_b", "oauthToken": "0123456789abcdef"},
			http.Header{"Authorization": {"Bearer 0123456789abcdef"}}},
		{"sendgrid", "GET", "https://api.sendgrid.com/v3/scopes", nil, http.Header{"Authorization": {"Bearer " + sound("sendgrid")["apiKey"]}}},
		{"hubspot", "GET", "https://api.hubapi.com/account-info/v3/api-usage/daily/private-apps", nil, http.Header{"Authorization": {"Bearer " + sound("hubspot")["accessToken"]}}},
		{"twilio", "GET", "https://api.twilio.com/2010-04-01/Accounts/" + twilioSID + ".json", nil, http.Header{"Authorization": {basic(twilioSID + ":" + sound("twilio")["authToken"])}}},
		{"twilio", "GET", "https://api.twilio.com/2010-04-01/Accounts/" + twilioSID + ".json", pair, http.Header{"Authorization": {basic("SK1:s3cr3t-0123")}}},
		{"zendesk", "GET", "https://acme.zendesk.com/api/v2/users.json?per_page=1", map[string]string{"subdomain": "acme", "oauthToken": "0a1b2c3d4e"}, http.Header{"Authorization": {"Bearer 0a1b2c3d4e"}}},
		{"zendesk", "GET", "https://acme.zendesk.com/api/v2/users.json?per_page=1", map[string]string{"subdomain": "acme", "email": "a@example.com", "oauthToken": "0a1b2c3d4e"}, http.Header{"Authorization": {"Bearer 0a1b2c3d4e"}}},
	} {
		fields := test.fields
		if fields == nil {
			fields = sound(test.service)
		}
		in := prepare(t, test.service, fields)
		r, err := service(t, test.service).Probe(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		if r.Method != test.method || r.URL.String() != test.url {
			t.Errorf("%s is asked by %s %s", test.service, r.Method, r.URL)
		}
		h := http.Header{}
		in.Apply(h)
		if diff := cmp.Diff(test.want, h); diff != "" {
			t.Errorf("%s: %s", test.service, diff)
		}
		if r.Header.Get("Accept") == "" || r.Header.Get("User-Agent") == "" {
			t.Errorf("%s is asked with %v", test.service, r.Header)
		}
		for _, secret := range in.ExposeSecretValues() {
			if strings.Contains(r.URL.String(), secret) {
				t.Errorf("%s: a secret is in the URL", test.service)
			}
		}
	}
	// Chat goes elsewhere than the question whose the token is.
	if got := prepare(t, "huggingface", sound("huggingface")).Origin().String(); got != "https://router.huggingface.co" {
		t.Errorf("Hugging Face chats at %s", got)
	}
	// Moved as a whole, the question too.
	moved := newCatalog(t, catalog.Options{ServiceHosts: map[string]string{"huggingface": "http://127.0.0.1:1/hf"}})
	s, _ := moved.Service("huggingface")
	in, err := s.Prepare(sound("huggingface"))
	if err != nil {
		t.Fatal(err)
	}
	if r, err := s.Probe(t.Context(), in); err != nil || r.URL.String() != "http://127.0.0.1:1/hf/api/whoami-v2" {
		t.Errorf("asked %v, %v", r.URL, err)
	}
}

// A field that holds a host holds one of the provider's, however it is written.
func TestEndpoint(t *testing.T) {
	azure := service(t, "azure-openai")
	for value, origin := range map[string]string{
		"https://acme.openai.azure.com/":                           "https://acme.openai.azure.com",
		"https://acme.openai.azure.com":                            "https://acme.openai.azure.com",
		"acme.openai.azure.com":                                    "https://acme.openai.azure.com",
		"https://acme-2.cognitiveservices.azure.com/":              "https://acme-2.cognitiveservices.azure.com",
		"https://acme.services.ai.azure.com":                       "https://acme.services.ai.azure.com",
		"https://eastus.api.cognitive.microsoft.com/":              "https://eastus.api.cognitive.microsoft.com",
		"https://acme.openai.azure.us":                             "https://acme.openai.azure.us",
		"http://acme.openai.azure.com":                             "",
		"https://acme.openai.azure.com.evil.example":               "",
		"https://evil.example/.openai.azure.com":                   "",
		"https://evil.example#.openai.azure.com":                   "",
		"https://evil.example?.openai.azure.com":                   "",
		"https://user@acme.openai.azure.com":                       "",
		"https://acme.openai.azure.com:8443":                       "",
		"https://acme.openai.azure.com/x":                          "",
		"https://a.b.openai.azure.com":                             "",
		"https://.openai.azure.com":                                "",
		"https://-.openai.azure.com":                               "",
		"https://ACME.openai.Azure.com":                            "https://acme.openai.azure.com",
		"https://openai.azure.com":                                 "",
		"https://169.254.169.254":                                  "",
		"https://" + strings.Repeat("a", 64) + ".openai.azure.com": "",
	} {
		in, err := azure.Prepare(map[string]string{"endpoint": value, "apiKey": "0123456789"})
		if (err == nil) != (origin != "") {
			t.Errorf("%q: %v", value, err)
			continue
		}
		if err == nil && in.Origin().String() != origin {
			t.Errorf("%q goes to %s", value, in.Origin())
		}
		if err != nil && strings.Contains(err.Error(), "evil") {
			t.Errorf("the error echoes the value: %v", err)
		}
	}
}

// GitHub Enterprise Server: only what the operator allows, and nobody is told what that is.
func TestBaseURL(t *testing.T) {
	c := newCatalog(t, catalog.Options{GitHubHosts: []string{"https://ghe.corp.example", " http://git.internal:8080/git "}})
	if got := c.OperatorOrigins(); !slices.Equal(got, []string{"http://git.internal:8080", "https://ghe.corp.example"}) {
		t.Errorf("past the guard: %v", got)
	}
	allowing, _ := c.Service("github")
	for value, origin := range map[string]string{
		"https://ghe.corp.example":              "https://ghe.corp.example/api/v3",
		"https://GHE.corp.example/":             "https://ghe.corp.example/api/v3",
		"https://ghe.corp.example/api/v3":       "https://ghe.corp.example/api/v3",
		"http://git.internal:8080/git":          "http://git.internal:8080/git/api/v3",
		"https://api.github.com":                "https://api.github.com",
		"http://ghe.corp.example":               "",
		"https://ghe.corp.example:8443":         "",
		"https://ghe.corp.example.evil.example": "",
		"https://u@ghe.corp.example":            "",
		"https://ghe.corp.example/other":        "",
		"http://git.internal:8080":              "",
		"https://github.com":                    "",
		"http://169.254.169.254":                "",
	} {
		fields := map[string]string{"token": "ghp_0123456789", "baseUrl": value}
		in, err := allowing.Prepare(fields)
		if (err == nil) != (origin != "") {
			t.Errorf("%q: %v", value, err)
			continue
		}
		if err == nil && in.Origin().String() != origin {
			t.Errorf("%q goes to %s", value, in.Origin())
		}
		if err != nil && (strings.Contains(err.Error(), "corp") || strings.Contains(err.Error(), "internal")) {
			t.Errorf("the error says where: %v", err)
		}
		// Without an operator's word there is only github.com.
		if _, err := service(t, "github").Prepare(fields); (err == nil) != (origin == "https://api.github.com") {
			t.Errorf("%q without the operator: %v", value, err)
		}
	}
	if _, err := catalog.New(catalog.Options{GitHubHosts: []string{"https://fine.example", "ftp://hunter2"}}); err == nil ||
		!strings.Contains(err.Error(), "GITHUB_HOSTS: entry 2:") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%v", err)
	}
}

func TestAlternatives(t *testing.T) {
	for _, test := range []struct {
		service string
		fields  map[string]string
		want    []catalog.Problem
	}{
		{"twilio", map[string]string{"accountSid": "AC1", "authToken": "0123456789"}, nil},
		{"twilio", map[string]string{"accountSid": "AC1", "apiKeySid": "SK1", "apiKeySecret": "0123456789"}, nil},
		{"twilio", map[string]string{"accountSid": "AC1", "apiKeySid": "SK1", "authToken": "0123456789"}, nil},
		{"twilio", map[string]string{"accountSid": "AC1"}, []catalog.Problem{{Message: "there must be apiKeySid and apiKeySecret, or authToken"}}},
		{"twilio", map[string]string{"accountSid": "AC1", "apiKeySecret": "0123456789"}, []catalog.Problem{
			{Field: "apiKeySid", Message: "is required with the other fields given; there must be apiKeySid and apiKeySecret, or authToken"}}},
		{"twilio", map[string]string{"authToken": "0123456789"}, []catalog.Problem{{Field: "accountSid", Message: "is required"}}},
		{"twilio", map[string]string{"accountSid": "../AC1", "authToken": "0123456789"}, []catalog.Problem{
			{Field: "accountSid", Message: "must be letters, digits, hyphens and underscores only"}}},
		{"zendesk", map[string]string{"subdomain": "acme", "oauthToken": "0123456789"}, nil},
		{"zendesk", map[string]string{"subdomain": "acme", "email": "a@example.com"}, []catalog.Problem{
			{Field: "apiToken", Message: "is required with the other fields given; there must be email and apiToken, or oauthToken"}}},
	} {
		problems, _ := service(t, test.service).Check(test.fields)
		if diff := cmp.Diff(test.want, problems); diff != "" {
			t.Errorf("%s %v: %s", test.service, test.fields, diff)
		}
	}
}
