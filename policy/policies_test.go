package policy_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/policy"
	"github.com/gatehouse-io/gatehouse/store"
)

func addrOf(s string) netip.Addr { return netip.MustParseAddr(s) }

// events gives the instance's events of an action, oldest first.
func (r *room) events(t testing.TB, as access.Caller, action audit.Action) []audit.Event {
	t.Helper()
	page, err := r.log.Events(t.Context(), as, audit.Filter{Action: string(action)})
	if err != nil {
		t.Fatal(err)
	}
	for i, j := 0, len(page.Events)-1; i < j; i, j = i+1, j-1 {
		page.Events[i], page.Events[j] = page.Events[j], page.Events[i]
	}
	return page.Events
}

// A policy lives from its creation to its rollback, with an event and a
// revision for each step, and other instances follow.
func TestLifeOfAPolicy(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		r := newRoom(t, url)
		elsewhere := r.again(t)
		ctx := t.Context()
		v := visit{"acme", "192.0.2.1", "openai", ""}
		draft := policy.Draft{
			Effect: "limit", Subject: "organization", Organization: "acme", Service: "openai", CIDR: "192.0.2.0/24",
			Limits: []string{"3/1s", "5/1h"}, Reason: "trial plan",
		}
		p := r.make(t, operator, draft)
		if p.Revision != 1 || p.Owner != access.InstanceOrganization || p.CreatedBy != "root" || p.CreatedAt.IsZero() {
			t.Errorf("made %+v", p)
		}
		got, err := r.Policy(ctx, operator, p.ID)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(p, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
			t.Errorf("what is stored (-made +read):\n%s", diff)
		}
		if n := r.admitted(t, v, 10); n != 3 {
			t.Errorf("%d admitted under 3/1s", n)
		}
		if err := elsewhere.Load(ctx); err != nil {
			t.Fatal(err)
		}

		draft.Limits = []string{"4/1h"}
		_, err = r.UpdatePolicy(ctx, operator, p.ID, store.MatchOf(7), draft)
		checkFault(t, err, fault.Stale)
		p, err = r.UpdatePolicy(ctx, operator, p.ID, store.MatchOf(1), draft)
		if err != nil || p.Revision != 2 {
			t.Fatalf("updated to %+v, %v", p, err)
		}
		if n := r.admitted(t, v, 10); n != 1 {
			t.Errorf("%d more admitted after 3 under 4/1h", n)
		}
		if err := r.DeletePolicy(ctx, operator, p.ID, store.MatchOf(1)); fault.KindOf(err) != fault.Stale {
			t.Errorf("deleting an old state: %v", err)
		}
		if err := r.DeletePolicy(ctx, operator, p.ID, store.MatchOf(2)); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Policy(ctx, operator, p.ID); fault.KindOf(err) != fault.NotFound {
			t.Errorf("a deleted policy: %v", err)
		}
		if n := r.admitted(t, v, 10); n != 10 {
			t.Errorf("%d of 10 admitted without the policy", n)
		}

		// Back to the first state, though it was deleted.
		_, err = r.RollBack(ctx, operator, p.ID, store.Match{}, 3)
		checkFault(t, err, fault.Invalid, "revision")
		p, err = r.RollBack(ctx, operator, p.ID, store.MatchOf(3), 1)
		if err != nil || p.Revision != 4 || len(p.Limits) != 2 {
			t.Fatalf("rolled back to %+v, %v", p, err)
		}
		revisions, err := r.Revisions(ctx, operator, p.ID)
		if err != nil || len(revisions) != 4 || revisions[0].Revision != 4 || revisions[1].Content != nil || revisions[3].Content == nil {
			t.Errorf("revisions %+v, %v", revisions, err)
		}

		var story []string
		for _, action := range []audit.Action{audit.PolicyCreate, audit.PolicyUpdate, audit.PolicyDelete} {
			for _, e := range r.events(t, auditor, action) {
				before, _ := e.Metadata["before"].(string)
				after, _ := e.Metadata["after"].(string)
				window := func(s string) string {
					for _, w := range []string{`["3/1s","5/1h"]`, `["4/1h"]`} {
						if strings.Contains(s, w) {
							return w
						}
					}
					return "-"
				}
				story = append(story, fmt.Sprintf("%s %s %s to %s by %s", e.Action, e.Class, window(before), window(after), e.Actor.ID))
				if strings.Contains(before+after, "192.0.2") || strings.Contains(before+after, "trial") {
					t.Errorf("personal data where it cannot be erased: %s %s", before, after)
				}
				if e.Personal["afterCidr"]+e.Personal["beforeCidr"] == "" {
					t.Errorf("the range is not in the event: %v", e.Personal)
				}
			}
		}
		want := []string{
			`policy.create control - to ["3/1s","5/1h"] by root`,
			`policy.update control ["3/1s","5/1h"] to ["4/1h"] by root`,
			`policy.update control - to ["3/1s","5/1h"] by root`,
			`policy.delete control ["4/1h"] to - by root`,
		}
		if diff := cmp.Diff(want, story); diff != "" {
			t.Errorf("the trail (-want +got):\n%s", diff)
		}

		// A new instance finds it.
		r.Limits = r.again(t)
		if n := r.admitted(t, v, 10); n != 3 {
			t.Errorf("%d admitted after a restart, want 3", n)
		}
	})
}

// An organization reaches its own policies and no others.
func TestReach(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		r := newRoom(t, url)
		ctx := t.Context()
		theirs := r.make(t, operator, policy.Draft{Effect: "limit", Subject: "org", Organization: "acme", Limits: []string{"500/1h"}})
		own := r.make(t, admin, policy.Draft{Effect: "limit", Subject: "org", Limits: []string{"50/1h"}})
		if own.Owner != "acme" || own.Organization != "acme" {
			t.Errorf("an own policy is %+v", own)
		}
		viewer := access.NewCaller("acme", access.User, "v", access.Viewer)
		for _, caller := range []access.Caller{admin, viewer} {
			page, err := r.Policies(ctx, caller, policy.Filter{})
			if err != nil || len(page.Policies) != 1 || page.Policies[0].ID != own.ID {
				t.Errorf("%s lists %+v, %v", caller.ID, page, err)
			}
			if _, err := r.Policy(ctx, caller, theirs.ID); fault.KindOf(err) != fault.NotFound {
				t.Errorf("%s reads the operator's: %v", caller.ID, err)
			}
			if _, err := r.Policy(ctx, caller, own.ID); err != nil {
				t.Errorf("%s reads its own: %v", caller.ID, err)
			}
		}
		draft := policy.Draft{Effect: "limit", Subject: "org", Limits: []string{"40/1h"}, Reason: "x"}
		for _, c := range []struct {
			caller access.Caller
			id     string
			found  bool
		}{{admin, theirs.ID, false}, {stranger, own.ID, false}, {stranger, theirs.ID, false}, {operator, own.ID, true}, {admin, own.ID, true}} {
			_, err := r.UpdatePolicy(ctx, c.caller, c.id, store.Match{}, draft)
			if c.found != (err == nil) || !c.found && fault.KindOf(err) != fault.NotFound {
				t.Errorf("%s of %s changes %s: %v", c.caller.ID, c.caller.Organization, c.id, err)
			}
			if c.found {
				continue
			}
			if err := r.DeletePolicy(ctx, c.caller, c.id, store.Match{}); fault.KindOf(err) != fault.NotFound {
				t.Errorf("%s of %s deletes %s: %v", c.caller.ID, c.caller.Organization, c.id, err)
			}
			if _, err := r.RollBack(ctx, c.caller, c.id, store.Match{}, 1); fault.KindOf(err) != fault.NotFound {
				t.Errorf("%s of %s rolls %s back: %v", c.caller.ID, c.caller.Organization, c.id, err)
			}
			if _, err := r.Revisions(ctx, c.caller, c.id); fault.KindOf(err) != fault.NotFound {
				t.Errorf("%s of %s reads the revisions of %s: %v", c.caller.ID, c.caller.Organization, c.id, err)
			}
		}
		for _, caller := range []access.Caller{viewer, member} {
			if _, err := r.CreatePolicy(ctx, caller, draft); err == nil {
				t.Errorf("%s makes a policy", caller.ID)
			}
			if err := r.DeletePolicy(ctx, caller, own.ID, store.Match{}); err == nil {
				t.Errorf("%s deletes a policy", caller.ID)
			}
		}
		if _, err := r.Policies(ctx, admin, policy.Filter{Owner: access.InstanceOrganization}); err == nil {
			t.Error("an admin lists the operator's")
		}
		// What the operator does to a tenant's own policy stands in the tenant's trail.
		if err := r.DeletePolicy(ctx, operator, own.ID, store.Match{}); err != nil {
			t.Fatal(err)
		}
		if e := r.events(t, admin, audit.PolicyDelete); len(e) != 1 || e[0].Actor.ID != "root" {
			t.Errorf("the tenant's trail has %+v", e)
		}
		// Pages.
		for i := range 5 {
			r.make(t, operator, policy.Draft{Effect: "block", CIDR: fmt.Sprintf("192.0.2.%d", i)})
		}
		var ids []string
		f := policy.Filter{Limit: 2}
		for {
			page, err := r.Policies(ctx, operator, f)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range page.Policies {
				ids = append(ids, p.ID)
			}
			if f.Cursor = page.NextCursor; f.Cursor == "" {
				break
			}
		}
		if len(ids) != 6 {
			t.Errorf("pages of two list %d policies, want 6", len(ids))
		}
	})
}

// What an organization sets itself only takes away.
func TestOwnPoliciesTighten(t *testing.T) {
	r := newRoom(t, sqlite(t))
	r.make(t, operator, policy.Draft{Effect: "limit", Subject: "org", Organization: "acme", Service: "openai", Limits: []string{"10/1m", "100/1h"}})
	for _, test := range []struct {
		d    policy.Draft
		want []string
	}{
		{policy.Draft{Effect: "limit", Subject: "org", Limits: []string{"1001/1h"}}, []string{"limits[0]"}},
		{policy.Draft{Effect: "limit", Subject: "org", Limits: []string{"1001/1m"}}, []string{"limits[0]"}},
		{policy.Draft{Effect: "limit", Subject: "org", Limits: []string{"5/1s", "2001/2h"}}, []string{"limits[1]"}},
		{policy.Draft{Effect: "limit", Subject: "ip", Limits: []string{"101/1m"}}, []string{"limits[0]"}},
		{policy.Draft{Effect: "limit", Subject: "org", Service: "openai", Limits: []string{"11/1m"}}, []string{"limits[0]"}},
		{policy.Draft{Effect: "limit", Subject: "org", Service: "openai", Path: "v1/x", CIDR: "192.0.2.0/24", Limits: []string{"11/1m"}}, []string{"limits[0]"}},
		{policy.Draft{Effect: "exempt", CIDR: "192.0.2.0/24"}, []string{"effect"}},
		{policy.Draft{Effect: "limit", Subject: "org", Organization: "other", Limits: []string{"1/1h"}}, []string{"organization"}},
		{policy.Draft{Effect: "limit", Subject: "org", Limits: []string{"1000/1h"}}, nil},
		{policy.Draft{Effect: "limit", Subject: "org", CIDR: "192.0.2.0/24", Limits: []string{"20/1s", "2000/2h"}}, nil},
		{policy.Draft{Effect: "limit", Subject: "org", Service: "openai", Limits: []string{"9/1m"}}, nil},
	} {
		test.d.Reason = "x"
		_, err := r.CreatePolicy(t.Context(), admin, test.d)
		if test.want == nil {
			if err != nil {
				t.Errorf("%+v: %v %q", test.d, err, fieldsOf(err))
			}
			continue
		}
		checkFault(t, err, fault.Invalid, test.want...)
	}

	rapid.Check(t, func(t *rapid.T) {
		// Whatever is stored as an organization's own, it is never admitted more
		// than with the operator's limits alone.
		r.now = r.now.Add(48 * time.Hour)
		d := policy.Draft{
			Effect: "limit", Reason: "x", Subject: rapid.SampledFrom([]string{"ip", "org"}).Draw(t, "subject"),
			Service: rapid.SampledFrom([]string{"", "openai", "stripe"}).Draw(t, "service"),
			CIDR:    rapid.SampledFrom([]string{"", "192.0.2.0/24"}).Draw(t, "cidr"),
			Limits:  []string{fmt.Sprintf("%d/%ds", rapid.IntRange(1, 200).Draw(t, "requests"), rapid.IntRange(1, 7200).Draw(t, "window"))},
		}
		own := access.NewCaller("tenant", access.User, "admin", access.Admin)
		p, err := r.CreatePolicy(t.Context(), own, d)
		if err != nil {
			return
		}
		defer func() { _ = r.DeletePolicy(t.Context(), own, p.ID, store.Match{}) }()
		for range 150 {
			v := policy.Visit{Addr: addrOf("192.0.2.1"), Service: "openai"}
			var with, without policy.Request
			r.Prepare(&with, own, v, r.now)
			r.Prepare(&without, access.NewCaller("free", access.User, "x"), v, r.now)
			if err := r.Take(t.Context(), own, r.now, &with); err != nil {
				t.Fatal(err)
			}
			if err := r.Peek(t.Context(), r.now, &without); err != nil {
				t.Fatal(err)
			}
			if with.Outcome == policy.Admitted && without.Standing(policy.IPIndex).Used > 100 {
				t.Fatal("the address is over the operator's limit")
			}
		}
	})
}

// The mode observe counts and reports, and refuses nothing.
func TestObserveNeverDenies(t *testing.T) {
	r := newRoom(t, sqlite(t))
	r.make(t, operator, policy.Draft{Effect: "limit", Mode: "observe", Subject: "org", Service: "openai", Limits: []string{"3/1h"}})
	r.make(t, operator, policy.Draft{Effect: "limit", Mode: "observe", Subject: "ip", Limits: []string{"8/1h"}})
	r.make(t, operator, policy.Draft{Effect: "block", Mode: "observe", CIDR: "192.0.2.0/24"})
	r.make(t, admin, policy.Draft{Effect: "limit", Mode: "observe", Subject: "org", Limits: []string{"1/1h"}})
	if got := r.admitted(t, visit{"acme", "192.0.2.1", "openai", ""}, 10); got != 10 {
		t.Errorf("%d of 10 admitted", got)
	}
	// 7 over the organization's, 2 over the address's, 10 blocked, 9 over its own.
	if r.observed != 7+2+10+9 {
		t.Errorf("%d observed, want 28", r.observed)
	}
	q, _ := r.prepare(visit{"acme", "192.0.2.1", "openai", ""})
	if err := r.Peek(t.Context(), r.now, q); err != nil || q.Standing(policy.IPIndex).Used != 10 || q.Standing(policy.OrganizationIndex).Limit.Requests != 1000 {
		t.Errorf("the real counts are %+v, %v", q.Decision.Statuses, err)
	}
	reasons := map[string]int64{}
	for _, e := range r.events(t, auditor, audit.LimitObserve) {
		reasons[e.Reason] += max(e.Count, 1)
		if e.Outcome != audit.Success || e.Metadata["policy"] == "" {
			t.Errorf("an observation is %+v", e)
		}
	}
	if diff := cmp.Diff(map[string]int64{"would_be_blocked": 10, "would_be_limited": 9}, reasons); diff != "" {
		t.Errorf("the operator's trail (-want +got):\n%s", diff)
	}
	own := int64(0)
	for _, e := range r.events(t, admin, audit.LimitObserve) {
		own += max(e.Count, 1)
	}
	if own != 9 {
		t.Errorf("the organization's own trail tells of %d observations, want 9", own)
	}
	// Over a real limit nothing is observed.
	before := r.observed
	if got := r.admitted(t, visit{"beta", "198.51.100.1", "stripe", ""}, 120); got != 100 {
		t.Errorf("%d of 120 admitted", got)
	}
	if n := r.observed - before; n != 92 {
		t.Errorf("%d observed over 8 of the 100 admitted, want 92", n)
	}
}

// A scope holds one policy; what contradicts is refused whole.
func TestContradictions(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		r := newRoom(t, url)
		ctx := t.Context()
		first := r.make(t, operator, policy.Draft{Effect: "limit", Subject: "org", Organization: "acme", Service: "openai", Path: "/v1/chat", Limits: []string{"5/1h"}})
		r.make(t, operator, policy.Draft{Effect: "block", CIDR: "192.0.2.0/24"})
		for _, test := range []struct {
			d     policy.Draft
			field string
		}{
			{policy.Draft{Effect: "limit", Subject: "organization", Organization: "acme", Service: "openai", Path: "v1/chat", Limits: []string{"6/1h"}}, "path"},
			{policy.Draft{Effect: "block", CIDR: "192.0.2.0/24"}, "cidr"},
			{policy.Draft{Effect: "exempt", CIDR: "::ffff:192.0.2.0/120"}, "cidr"},
		} {
			test.d.Reason = "x"
			_, err := r.CreatePolicy(ctx, operator, test.d)
			checkFault(t, err, fault.Invalid, test.field)
		}
		// The same in the other mode, for another subject, or of another owner is no contradiction.
		other := r.make(t, operator, policy.Draft{Effect: "limit", Mode: "observe", Subject: "org", Organization: "acme", Service: "openai", Path: "v1/chat", Limits: []string{"6/1h"}})
		r.make(t, operator, policy.Draft{Effect: "limit", Subject: "ip", Organization: "acme", Service: "openai", Path: "v1/chat", Limits: []string{"6/1h"}})
		r.make(t, admin, policy.Draft{Effect: "limit", Subject: "org", Service: "openai", Path: "v1/chat", Limits: []string{"4/1h"}})
		// A change into another's scope is refused, and nothing of it stays.
		_, err := r.UpdatePolicy(ctx, operator, other.ID, store.Match{}, policy.Draft{Effect: "limit", Subject: "org", Organization: "acme", Service: "openai", Path: "v1/chat", Limits: []string{"6/1h"}, Reason: "x"})
		checkFault(t, err, fault.Invalid, "path")
		if p, err := r.Policy(ctx, operator, other.ID); err != nil || p.Revision != 1 || p.Mode != policy.Observe {
			t.Errorf("after a refused change: %+v, %v", p, err)
		}
		if n := len(r.events(t, auditor, audit.PolicyUpdate)); n != 0 {
			t.Errorf("%d events of changes that did not happen", n)
		}
		// Rolling back into a scope that is taken.
		if err := r.DeletePolicy(ctx, operator, first.ID, store.Match{}); err != nil {
			t.Fatal(err)
		}
		r.make(t, operator, policy.Draft{Effect: "limit", Subject: "org", Organization: "acme", Service: "openai", Path: "v1/chat", Limits: []string{"7/1h"}})
		_, err = r.RollBack(ctx, operator, first.ID, store.Match{}, 1)
		checkFault(t, err, fault.Invalid, "path")
	})
}
