package policy_test

import (
	"testing"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/policy"
)

// Where a subject stands is told under the policies that decide on its requests, an
// organization's own among them.
func TestStatusUnderPolicies(t *testing.T) {
	r := newRoom(t, sqlite(t))
	owner := access.NewCaller("acme", access.User, "boss", access.Owner)
	add := func(caller access.Caller, d policy.Draft) {
		t.Helper()
		d.Effect, d.Subject, d.Reason = "limit", "org", "a test"
		if _, err := r.CreatePolicy(t.Context(), caller, d); err != nil {
			t.Fatal(err)
		}
	}
	add(operator, policy.Draft{Organization: "acme", Limits: []string{"8/1h"}})
	add(owner, policy.Draft{Limits: []string{"5/1h"}})
	if got := r.admitted(t, visit{"acme", "192.0.2.1", "openai", ""}, 9); got != 5 {
		t.Fatalf("%d admitted, want 5", got)
	}
	stands := func(what string, s policy.Subject, err error, limit, used int) {
		t.Helper()
		if err != nil || s.Limit.Requests != limit || s.Used != used {
			t.Errorf("%s: %+v, %v; want %d of %d used", what, s, err, used, limit)
		}
	}
	for _, caller := range []access.Caller{operator, owner} {
		s, err := r.Status(t.Context(), caller, "org", "acme")
		stands("the organization's status", s, err, 5, 5)
	}
	s, err := r.Reset(t.Context(), operator, "org", "acme")
	stands("after a reset", s, err, 5, 0)
}
