package policy_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/policy"
)

// What an observed policy reports is what it refuses once it is in force, request by request: the same
// policies, once with one of them observed and once with it enforced.
func TestObservedIsWhatWouldBeRefused(t *testing.T) {
	limit := func(d policy.Draft, limits ...string) policy.Draft {
		d.Effect, d.Subject, d.Limits = "limit", "org", limits
		return d
	}
	for name, test := range map[string]struct {
		standing []policy.Draft
		tried    policy.Draft
		path     string
		want     int // of eight requests
	}{
		"a block of what is exempt":     {[]policy.Draft{{Effect: "exempt", Service: "openai", CIDR: "192.0.2.0/24"}}, policy.Draft{Effect: "block", CIDR: "192.0.2.0/24"}, "", 8},
		"a limit of what is exempt":     {[]policy.Draft{{Effect: "exempt", Service: "openai", CIDR: "192.0.2.0/24"}}, limit(policy.Draft{}, "2/1m"), "", 0},
		"a less specific limit":         {[]policy.Draft{limit(policy.Draft{Organization: "acme"}, "900/1h")}, limit(policy.Draft{}, "2/1m"), "", 0},
		"less specific by its range":    {[]policy.Draft{limit(policy.Draft{CIDR: "192.0.2.1"}, "900/1h")}, limit(policy.Draft{CIDR: "192.0.2.0/24"}, "2/1m"), "", 0},
		"less specific by its service":  {[]policy.Draft{limit(policy.Draft{Service: "openai"}, "900/1h")}, limit(policy.Draft{}, "2/1m"), "", 0},
		"less specific by its path":     {[]policy.Draft{limit(policy.Draft{Service: "openai", Path: "v1/*"}, "900/1h")}, limit(policy.Draft{Service: "openai", Path: "v1/**"}, "2/1m"), "v1/x", 0},
		"a more specific limit":         {[]policy.Draft{limit(policy.Draft{}, "900/1h")}, limit(policy.Draft{Organization: "acme"}, "2/1m"), "", 6},
		"more specific by its range":    {[]policy.Draft{limit(policy.Draft{CIDR: "192.0.2.0/24"}, "900/1h")}, limit(policy.Draft{CIDR: "192.0.2.1"}, "2/1m"), "", 6},
		"a limit alone":                 {nil, limit(policy.Draft{}, "2/1m"), "", 6},
		"a limit of a segment":          {nil, limit(policy.Draft{Service: "openai", Path: "files/*"}, "2/1m"), "files/a%2Fb", 6},
		"a limit of a separator":        {nil, limit(policy.Draft{Service: "openai", Path: "files/a/b"}, "2/1m"), "files/a%2Fb", 6},
		"a block of a segment":          {nil, policy.Draft{Effect: "block", Service: "openai", Path: "files/*"}, "files/a%2Fb", 8},
		"less specific for one reading": {[]policy.Draft{limit(policy.Draft{Service: "openai", Path: "files/a/b"}, "900/1h")}, limit(policy.Draft{Service: "openai", Path: "**"}, "2/1m"), "files/a%2Fb", 6},
	} {
		t.Run(name, func(t *testing.T) {
			for _, mode := range []string{"observe", "enforce"} {
				r := newRoom(t, sqlite(t))
				for _, d := range test.standing {
					r.make(t, operator, d)
				}
				test.tried.Mode = mode
				r.make(t, operator, test.tried)
				passed := r.admitted(t, visit{"acme", "192.0.2.1", "openai", test.path}, 8)
				if mode == "observe" && (passed != 8 || r.observed != test.want) || mode == "enforce" && passed != 8-test.want {
					t.Errorf("%s: %d of 8 passed, %d were observed, want %d", mode, passed, r.observed, test.want)
				}
			}
		})
	}
}

// An observation is about the organization whose request it was, whoever asked, and each
// organization's are counted by themselves.
func TestObservedOfWhom(t *testing.T) {
	r := newRoom(t, sqlite(t))
	r.make(t, operator, policy.Draft{Effect: "limit", Mode: "observe", Subject: "org", Limits: []string{"1/1h"}})
	r.make(t, operator, policy.Draft{Effect: "block", Mode: "observe", CIDR: "192.0.2.0/24"})
	for i, organization := range []string{"acme", "globex", "acme", "acme", "globex", ""} {
		var q policy.Request
		c := policy.Check{Addr: netip.MustParseAddr("192.0.2.1"), Organization: organization, Consume: true}
		if err := r.Check(t.Context(), operator, netip.Addr{}, c, r.now, &q); err != nil || q.Outcome != policy.Admitted {
			t.Fatalf("request %d: %s, %v", i, q.Outcome, err)
		}
	}
	told := map[string]int64{}
	for _, e := range r.events(t, auditor, audit.LimitObserve) {
		organization, _ := e.Metadata["organization"].(string)
		told[organization+" "+e.Reason] += max(e.Count, 1)
	}
	if diff := cmp.Diff(map[string]int64{
		"acme would_be_limited": 2, "globex would_be_limited": 1,
		"acme would_be_blocked": 3, "globex would_be_blocked": 2, " would_be_blocked": 1,
	}, told); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
