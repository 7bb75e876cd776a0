package instance_test

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// TestDatabaseGoesAwayInTheMiddle cuts a running server off from its
// PostgreSQL and lets it back: what was open goes on, what would change is
// refused, and no visit is missing from the trail in the end.
func TestDatabaseGoesAwayInTheMiddle(t *testing.T) {
	link := gatehousetest.NewLink(t, gatehousetest.Postgres(t))
	fake := gatehousetest.OpenAI(t)
	s := instancetest.Serve(t, map[string]string{"DATABASE_URL": link.URL, "SERVICE_HOSTS": "openai=" + fake.URL, "GATEHOUSE_METRICS_ADDR": "127.0.0.1:0"})
	c := api.Client{BaseURL: s.URL, Token: s.Token(t, "acme", "u_1", access.Owner)}
	ctx := t.Context()
	get := func(path string) int {
		t.Helper()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+c.Token)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		return answer.StatusCode
	}
	sealing := func(failing string) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
			answer, err := http.Get(s.ServiceURLs["metrics"] + "/metrics")
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(answer.Body)
			_ = answer.Body.Close()
			if err != nil || strings.Contains(string(text), "gatehouse_audit_sealing_failing "+failing+"\n") {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("gatehouse_audit_sealing_failing does not become %s", failing)
			}
		}
	}
	const models = "/api/chat/openai/v1/models"
	create := api.CredentialCreate{Service: "openai", Credentials: map[string]string{"apiKey": fake.Key()}}
	if _, err := c.CreateCredential(ctx, create); err != nil {
		t.Fatal(err)
	}
	if status := get(models); status != http.StatusOK {
		t.Fatalf("with everything there: %d", status)
	}

	link.Cut()
	if status := get(models); status != http.StatusOK {
		t.Errorf("a credential that is open is not used while the database is away: %d", status)
	}
	var refused *api.CallError
	create.Name = "second"
	if _, err := c.CreateCredential(ctx, create); !errors.As(err, &refused) || refused.Status != http.StatusServiceUnavailable ||
		refused.Code != "database_unavailable" || refused.RetryAfter == 0 {
		t.Errorf("a change while the database is away: %v", err)
	}
	stranger := c
	stranger.Token = s.Token(t, "acme", "u_2", access.Owner) // nothing is known of this member
	if _, err := stranger.GetRateLimit(ctx); !errors.As(err, &refused) || refused.Status != http.StatusServiceUnavailable {
		t.Errorf("a member that nothing is known of: %v", err)
	}
	if status := get("/readyz"); status != http.StatusServiceUnavailable {
		t.Errorf("/readyz while the database is away: %d", status)
	}
	if status := get("/healthz"); status != http.StatusOK {
		t.Errorf("/healthz while the database is away: %d", status)
	}

	sealing("1") // which the database cannot say of itself

	link.Mend()
	sealing("0")
	var events api.EventList
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		var err error
		events, err = c.ListEvents(ctx, url.Values{"action": {"chat.request"}})
		if err == nil && len(events.Events) == 2 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d visits in the trail after the database came back, want 2; %v", len(events.Events), err)
		}
	}
	all, err := c.ListCredentials(ctx, nil)
	if err != nil || len(all.Credentials) != 1 {
		t.Errorf("%d credentials, %v; want the one that was acknowledged", len(all.Credentials), err)
	}
	if status := get("/readyz"); status != http.StatusOK {
		t.Errorf("/readyz after the database came back: %d", status)
	}
	if strings.Contains(s.Logs.String(), fake.Key()) {
		t.Error("a log line holds the key")
	}
}
