package server_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

const (
	webhooksPath = "/api/webhooks"
	healthPath   = credentialsPath + "/health"
)

// A webhook from its making to a replay, by the client, and the health report
// beside it. Neither gives a value away.
func TestWebhooksAndHealth(t *testing.T) {
	type received struct {
		header http.Header
		body   []byte
	}
	arrived := make(chan received, 10)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		arrived <- received{r.Header, body}
	}))
	defer receiver.Close()
	const key = "sk-0123456789abcdefghijklmn"
	fake := gatehousetest.OpenAI(t, gatehousetest.Key(key))
	s := instancetest.Serve(t, map[string]string{
		"WEBHOOK_HOSTS": receiver.URL, "CREDENTIAL_TEST_EVERY": "1s", "SERVICE_HOSTS": "openai=" + fake.URL, "GATEHOUSE_METRICS_ADDR": "127.0.0.1:0",
	})
	ctx := t.Context()
	c := api.Client{BaseURL: s.URL, Token: s.Token(t, "acme", "u1", access.Owner)}
	hook, err := c.CreateWebhook(ctx, api.WebhookInput{URL: receiver.URL + "/in", Events: []string{"credential.expiring", "credential.test_failed"}, Description: "ours"})
	if err != nil {
		t.Fatal(err)
	}
	next := func(typ string) received {
		t.Helper()
		select {
		case m := <-arrived:
			var body struct{ Type string }
			wh, err := standardwebhooks.NewWebhook(hook.Secret)
			if err != nil || wh.Verify(m.body, m.header) != nil || json.Unmarshal(m.body, &body) != nil || body.Type != typ {
				t.Fatalf("%s: %v", m.body, err)
			}
			if strings.Contains(string(m.body), key) || strings.Contains(string(m.body), key[len(key)-4:]) {
				t.Errorf("the message gives the key away: %s", m.body)
			}
			return m
		case <-time.After(30 * time.Second):
			t.Fatalf("no %s arrived", typ)
		}
		return received{}
	}
	if d, err := c.TestWebhook(ctx, hook.ID); err != nil || d.Status != "pending" {
		t.Fatal(d, err)
	}
	next("webhook.test")

	soon := api.Time(time.Now().Add(3 * 24 * time.Hour))
	created, err := c.CreateCredential(ctx, api.CredentialCreate{Service: "openai", Credentials: map[string]string{"apiKey": key}, ExpiresAt: &soon})
	if err != nil {
		t.Fatal(err)
	}
	first := next("credential.expiring")
	fake.SetKeys()
	next("credential.test_failed")

	page, err := c.ListWebhookDeliveries(ctx, hook.ID, url.Values{"status": {"delivered"}})
	for end := time.Now().Add(10 * time.Second); err == nil && len(page.Deliveries) < 3 && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		page, err = c.ListWebhookDeliveries(ctx, hook.ID, url.Values{"status": {"delivered"}}) // the answer is out before it is recorded
	}
	if err != nil || len(page.Deliveries) != 3 || page.Deliveries[2].Type != "webhook.test" || page.Deliveries[1].LastStatus != 200 {
		t.Fatalf("%+v, %v", page, err)
	}
	if _, err := c.ReplayWebhookDelivery(ctx, hook.ID, page.Deliveries[1].ID); err != nil {
		t.Fatal(err)
	}
	if again := next("credential.expiring"); again.header.Get("webhook-id") != first.header.Get("webhook-id") || string(again.body) != string(first.body) {
		t.Error("a replay is another message")
	}

	health, err := c.GetCredentialHealth(ctx, nil)
	if err != nil || health.Summary.Credentials != 1 || health.Summary.Healthy != 0 || len(health.Credentials) != 1 {
		t.Fatalf("%+v, %v", health, err)
	}
	if item := health.Credentials[0]; item.ID != created.ID || item.Status != "expiring" || len(item.Findings) != 2 || item.Findings[0].Kind != "expiring" ||
		item.Findings[0].Within != "7d" || item.Findings[1].Kind != "test_failed" || item.LastTest == nil || item.LastTest.Result != "invalid" {
		t.Errorf("%+v", item)
	}
	raw := as(t, s, "acme", "u1", access.Owner).get(healthPath)
	if raw.Status != 200 || strings.Contains(raw.Body, key[len(key)-4:]) || strings.Contains(raw.Body, "hint") {
		t.Errorf("%d %s", raw.Status, raw.Body)
	}
	if raw := as(t, s, "other", "u1", access.Owner).get(healthPath); strings.Contains(raw.Body, created.ID) {
		t.Errorf("another organization reads %s", raw.Body)
	}

	// The secret is shown twice only: when it is made and when it is renewed.
	list, err := c.ListWebhooks(ctx)
	if err != nil || len(list.Webhooks) != 1 || list.Webhooks[0].URL != receiver.URL+"/in" {
		t.Errorf("%+v, %v", list, err)
	}
	renewed, err := c.RotateWebhookSecret(ctx, hook.ID, api.WebhookRotate{})
	if err != nil || renewed.Secret == hook.Secret || !strings.HasPrefix(renewed.Secret, "whsec_") {
		t.Errorf("%+v, %v", renewed.Webhook, err)
	}
	owner := as(t, s, "acme", "u1", access.Owner)
	for _, path := range []string{webhooksPath, webhooksPath + "/" + hook.ID, webhooksPath + "/" + hook.ID + "/deliveries", eventsPath + "?limit=500"} {
		if a := owner.get(path); a.Status != 200 || strings.Contains(a.Body, "whsec_") || strings.Contains(a.Body, hook.Secret[6:]) {
			t.Errorf("%s: %d %s", path, a.Status, a.Body)
		}
	}
	metrics := (&client{t: t, url: s.ServiceURLs["metrics"], http: newHTTP(t)}).get("/metrics").Body
	for _, line := range []string{`gatehouse_webhook_attempts_total{outcome="delivered"} 4`, `gatehouse_credential_findings_total{kind="test_failed"} 1`, `gatehouse_credential_tests_total{result="invalid"}`} {
		if !strings.Contains(metrics, line) {
			t.Errorf("the metrics lack %s", line)
		}
	}
	in := hook.WebhookInput
	in.Disabled = true
	if w, err := c.UpdateWebhook(ctx, hook.ID, in); err != nil || !w.Disabled {
		t.Errorf("%+v, %v", w, err)
	}
	var refused *api.CallError
	if _, err := c.TestWebhook(ctx, hook.ID); !errors.As(err, &refused) || refused.Code != "webhook_disabled" {
		t.Errorf("a test of what is disabled: %v", err)
	}
	if err := c.DeleteWebhook(ctx, hook.ID); err != nil {
		t.Error(err)
	}
	if _, err := c.GetWebhook(ctx, hook.ID); !errors.As(err, &refused) || refused.Status != 404 {
		t.Errorf("a deleted webhook: %v", err)
	}
	s.Stop()
	if logs := s.Logs.String(); strings.Contains(logs, hook.Secret[6:]) || strings.Contains(logs, renewed.Secret[6:]) || strings.Contains(logs, key) {
		t.Error("a log line holds a secret")
	}
}

// What an attacker tries at the new routes.
func TestHostileWebhooks(t *testing.T) {
	s := instancetest.Serve(t, map[string]string{"CREDENTIAL_TEST_LIMIT": "3/1m"})
	owner, stranger := as(t, s, "acme", "u1", access.Owner), as(t, s, "other", "u1", access.Owner)
	made := owner.do("POST", webhooksPath, `{"url":"https://hooks.example.com/`+canary+`"}`)
	id := decode[api.WebhookWithSecret](t, made, 201).ID
	if strings.Contains(owner.get(eventsPath).Body, canary) {
		t.Error("the trail holds the path of a receiver")
	}
	for _, body := range []string{
		`{"url":"http://hooks.example.com/CANARY"}`, `{"url":"https://127.0.0.1/CANARY"}`, `{"url":"https://u:CANARY@example.com"}`, `{"url":7}`, `{"url":null}`, `{}`,
		`{"url":"https://example.com","secret":"whsec_CANARY"}`, `{"url":"https://example.com","events":["CANARY"]}`, `{"url":"https://example.com","events":"CANARY"}`,
		`{"url":"https://example.com","description":"` + strings.Repeat("CANARY", 100) + `"}`, `{"url":"https://example.com","url":"https://CANARY.example.com"}`,
		`{"url":"https://example.com/` + strings.Repeat("a", 9000) + `"}`, `[]`, ``, `{"url":"https://example.com","description":"\ud800"}`,
	} {
		for _, call := range [][2]string{{"POST", webhooksPath}, {"PUT", webhooksPath + "/" + id}} {
			a := owner.do(call[0], call[1], body)
			if a.Status < 400 || a.Status >= 500 || strings.Contains(a.Body, "CANARY") {
				t.Errorf("%s %.80s: %d %s", call[0], body, a.Status, a.Body)
			}
		}
	}
	for _, seconds := range []string{"-1", "604801", "99999999999999", `"1"`, "1.5"} {
		if a := owner.do("POST", webhooksPath+"/"+id+"/rotate", `{"overlapSeconds":`+seconds+`}`); a.Status != 422 {
			t.Errorf("an overlap of %s: %d %s", seconds, a.Status, a.Body)
		}
	}
	for _, call := range [][3]string{
		{"GET", "", ""}, {"PUT", "", `{"url":"https://evil.example.com"}`}, {"DELETE", "", ""}, {"POST", "/rotate", `{}`}, {"POST", "/test", ""},
		{"GET", "/deliveries", ""}, {"POST", "/deliveries/dlv_0197c3f2-0000-7000-8000-000000000000/replay", ""},
	} {
		checkProblem(t, stranger.do(call[0], webhooksPath+"/"+id+call[1], call[2]), 404, "webhook_not_found")
	}
	// A test makes a request to where the caller likes: it is limited.
	status := 0
	for range 4 {
		status = owner.do("POST", webhooksPath+"/"+id+"/test", "").Status
	}
	if status != 429 {
		t.Errorf("the fourth test within a minute: %d", status)
	}
	checkProblem(t, owner.do("PUT", webhooksPath+"/"+id, `{"url":"https://example.com"}`, "If-Match", `"99"`), 412, "webhook_changed")
	for _, query := range []string{"?finding=x", "?limit=201", "?cursor=x"} {
		if a := owner.get(healthPath + query); a.Status != 422 {
			t.Errorf("%s: %d", query, a.Status)
		}
	}
}
