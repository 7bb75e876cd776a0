package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// TestTesters asks each provider's fake about stored and unstored credentials
// and gets the results that the provider's documented answers mean.
func TestTesters(t *testing.T) {
	openai, anthropic, stripe := gatehousetest.OpenAI(t), gatehousetest.Anthropic(t), gatehousetest.Stripe(t)
	zendesk, intercom := gatehousetest.Zendesk(t), gatehousetest.Intercom(t)
	s := instancetest.Serve(t, map[string]string{
		"SERVICE_HOSTS": fmt.Sprintf("openai=%s,anthropic=%s,stripe=%s,zendesk=%s,intercom=%s",
			openai.URL, anthropic.URL, stripe.URL, zendesk.URL, intercom.URL),
		"CREDENTIAL_TEST_LIMIT": "1000/1m",
	})
	c := as(t, s, "acme", "u1", access.Developer)
	const wrong = "sk-wrong-0123456789abcdefghij"
	zendeskFields := func(token string) map[string]string {
		return map[string]string{"subdomain": "acme", "email": "agent@example.com", "apiToken": token}
	}
	tests := []struct {
		name    string
		fake    *gatehousetest.Provider
		next    gatehousetest.Behaviour
		service string
		fields  map[string]string
		want    string
	}{
		{"openai", openai, nil, "openai", map[string]string{"apiKey": openai.Key()}, "valid"},
		{"openai, wrong", openai, nil, "openai", map[string]string{"apiKey": wrong}, "invalid"},
		{"openai, 401 for a missing scope", openai, gatehousetest.MissingScope("api.model.read"), "openai", map[string]string{"apiKey": openai.Key()}, "restricted"},
		{"openai, 429", openai, gatehousetest.RateLimited(0), "openai", map[string]string{"apiKey": openai.Key()}, "indeterminate"},
		{"openai, 500", openai, gatehousetest.ServerError(), "openai", map[string]string{"apiKey": openai.Key()}, "indeterminate"},
		{"openai, garbage", openai, gatehousetest.Garbage(), "openai", map[string]string{"apiKey": openai.Key()}, "indeterminate"},
		{"openai, a redirect", openai, gatehousetest.Redirect("http://169.254.169.254/"), "openai", map[string]string{"apiKey": openai.Key()}, "indeterminate"},
		{"anthropic", anthropic, nil, "anthropic", map[string]string{"apiKey": anthropic.Key()}, "valid"},
		{"anthropic, wrong", anthropic, nil, "anthropic", map[string]string{"apiKey": wrong}, "invalid"},
		{"stripe", stripe, nil, "stripe", map[string]string{"secretKey": stripe.Key()}, "valid"},
		{"stripe, wrong", stripe, nil, "stripe", map[string]string{"secretKey": wrong}, "invalid"},
		{"stripe, 403", stripe, gatehousetest.MissingScope("rak_charge_read"), "stripe", map[string]string{"secretKey": stripe.Key()}, "restricted"},
		{"zendesk, wrong", zendesk, nil, "zendesk", zendeskFields(wrong), "invalid"},
		{"zendesk, no such subdomain", zendesk, gatehousetest.NotFound(), "zendesk", zendeskFields(zendesk.Key()), "misconfigured"},
		{"intercom", intercom, nil, "intercom", map[string]string{"accessToken": intercom.Key()}, "valid"},
		{"intercom, wrong region", intercom, nil, "intercom", map[string]string{"accessToken": intercom.Key(), "region": "eu"}, "misconfigured"},
		{"intercom, wrong", intercom, nil, "intercom", map[string]string{"accessToken": wrong}, "invalid"},
	}
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if test.next != nil {
				test.fake.Next(test.next)
			}
			direct := c.json("POST", credentialsPath+"/test", api.CredentialTest{Service: test.service, Credentials: test.fields})
			got := decode[api.TestResult](t, direct, http.StatusOK)
			if got.Result != test.want || got.Service != test.service || got.Detail == "" && test.want != "valid" {
				t.Errorf("%+v, want %s", got, test.want)
			}
			for _, value := range test.fields {
				if len(value) > 8 && strings.Contains(direct.Body, value) {
					t.Error("the answer holds a value")
				}
			}
			if test.next != nil {
				test.fake.Next(test.next)
			}
			id := c.store(test.service, test.fields, "name", fmt.Sprint("test ", i))
			stored := decode[api.TestResult](t, c.do("POST", credentialsPath+"/"+id+"/test", ""), http.StatusOK)
			if stored.Result != test.want {
				t.Errorf("stored: %+v, want %s", stored, test.want)
			}
			kept := decode[api.Credential](t, c.get(credentialsPath+"/"+id), http.StatusOK)
			if kept.LastTest == nil || kept.LastTest.Result != test.want || kept.LastTest.TestedAt == nil {
				t.Errorf("kept: %+v", kept.LastTest)
			}
		})
	}

	// Each test is in the trail, what was not valid as a failure.
	owner := as(t, s, "acme", "u2", access.Owner)
	events := owner.events("action", "credential.test")
	if len(events) != 2*len(tests) {
		t.Errorf("%d tests in the trail, want %d", len(events), 2*len(tests))
	}
	for _, e := range events {
		if (e.Outcome == "success") != (e.Metadata["result"] == "valid") {
			t.Errorf("a test with the result %v is a %s", e.Metadata["result"], e.Outcome)
		}
	}
}

// TestTestersAreLimited shows that testing is no oracle without an end: the
// limit is the organization's, whoever asks.
func TestTestersAreLimited(t *testing.T) {
	fake := gatehousetest.Stripe(t)
	s := instancetest.Serve(t, map[string]string{"SERVICE_HOSTS": "stripe=" + fake.URL, "CREDENTIAL_TEST_LIMIT": "3/1h"})
	test := func(organization, sub string) answer {
		return as(t, s, organization, sub, access.Developer).json("POST", credentialsPath+"/test",
			api.CredentialTest{Service: "stripe", Credentials: map[string]string{"secretKey": fake.Key()}})
	}
	for i := range 3 {
		if a := test("acme", fmt.Sprint("u", i)); a.Status != http.StatusOK {
			t.Fatalf("test %d: %d %s", i, a.Status, a.Body)
		}
	}
	a := test("acme", "u9")
	if a.Status != http.StatusTooManyRequests || a.Header.Get("Retry-After") == "" || !strings.Contains(a.Body, "test_limit_exceeded") {
		t.Errorf("the fourth: %d %s", a.Status, a.Body)
	}
	if n := len(fake.Requests()); n != 3 {
		t.Errorf("the provider was asked %d times, want 3", n)
	}
	if a := test("other", "u1"); a.Status != http.StatusOK {
		t.Errorf("another organization: %d", a.Status)
	}
}

// TestTestersGoNowhereElse tries to make the tester call a private address.
func TestTestersGoNowhereElse(t *testing.T) {
	s := instancetest.Serve(t, nil)
	c := as(t, s, "acme", "u1", access.Developer)
	for _, fields := range []map[string]string{
		{"host": "127.0.0.1", "port": "25", "user": "u", "pass": "long-enough-password"},
		{"host": "169.254.169.254", "port": "587", "user": "u", "pass": "long-enough-password"},
		{"host": "localhost", "port": "465", "user": "u", "pass": "long-enough-password"},
	} {
		a := c.json("POST", credentialsPath+"/test", api.CredentialTest{Service: "smtp", Credentials: fields})
		if got := decode[api.TestResult](t, a, http.StatusOK); got.Result != "misconfigured" {
			t.Errorf("%s: %+v", fields["host"], got)
		}
	}
	for _, subdomain := range []string{"a.evil.example", "x/", "127.0.0.1:80#", "evil@host", ""} {
		a := c.json("POST", credentialsPath+"/test", api.CredentialTest{Service: "zendesk",
			Credentials: map[string]string{"subdomain": subdomain, "email": "a@example.com", "apiToken": "0123456789012345678901234567890123456789"}})
		if a.Status != http.StatusUnprocessableEntity {
			t.Errorf("%q: %d %s", subdomain, a.Status, a.Body)
		}
	}
}
