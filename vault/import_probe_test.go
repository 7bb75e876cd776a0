package vault_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/vault"
)

// TestImportWithTest tries keys at their providers before they are stored.
func TestImportWithTest(t *testing.T) {
	t.Parallel()
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		gitHub := gatehousetest.Documented(t, "github", gatehousetest.Key("ghp_canary0123456789"))
		stripe, slack := gatehousetest.Stripe(t), gatehousetest.Documented(t, "slack", gatehousetest.Key("xoxb-canary-0123456789"))
		groq := gatehousetest.Documented(t, "groq", gatehousetest.Key("gsk_canary0123456789"))
		groq.Always(gatehousetest.RateLimited(time.Second))
		s := instancetest.Serve(t, map[string]string{"DATABASE_URL": url, "CREDENTIAL_REVEAL": "true",
			"SERVICE_HOSTS": fmt.Sprintf("github=%s,stripe=%s,slack=%s,groq=%s", gitHub.URL, stripe.URL, slack.URL, groq.URL)})
		owner := access.NewCaller("acme", access.User, "u_1", access.Owner)
		if err := s.Orgs.Admit(t.Context(), owner); err != nil {
			t.Fatal(err)
		}
		variables := map[string]string{
			"GITHUB_TOKEN": "ghp_canary0123456789", "STRIPE_SECRET_KEY": "sk_test_canaryrevoked0123456789",
			"SLACK_BOT_TOKEN": "xoxb-canary-0123456789", "GROQ_API_KEY": "gsk_canary0123456789",
		}
		run := func(opts vault.ImportOptions) map[string]string {
			t.Helper()
			opts.Variables, opts.Test = variables, true
			report, err := s.Vault.Import(t.Context(), owner, opts)
			if err != nil {
				t.Fatal(err)
			}
			if text := fmt.Sprintf("%+v", report); strings.Contains(text, "canary") {
				t.Errorf("the report holds a value: %s", text)
			}
			got := make(map[string]string)
			for _, s := range present(report) {
				got[s.Service] = string(s.Result)
				if s.Test != nil {
					got[s.Service] += " " + string(s.Test.Result)
				}
			}
			return got
		}
		credentials := func() map[string]vault.Credential {
			t.Helper()
			page, err := s.Vault.List(t.Context(), owner, vault.Filter{})
			if err != nil {
				t.Fatal(err)
			}
			all := make(map[string]vault.Credential)
			for _, c := range page.Credentials {
				all[c.Service] = c
			}
			return all
		}

		want := map[string]string{"github": "imported valid", "stripe": "refused invalid", "slack": "imported valid", "groq": "imported indeterminate"}
		if diff := cmp.Diff(want, run(vault.ImportOptions{DryRun: true})); diff != "" {
			t.Errorf("dry run: %s", diff)
		}
		if n := len(credentials()); n != 0 {
			t.Errorf("the dry run stored %d", n)
		}
		if diff := cmp.Diff(want, run(vault.ImportOptions{})); diff != "" {
			t.Errorf("first run: %s", diff)
		}
		stored := credentials()
		if len(stored) != 3 || stored["stripe"].ID != "" {
			t.Errorf("%d stored", len(stored))
		}
		if c := stored["github"]; c.ExpiresAt.Year() != 2099 || !strings.Contains(string(c.LastTest), `"result":"valid"`) {
			t.Errorf("github expires %v, last test %s", c.ExpiresAt, c.LastTest)
		}
		if c := stored["groq"]; !strings.Contains(string(c.LastTest), `"result":"indeterminate"`) || !c.ExpiresAt.IsZero() {
			t.Errorf("groq: %s", c.LastTest)
		}
		asked := len(gitHub.Requests())
		want = map[string]string{"github": "same", "stripe": "refused invalid", "slack": "same", "groq": "same"}
		if diff := cmp.Diff(want, run(vault.ImportOptions{})); diff != "" {
			t.Errorf("second run: %s", diff)
		}
		if diff := cmp.Diff(stored, credentials(), cmp.AllowUnexported(vault.Credential{})); diff != "" {
			t.Errorf("the second run changed something: %s", diff)
		}
		if n := len(gitHub.Requests()); n != asked {
			t.Error("a stored key was tried again")
		}
		if err := s.Audit.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		page, err := s.Audit.Events(t.Context(), owner, audit.Filter{Action: string(audit.CredentialTest)})
		if err != nil || len(page.Events) != 9 { // 4 in the dry run, 4 in the first, stripe again in the second
			t.Errorf("%d tests in the trail, %v; want 9", len(page.Events), err)
		}

		// Who may not test may not import with tests either.
		noTest := access.NewCaller("acme", access.User, "u_2", access.Viewer)
		if _, err := s.Vault.Import(t.Context(), noTest, vault.ImportOptions{Variables: variables, Test: true}); err == nil {
			t.Errorf("a viewer imports: %v", err)
		}
	})
}

// TestExpiryFollowsTheProvider: a test that says nothing
// changes no date, and the provider's own goes when it takes it back.
func TestExpiryFollowsTheProvider(t *testing.T) {
	t.Parallel()
	fake := gatehousetest.Documented(t, "openrouter", gatehousetest.Key("sk-or-v1-0123456789abcdef"))
	s := instancetest.Serve(t, map[string]string{"SERVICE_HOSTS": "openrouter=" + fake.URL})
	owner := access.NewCaller("acme", access.User, "u_1", access.Owner)
	if err := s.Orgs.Admit(t.Context(), owner); err != nil {
		t.Fatal(err)
	}
	c, _, err := s.Vault.Create(t.Context(), owner, vault.NewCredential{Service: "openrouter", Fields: map[string]string{"apiKey": "sk-or-v1-0123456789abcdef"}})
	if err != nil {
		t.Fatal(err)
	}
	saying := func(expires string) gatehousetest.Behaviour {
		return gatehousetest.Handler(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"data":{"limit":null,"expires_at":%s}}`, expires)
		})
	}
	for i, step := range []struct {
		answer gatehousetest.Behaviour
		own    string // set by a person before the test; "never" takes it away
		want   string
	}{
		{answer: saying(`"2090-01-01T00:00:00Z"`), want: "2090-01-01"},
		{answer: saying(`"2091-01-01T00:00:00Z"`), want: "2091-01-01"},                    // its next word
		{answer: gatehousetest.ServerError(), want: "2091-01-01"},                         // nothing is learnt
		{answer: gatehousetest.InvalidKey(), want: "2091-01-01"},                          // of a key that is dead neither
		{answer: saying(`null`), want: "0001-01-01"},                                      // taken back
		{answer: saying(`"2001-01-01T00:00:00Z"`), want: "0001-01-01"},                    // a key that works has not expired
		{answer: saying(`"2092-01-01T00:00:00Z"`), own: "2095-01-01", want: "2092-01-01"}, // the earlier counts
		{answer: saying(`"2099-01-01T00:00:00Z"`), want: "2095-01-01"},                    // never past the person's
		{answer: saying(`"2092-01-01T00:00:00Z"`), want: "2092-01-01"},
		{answer: gatehousetest.ServerError(), want: "2092-01-01"},
		{answer: saying(`null`), want: "2095-01-01"}, // the person's is back
		{answer: saying(`"2092-01-01T00:00:00Z"`), own: "2080-01-01", want: "2080-01-01"},
		{answer: saying(`"2092-01-01T00:00:00Z"`), own: "never", want: "2092-01-01"},
	} {
		if step.own != "" {
			at, _ := time.Parse(time.DateOnly, step.own) // "never" is the zero time
			if _, _, err := s.Vault.Update(t.Context(), owner, c.ID, store.Match{}, vault.Change{ExpiresAt: &at}); err != nil {
				t.Fatal(err)
			}
		}
		before, err := s.Vault.Get(t.Context(), owner, c.ID)
		if err != nil {
			t.Fatal(err)
		}
		fake.Next(step.answer)
		if _, err := s.Vault.TestStored(t.Context(), owner, c.ID); err != nil {
			t.Fatal(err)
		}
		after, err := s.Vault.Get(t.Context(), owner, c.ID)
		if err != nil {
			t.Fatal(err)
		}
		if got := after.ExpiresAt.Format(time.DateOnly); got != step.want {
			t.Errorf("step %d: expires %s, want %s", i, got, step.want)
		}
		if changed := !before.ExpiresAt.Equal(after.ExpiresAt); (after.Revision > before.Revision) != changed {
			t.Errorf("step %d: revision %d after %d, changed %v", i, after.Revision, before.Revision, changed)
		}
	}
}
