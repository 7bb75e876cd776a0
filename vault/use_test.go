package vault_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/vault"
)

func TestWhichCredential(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		h := newHouse(t, url, vault.Options{})
		h.create(t, stranger, openai("", apiKeyTwo))
		h.uses(t, "", "", vault.ErrNone)
		h.uses(t, "theirs", "", vault.ErrNoneNamed)
		one := h.create(t, owner, openai("one", apiKey))
		h.uses(t, "", apiKey, nil) // the only one
		h.create(t, owner, openai("two", apiKeyTwo))
		h.uses(t, "", "", vault.ErrAmbiguous)
		h.uses(t, "one", apiKey, nil)
		h.uses(t, "two", apiKeyTwo, nil)
		for _, name := range []string{"three", "One", "one ", "one\x00", "\xff", "' OR 1=1 --", strings.Repeat("x", 1<<16)} {
			h.uses(t, name, "", vault.ErrNoneNamed)
		}
		h.create(t, owner, openai("", apiKey))
		h.uses(t, "", apiKey, nil) // the one named Default
		yes, no := true, false
		change := func(ch vault.Change) {
			t.Helper()
			if _, _, err := h.Update(t.Context(), owner, one.ID, store.Match{}, ch); err != nil {
				t.Fatal(err)
			}
		}
		change(vault.Change{Disabled: &yes})
		h.uses(t, "one", "", vault.ErrDisabled)
		change(vault.Change{Disabled: &no})
		h.uses(t, "one", apiKey, nil)
		soon := h.clock.Now().Add(time.Second)
		change(vault.Change{ExpiresAt: &soon})
		h.uses(t, "one", apiKey, nil)
		h.clock.Pass(time.Second - time.Microsecond)
		h.uses(t, "one", apiKey, nil)
		h.clock.Pass(time.Microsecond)
		h.uses(t, "one", "", vault.ErrExpired) // at the instant, not at the next look
		later := h.clock.Now().Add(time.Hour)
		change(vault.Change{ExpiresAt: &later})
		h.uses(t, "one", apiKey, nil)
		change(vault.Change{Name: text("renamed")})
		h.uses(t, "one", "", vault.ErrNoneNamed)
		h.uses(t, "renamed", apiKey, nil)
		if _, _, err := h.Rotate(t.Context(), owner, one.ID, store.Match{}, vault.Rotation{Fields: map[string]string{"apiKey": apiKeyTwo}}); err != nil {
			t.Fatal(err)
		}
		h.uses(t, "renamed", apiKeyTwo, nil)
		if err := h.Delete(t.Context(), owner, one.ID, store.Match{}); err != nil {
			t.Fatal(err)
		}
		h.uses(t, "renamed", "", vault.ErrNoneNamed)
		if kind := fault.KindOf(vault.ErrNoneNamed); kind != fault.NoCredential {
			t.Errorf("the kind is %d", kind)
		}
	})
}

// What another instance changes holds here once Fresh has passed.
func TestChangedElsewhere(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		h := newHouse(t, url, vault.Options{})
		there := h.beside(t, url, vault.Options{})
		c := h.create(t, owner, openai("", apiKey))
		yes := true
		for _, step := range []struct {
			name   string
			change func() error
			key    string
			err    error
		}{
			{"rotated", func() error {
				_, _, err := there.Rotate(t.Context(), owner, c.ID, store.Match{}, vault.Rotation{Fields: map[string]string{"apiKey": apiKeyTwo}})
				return err
			}, apiKeyTwo, nil},
			{"disabled", func() error {
				_, _, err := there.Update(t.Context(), owner, c.ID, store.Match{}, vault.Change{Disabled: &yes})
				return err
			}, "", vault.ErrDisabled},
			{"deleted", func() error { return there.Delete(t.Context(), owner, c.ID, store.Match{}) }, "", vault.ErrNone},
		} {
			_, before := h.use(t, owner, "openai", "")
			if err := step.change(); err != nil {
				t.Fatal(err)
			}
			if _, err := h.use(t, owner, "openai", ""); !errors.Is(err, before) {
				t.Errorf("%s: at once %v, before %v", step.name, err, before)
			}
			h.clock.Pass(vault.Fresh)
			h.uses(t, "", step.key, step.err)
		}
		if vault.Fresh > 5*time.Second {
			t.Error("a change elsewhere is to hold within five seconds")
		}
	})
}

// While PostgreSQL is away opened keys are used up to StaleMax, and nothing
// else; what was known to be gone does not come back.
func TestDatabaseAway(t *testing.T) {
	address := gatehousetest.Postgres(t)
	h := newHouse(t, address, vault.Options{StaleMax: 30 * time.Second})
	there := h.beside(t, address, vault.Options{})
	h.create(t, owner, openai("", apiKey))
	gone := h.create(t, owner, openai("gone", apiKey))
	brief := openai("brief", apiKey)
	brief.ExpiresAt = h.clock.Now().Add(10 * time.Second)
	h.create(t, owner, brief)
	h.create(t, owner, openai("unused", apiKey))
	for _, name := range []string{"", "gone", "brief"} {
		h.uses(t, name, apiKey, nil)
	}
	if err := there.Delete(t.Context(), owner, gone.ID, store.Match{}); err != nil {
		t.Fatal(err)
	}
	h.clock.Pass(vault.Fresh)
	h.uses(t, "gone", "", vault.ErrNoneNamed)

	back := gatehousetest.Shut(t, address)
	unavailable := func(name string) {
		t.Helper()
		if _, err := h.use(t, owner, "openai", name); fault.KindOf(err) != fault.Unavailable {
			t.Errorf("%q: %v", name, err)
		}
	}
	h.uses(t, "", apiKey, nil)
	unavailable("gone")
	unavailable("unused")
	h.clock.Pass(10 * time.Second)
	h.uses(t, "brief", "", vault.ErrExpired)
	h.clock.Pass(30*time.Second - vault.Fresh - 10*time.Second - time.Microsecond)
	h.uses(t, "", apiKey, nil)
	h.clock.Pass(time.Microsecond)
	unavailable("")
	_, err := h.List(t.Context(), owner, vault.Filter{})
	if f, _ := fault.As(err); fault.KindOf(err) != fault.Unavailable || f.RetryAfter == 0 {
		t.Errorf("List: %v", err)
	}
	if _, _, err := h.Create(t.Context(), owner, openai("new", apiKey)); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("Create: %v", err)
	}
	back()
	h.uses(t, "", apiKey, nil)
}

func TestLastUse(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		h := newHouse(t, url, vault.Options{})
		used, unused := h.create(t, owner, openai("", apiKey)), h.create(t, owner, openai("unused", apiKey))
		first := h.clock.Now()
		h.uses(t, "", apiKey, nil)
		h.clock.Pass(time.Second)
		h.uses(t, "", apiKey, nil)
		record := func() {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			h.Run(ctx) // once more at the end
		}
		record()
		got, err := h.Get(t.Context(), owner, used.ID)
		if err != nil || !got.LastUsedAt.Equal(first.Add(time.Second)) {
			t.Errorf("last used at %v, want %v; %v", got.LastUsedAt, first.Add(time.Second), err)
		}
		if got.Revision != used.Revision || !got.UpdatedAt.Equal(used.UpdatedAt) {
			t.Errorf("a use changed the state: %+v", got)
		}
		if got, err := h.Get(t.Context(), owner, unused.ID); err != nil || !got.LastUsedAt.IsZero() {
			t.Errorf("an unused one: %v, %v", got.LastUsedAt, err)
		}
		h.clock.Pass(-time.Hour) // another instance's clock is behind: the last use does not go back
		h.uses(t, "", apiKey, nil)
		record()
		if got, _ := h.Get(t.Context(), owner, used.ID); !got.LastUsedAt.Equal(first.Add(time.Second)) {
			t.Errorf("the last use went back to %v", got.LastUsedAt)
		}
	})
}

func TestUseAtOnce(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		h := newHouse(t, url, vault.Options{})
		c := h.create(t, owner, openai("", apiKey))
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 25 {
					got, err := h.use(t, owner, "openai", "")
					if err != nil || got != "Bearer "+apiKey && got != "Bearer "+apiKeyTwo {
						t.Errorf("%q, %v", got, err)
					}
				}
			})
		}
		wg.Go(func() {
			for i := range 6 {
				key := []string{apiKeyTwo, apiKey}[i%2]
				if _, _, err := h.Rotate(t.Context(), owner, c.ID, store.Match{}, vault.Rotation{Fields: map[string]string{"apiKey": key}}); err != nil {
					t.Error(err)
				}
				if got, err := h.use(t, owner, "openai", ""); err != nil || got != "Bearer "+key {
					t.Errorf("after the rotation to %s: %q, %v", key, got, err)
				}
			}
		})
		wg.Wait()
	})
}

func TestNoFalseAlarm(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		h := newHouse(t, url, vault.Options{Reveal: true})
		c := h.create(t, owner, openai("", apiKey))
		fresh := h.beside(t, url, vault.Options{Reveal: true})
		left, cancel := context.WithCancel(t.Context())
		cancel()
		service, _ := fresh.services.Service("openai")
		if o, err := fresh.OpenForUse(left, owner, service, ""); err == nil {
			_, err = o.Open(left)
			t.Logf("the row was there before the caller left; opened: %v", err == nil)
		}
		if _, _, err := fresh.Reveal(left, owner, c.ID, "test"); err == nil {
			t.Error("a caller that has left was shown a credential")
		}
		fresh.uses(t, "", apiKey, nil)

		// A database that fails is no seal that does not open, either.
		h.exec(t, `ALTER TABLE organization_keys RENAME TO keys_elsewhere`)
		if _, _, err := fresh.Reveal(t.Context(), owner, c.ID, "test"); err == nil {
			t.Error("opened without the organization's salt")
		}
		h.exec(t, `ALTER TABLE keys_elsewhere RENAME TO organization_keys`)
		if n := fresh.told(t, "acme"); n != 0 {
			t.Errorf("%d events say that a good seal does not open", n)
		}
	})
}
