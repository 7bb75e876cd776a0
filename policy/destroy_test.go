package policy_test

import (
	"testing"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/policy"
	"github.com/gatehouse-io/gatehouse/store"
)

// With an organization its own policies go, and what they ever said; those of another and
// the operator's stay, with their histories.
func TestDestroy(t *testing.T) {
	databases(t, func(t *testing.T, r *room) {
		ctx := t.Context()
		owners := map[string]access.Caller{"acme": admin, "other": stranger, access.InstanceOrganization: operator}
		ids := map[string][2]string{}
		for organization, caller := range owners {
			draft := policy.Draft{Effect: "limit", Subject: "organization", Service: "openai", Limits: []string{"3/1h"}}
			if caller.Operator() {
				draft.Organization = "other"
			}
			kept := r.make(t, caller, draft)
			draft.Service = "stripe"
			deleted := r.make(t, caller, draft)
			if err := r.DeletePolicy(ctx, caller, deleted.ID, store.Match{}); err != nil {
				t.Fatal(err)
			}
			ids[organization] = [2]string{kept.ID, deleted.ID}
		}
		v := visit{"acme", "192.0.2.1", "openai", ""}
		if n := r.admitted(t, v, 10); n != 3 {
			t.Fatalf("%d admitted under 3/1h", n)
		}
		err := r.db.Update(ctx, "acme", func(tx *store.Tx) error {
			n, err := policy.Destroy(ctx, tx, "acme")
			if n != 1 {
				t.Errorf("%d policies were destroyed, want 1", n)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		for organization, caller := range owners {
			for i, id := range ids[organization] {
				revisions, err := r.Revisions(ctx, caller, id)
				switch {
				case organization == "acme" && fault.KindOf(err) != fault.NotFound:
					t.Errorf("its policy %d still has the history %+v, %v", i, revisions, err)
				case organization != "acme" && (err != nil || len(revisions) != i+1 || revisions[i].Content == nil):
					t.Errorf("policy %d of %s has the history %+v, %v", i, organization, revisions, err)
				}
			}
			_, err := r.Policy(ctx, caller, ids[organization][0])
			if (organization == "acme") != (fault.KindOf(err) == fault.NotFound) {
				t.Errorf("the policy of %s: %v", organization, err)
			}
		}
		if err := r.Load(ctx); err != nil {
			t.Fatal(err)
		}
		if n := r.admitted(t, v, 10); n != 10 {
			t.Errorf("%d of 10 admitted once an instance has heard of it", n)
		}
	})
}

// Whoever rolls back what was changed meanwhile is told, and nothing changes.
func TestRollBackOfAnotherState(t *testing.T) {
	databases(t, func(t *testing.T, r *room) {
		ctx := t.Context()
		draft := policy.Draft{Effect: "limit", Subject: "organization", Service: "openai", Limits: []string{"3/1h"}, Reason: "x"}
		p := r.make(t, admin, draft)
		draft.Limits = []string{"4/1h"}
		if _, err := r.UpdatePolicy(ctx, admin, p.ID, store.MatchOf(1), draft); err != nil {
			t.Fatal(err)
		}
		unchanged := func(match int64, revisions int) {
			t.Helper()
			_, err := r.RollBack(ctx, admin, p.ID, store.MatchOf(match), 1)
			checkFault(t, err, fault.Stale)
			if all, err := r.Revisions(ctx, admin, p.ID); err != nil || len(all) != revisions {
				t.Errorf("afterwards it has %d revisions, want %d; %v", len(all), revisions, err)
			}
		}
		unchanged(1, 2)
		unchanged(3, 2)
		if got, err := r.Policy(ctx, admin, p.ID); err != nil || got.Revision != 2 || got.Limits[0].Requests != 4 {
			t.Errorf("it says %+v, %v", got, err)
		}
		if err := r.DeletePolicy(ctx, admin, p.ID, store.MatchOf(2)); err != nil {
			t.Fatal(err)
		}
		unchanged(2, 3) // nor does who knows it before its deletion bring it back
		if _, err := r.Policy(ctx, admin, p.ID); fault.KindOf(err) != fault.NotFound {
			t.Errorf("a deleted policy: %v", err)
		}
		if n := len(r.events(t, admin, audit.PolicyUpdate)); n != 1 {
			t.Errorf("%d events of changes, want 1", n)
		}
	})
}
