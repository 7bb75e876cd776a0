package policy_test

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/policy"
	"github.com/gatehouse-io/gatehouse/ratelimit"
	"github.com/gatehouse-io/gatehouse/store"
)

func containsText(b []byte, s string) bool { return bytes.Contains(b, []byte(s)) }

func TestReset(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		g := newGate(t, url, memory())
		for range 3 {
			g.take(t, developer, "192.0.2.1")
		}
		everybody := access.NewCaller("acme", access.User, "x", access.Owner, access.Admin, access.Developer, access.Auditor, access.Viewer, access.ServiceRole)
		for _, c := range []access.Caller{developer, everybody, {}} {
			for typ, key := range map[string]string{"org": "acme", "ip": "192.0.2.1"} {
				var denied *access.DeniedError
				if _, err := g.Reset(t.Context(), c, typ, key); !errors.As(err, &denied) {
					t.Errorf("%s reset as %v: %v", typ, c.Roles, err)
				}
			}
		}
		for typ, key := range map[string]string{"ip": "nonsense", "org": "_instance", "": "acme"} {
			if _, err := g.Reset(t.Context(), operator, typ, key); fault.KindOf(err) != fault.Invalid {
				t.Errorf("%s %s: %v", typ, key, err)
			}
		}
		if g.take(t, developer, "192.0.2.1") {
			t.Error("something that was refused reset the address")
		}
		s, err := g.Reset(t.Context(), operator, "ip", "::ffff:192.0.2.1")
		if err != nil || s.Used != 0 || s.Key != "192.0.2.1" || s.Remaining != ipLimit.Requests {
			t.Errorf("Reset: %+v, %v", s, err)
		}
		if !g.take(t, developer, "192.0.2.1") {
			t.Error("denied after the reset")
		}
		if s, err := g.Status(t.Context(), operator, "org", "acme"); err != nil || s.Used != 4 {
			t.Errorf("the organization beside it: %+v, %v", s, err)
		}
		if s, err := g.Reset(t.Context(), operator, "organization", "acme"); err != nil || s.Used != 0 || s.Type != policy.Organization {
			t.Errorf("Reset of the organization: %+v, %v", s, err)
		}
		var ofOrganization []audit.Event
		for _, e := range g.events(t, "acme") {
			if e.Action == audit.LimitReset {
				ofOrganization = append(ofOrganization, e)
			}
		}
		if len(ofOrganization) != 1 || ofOrganization[0].Metadata["key"] != "acme" || ofOrganization[0].Actor.ID != "root" {
			t.Errorf("the organization's own trail: %+v", ofOrganization)
		}
		page, err := g.trail.Events(t.Context(), operator, audit.Filter{Organization: access.InstanceOrganization, Action: "limit.reset"})
		if err != nil || len(page.Events) != 1 || page.Events[0].Personal["key"] != "192.0.2.1" {
			t.Errorf("the instance's trail: %+v, %v", page.Events, err)
		}
	})
}

// An organization begins with no event that was of another's making.
func TestResetOfNobody(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		g := newGate(t, url, memory())
		if s, err := g.Reset(t.Context(), operator, "org", "ghost-org"); err != nil || s.Used != 0 {
			t.Errorf("%+v, %v", s, err)
		}
		if events := g.events(t, "ghost-org"); len(events) != 0 {
			t.Errorf("its trail: %+v", events)
		}
		page, err := g.trail.Events(t.Context(), operator, audit.Filter{Organization: access.InstanceOrganization, Action: "limit.reset"})
		if err != nil || len(page.Events) != 1 || page.Events[0].Metadata["key"] != "ghost-org" {
			t.Errorf("the instance's trail: %+v, %v", page.Events, err)
		}
	})
}

// Without its event nothing is reset.
func TestNoResetWithoutItsEvent(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		g := newGate(t, url, memory())
		g.take(t, developer, "192.0.2.1")
		err := g.db.Update(t.Context(), "acme", func(tx *store.Tx) error {
			_, err := tx.Exec(t.Context(), `ALTER TABLE events RENAME TO events_elsewhere`)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		for typ, key := range map[string]string{"org": "acme", "ip": "192.0.2.1"} {
			if _, err := g.Reset(t.Context(), operator, typ, key); err == nil {
				t.Errorf("%s: Reset said that it is done", typ)
			}
			if s, err := g.Status(t.Context(), operator, typ, key); err != nil || s.Used != 1 {
				t.Errorf("%s: %+v, %v", typ, s, err)
			}
		}
	})
}

// away is a limiter whose store does not answer.
type away struct{ err error }

func (a away) Take(context.Context, time.Time, []ratelimit.Subject, *ratelimit.Decision) error {
	return a.err
}

func (a away) Peek(context.Context, time.Time, []ratelimit.Subject, *ratelimit.Decision) error {
	return a.err
}
func (a away) Reset(context.Context, string, string) error { return a.err }

func TestLimiterAway(t *testing.T) {
	for _, cause := range []error{ratelimit.ErrUnavailable, ratelimit.ErrFull} {
		g := newGate(t, t.TempDir()+"/gatehouse.db", away{cause})
		var r policy.Request
		g.Prepare(&r, developer, policy.Visit{Addr: netip.MustParseAddr("192.0.2.1")}, g.now)
		_, _, _, ownErr := g.Own(t.Context(), developer, netip.MustParseAddr("192.0.2.1"))
		_, statusErr := g.Status(t.Context(), operator, "ip", "192.0.2.1")
		_, resetErr := g.Reset(t.Context(), operator, "org", "acme")
		for what, err := range map[string]error{
			"Take": g.Take(t.Context(), developer, noon, &r), "Own": ownErr, "Status": statusErr, "Reset": resetErr,
		} {
			f, _ := fault.As(err)
			if fault.KindOf(err) != fault.Unavailable || f.RetryAfter == 0 || !errors.Is(err, cause) {
				t.Errorf("%s while %v: %v", what, cause, err)
			}
		}
		outcomes := map[audit.Outcome]int{}
		for _, e := range g.events(t, "acme") {
			outcomes[e.Outcome]++
		}
		if outcomes[audit.Failure] != 1 {
			t.Errorf("a reset that failed is told of as %v", outcomes)
		}
	}
}

func TestTestsAreLimited(t *testing.T) {
	g := newGate(t, t.TempDir()+"/gatehouse.db", memory())
	g.Limits = policy.New(g.limiter, g.db, g.trail, policy.Defaults{
		IP: []ratelimit.Limit{ipLimit}, Organization: []ratelimit.Limit{orgLimit}, Tests: []ratelimit.Limit{{Requests: 2, Window: time.Minute}},
	}, policy.Options{Now: func() time.Time { return noon }})
	for range 2 {
		if err := g.TakeTest(t.Context(), developer); err != nil {
			t.Fatal(err)
		}
	}
	err := g.TakeTest(t.Context(), developer)
	if f, _ := fault.As(err); fault.KindOf(err) != fault.Limited || f.RetryAfter != time.Minute {
		t.Errorf("a third test of two: %+v", err)
	}
	if err := g.TakeTest(t.Context(), access.NewCaller("globex", access.User, "u-1", access.Developer)); err != nil {
		t.Errorf("another organization: %v", err)
	}
	if s, err := g.Status(t.Context(), operator, "org", "acme"); err != nil || s.Used != 0 {
		t.Errorf("a test counted as a request: %+v, %v", s, err)
	}
	events := g.events(t, "acme")
	if len(events) != 1 || events[0].Metadata["type"] != "test" || events[0].Metadata["limit"] != 2.0 {
		t.Errorf("the events: %+v", events)
	}
}
