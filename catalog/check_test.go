package catalog_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/gatehouse-io/gatehouse/catalog"
)

func TestCheckValues(t *testing.T) {
	for _, test := range []struct {
		service, field, value string
		says                  string // part of the problem; "" when it passes
	}{
		{"openai", "apiKey", openAIKey, ""},
		{"openai", "apiKey", "", "empty"},
		{"openai", "apiKey", strings.Repeat("a", 1025), "at most 1024"},
		{"openai", "apiKey", strings.Repeat("a", 1024), ""},
		{"openai", "apiKey", " " + openAIKey, "start or end"},
		{"openai", "apiKey", openAIKey + "\n", "start or end"},
		{"openai", "apiKey", openAIKey + "\u00a0", "start or end"},
		{"openai", "apiKey", "sk-a\r\nX-Evil: 1", "line breaks"},
		{"openai", "apiKey", "sk-a\x00b", "invisible"},
		{"openai", "apiKey", "sk-a\u200bb", "invisible"},
		{"openai", "apiKey", "sk-a\ufeffb", "invisible"},
		{"openai", "apiKey", "Bearer " + openAIKey, "Bearer"},
		{"openai", "apiKey", "sk-ключ", "ASCII"},
		{"openai", "apiKey", "sk-\xff\xfe", "UTF-8"},
		{"openai", "apiKey", "sk-…abcd", "masked"},
		{"openai", "apiKey", "sk-***abcd", "masked"},
		{"openai", "apiKey", "••••abcd", "masked"},
		{"openai", "apiKey", "•abcd", "masked"},
		{"openai", "model", "ft:gpt-4o:acme::1", ""},
		{"zendesk", "subdomain", "acme-2", ""},
		{"zendesk", "subdomain", "2acme", ""},
		{"zendesk", "subdomain", "-acme", "one part"},
		{"zendesk", "subdomain", "acme-", "one part"},
		{"zendesk", "subdomain", "Acme", "one part"},
		{"zendesk", "subdomain", "acme.zendesk.com", "one part"},
		{"zendesk", "subdomain", "acme/evil", "one part"},
		{"zendesk", "subdomain", "evil.com#", "one part"},
		{"zendesk", "subdomain", "evil@acme", "one part"},
		{"zendesk", "subdomain", "a_b", ""},
		{"zendesk", "subdomain", "a_b.c", "one part"},
		{"zendesk", "subdomain", strings.Repeat("a", 64), "at most 63"},
		{"zendesk", "email", "o'brien+desk@mail.example.com", ""},
		{"zendesk", "email", "agent@example.com/token", "email"},
		{"zendesk", "email", "agent", "email"},
		{"zendesk", "email", "agent@localhost", "email"},
		{"zendesk", "email", "a:b@example.com", "email"},
		{"zendesk", "email", "Agent <agent@example.com>", "email"},
		{"zendesk", "email", "a@b@example.com", "email"},
		{"intercom", "region", "au", ""},
		{"intercom", "region", "EU", "us, eu, au"},
		{"intercom", "region", "cn", "us, eu, au"},
		{"smtp", "host", "smtp.example.com", ""},
		{"smtp", "host", "192.0.2.1", ""},
		{"smtp", "host", "2001:db8::1", ""},
		{"smtp", "host", "smtp.example.com:587", "host name"},
		{"smtp", "host", "smtp://example.com", "host name"},
		{"smtp", "host", "a..b", "host name"},
		{"smtp", "port", "465", ""},
		{"smtp", "port", "1", ""},
		{"smtp", "port", "65535", ""},
		{"smtp", "port", "0", "1 to 65535"},
		{"smtp", "port", "65536", "1 to 65535"},
		{"smtp", "port", "100000", "1 to 65535"},
		{"smtp", "port", "0587", "1 to 65535"},
		{"smtp", "port", "+587", "1 to 65535"},
		{"smtp", "port", "smtp", "1 to 65535"},
		{"smtp", "pass", "pass word ünïcode ***", ""},
		{"smtp", "pass", "********", "masked"},
		{"smtp", "pass", "pa*****d", "masked"},
		{"smtp", "pass", "p\u2029q", "invisible"},
	} {
		fields := sound(test.service)
		fields[test.field] = test.value
		problems, _ := service(t, test.service).Check(fields)
		switch {
		case test.says == "" && len(problems) == 0:
		case test.says != "" && len(problems) == 1 && problems[0].Field == test.field && strings.Contains(problems[0].Message, test.says):
		default:
			t.Errorf("%s.%s = %q: %v, want %q", test.service, test.field, test.value, problems, test.says)
		}
	}
}

func TestCheckNames(t *testing.T) {
	zendesk := service(t, "zendesk")
	problems, _ := zendesk.Check(map[string]string{"subdomain": "acme", "hunter2": "x", "hunter3": "y"})
	want := []catalog.Problem{
		{Message: "2 fields are not known; zendesk takes subdomain, email, apiToken, oauthToken"},
		{Message: "there must be email and apiToken, or oauthToken"},
	}
	if diff := cmp.Diff(want, problems); diff != "" {
		t.Error(diff)
	}
	if problems := zendesk.CheckNames([]string{"email", "subdomain"}); problems != nil {
		t.Errorf("known names: %v", problems)
	}
	if problems := service(t, "echo").CheckNames([]string{"apiKey"}); len(problems) != 1 {
		t.Errorf("echo takes a field: %v", problems)
	}
}

// A provider may change the form of its keys on any day.
func TestUnusualFormWarnsAndPasses(t *testing.T) {
	for name, field := range map[string]string{
		"openai": "apiKey", "anthropic": "apiKey", "stripe": "secretKey", "zendesk": "apiToken", "intercom": "accessToken",
		"gemini": "apiKey", "cohere": "apiKey", "groq": "apiKey", "xai": "apiKey", "deepseek": "apiKey", "openrouter": "apiKey",
		"huggingface": "accessToken", "perplexity": "apiKey", "replicate": "apiToken", "slack": "botToken", "github": "token",
		"sendgrid": "apiKey", "hubspot": "accessToken", "twilio": "authToken",
	} {
		fields := sound(name)
		fields[field] = "new.kind-of-key_1"
		problems, warnings := service(t, name).Check(fields)
		if len(problems) != 0 || len(warnings) != 1 || warnings[0].Field != field {
			t.Errorf("%s: problems %v, warnings %v", name, problems, warnings)
		}
	}
	mail := sound("smtp")
	mail["port"] = "2526"
	if problems, warnings := service(t, "smtp").Check(mail); len(problems) != 0 || len(warnings) != 1 || warnings[0].Field != "port" {
		t.Errorf("port of mail: problems %v, warnings %v", problems, warnings)
	}
}

func TestCheckEchoesNothing(t *testing.T) {
	names := append([]string{"local"}, every...)
	rapid.Check(t, func(t *rapid.T) {
		s := services(names)[rapid.SampledFrom(names).Draw(t, "service")]
		fields := map[string]string{}
		var drawn []string
		for _, f := range s.Fields {
			if v := rapid.String().Draw(t, f.Name); rapid.Bool().Draw(t, "give") {
				fields[f.Name] = v
				drawn = append(drawn, v)
			}
		}
		unknown := rapid.StringN(6, 40, -1).Draw(t, "unknown")
		fields[unknown] = "x"
		problems, warnings := s.Check(fields)
		for _, p := range append(problems, warnings...) {
			for _, v := range append(drawn, unknown) {
				// Short strings are in any sentence by chance.
				if len(v) > 5 && strings.Contains(p.Field+p.Message, v) {
					t.Fatalf("%q holds %q", p, v)
				}
			}
		}
		// What passes can be put on a request, and the other way round.
		if s.Injectable() {
			if _, err := s.Prepare(fields); (err == nil) != (len(problems) == 0) {
				t.Fatalf("problems %v, but Prepare says %v", problems, err)
			}
		}
	})
}

func services(names []string) map[string]*catalog.Service {
	c, err := catalog.New(catalog.Options{ChatHosts: map[string]string{"local": "http://127.0.0.1:8000"}})
	if err != nil {
		panic(err)
	}
	out := map[string]*catalog.Service{}
	for _, n := range names {
		out[n], _ = c.Service(n)
	}
	return out
}

func TestMask(t *testing.T) {
	for _, test := range []struct{ service, field, value, want string }{
		{"openai", "apiKey", openAIKey, "••••0000"},
		{"openai", "apiKey", "12345678901", "••••"},
		{"openai", "apiKey", "123456789012", "••••12"},
		{"openai", "apiKey", "123456789012345678", "••••678"},
		{"openai", "apiKey", "", "••••"},
		{"openai", "apiKey", strings.Repeat("é", 20), "••••"},
		{"openai", "nobody", openAIKey, "••••"},
		{"smtp", "pass", "correct horse battery staple", "••••"},
		{"smtp", "user", "mailer@notify.example.com", "••••.com"},
		{"zendesk", "subdomain", "acme", "••••"},
	} {
		if got := service(t, test.service).Mask(test.field, test.value); got != test.want {
			t.Errorf("Mask(%s, %q) = %q, want %q", test.field, test.value, got, test.want)
		}
	}
}

func TestMaskGivesAwayLittleAndIsNeverSaved(t *testing.T) {
	names := append([]string{"local"}, every...)
	all := services(names)
	rapid.Check(t, func(t *rapid.T) {
		s := all[rapid.SampledFrom(names).Draw(t, "service")]
		f := rapid.SampledFrom(s.Fields).Draw(t, "field")
		value := rapid.OneOf(rapid.String(), rapid.StringMatching(`[!-~]{0,80}`)).Draw(t, "value")
		mask := s.Mask(f.Name, value)
		shown, ok := strings.CutPrefix(mask, "••••")
		if !ok || len(shown) > 4 || len(shown)*6 > len(value) || len(value) < 12 && shown != "" {
			t.Fatalf("Mask(%q) = %q", value, mask)
		}
		fields := sound(s.Name)
		fields[f.Name] = mask
		if problems, _ := s.Check(fields); len(problems) == 0 {
			t.Fatalf("the mask %q of %s passes as a value", mask, f.Name)
		}
	})
}
