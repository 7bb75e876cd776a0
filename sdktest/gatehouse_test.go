package sdktest

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/stripe/stripe-go/v83"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
	"github.com/gatehouse-io/gatehouse/vault"
)

// through points at a Gatehouse in front of the fake, with the fake's key stored for the organization. route is what
// stands between Gatehouse's address and the provider's own path.
func through(t *testing.T, fake *gatehousetest.Provider, service, field, route string) (target, *instancetest.Server) {
	t.Helper()
	s := instancetest.Serve(t, map[string]string{
		"SERVICE_HOSTS": service + "=" + fake.URL, "GATEHOUSE_LISTEN_STRIPE": "127.0.0.1:0", "CHAT_IP_LIMIT": "10000/1m", "CHAT_ORG_LIMIT": "10000/1m",
	})
	store(t, s, service, field, fake.Key())
	return target{baseURL: s.URL + route, key: s.Token(t, "acme", "u_1", access.Developer), fake: fake}, s
}

func store(t *testing.T, s *instancetest.Server, service, field, key string) {
	t.Helper()
	caller := access.NewCaller("acme", access.User, "u_1", access.Developer)
	if err := s.Orgs.Admit(t.Context(), caller); err != nil {
		t.Fatal(err)
	}
	// Reading files is no inference: a credential of a service that chats takes it where its scope says so.
	all := vault.Bounds{Scope: &catalog.Scope{Paths: []string{"/**"}}}
	n := vault.NewCredential{Service: service, Fields: map[string]string{field: key}, Bounds: all}
	if _, _, err := s.Vault.Create(t.Context(), caller, n); err != nil {
		t.Fatal(err)
	}
}

func TestOpenAIThroughGatehouse(t *testing.T) {
	t.Parallel()
	fake := gatehousetest.OpenAI(t, gatehousetest.Reply(openAIReply), gatehousetest.Items(3))
	at, s := through(t, fake, "openai", "apiKey", "/api/chat/openai/v1/")
	testOpenAI(t, at)
	neverUpstream(t, at, s)
}

func TestAnthropicThroughGatehouse(t *testing.T) {
	t.Parallel()
	fake := gatehousetest.Anthropic(t, gatehousetest.Reply(anthropicReply), gatehousetest.Items(7))
	at, s := through(t, fake, "anthropic", "apiKey", "/api/chat/anthropic/")
	testAnthropic(t, at)
	neverUpstream(t, at, s)
}

func TestStripeThroughGatehouse(t *testing.T) {
	t.Parallel()
	fake := gatehousetest.Stripe(t, gatehousetest.Items(7))
	at, s := through(t, fake, "stripe", "secretKey", "")
	at.baseURL = s.ServiceURLs["stripe"] // stripe-go takes no path in its base URL
	testStripe(t, at)
	neverUpstream(t, at, s)
}

// neverUpstream checks that the caller's token reached the provider in no request, and the key no log line.
func neverUpstream(t *testing.T, at target, s *instancetest.Server) {
	t.Helper()
	for _, r := range at.fake.Requests() {
		for name, values := range r.Header {
			if strings.Contains(strings.Join(values, " "), at.key) {
				t.Errorf("the caller's token went upstream in %s", name)
			}
		}
	}
	if logs := s.Logs.String(); strings.Contains(logs, at.fake.Key()) || strings.Contains(logs, at.key) {
		t.Error("a log line holds the key or the token")
	}
}

// TestOwnErrorsAsSDKsReadThem shows that what Gatehouse itself refuses arrives in a program as the error it is.
func TestOwnErrorsAsSDKsReadThem(t *testing.T) {
	t.Parallel()
	fake := gatehousetest.OpenAI(t)
	s := instancetest.Serve(t, map[string]string{"SERVICE_HOSTS": "openai=" + fake.URL, "CHAT_IP_LIMIT": "2/1h", "AUTH_FAILURE_LIMIT": "1000/1m", "GATEHOUSE_LISTEN_STRIPE": "127.0.0.1:0"})
	token := s.Token(t, "acme", "u_1", access.Developer)

	askOpenAI := func(key string) *openai.Error {
		client := openai.NewClient(option.WithBaseURL(s.URL+"/api/chat/openai/v1/"), option.WithAPIKey(key), option.WithMaxRetries(0))
		_, err := client.Models.Get(t.Context(), "gpt-fake-0")
		var apiErr *openai.Error
		if !errors.As(err, &apiErr) {
			t.Fatalf("not an API error: %v", err)
		}
		return apiErr
	}
	askAnthropic := func(key string) *anthropic.Error {
		client := anthropic.NewClient(anthropicoption.WithBaseURL(s.URL+"/api/chat/anthropic/"), anthropicoption.WithAPIKey(key), anthropicoption.WithMaxRetries(0))
		_, err := client.Models.Get(t.Context(), "claude", anthropic.ModelGetParams{})
		var apiErr *anthropic.Error
		if !errors.As(err, &apiErr) {
			t.Fatalf("not an API error: %v", err)
		}
		return apiErr
	}
	askStripe := func(key string) *stripe.Error {
		client := stripe.NewClient(key, stripe.WithBackends(stripe.NewBackendsWithConfig(&stripe.BackendConfig{
			URL: stripe.String(s.ServiceURLs["stripe"]), MaxNetworkRetries: stripe.Int64(0),
			LeveledLogger: &stripe.LeveledLogger{Level: stripe.LevelNull},
		})))
		_, err := client.V1Customers.Retrieve(t.Context(), "cus_1", nil)
		var apiErr *stripe.Error
		if !errors.As(err, &apiErr) {
			t.Fatalf("not an API error: %v", err)
		}
		return apiErr
	}

	if e := askOpenAI("not-a-token"); e.StatusCode != http.StatusUnauthorized || e.Code != "token_invalid" || e.Type != "authentication_error" {
		t.Errorf("a bad token: %d %q %q", e.StatusCode, e.Code, e.Type)
	}
	if e := askAnthropic("not-a-token"); e.StatusCode != http.StatusUnauthorized {
		t.Errorf("a bad token: %d", e.StatusCode)
	}
	if e := askStripe("not-a-token"); e.HTTPStatusCode != http.StatusUnauthorized || e.Code != "token_invalid" {
		t.Errorf("a bad token: %d %q", e.HTTPStatusCode, e.Code)
	}
	if e := askOpenAI(token); e.StatusCode != http.StatusFailedDependency || e.Code != "credential_missing" || e.Message == "" {
		t.Errorf("no credential: %d %q %q", e.StatusCode, e.Code, e.Message)
	}
	if e := askStripe(token); e.HTTPStatusCode != http.StatusFailedDependency || e.Code != "credential_missing" {
		t.Errorf("no credential: %d %q", e.HTTPStatusCode, e.Code)
	}
	// Two requests passed the limit of two: from here on it denies.
	if e := askOpenAI(token); e.StatusCode != http.StatusTooManyRequests || e.Code != "rate_limit_exceeded" || e.Response.Header.Get("Retry-After") == "" {
		t.Errorf("over the limit: %d %q", e.StatusCode, e.Code)
	}
	if e := askAnthropic(token); e.StatusCode != http.StatusTooManyRequests || e.Response.Header.Get("Gatehouse-Error") != "rate_limit_exceeded" {
		t.Errorf("over the limit: %d", e.StatusCode)
	}
	if e := askStripe(token); e.HTTPStatusCode != http.StatusTooManyRequests || e.Code != "rate_limit_exceeded" {
		t.Errorf("over the limit: %d %q", e.HTTPStatusCode, e.Code)
	}
}
