package catalog_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/catalog"
)

func newCatalog(t testing.TB, o catalog.Options) *catalog.Catalog {
	t.Helper()
	c, err := catalog.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func service(t testing.TB, name string) *catalog.Service {
	t.Helper()
	s, ok := newCatalog(t, catalog.Options{
		Echo:      true,
		ChatHosts: map[string]string{"local": "http://127.0.0.1:8000"},
	}).Service(name)
	if !ok {
		t.Fatalf("no service %s", name)
	}
	return s
}

func TestServices(t *testing.T) {
	c := newCatalog(t, catalog.Options{Echo: true, ChatHosts: map[string]string{"local": "http://127.0.0.1:8000"}})
	type row struct {
		Name                          string
		Chat, Injectable, NeedsSecret bool
	}
	var got []row
	for _, s := range c.Services() {
		got = append(got, row{s.Name, s.Chat, s.Injectable(), s.NeedsCredential()})
	}
	want := []row{
		{"anthropic", true, true, true},
		{"azure-openai", true, true, true},
		{"codestral", true, true, true},
		{"cohere", true, true, true},
		{"deepseek", true, true, true},
		{"echo", true, false, false},
		{"gemini", true, true, true},
		{"github", false, true, true},
		{"groq", true, true, true},
		{"hubspot", false, true, true},
		{"huggingface", true, true, true},
		{"intercom", false, true, true},
		{"local", true, true, true},
		{"mistral", true, true, true},
		{"openai", true, true, true},
		{"openrouter", true, true, true},
		{"perplexity", true, true, true},
		{"replicate", false, true, true},
		{"sendgrid", false, true, true},
		{"slack", false, true, true},
		{"smtp", false, false, true},
		{"stripe", false, true, true},
		{"twilio", false, true, true},
		{"xai", true, true, true},
		{"zendesk", false, true, true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, ok := newCatalog(t, catalog.Options{}).Service("echo"); ok {
		t.Error("echo is there without being asked for")
	}
	if _, ok := c.Service("app"); ok {
		t.Error("app is a route, not a service")
	}
}

// What a form, an importer and a storage limit rely on.
func TestEveryFieldIsWholeAndSoundValuesPass(t *testing.T) {
	env := map[string]bool{}
	for _, s := range newCatalog(t, catalog.Options{Echo: true, ChatHosts: map[string]string{"local": "http://h"}}).Services() {
		for _, f := range s.Fields {
			if f.Name == "" || f.Title == "" || f.Description == "" || f.MaxLength <= 0 || len(f.Env) == 0 {
				t.Errorf("%s.%s lacks a part", s.Name, f.Name)
			}
			for _, e := range f.Env {
				if env[e] {
					t.Errorf("%s: %s is read by two fields", s.Name, e)
				}
				env[e] = true
			}
		}
		if !s.NeedsCredential() {
			continue
		}
		problems, warnings := s.Check(sound(s.Name))
		if len(problems)+len(warnings) > 0 {
			t.Errorf("%s: sound fields: %v %v", s.Name, problems, warnings)
		}
	}
}

func TestEnvironmentOfImport(t *testing.T) {
	c := newCatalog(t, catalog.Options{ChatHosts: map[string]string{"my-llm": "http://h"}})
	for env, place := range map[string][2]string{
		"OPENAI_API_KEY": {"openai", "apiKey"}, "OPENAI_MODEL": {"openai", "model"},
		"OPENAI_ORG_ID": {"openai", "organization"}, "OPENAI_PROJECT_ID": {"openai", "project"},
		"ANTHROPIC_API_KEY": {"anthropic", "apiKey"},
		"STRIPE_SECRET_KEY": {"stripe", "secretKey"}, "STRIPE_PUBLISHABLE_KEY": {"stripe", "publishableKey"},
		"STRIPE_WEBHOOK_SECRET": {"stripe", "webhookSecret"},
		"ZENDESK_SUBDOMAIN":     {"zendesk", "subdomain"}, "ZENDESK_EMAIL": {"zendesk", "email"}, "ZENDESK_API_TOKEN": {"zendesk", "apiToken"},
		"INTERCOM_ACCESS_TOKEN": {"intercom", "accessToken"},
		"SMTP_HOST":             {"smtp", "host"}, "SMTP_PORT": {"smtp", "port"}, "SMTP_USER": {"smtp", "user"}, "SMTP_PASS": {"smtp", "pass"},
		"GEMINI_API_KEY": {"gemini", "apiKey"}, "AZURE_OPENAI_ENDPOINT": {"azure-openai", "endpoint"},
		"AZURE_OPENAI_API_KEY": {"azure-openai", "apiKey"}, "AZURE_OPENAI_API_VERSION": {"azure-openai", "apiVersion"},
		"MISTRAL_API_KEY": {"mistral", "apiKey"}, "CODESTRAL_API_KEY": {"codestral", "apiKey"},
		"COHERE_API_KEY": {"cohere", "apiKey"}, "GROQ_API_KEY": {"groq", "apiKey"}, "XAI_API_KEY": {"xai", "apiKey"},
		"DEEPSEEK_API_KEY": {"deepseek", "apiKey"}, "OPENROUTER_API_KEY": {"openrouter", "apiKey"},
		"HF_TOKEN": {"huggingface", "accessToken"}, "PERPLEXITY_API_KEY": {"perplexity", "apiKey"},
		"REPLICATE_API_TOKEN": {"replicate", "apiToken"}, "SLACK_BOT_TOKEN": {"slack", "botToken"},
		"SLACK_SIGNING_SECRET": {"slack", "signingSecret"}, "GITHUB_TOKEN": {"github", "token"},
		"SENDGRID_API_KEY": {"sendgrid", "apiKey"}, "HUBSPOT_ACCESS_TOKEN": {"hubspot", "accessToken"},
		"TWILIO_ACCOUNT_SID": {"twilio", "accountSid"}, "TWILIO_AUTH_TOKEN": {"twilio", "authToken"},
		"TWILIO_API_KEY_SID": {"twilio", "apiKeySid"}, "TWILIO_API_KEY_SECRET": {"twilio", "apiKeySecret"},
		"ZENDESK_OAUTH_TOKEN": {"zendesk", "oauthToken"},
		"MY_LLM_API_KEY":      {"my-llm", "apiKey"},
	} {
		s, ok := c.Service(place[0])
		if !ok {
			t.Fatalf("no service %s", place[0])
		}
		f, ok := s.Field(place[1])
		if !ok || f.Env[0] != env {
			t.Errorf("%s is not read first for %s.%s", env, place[0], place[1])
		}
	}
}

func TestOperatorOrigins(t *testing.T) {
	c := newCatalog(t, catalog.Options{
		ChatHosts:    map[string]string{"local": "http://127.0.0.1:8000/v1", "other": "http://127.0.0.1:8000"},
		ServiceHosts: map[string]string{"stripe": "http://LOCALHOST:12111/", "zendesk": "https://[::1]:8443/zd"},
	})
	want := []string{"http://127.0.0.1:8000", "http://localhost:12111", "https://[::1]:8443"}
	if diff := cmp.Diff(want, c.OperatorOrigins()); diff != "" {
		t.Error(diff)
	}
	for name, origin := range map[string]string{
		"local": "http://127.0.0.1:8000/v1", "stripe": "http://localhost:12111",
		"zendesk": "https://[::1]:8443/zd", "openai": "https://api.openai.com",
	} {
		s, _ := c.Service(name)
		in, err := s.Prepare(sound(name))
		if err != nil {
			t.Fatal(err)
		}
		if got := in.Origin().String(); got != origin {
			t.Errorf("%s goes to %s, want %s", name, got, origin)
		}
	}
}

func TestNewListsEveryMistakeAndEchoesNone(t *testing.T) {
	_, err := catalog.New(catalog.Options{
		ChatHosts: map[string]string{
			"openai":     "http://h",
			"echo":       "http://h",
			"app":        "http://h",
			"Bad Name":   "http://h",
			"user":       "http://root:hunter2@h",
			"scheme":     "ftp://hunter2",
			"query":      "http://h?key=hunter2",
			"fragment":   "http://h#hunter2",
			"nohost":     "http://",
			"dots":       "http://h/../hunter2",
			"encoded":    "http://h/%2e%2e/hunter2",
			"port":       "http://h:0",
			"hugeport":   "http://h:70000",
			"emptyport":  "http://h:",
			"space":      "http://h unter2",
			"opaque":     "http:hunter2",
			"zone":       "http://[fe80::1%25eth0]",
			"underscore": "http://my_host", // fine: container networks have such names
		},
		ServiceHosts: map[string]string{"nobody": "http://h", "smtp": "http://h", "stripe": "hunter2"},
	})
	if err == nil {
		t.Fatal("no error")
	}
	text := err.Error()
	if strings.Contains(text, "hunter2") || strings.Contains(text, "Bad Name") {
		t.Errorf("the error echoes a value:\n%s", text)
	}
	if got := strings.Count(text, "CHAT_HOSTS: "); got != 17 {
		t.Errorf("%d mistakes of CHAT_HOSTS, want 17:\n%s", got, text)
	}
	if got := strings.Count(text, "SERVICE_HOSTS: "); got != 3 {
		t.Errorf("%d mistakes of SERVICE_HOSTS, want 3:\n%s", got, text)
	}
	for _, entry := range []string{`"openai"`, `"echo"`, `"app"`, `"user"`, `"zone"`, `"nobody"`, `"smtp"`, `"stripe"`} {
		if !strings.Contains(text, "entry "+entry) {
			t.Errorf("entry %s is not named", entry)
		}
	}
	if strings.Contains(text, "underscore:") {
		t.Error("a container's name is refused")
	}
}

func TestParseHosts(t *testing.T) {
	for _, test := range []struct {
		in   string
		want map[string]string // nil: an error
	}{
		{"", map[string]string{}},
		{"  ", map[string]string{}},
		{"local=http://127.0.0.1:8000", map[string]string{"local": "http://127.0.0.1:8000"}},
		{" a=http://h , b=https://h/v1 ", map[string]string{"a": "http://h", "b": "https://h/v1"}},
		{"a=http://h,", nil},
		{"a", nil},
		{"a=", nil},
		{"=http://h", nil},
		{"A=http://h", nil},
		{"-a=http://h", nil},
		{strings.Repeat("a", 33) + "=http://h", nil},
		{"a=http://h,a=http://g", nil},
		{"a=http://user:hunter2@h", nil},
		{"a=http://h?x=hunter2", nil},
	} {
		got, err := catalog.ParseHosts(test.in)
		if (err == nil) != (test.want != nil) {
			t.Errorf("ParseHosts(%q): error %v", test.in, err)
			continue
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error echoes a value: %v", err)
		}
		if diff := cmp.Diff(test.want, got); test.want != nil && diff != "" {
			t.Errorf("ParseHosts(%q): %s", test.in, diff)
		}
	}
	read, err := catalog.ParseHosts("a,b=http://h,C=http://h")
	if diff := cmp.Diff(map[string]string{"b": "http://h"}, read); diff != "" {
		t.Errorf("beside two mistakes: %s", diff)
	}
	if err == nil || !strings.Contains(err.Error(), "entry 1:") || !strings.Contains(err.Error(), "entry 3:") {
		t.Errorf("not every mistake is named: %v", err)
	}
}

func FuzzParseHosts(f *testing.F) {
	f.Add("local=http://127.0.0.1:8000,other=https://example.com/v1")
	f.Add("a=http://[::1]:80/")
	f.Fuzz(func(t *testing.T, s string) {
		hosts, err := catalog.ParseHosts(s)
		if err != nil {
			return
		}
		// What parses makes a catalogue, except for names that are taken, and
		// injects to exactly one place without user, query or fragment.
		for _, name := range append(every, "echo", "app") {
			delete(hosts, name)
		}
		c, err := catalog.New(catalog.Options{ChatHosts: hosts})
		if err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		for name := range hosts {
			service, _ := c.Service(name)
			in, err := service.Prepare(map[string]string{"apiKey": "k"})
			if err != nil {
				t.Fatalf("%q: %v", s, err)
			}
			u := in.Origin()
			if u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Contains(u.Path, "..") || strings.HasSuffix(u.Path, "/") {
				t.Errorf("%q makes the origin %q", s, u)
			}
		}
	})
}

// Providers are called as the OpenTelemetry conventions call them, where these know them.
func TestGenAIProvider(t *testing.T) {
	for name, want := range map[string]string{
		"openai": "openai", "anthropic": "anthropic", "gemini": "gcp.gemini", "azure-openai": "azure.ai.openai", "mistral": "mistral_ai",
		"codestral": "mistral_ai", "xai": "x_ai", "local": "local",
	} {
		if got := service(t, name).GenAIProvider(); got != want {
			t.Errorf("%s is called %s", name, got)
		}
	}
}
