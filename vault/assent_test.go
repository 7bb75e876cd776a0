package vault_test

import (
	"errors"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/vault"
)

// asSent gives the credential that a client's name asks for.
func (h *house) asSent(t testing.TB, caller access.Caller, name string) (id string, err error) {
	t.Helper()
	s, _ := h.services.Service("openai")
	opened, err := h.OpenAsSent(t.Context(), caller, s, name)
	return opened.ID, err
}

func (h *house) means(t testing.TB, name, id string, want error) {
	t.Helper()
	if got, err := h.asSent(t, owner, name); got != id || !errors.Is(err, want) {
		t.Errorf("%q as sent: %q, %v; want %q, %v", name, got, err, id, want)
	}
}

// A name that is sent encoded is kept as any other: a change by this instance holds at once,
// and one by another within Fresh.
func TestEncodedNames(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		h := newHouse(t, url, vault.Options{})
		there := h.beside(t, url, vault.Options{})
		office := h.create(t, owner, openai("Büro", apiKey))
		h.means(t, "Büro", office.ID, nil)
		h.means(t, "B%C3%BCro", office.ID, nil)
		h.means(t, "%42%c3%bcro", office.ID, nil)
		h.uses(t, "B%C3%BCro", "", vault.ErrNoneNamed) // not as sent
		for _, none := range []string{"B%FCro", "B%C3%BCro%", "B%25C3%25BCro", "%", "B%C3%BCro%00", "\xff%C3%BC"} {
			h.means(t, none, "", vault.ErrNoneNamed)
		}
		var denied *access.DeniedError
		if _, err := h.asSent(t, access.NewCaller("acme", access.User, "u-2", access.Viewer), "B%C3%BCro"); !errors.As(err, &denied) {
			t.Errorf("as a viewer: %v", err)
		}
		literal := h.create(t, owner, openai("B%C3%BCro", apiKeyTwo))
		h.means(t, "B%C3%BCro", literal.ID, nil) // goes first, from now on
		h.means(t, "%42%c3%bcro", office.ID, nil)
		if err := h.Delete(t.Context(), owner, literal.ID, store.Match{}); err != nil {
			t.Fatal(err)
		}
		h.means(t, "B%C3%BCro", office.ID, nil)
		yes := true
		if _, _, err := h.Update(t.Context(), owner, office.ID, store.Match{}, vault.Change{Disabled: &yes}); err != nil {
			t.Fatal(err)
		}
		h.means(t, "B%C3%BCro", "", vault.ErrDisabled)
		if err := there.Delete(t.Context(), owner, office.ID, store.Match{}); err != nil {
			t.Fatal(err)
		}
		h.clock.Pass(vault.Fresh)
		h.means(t, "B%C3%BCro", "", vault.ErrNoneNamed)
	})
}

// While the database is away a name holds encoded as long as it does as it is.
func TestEncodedNameWhileTheDatabaseIsAway(t *testing.T) {
	address := gatehousetest.Postgres(t)
	h := newHouse(t, address, vault.Options{StaleMax: 30 * time.Second})
	office := h.create(t, owner, openai("Büro", apiKey))
	h.means(t, "Büro", office.ID, nil)
	h.means(t, "B%C3%BCro", office.ID, nil)
	gatehousetest.Shut(t, address)
	for range 2 {
		h.means(t, "B%C3%BCro", office.ID, nil) // without a look
		h.clock.Pass(vault.Fresh)
		h.means(t, "Büro", office.ID, nil)
		h.means(t, "B%C3%BCro", office.ID, nil)
	}
}
