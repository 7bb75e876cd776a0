package vault_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/vault"
)

// The opener hands the version in grace out when it is asked, and not past its
// instant; what is noted is told with an exact count and marks the credential.
func TestPrevious(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		ctx := t.Context()
		h := newHouse(t, url, vault.Options{})
		service, _ := h.services.Service("openai")
		c := h.create(t, owner, openai("", apiKey))
		if o, err := h.OpenForUse(ctx, owner, service, ""); err != nil || o.Previous != 0 {
			t.Fatalf("%+v, %v", o, err)
		}
		h.rotate(t, c.ID, apiKeyTwo, time.Hour)
		o, err := h.OpenForUse(ctx, owner, service, "")
		if err != nil || o.Version != 2 || o.Previous != 1 {
			t.Fatalf("%+v, %v", o, err)
		}
		previous, err := h.OpenPrevious(ctx, owner, service, o)
		if err != nil || previous.Version != 1 || previous.Injection.ExposeSecretValues()[0] != apiKey {
			t.Fatalf("%+v, %v", previous, err)
		}
		if _, err := h.OpenPrevious(ctx, stranger, service, o); err == nil {
			t.Error("another organization opens it")
		}
		running, stop := context.WithCancel(ctx)
		var run sync.WaitGroup
		run.Go(func() { h.Run(running) })
		for range 7 {
			h.NoteFallback(ctx, owner, service, o, previous)
		}
		stop()
		run.Wait() // records what is noted
		if got, err := h.Get(ctx, owner, c.ID); err != nil || !got.FallbackAt.Equal(h.clock.Now()) {
			t.Errorf("the mark: %+v, %v", got, err)
		}
		told := int64(0)
		for _, e := range h.events(t, "acme", audit.CredentialFallback) {
			told += max(e.Count, 1)
			if e.Class != audit.Security || e.Targets[0].ID != c.ID || e.Targets[1] != (audit.Target{Type: "version", ID: "2"}) || e.Reason != "active_version_refused" {
				t.Errorf("%+v", e)
			}
		}
		if told != 7 {
			t.Errorf("the trail tells of %d fallbacks, want 7", told)
		}
		// The alarm goes to the webhooks too, once, and is shown for a day.
		k := h.Checker(vault.CheckOptions{})
		h.hook(t)
		check(t, k)
		check(t, k)
		h.expectTold(t, "after the fallback", "credential.fallback")
		if got := kinds(t, k, owner)["Default"]; !slices.Equal(got, []string{"fallback"}) {
			t.Errorf("the report says %v", got)
		}
		h.clock.Pass(time.Hour)
		if _, err := h.OpenPrevious(ctx, owner, service, o); !errors.Is(err, vault.ErrNone) {
			t.Errorf("past its grace: %v", err)
		}
		if o, err := h.OpenForUse(ctx, owner, service, ""); err != nil || o.Previous != 0 {
			t.Errorf("past its grace: %+v, %v", o, err)
		}
		h.clock.Pass(vault.FallbackShown)
		check(t, k)
		h.expectTold(t, "a day later", "credential.fallback")
		if got := kinds(t, k, owner)["Default"]; len(got) != 0 {
			t.Errorf("a day later the report says %v", got)
		}
		if got := h.rotate(t, c.ID, apiKeyThree, 0); !got.FallbackAt.IsZero() {
			t.Error("the mark stays with another version")
		}
	})
}

// A version that is destroyed before its grace is over is handed out no more, though it was
// handed out a moment ago: neither where somebody destroys it nor where another takes its place.
func TestDestroyedIsNotRemembered(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		ctx := t.Context()
		h := newHouse(t, url, vault.Options{})
		service, _ := h.services.Service("openai")
		for name, destroy := range map[string]func(id string) error{
			"destroyed": func(id string) error {
				_, err := h.DestroyVersion(ctx, owner, id, store.Match{}, 1)
				return err
			},
			"rolled back and then replaced without grace": func(id string) error {
				_, back := h.RollBack(ctx, owner, id, store.Match{}, vault.Rollback{})
				_, _, err := h.Rotate(ctx, owner, id, store.Match{}, vault.Rotation{Fields: key(apiKeyThree)})
				return errors.Join(back, err)
			},
			"deleted": func(id string) error { return h.Delete(ctx, owner, id, store.Match{}) },
		} {
			c := h.create(t, owner, openai(name, apiKey))
			h.rotate(t, c.ID, apiKeyTwo, time.Hour)
			o, err := h.OpenForUse(ctx, owner, service, name)
			if err != nil || o.Previous != 1 {
				t.Fatalf("%+v, %v", o, err)
			}
			if _, err := h.OpenPrevious(ctx, owner, service, o); err != nil {
				t.Fatal(err)
			}
			if err := destroy(c.ID); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			// A request that began before still asks for it.
			if previous, err := h.OpenPrevious(ctx, owner, service, o); fault.KindOf(err) != fault.NotFound || previous.Injection != nil {
				t.Errorf("once it is %s: %+v, %v", name, previous, err)
			}
		}
	})
}
