package policy_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/policy"
	"github.com/gatehouse-io/gatehouse/store"
)

// refuse asks about an organization until one request more than its limit was refused.
func (g *gate) refuse(t *testing.T, organization string) {
	t.Helper()
	for i := range orgLimit.Requests + 1 {
		var r policy.Request
		if err := g.Check(t.Context(), operator, netip.Addr{}, policy.Check{Organization: organization, Consume: true}, g.now, &r); err != nil {
			t.Fatal(err)
		}
		if want := i < orgLimit.Requests; r.Decision.Admitted != want {
			t.Fatalf("request %d of %s: %+v", i+1, organization, r.Decision)
		}
	}
}

// Refusals that others asked about stand in the trail of an organization that there is, and of no other:
// one that is made later begins with its own making.
func TestRefusalsOfNobody(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		g := newGate(t, url, memory())
		rename := func(from, to string) {
			t.Helper()
			if err := g.db.UpdateAcross(t.Context(), func(tx *store.Tx) error {
				_, err := tx.Exec(t.Context(), `ALTER TABLE `+from+` RENAME TO `+to)
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := g.CreatePolicy(t.Context(), operator, policy.Draft{Effect: "block", Organization: "ghost2", Reason: "x"}); err != nil {
			t.Fatal(err)
		}
		g.refuse(t, "ghost1")
		var r policy.Request
		if err := g.Check(t.Context(), operator, netip.Addr{}, policy.Check{Organization: "ghost2", Consume: true}, g.now, &r); err != nil || r.Outcome != policy.Blocked {
			t.Fatalf("%s, %v", r.Outcome, err)
		}
		g.refuse(t, "acme")
		for organization, want := range map[string]int{"ghost1": 0, "ghost2": 0, "acme": 1} {
			if events := g.events(t, organization); len(events) != want {
				t.Errorf("the trail of %s: %+v", organization, events)
			}
		}
		for _, action := range []audit.Action{audit.LimitExceed, audit.AccessDeny} {
			page, err := g.trail.Events(t.Context(), operator, audit.Filter{Organization: access.InstanceOrganization, Action: string(action)})
			if err != nil || len(page.Events) != 1 {
				t.Errorf("the instance's trail: %+v, %v", page.Events, err)
			}
		}

		// Not each of them asks the database: within three seconds it is known.
		rename("organizations", "organizations_elsewhere")
		g.now = g.now.Add(2 * time.Second)
		g.refuseOnce(t, "acme")
		g.now = g.now.Add(2 * time.Minute)
		g.refuseOnce(t, "acme") // and where it cannot say so any more, no organization's trail has it
		rename("organizations_elsewhere", "organizations")
		reader := func(organization string) access.Caller {
			if organization == access.InstanceOrganization {
				return operator
			}
			return access.NewCaller(organization, access.User, "reader", access.Auditor)
		}
		count := func(organization string) (n int64) {
			page, err := g.trail.Events(t.Context(), reader(organization), audit.Filter{Organization: organization, Action: string(audit.LimitExceed)})
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range page.Events {
				if e.Metadata["key"] == "acme" {
					n += max(e.Count, 1)
				}
			}
			return n
		}
		if own, instance := count("acme"), count(access.InstanceOrganization); own != 2 || instance != 1 {
			t.Errorf("%d refusals in its own trail, %d in the instance's", own, instance)
		}
	})
}

func (g *gate) refuseOnce(t *testing.T, organization string) {
	t.Helper()
	var r policy.Request
	if err := g.Check(t.Context(), operator, netip.Addr{}, policy.Check{Organization: organization, Consume: true}, g.now, &r); err != nil || r.Outcome != policy.Denied {
		t.Fatalf("%s: %s, %v", organization, r.Outcome, err)
	}
}
