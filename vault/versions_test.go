package vault_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/vault"
)

const apiKeyThree = "sk-proj-CCCCCCCCCCCCCCCCCCCCCCCC"

// key is the field that most tests rotate.
func key(value string) map[string]string { return map[string]string{"apiKey": value} }

// states gives "3 active, 2 retiring, 1 retired".
func (h *house) states(t testing.TB, id string) string {
	t.Helper()
	page, err := h.Versions(t.Context(), owner, id, vault.VersionFilter{})
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, v := range page.Versions {
		all = append(all, fmt.Sprint(v.Number, " ", v.State))
	}
	return strings.Join(all, ", ")
}

func (h *house) inState(t testing.TB, id, want string) {
	t.Helper()
	if got := h.states(t, id); got != want {
		t.Errorf("the versions are %s; want %s", got, want)
	}
	rows := h.count(t, `SELECT count(*) FROM credential_versions WHERE credential_id = $1`, id)
	if sealed := int64(strings.Count(want, ",") + 1 - strings.Count(want, "retired")); rows != sealed {
		t.Errorf("%d sealed versions, want %d", rows, sealed)
	}
}

func (h *house) rotate(t testing.TB, id, value string, grace time.Duration) vault.Credential {
	t.Helper()
	c, _, err := h.Rotate(t.Context(), owner, id, store.Match{}, vault.Rotation{Fields: key(value), Grace: grace})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (h *house) stage(t testing.TB, id, value string) vault.Version {
	t.Helper()
	_, v, _, err := h.Stage(t.Context(), owner, id, store.Match{}, key(value), "")
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// destroyDue runs the timer once.
func (h *house) destroyDue(t testing.TB, want int) {
	t.Helper()
	if n, err := h.DestroyDue(t.Context()); n != want || err != nil {
		t.Errorf("%d versions were due, want %d; %v", n, want, err)
	}
}

// The life of a version: staged, tested, active, in grace, destroyed by the timer.
func TestVersionsLife(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		ctx := t.Context()
		h := newHouse(t, url, vault.Options{Reveal: true, Probe: accepts(apiKeyTwo)})
		begin := h.clock.Now()
		c := h.create(t, owner, openai("", apiKey))
		h.clock.Pass(time.Minute)
		_, staged, _, err := h.Stage(ctx, owner, c.ID, store.Match{}, key(apiKeyTwo), "the quarterly rotation")
		if err != nil || staged.State != vault.StateStaged || staged.Number != 2 || staged.Reason != "the quarterly rotation" {
			t.Fatalf("%+v, %v", staged, err)
		}
		h.uses(t, "", apiKey, nil)
		h.inState(t, c.ID, "2 staged, 1 active")
		if result, err := h.TestVersion(ctx, owner, c.ID, 2); err != nil || result.Result != catalog.Valid {
			t.Fatalf("%+v, %v", result, err)
		}
		if got, err := h.Get(ctx, owner, c.ID); err != nil || got.LastTest != nil || got.Version != 1 || got.Fingerprint == staged.Fingerprint {
			t.Errorf("the active version has changed: %+v, %v", got, err)
		}
		h.clock.Pass(time.Minute)
		got, err := h.Activate(ctx, owner, c.ID, store.Match{}, 2, vault.Activation{Grace: time.Hour, Reason: "it works"})
		if err != nil || got.Version != 2 || got.Fingerprint != staged.Fingerprint || !strings.Contains(string(got.LastTest), `"valid"`) {
			t.Fatalf("%+v, %v", got, err)
		}
		h.uses(t, "", apiKeyTwo, nil)
		h.inState(t, c.ID, "2 active, 1 retiring")
		if values := h.values(t, owner, c.ID); values["apiKey"] != apiKeyTwo {
			t.Errorf("revealed: %v", values)
		}
		h.destroyDue(t, 0)
		h.clock.Pass(time.Hour - time.Microsecond)
		h.destroyDue(t, 0)
		h.clock.Pass(time.Microsecond)
		h.destroyDue(t, 1)
		h.destroyDue(t, 0)
		h.inState(t, c.ID, "2 active, 1 retired")

		page, err := h.Versions(ctx, owner, c.ID, vault.VersionFilter{})
		if err != nil {
			t.Fatal(err)
		}
		activated := begin.Add(2 * time.Minute)
		want := []vault.Version{
			{Number: 2, State: vault.StateActive, Fields: []string{"apiKey"}, Fingerprint: got.Fingerprint, Reason: "the quarterly rotation",
				CreatedAt: begin.Add(time.Minute), CreatedBy: "u-1", ActivatedAt: activated, ActivatedBy: "u-1", LastTest: got.LastTest},
			{Number: 1, State: vault.StateRetired, Fields: []string{"apiKey"}, Fingerprint: c.Fingerprint,
				CreatedAt: begin, CreatedBy: "u-1", ActivatedAt: begin, ActivatedBy: "u-1", RetiredAt: activated, RetiredBy: "u-1",
				DestroyedAt: activated.Add(time.Hour)},
		}
		if diff := cmp.Diff(want, page.Versions); diff != "" {
			t.Errorf("the history (-want +got):\n%s", diff)
		}
		told := h.events(t, "acme", audit.CredentialDestroy)
		if len(told) != 1 || told[0].Reason != "grace_over" || told[0].Actor.Type != "system" || told[0].Class != audit.Control || fmt.Sprint(told[0].Metadata["version"]) != "1" {
			t.Errorf("the destruction in the trail: %+v", told)
		}
		activation := h.events(t, "acme", audit.CredentialActivate)[0]
		if activation.Personal["reason"] != "it works" || fmt.Sprint(activation.Metadata["replaced"]) != "1" || activation.Metadata["replacedUntil"] != activated.Add(time.Hour).Format(time.RFC3339) {
			t.Errorf("the activation in the trail: %+v", activation)
		}
		_, err = h.RollBack(ctx, owner, c.ID, store.Match{}, vault.Rollback{Version: 1})
		refused(t, "rolling back to what was destroyed", err, vault.ErrVersionGone)
	})
}

// accepts is a provider that takes one key.
func accepts(good string) vault.Probe {
	return func(_ context.Context, _ *catalog.Service, fields map[string]string) (catalog.Outcome, time.Duration, error) {
		if fields["apiKey"] == good {
			return catalog.Outcome{Result: catalog.Valid}, time.Millisecond, nil
		}
		return catalog.Outcome{Result: catalog.Invalid}, time.Millisecond, nil
	}
}

func refused(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v; want %v", what, err, want)
	}
}

func TestVersionsRefusals(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		ctx := t.Context()
		h := newHouse(t, url, vault.Options{Probe: accepts(apiKeyTwo)})
		c := h.create(t, owner, openai("", apiKey))
		activate := func(n int64, a vault.Activation) error {
			_, err := h.Activate(ctx, owner, c.ID, store.Match{}, n, a)
			return err
		}
		destroy := func(n int64) error {
			_, err := h.DestroyVersion(ctx, owner, c.ID, store.Match{}, n)
			return err
		}
		rollBack := func(r vault.Rollback) error {
			_, err := h.RollBack(ctx, owner, c.ID, store.Match{}, r)
			return err
		}
		refused(t, "rolling back to nothing", rollBack(vault.Rollback{}), vault.ErrNotInGrace)
		refused(t, "rolling back to the active one", rollBack(vault.Rollback{Version: 1}), vault.ErrVersionActive)
		refused(t, "activating the active one", activate(1, vault.Activation{}), vault.ErrVersionActive)
		refused(t, "destroying the active one", destroy(1), vault.ErrVersionActive)
		for _, none := range []int64{0, -1, 2, 1 << 62} {
			refused(t, "activating none", activate(none, vault.Activation{}), vault.ErrNoVersion)
			refused(t, "destroying none", destroy(none), vault.ErrNoVersion)
			_, err := h.TestVersion(ctx, owner, c.ID, none)
			refused(t, "testing none", err, vault.ErrNoVersion)
			if none != 0 {
				refused(t, "rolling back to none", rollBack(vault.Rollback{Version: none}), vault.ErrNoVersion)
			}
		}
		h.stage(t, c.ID, apiKeyThree)
		_, _, _, err := h.Stage(ctx, owner, c.ID, store.Match{}, key(apiKeyThree), "")
		refused(t, "a second staged one", err, vault.ErrVersionStaged)
		refused(t, "rolling back to a staged one", rollBack(vault.Rollback{Version: 2}), vault.ErrNotInGrace)
		if result, err := h.TestVersion(ctx, owner, c.ID, 2); err != nil || result.Result != catalog.Invalid {
			t.Fatalf("%+v, %v", result, err)
		}
		refused(t, "activating what the provider refused", activate(2, vault.Activation{}), vault.ErrVersionFailed)
		h.inState(t, c.ID, "2 staged, 1 active")
		if err := activate(2, vault.Activation{Force: true, Grace: time.Hour}); err != nil {
			t.Fatal(err)
		}
		if e := h.events(t, "acme", audit.CredentialActivate); len(e) != 1 || e[0].Metadata["forced"] != true {
			t.Errorf("the forced activation in the trail: %+v", e)
		}
		refused(t, "activating one in grace", activate(1, vault.Activation{}), vault.ErrNotStaged)

		// At most three in grace; no grace and a rollback always work.
		h.rotate(t, c.ID, apiKeyTwo, time.Hour)
		h.rotate(t, c.ID, apiKeyThree, 2*time.Hour)
		h.inState(t, c.ID, "4 active, 3 retiring, 2 retiring, 1 retiring")
		_, _, err = h.Rotate(ctx, owner, c.ID, store.Match{}, vault.Rotation{Fields: key(apiKey), Grace: time.Second})
		refused(t, "a fourth in grace", err, vault.ErrTooManyVersions)
		if err := rollBack(vault.Rollback{Version: 1}); err != nil {
			t.Fatal(err)
		}
		h.rotate(t, c.ID, apiKey, 0)
		h.inState(t, c.ID, "5 active, 4 retiring, 3 retiring, 2 retiring, 1 retired")
		if err := destroy(3); err != nil {
			t.Fatal(err)
		}
		refused(t, "destroying it again", destroy(3), vault.ErrVersionGone)
		_, err = h.TestVersion(ctx, owner, c.ID, 3)
		refused(t, "testing what is destroyed", err, vault.ErrVersionGone)
		h.inState(t, c.ID, "5 active, 4 retiring, 3 retired, 2 retiring, 1 retired")

		for what, r := range map[string]vault.Rotation{
			"graceSeconds": {Fields: key(apiKeyTwo), Grace: vault.MaxGrace + 1}, "reason": {Fields: key(apiKeyTwo), Reason: "a\nb"},
			"credentials": {Grace: time.Hour}, "credentials.apiKey": {Fields: key("••••AAAA")},
		} {
			_, _, err := h.Rotate(ctx, owner, c.ID, store.Match{}, r)
			invalid(t, what, err, nil, what)
			if r.Grace == 0 {
				_, _, _, err = h.Stage(ctx, owner, c.ID, store.Match{}, r.Fields, r.Reason)
				invalid(t, "stage: "+what, err, nil, what)
			}
		}
		negative := -time.Second
		_, err = h.RollBack(ctx, owner, c.ID, store.Match{}, vault.Rollback{Grace: &negative, Reason: strings.Repeat("x", 501)})
		invalid(t, "rollback", err, nil, "graceSeconds", "reason")
		invalid(t, "activate", activate(4, vault.Activation{Grace: negative, Reason: "\x00"}), nil, "graceSeconds", "reason")

		// A stale state is refused by each.
		old := store.MatchOf(1)
		_, _, _, stageErr := h.Stage(ctx, owner, c.ID, old, key(apiKey), "")
		_, activateErr := h.Activate(ctx, owner, c.ID, old, 4, vault.Activation{})
		_, rollbackErr := h.RollBack(ctx, owner, c.ID, old, vault.Rollback{})
		_, destroyErr := h.DestroyVersion(ctx, owner, c.ID, old, 4)
		for what, err := range map[string]error{"Stage": stageErr, "Activate": activateErr, "RollBack": rollbackErr, "DestroyVersion": destroyErr} {
			refused(t, what+" of an older state", err, vault.ErrStale)
		}
	})
}

// A rollback changes the places of the two versions: what is left of the grace of
// the one is the grace of the other.
func TestRollBack(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		ctx := t.Context()
		h := newHouse(t, url, vault.Options{Reveal: true, Probe: accepts(apiKey)})
		c := h.create(t, owner, openai("", apiKey))
		if _, err := h.TestStored(ctx, owner, c.ID); err != nil {
			t.Fatal(err)
		}
		h.rotate(t, c.ID, apiKeyTwo, time.Hour)
		h.clock.Pass(50 * time.Minute)
		got, err := h.RollBack(ctx, owner, c.ID, store.Match{}, vault.Rollback{Reason: "the new one lacks a scope"})
		if err != nil || got.Version != 1 || got.Fingerprint != c.Fingerprint || !strings.Contains(string(got.LastTest), `"valid"`) {
			t.Fatalf("%+v, %v", got, err)
		}
		h.inState(t, c.ID, "2 retiring, 1 active")
		h.uses(t, "", apiKey, nil)
		if got, err = h.RollBack(ctx, owner, c.ID, store.Match{}, vault.Rollback{Version: 2}); err != nil || got.Version != 2 || got.LastTest != nil {
			t.Fatalf("and forward again: %+v, %v", got, err)
		}
		h.clock.Pass(10 * time.Minute)
		_, err = h.RollBack(ctx, owner, c.ID, store.Match{}, vault.Rollback{}) // the timer has not run
		refused(t, "past the grace", err, vault.ErrNotInGrace)
		h.destroyDue(t, 1)
		h.inState(t, c.ID, "2 active, 1 retired")

		h.rotate(t, c.ID, apiKeyThree, time.Hour)
		none := time.Duration(0)
		if _, err := h.RollBack(ctx, owner, c.ID, store.Match{}, vault.Rollback{Grace: &none}); err != nil {
			t.Fatal(err)
		}
		h.inState(t, c.ID, "3 retired, 2 active, 1 retired")
		if e := h.events(t, "acme", audit.CredentialRollback); len(e) != 3 || e[2].Metadata["destroyed"] != "3" || e[0].Personal["reason"] == "" {
			t.Errorf("rollbacks in the trail: %+v", e)
		}
		// The latest number is never given twice.
		if got := h.rotate(t, c.ID, apiKey, 0); got.Version != 4 {
			t.Errorf("version %d after 3 was destroyed", got.Version)
		}
	})
}

// What has expired is not kept in grace, and new values do away with what is.
func TestExpiredVersionsAreNotKept(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		ctx := t.Context()
		h := newHouse(t, url, vault.Options{})
		n := openai("", apiKey)
		n.ExpiresAt = h.clock.Now().Add(time.Hour)
		c := h.create(t, owner, n)
		h.rotate(t, c.ID, apiKeyTwo, 24*time.Hour)
		staged := h.stage(t, c.ID, apiKeyThree)
		h.clock.Pass(time.Hour)
		_, _, err := h.Rotate(ctx, owner, c.ID, store.Match{}, vault.Rotation{Fields: key(apiKey), Grace: time.Minute})
		invalid(t, "grace for what has expired", err, nil, "graceSeconds")
		_, err = h.Activate(ctx, owner, c.ID, store.Match{}, staged.Number, vault.Activation{Grace: time.Minute})
		invalid(t, "grace for what has expired", err, nil, "graceSeconds")
		if got, err := h.RollBack(ctx, owner, c.ID, store.Match{}, vault.Rollback{}); err != nil || got.Status != vault.Expired {
			t.Errorf("a rollback does not move the expiry: %+v, %v", got, err)
		}
		got, err := h.Activate(ctx, owner, c.ID, store.Match{}, staged.Number, vault.Activation{})
		if err != nil || got.Status != vault.Active || !got.ExpiresAt.IsZero() {
			t.Errorf("%+v, %v", got, err)
		}
		h.inState(t, c.ID, "3 active, 2 retired, 1 retired")
	})
}

// Each version is destroyed once, with one event, whichever instance is first,
// and no later than the instances run at all.
func TestTimersAtOnce(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		h := newHouse(t, url, vault.Options{})
		two, three := h.beside(t, url, vault.Options{}), h.beside(t, url, vault.Options{})
		const n = 130 // more than one batch
		for i := range n {
			caller, name := owner, fmt.Sprint("c", i)
			if i%2 == 1 {
				caller = stranger
			}
			c := h.create(t, caller, openai(name, apiKey))
			_, _, err := h.Rotate(t.Context(), caller, c.ID, store.Match{}, vault.Rotation{Fields: key(apiKeyTwo), Grace: time.Hour + time.Duration(i/10)*time.Second})
			if err != nil {
				t.Fatal(err)
			}
		}
		h.clock.Pass(time.Hour + n*time.Second)
		var wg sync.WaitGroup
		counts := make([]int, 3)
		for i, instance := range []*house{h, two, three} {
			wg.Go(func() {
				var err error
				if counts[i], err = instance.DestroyDue(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if sum := counts[0] + counts[1] + counts[2]; sum != n {
			t.Errorf("%v versions were destroyed, want %d", counts, n)
		}
		if told := len(h.events(t, "acme", audit.CredentialDestroy)) + len(h.events(t, "globex", audit.CredentialDestroy)); told != n {
			t.Errorf("%d events, want %d", told, n)
		}
		if left := h.count(t, `SELECT count(*) FROM credential_versions`); left != n {
			t.Errorf("%d sealed versions are left, want %d", left, n)
		}
		h.destroyDue(t, 0)
	})
}

// The history of a credential has pages.
func TestVersionsPages(t *testing.T) {
	h := newHouse(t, t.TempDir()+"/gatehouse.db", vault.Options{})
	c := h.create(t, owner, openai("", apiKey))
	for range 6 {
		h.rotate(t, c.ID, apiKeyTwo, 0)
	}
	var got []int64
	f := vault.VersionFilter{Limit: 3}
	for range 5 {
		page, err := h.Versions(t.Context(), owner, c.ID, f)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range page.Versions {
			got = append(got, v.Number)
		}
		if f.Cursor = page.NextCursor; f.Cursor == "" {
			break
		}
	}
	if diff := cmp.Diff([]int64{7, 6, 5, 4, 3, 2, 1}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, bad := range []vault.VersionFilter{{Cursor: "x"}, {Cursor: "djE."}, {Limit: -1}, {Limit: vault.MaxLimit + 1}} {
		_, err := h.Versions(t.Context(), owner, c.ID, bad)
		field := "cursor"
		if bad.Cursor == "" {
			field = "limit"
		}
		invalid(t, "a page", err, nil, field)
	}
}
