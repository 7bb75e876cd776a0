package main_test

import (
	"database/sql"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/auth"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
)

// startKilled runs the program and gives its address and the function that
// kills it as `kill -9` does.
func startKilled(t *testing.T, program string, environ []string) (address string, kill func()) {
	t.Helper()
	cmd := exec.Command(program, "serve")
	cmd.Env = environ
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // it was killed
	})
	t.Cleanup(kill)
	return listening(t, log), kill
}

// TestKilledInTheMiddle kills a server while a message is on its way to a
// webhook and a stored key is being tested: the next one sends the message and
// finds that the key has died.
func TestKilledInTheMiddle(t *testing.T) {
	t.Parallel()
	program := program(t)
	fake := gatehousetest.OpenAI(t)
	var mu sync.Mutex
	hang, arriving := true, make(chan struct{}, 10)
	verified := map[string]string{} // by type, the webhook-id
	var secret string
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		mu.Lock()
		hanging := hang
		mu.Unlock()
		if hanging {
			arriving <- struct{}{}
			<-r.Context().Done()
			return
		}
		mu.Lock()
		defer mu.Unlock()
		var m struct{ Type string }
		wh, err := standardwebhooks.NewWebhook(secret)
		if err == nil && wh.Verify(body, r.Header) == nil && json.Unmarshal(body, &m) == nil {
			verified[m.Type] = r.Header.Get("webhook-id")
		}
	}))
	defer receiver.Close()

	data := t.TempDir()
	environ := []string{"PATH=" + os.Getenv("PATH"), "GATEHOUSE_ADDR=127.0.0.1:0", "GATEHOUSE_DATA=" + data, "GATEHOUSE_ENV=test",
		"JWT_SECRET=" + gatehousetest.JWTSecret, "ENCRYPTION_KEY=" + gatehousetest.EncryptionKey, "ORGANIZATIONS_FROM_TOKENS=true",
		"SERVICE_HOSTS=openai=" + fake.URL, "WEBHOOK_HOSTS=" + receiver.URL, "CREDENTIAL_TEST_EVERY=1s"}
	token, err := auth.Sign([]byte(gatehousetest.JWTSecret), access.NewCaller("acme", access.User, "u_1", access.Owner), "", "", time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	address, kill := startKilled(t, program, environ)
	c := api.Client{BaseURL: address, Token: token}
	hook, err := c.CreateWebhook(t.Context(), api.WebhookInput{URL: receiver.URL + "/in"})
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	secret = hook.Secret
	mu.Unlock()
	probed := make(chan struct{})
	fake.Next(gatehousetest.Announce(probed, gatehousetest.Silent()))
	if _, err := c.CreateCredential(t.Context(), api.CredentialCreate{Service: "openai", Credentials: map[string]string{"apiKey": fake.Key()}}); err != nil {
		t.Fatal(err)
	}
	<-probed
	sent, err := c.TestWebhook(t.Context(), hook.ID)
	if err != nil {
		t.Fatal(err)
	}
	<-arriving
	kill()

	// The leases end, as they do by themselves after a while.
	db, err := sql.Open("sqlite", filepath.Join(data, "gatehouse.db"))
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{`UPDATE webhook_deliveries SET next_at = 1 WHERE status = 'pending'`, `UPDATE credentials SET test_due_at = 1 WHERE test_due_at > 0`} {
		result, err := db.ExecContext(t.Context(), statement)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := result.RowsAffected(); n != 1 || err != nil {
			t.Errorf("%s: %d rows, %v", statement, n, err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	hang = false
	mu.Unlock()
	fake.SetKeys("sk-another-0123456789abcdef")
	c.BaseURL, _ = startKilled(t, program, environ)
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		mu.Lock()
		test, failed := verified["webhook.test"], verified["credential.test_failed"]
		mu.Unlock()
		if test == sent.MessageID && failed != "" {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("after the restart the receiver got %v", verified)
		}
	}
	health, err := c.GetCredentialHealth(t.Context(), nil)
	if err != nil || health.Summary.Findings["test_failed"] != 1 || len(health.Credentials) != 1 ||
		!slices.ContainsFunc(health.Credentials[0].Findings, func(f api.CredentialFinding) bool { return f.Kind == "test_failed" && f.Result == "invalid" }) {
		t.Errorf("%+v, %v", health, err)
	}
}
