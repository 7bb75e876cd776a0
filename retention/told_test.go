package retention_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/retention"
	"github.com/gatehouse-io/gatehouse/store"
)

// told gives the events of an action in an organization's trail, oldest first.
func (a *archive) told(t *testing.T, organization string, action audit.Action) []audit.Event {
	t.Helper()
	reader := access.NewCaller(organization, access.User, "reader", access.Auditor)
	if organization == access.InstanceOrganization {
		reader = operator
	}
	page, err := a.trail.Events(t.Context(), reader, audit.Filter{Organization: organization, Action: string(action)})
	if err != nil {
		t.Fatal(err)
	}
	for i, j := 0, len(page.Events)-1; i < j; i, j = i+1, j-1 {
		page.Events[i], page.Events[j] = page.Events[j], page.Events[i]
	}
	return page.Events
}

// The operators' trail tells what became of each bound, and of none that stayed.
func TestBoundsAreTold(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		a := newArchive(t, url, retention.Options{})
		for _, b := range []struct{ floors, ceilings map[string]string }{
			{map[string]string{"control": "200d", "security": "90d"}, map[string]string{"access": "30d"}},
			{map[string]string{"control": "200d"}, map[string]string{"access": "forever"}},
		} {
			if _, err := a.PutBounds(t.Context(), operator, store.Match{}, b.floors, b.ceilings); err != nil {
				t.Fatal(err)
			}
		}
		var got []map[string]any
		for _, e := range a.told(t, access.InstanceOrganization, audit.RetentionBound) {
			if e.Actor.ID != "root" || e.Permission != access.RetentionManage.String() || e.Targets[0].Type != "retention-bounds" {
				t.Errorf("%+v", e)
			}
			got = append(got, e.Metadata)
		}
		want := []map[string]any{
			{
				"revision": float64(1), "before.floor.control": "90d", "after.floor.control": "200d", "before.floor.access": "7d", "after.floor.access": "none",
				"before.floor.system": "30d", "after.floor.system": "none", "before.ceiling.access": "none", "after.ceiling.access": "30d",
			},
			{"revision": float64(2), "before.floor.security": "90d", "after.floor.security": "none", "before.ceiling.access": "30d", "after.ceiling.access": "forever"},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// A hold is released once, by whom its row and one event say; others go on holding.
func TestReleasedOnce(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		a := newArchive(t, url, retention.Options{})
		h, beside := a.hold(t, retention.Scope{Actor: "eve"}), a.hold(t, retention.Scope{Actor: "bob"})
		a.clock.Pass(time.Minute)
		released := a.clock.Now()
		for _, who := range []access.Caller{owner, access.NewCaller("acme", access.User, "somebody else", access.Owner)} {
			if err := a.Release(t.Context(), who, h.ID); err != nil {
				t.Fatal(err)
			}
			a.clock.Pass(time.Minute)
		}
		active, err := a.Holds(t.Context(), auditor, false)
		if err != nil || len(active) != 1 || active[0].ID != beside.ID {
			t.Errorf("active are %+v, %v", active, err)
		}
		all, err := a.Holds(t.Context(), auditor, true)
		if err != nil || len(all) != 2 || all[0].ID != beside.ID || !all[0].ReleasedAt.IsZero() || all[1].ID != h.ID || !all[1].ReleasedAt.Equal(released) || all[1].ReleasedBy != owner.ID {
			t.Errorf("all are %+v, %v", all, err)
		}
		told := a.told(t, "acme", audit.RetentionRelease)
		if len(told) != 1 || told[0].Actor.ID != owner.ID || told[0].Targets[0].ID != h.ID || told[0].Personal["holdActor"] != "eve" {
			t.Errorf("the trail tells %+v", told)
		}
		if n := len(a.told(t, "acme", audit.RetentionHold)); n != 2 {
			t.Errorf("%d holds are told", n)
		}
	})
}

// Each method asks for its permission itself, in the organization that it is asked of.
func TestEachMethodAsksForItsPermission(t *testing.T) {
	a := newArchive(t, t.TempDir()+"/gatehouse.db", retention.Options{})
	h := a.hold(t, retention.Scope{Actor: "eve"})
	for name, test := range map[string]struct {
		needs access.Permission
		call  func(who access.Caller, organization string) error
		own   bool // it is of the caller's organization always
	}{
		"Certificates": {needs: access.RetentionRead, call: func(who access.Caller, of string) error {
			_, _, err := a.Certificates(t.Context(), who, of, 0, "")
			return err
		}},
		"Policy": {needs: access.RetentionRead, call: func(who access.Caller, of string) error { _, err := a.Policy(t.Context(), who, of); return err }},
		"Preview": {needs: access.RetentionRead, call: func(who access.Caller, of string) error {
			_, err := a.Preview(t.Context(), who, of, nil)
			return err
		}},
		"Put": {needs: access.RetentionManage, call: func(who access.Caller, of string) error {
			_, err := a.Put(t.Context(), who, of, store.Match{}, retention.Draft{})
			return err
		}},
		"Holds": {needs: access.RetentionRead, call: func(who access.Caller, _ string) error { _, err := a.Holds(t.Context(), who, true); return err }, own: true},
		"Hold": {needs: access.HoldManage, call: func(who access.Caller, _ string) error {
			_, err := a.Hold(t.Context(), who, "a case", retention.Scope{Actor: "x"}, time.Time{})
			return err
		}, own: true},
		"Release": {needs: access.HoldManage, call: func(who access.Caller, _ string) error { return a.Release(t.Context(), who, h.ID) }, own: true},
		"HeldEvents": {needs: access.AuditRead, call: func(who access.Caller, _ string) error {
			_, _, err := a.HeldEvents(t.Context(), who, 0, "")
			return err
		}, own: true},
	} {
		var denied *access.DeniedError
		nearly := access.NewCaller("acme", access.User, "u-2").With([]access.Role{"nearly"}, access.Tenant()&^access.SetOf(test.needs))
		if err := test.call(nearly, ""); !errors.As(err, &denied) {
			t.Errorf("%s without its permission: %v", name, err)
		}
		if err := test.call(owner, "globex"); !test.own && !errors.As(err, &denied) {
			t.Errorf("%s of another organization: %v", name, err)
		}
	}
	if active, err := a.Holds(t.Context(), owner, false); err != nil || len(active) != 1 {
		t.Errorf("afterwards %+v hold, %v", active, err)
	}
}
