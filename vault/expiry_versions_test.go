package vault_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/vault"
)

// TestExpiryGoesWithItsVersion: each version has the expiry that the provider
// told of it; the one that is active gives it to the credential.
func TestExpiryGoesWithItsVersion(t *testing.T) {
	t.Parallel()
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		first, second := "sk-or-v1-first0123456789", "sk-or-v1-second0123456789"
		fake := gatehousetest.Documented(t, "openrouter", gatehousetest.Key(first, second))
		fake.Always(gatehousetest.Handler(func(w http.ResponseWriter, r *http.Request) {
			day := "2090-01-01"
			if strings.HasSuffix(r.Header.Get("Authorization"), second) {
				day = "2091-01-01"
			}
			fmt.Fprintf(w, `{"data":{"limit":null,"expires_at":"%sT00:00:00Z"}}`, day)
		}))
		s := instancetest.Serve(t, map[string]string{"DATABASE_URL": url, "SERVICE_HOSTS": "openrouter=" + fake.URL})
		owner := access.NewCaller("acme", access.User, "u_1", access.Owner)
		if err := s.Orgs.Admit(t.Context(), owner); err != nil {
			t.Fatal(err)
		}
		c, _, err := s.Vault.Create(t.Context(), owner, vault.NewCredential{Service: "openrouter", Fields: map[string]string{"apiKey": first}})
		if err != nil {
			t.Fatal(err)
		}
		expires := func(step, want string) {
			t.Helper()
			got, err := s.Vault.Get(t.Context(), owner, c.ID)
			if err != nil {
				t.Fatal(err)
			}
			if at := got.ExpiresAt.Format(time.DateOnly); at != want {
				t.Errorf("%s: expires %s, want %s", step, at, want)
			}
		}
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		_, err = s.Vault.TestStored(t.Context(), owner, c.ID)
		must(err)
		expires("tested", "2090-01-01")

		_, staged, _, err := s.Vault.Stage(t.Context(), owner, c.ID, store.Match{}, map[string]string{"apiKey": second}, "")
		must(err)
		expires("staged", "2090-01-01")
		_, err = s.Vault.TestVersion(t.Context(), owner, c.ID, staged.Number)
		must(err)
		expires("the staged one tested", "2090-01-01")
		_, err = s.Vault.Activate(t.Context(), owner, c.ID, store.Match{}, staged.Number, vault.Activation{Grace: time.Hour})
		must(err)
		expires("activated", "2091-01-01")
		_, err = s.Vault.RollBack(t.Context(), owner, c.ID, store.Match{}, vault.Rollback{})
		must(err)
		expires("rolled back", "2090-01-01")

		own := time.Date(2090, 6, 1, 0, 0, 0, 0, time.UTC)
		_, _, err = s.Vault.Update(t.Context(), owner, c.ID, store.Match{}, vault.Change{ExpiresAt: &own})
		must(err)
		expires("set by a person", "2090-06-01")
		_, err = s.Vault.TestStored(t.Context(), owner, c.ID)
		must(err)
		expires("the provider's is earlier", "2090-01-01")
		_, err = s.Vault.RollBack(t.Context(), owner, c.ID, store.Match{}, vault.Rollback{})
		must(err)
		expires("the person's is earlier than the other version's", "2090-06-01")
		_, _, err = s.Vault.Rotate(t.Context(), owner, c.ID, store.Match{}, vault.Rotation{Fields: map[string]string{"apiKey": first}})
		must(err)
		expires("rotated", "2090-06-01")
		never := time.Time{}
		_, _, err = s.Vault.Update(t.Context(), owner, c.ID, store.Match{}, vault.Change{ExpiresAt: &never})
		must(err)
		expires("taken away", "0001-01-01")
	})
}
