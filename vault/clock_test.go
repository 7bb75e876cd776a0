package vault_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/vault"
)

// By a clock that is ten days ahead of the database server's nothing is destroyed and nothing told; by
// one that is right it is.
func TestClockThatIsAhead(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		h := newHouse(t, url, vault.Options{})
		h.hook(t)
		opts := checkOptions()
		opts.UnusedAfter, opts.RotateAfter, opts.TestEvery = 5*day, 5*day, time.Hour
		k := h.Checker(opts)
		c := h.create(t, owner, openai("", apiKey))
		if _, _, err := h.Rotate(t.Context(), owner, c.ID, store.Match{}, vault.Rotation{Fields: key(apiKeyTwo), Grace: 9 * day}); err != nil {
			t.Fatal(err)
		}
		check(t, k)
		// Ten days ahead: as if all that is stored were ten days older.
		ten := (10 * day).Microseconds()
		h.exec(t, `UPDATE credential_version_history SET destroy_at = destroy_at - $1 WHERE destroy_at IS NOT NULL`, ten)
		h.exec(t, `UPDATE credential_version_history SET activated_at = activated_at - $1 WHERE activated_at IS NOT NULL`, ten)
		h.exec(t, `UPDATE credential_versions SET created_at = created_at - $1`, ten)
		h.exec(t, `UPDATE credentials SET check_due_at = 1, test_due_at = 1`)
		h.SetServerClock(func() time.Time { return time.Now().Add(-10 * day) })
		var skew *store.SkewError
		if n, err := h.DestroyDue(t.Context()); n != 0 || !errors.As(err, &skew) {
			t.Errorf("%d versions were destroyed, %v", n, err)
		}
		if err := k.CheckDue(t.Context()); !errors.As(err, &skew) {
			t.Errorf("CheckDue = %v", err)
		}
		if err := k.TestDue(t.Context()); !errors.As(err, &skew) {
			t.Errorf("TestDue = %v", err)
		}
		h.expectTold(t, "by a clock that is ahead")
		if n := h.count(t, `SELECT count(*) FROM credential_versions`); n != 2 {
			t.Errorf("%d sealed versions, want 2", n)
		}
		h.SetServerClock(time.Now)
		if n, err := h.DestroyDue(t.Context()); n != 1 || err != nil {
			t.Errorf("%d versions were destroyed, %v; want one", n, err)
		}
		if err := k.TestDue(t.Context()); err != nil {
			t.Error(err)
		}
		check(t, k)
		h.expectTold(t, "by a clock that is right", "credential.unused", "credential.rotation_due")
		if n := len(h.events(t, "acme", audit.CredentialDestroy)); n != 1 {
			t.Errorf("%d events, want 1", n)
		}
	})
}

// A test that ends under a clock that is wrong by then settles nothing: nobody is told of a
// dead key, and it is tested again once the clock is right.
func TestClockThatGoesWrongDuringATest(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		var h *house
		meanwhile := func() {}
		h = newHouse(t, url, vault.Options{Probe: func(context.Context, *catalog.Service, map[string]string) (catalog.Outcome, time.Duration, error) {
			meanwhile()
			return catalog.Outcome{Result: catalog.Invalid, Detail: "Said so."}, time.Millisecond, nil
		}})
		h.hook(t)
		opts := checkOptions()
		var tested []string
		opts.Tested = func(result string) { tested = append(tested, result) }
		k := h.Checker(opts)
		h.create(t, owner, openai("", apiKey))
		h.SetServerClock(time.Now)
		check(t, k)
		h.exec(t, `UPDATE credentials SET test_due_at = 1`)
		meanwhile = func() { h.SetServerClock(func() time.Time { return time.Now().Add(-10 * day) }) }
		test(t, k)
		h.expectTold(t, "by a clock that went wrong")
		meanwhile = func() {}
		h.SetServerClock(time.Now)
		h.clock.Pass(3 * time.Minute) // it is nobody's then, and still due
		test(t, k)
		h.expectTold(t, "by a clock that is right", "credential.test_failed")
		if !slices.Equal(tested, []string{"invalid", "failed", "invalid"}) {
			t.Errorf("the tests count as %v", tested)
		}
	})
}
