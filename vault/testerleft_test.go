package vault_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
	"github.com/gatehouse-io/gatehouse/vault"
)

// TestATestThatIsLeftIsTold lets the caller leave while the provider has the
// key in its hands: the event is written all the same.
func TestATestThatIsLeftIsTold(t *testing.T) {
	fake := gatehousetest.Stripe(t)
	s := instancetest.Serve(t, map[string]string{"SERVICE_HOSTS": "stripe=" + fake.URL})
	caller := access.NewCaller("acme", access.User, "u_1", access.Owner)
	if err := s.Orgs.Admit(t.Context(), caller); err != nil {
		t.Fatal(err)
	}
	made, _, err := s.Vault.Create(t.Context(), caller, vault.NewCredential{Service: "stripe", Fields: map[string]string{"secretKey": fake.Key()}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, leave := context.WithCancel(t.Context())
	fake.Next(gatehousetest.Handler(func(w http.ResponseWriter, r *http.Request) {
		leave()
		<-r.Context().Done()
	}))
	if _, err := s.Vault.TestStored(ctx, caller, made.ID); err != nil {
		t.Errorf("the result is lost: %v", err)
	}
	page, err := s.Audit.Events(t.Context(), caller, audit.Filter{Action: string(audit.CredentialTest)})
	if err != nil || len(page.Events) != 1 {
		t.Errorf("%d tests in the trail, %v; want 1", len(page.Events), err)
	}
}
