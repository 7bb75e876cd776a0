package vault_test

import (
	"testing"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// TestNothingToChange sends a change without anything in it: the state stays,
// and the trail tells of no change.
func TestNothingToChange(t *testing.T) {
	s := instancetest.Serve(t, nil)
	c := api.Client{BaseURL: s.URL, Token: s.Token(t, "acme", "u_1", access.Owner)}
	made, err := c.CreateCredential(t.Context(), api.CredentialCreate{Service: "openai", Credentials: map[string]string{"apiKey": "sk-0123456789abcdefghij"}})
	if err != nil {
		t.Fatal(err)
	}
	same, err := c.UpdateCredential(t.Context(), made.ID, api.CredentialUpdate{})
	if err != nil || same.Version != 1 || same.UpdatedAt.String() != made.UpdatedAt.String() {
		t.Errorf("%+v, %v", same, err)
	}
	events, err := c.ListEvents(t.Context(), map[string][]string{"action": {"credential.update"}})
	if err != nil || len(events.Events) != 0 {
		t.Errorf("%d changes in the trail, %v; want none", len(events.Events), err)
	}
}
