package vault_test

import (
	"context"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"github.com/gatehouse-io/gatehouse/vault"
)

// TestPlaceholders asks [vault.Vault.Import] what it takes for a value.
func TestPlaceholders(t *testing.T) {
	t.Parallel()
	i := newImporting(t, filepath.Join(t.TempDir(), "g.db"))
	placeholder := func(t testing.TB, variable, value string) bool {
		report, err := i.Import(context.Background(), i.owner, vault.ImportOptions{Variables: map[string]string{variable: value}, DryRun: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range report.Services {
			if len(s.Placeholders) > 0 {
				return true
			}
		}
		return report.Count(vault.ImportAbsent) == len(report.Services)
	}
	for variable, values := range map[string][]string{
		"OPENAI_API_KEY": {"", "  ", "your_openai_api_key_here", "YOUR_API_KEY", "your-key", "sk-your-key-here", "sk-...", "sk-proj-...", "sk-xxxx",
			"sk-xxxxxxxxxxxxxxxxxxxx", "sk-12...cd", "xxxx", "XXX", "****", "<your key>", "<OPENAI_API_KEY>", "<redacted>", "${OPENAI_API_KEY}", "{{ openai_key }}",
			"[your key]", "changeme", "change-me", "CHANGE_ME", "change-this-in-production", "placeholder", "sk-placeholder", "sk_test_placeholder", "dummy",
			"dummy-key", "fake_key", "example", "sk-example", "todo", "TBD", "none", "null", "insert_key_here", "paste-your-token-here", "api-key-goes-here",
			"replace_me", "replace-with-your-key", "my-api-key", "secret", "api_key", "sk-", "sk_test_", "-", "...", "\u2026"},
		"SMTP_PASS":         {"password", "your_password", "changeme", "<password>", "********", "change it"},
		"ZENDESK_SUBDOMAIN": {"your-subdomain", "yourcompany", "your_company", "example", "<subdomain>", "xxx"},
		"ZENDESK_EMAIL":     {"your-email@example.com", "you@yourdomain.com", "your@email.com", "<email>"},
	} {
		for _, value := range values {
			if !placeholder(t, variable, value) {
				t.Errorf("%s=%q is not taken for a placeholder", variable, value)
			}
		}
	}
	for variable, values := range map[string][]string{
		"OPENAI_API_KEY": {"sk-try-0123456789abcdefghij", "sk-proj-a1B2c3D4e5F6g7H8i9J0", "0123456789abcdef", "not-a-usual-form", "k3y", "sk-svcacct-here-1a2b3c4d",
			"xx-1a2b3c", "eyJhbGciOiJIUzI1NiJ9.e30.abc"},
		"SMTP_PASS": {"hunter2", "correct horse battery staple", "your horse wears 2 staples", "<Hunter2>", "[abc]", "pa$$w0rd!", "key!#%&/()=", "пароль-key",
			"p", "x", "xx", "Passw0rd", "ChangeMe123", "key-123", "a...b", "$ecret", "${abc}", "exchange-it-42", "SG.aaaaaaaa.bbbb"},
		"SMTP_USER":         {"apikey", "user@example.org", "mail@example.com", "resend", "test"},
		"SMTP_HOST":         {"smtp.example.com", "localhost", "mail.here.com", "mailhog"},
		"ZENDESK_SUBDOMAIN": {"acme", "yourside", "your-story", "x", "todo", "todo-app", "key", "placeholderhq"},
		"ZENDESK_EMAIL":     {"agent@example.com", "user@example.org", "you@example.com", "todo@acme.io"},
		"OPENAI_MODEL":      {"gpt-4o", "o1", "model"},
	} {
		for _, value := range values {
			if placeholder(t, variable, value) {
				t.Errorf("%s=%q is taken for a placeholder", variable, value)
			}
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		variable := rapid.SampledFrom([]string{"OPENAI_API_KEY", "STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET", "ZENDESK_API_TOKEN", "INTERCOM_ACCESS_TOKEN"}).Draw(rt, "variable")
		prefix := rapid.SampledFrom([]string{"", "sk-", "sk-proj-", "sk_test_", "rk_live_", "whsec_", "dG9r"}).Draw(rt, "prefix")
		// rapid likes the first letters of a class, which no generator of keys does.
		random := rapid.StringMatching(`([0-9A-WYZa-wyz][0-9][0-9A-Za-z_-]){6,20}`).Draw(rt, "random")
		if placeholder(t, variable, prefix+random) {
			rt.Fatalf("%s=%q is taken for a placeholder", variable, prefix+random)
		}
	})
}
