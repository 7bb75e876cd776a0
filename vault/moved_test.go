package vault_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// TestSecretsDoNotMove tries, with the right to change a credential but not to
// reveal it, to have the stored secret sent to another host.
func TestSecretsDoNotMove(t *testing.T) {
	s := instancetest.Serve(t, nil)
	c := api.Client{BaseURL: s.URL, Token: s.Token(t, "acme", "u_1", access.Developer)}
	made, err := c.CreateCredential(t.Context(), api.CredentialCreate{Service: "smtp", Credentials: map[string]string{
		"host": "smtp.example.com", "port": "587", "user": "mailer", "pass": "a long enough password"}})
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := "smtp.attacker.example"
	refused := func(what string, err error) {
		t.Helper()
		var answer *api.CallError
		if !errors.As(err, &answer) || answer.Status != 422 || len(answer.Errors) != 1 || answer.Errors[0].Field != "credentials.pass" {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err = c.UpdateCredential(t.Context(), made.ID, api.CredentialUpdate{Credentials: map[string]*string{"host": &elsewhere}})
	refused("a change of the host", err)
	_, err = c.RotateCredential(t.Context(), made.ID, api.CredentialRotate{Credentials: map[string]string{"host": elsewhere}})
	refused("a rotation of the host", err)

	same, user := "smtp.example.com", "other"
	if _, err := c.UpdateCredential(t.Context(), made.ID, api.CredentialUpdate{Credentials: map[string]*string{"host": &same, "user": &user}}); err != nil {
		t.Errorf("the same host again: %v", err)
	}
	moved := map[string]string{"host": elsewhere, "pass": "its own, also long enough"}
	if _, err := c.RotateCredential(t.Context(), made.ID, api.CredentialRotate{Credentials: moved}); err != nil {
		t.Errorf("another host with its own secret: %v", err)
	}
}

// TestNewValuesStartAfresh rotates a credential that was tested and has
// expired: neither the old test nor the old expiry is the new values'.
func TestNewValuesStartAfresh(t *testing.T) {
	fake := gatehousetest.Stripe(t)
	s := instancetest.Serve(t, map[string]string{"SERVICE_HOSTS": "stripe=" + fake.URL})
	c := api.Client{BaseURL: s.URL, Token: s.Token(t, "acme", "u_1", access.Developer)}
	soon := time.Now().Add(time.Second)
	made, err := c.CreateCredential(t.Context(), api.CredentialCreate{Service: "stripe", ExpiresAt: api.At(soon),
		Credentials: map[string]string{"secretKey": "sk_test_" + strings.Repeat("a", 24)}})
	if err != nil {
		t.Fatal(err)
	}
	if result, err := c.TestStoredCredential(t.Context(), made.ID); err != nil || result.Result != "invalid" {
		t.Fatalf("%+v, %v", result, err)
	}
	time.Sleep(time.Until(soon) + 10*time.Millisecond)
	fresh, err := c.RotateCredential(t.Context(), made.ID, api.CredentialRotate{Credentials: map[string]string{"secretKey": fake.Key()}})
	if err != nil || fresh.Status != "active" || fresh.ExpiresAt != nil || fresh.LastTest != nil {
		t.Errorf("%+v, %v", fresh, err)
	}
}
