package policy_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/policy"
)

// A slash that is encoded is a separator to some servers, and a part of its segment to others: policies
// hold for both readings of a path, so that nobody passes by one, or under one, by the way it is written.
func TestPoliciesHoldForBothReadingsOfAnEncodedSlash(t *testing.T) {
	r := newRoom(t, sqlite(t))
	limit := func(path string, limits ...string) {
		r.make(t, operator, policy.Draft{Effect: "limit", Subject: "org", Service: "stripe", Path: path, Limits: limits})
	}
	limit("repos/*/*/branches/*", "5/1h")
	limit("repos/*/*/branches/*/protection", "900/1h")
	limit("v1/models/**", "7/1h")
	r.make(t, admin, policy.Draft{Effect: "limit", Subject: "org", Service: "stripe", Path: "own/*", Limits: []string{"3/1h"}})
	r.make(t, operator, policy.Draft{Effect: "block", Service: "stripe", Path: "secret/*"})
	r.make(t, operator, policy.Draft{Effect: "block", Service: "stripe", Path: "hidden/a/b"})
	r.make(t, operator, policy.Draft{Effect: "exempt", Service: "stripe", Path: "free/*"})
	r.make(t, operator, policy.Draft{Effect: "exempt", Service: "stripe", Path: "gratis/**"})

	for path, want := range map[string][]string{
		"repos/o/r/branches/x":                 {"5/1h"},
		"repos/o/r/branches/x/protection":      {"900/1h"},
		"repos/o/r/branches/x%2Fprotection":    {"900/1h", "5/1h"}, // not the looser one alone
		"repos/o/r/branches/feature%2fx":       {"1000/1h", "5/1h"},
		"repos/o/r/%62ranches/feature%2Fx%2Fy": {"1000/1h", "5/1h"},
		"v1/models/x":                          {"7/1h"},
		"v1%2Fmodels/x":                        {"7/1h", "1000/1h"},
		"v1%2fmodels%2Fx":                      {"7/1h", "1000/1h"},
		"v1/models/x%2Fy":                      {"7/1h"}, // the same for both
		"v1/models%2F..%2Fmodels/x":            {"7/1h", "1000/1h"},
		"own/a":                                {"1000/1h", "3/1h"},
		"own/a%2Fb":                            {"1000/1h", "3/1h"},
		"own%2Fa":                              {"1000/1h", "3/1h"},
		"own%2Fa%252Fb":                        {"1000/1h", "3/1h"},
		"repos/o/r/branches/x%252Fprotection":  {"900/1h", "5/1h"},
	} {
		got := r.holding(visit{"acme", "192.0.2.1", "stripe", path})[policy.Organization]
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", path, diff)
		}
	}
	for path, want := range map[string]policy.Outcome{
		"secret/a": policy.Blocked, "secret/a%2Fb": policy.Blocked, "secret%2Fa": policy.Blocked, "secret/a/b": policy.Admitted,
		"hidden/a%2Fb": policy.Blocked, "hidden%2Fa%2fb": policy.Blocked,
		"free/a": policy.Exempted, "free/a%2Fb": policy.Admitted, "free%2Fa": policy.Admitted,
		"gratis/a%2Fb": policy.Exempted, "gratis%2Fa": policy.Admitted,
		// Encoded more than once, and differently: some server decodes as often as it must.
		"secret/a%252Fb": policy.Blocked, "secret/a%25252fb": policy.Blocked, "secret/a%2%46b": policy.Blocked, "secret%2Fa%252Fb": policy.Blocked,
		"hidden/a%252Fb": policy.Blocked, "secret/a%2Fb%zz": policy.Blocked, "//x/../secret;v=1/a%2Fb/": policy.Blocked, "free/a%252Fb": policy.Admitted,
	} {
		if got := r.take(t, visit{"other", "192.0.2.1", "stripe", path}); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	// They count together: a request of either reading uses up both.
	v := visit{"third", "192.0.2.2", "stripe", "repos/o/r/branches/a%2Fb"}
	if n := r.admitted(t, v, 10); n != 5 {
		t.Errorf("%d of 10 are admitted under a limit of 5", n)
	}
	if n := r.admitted(t, visit{"third", "192.0.2.2", "stripe", "repos/o/r/branches/a"}, 1); n != 0 {
		t.Error("a plain path has a count of its own")
	}
}

// However many readings a path has, and however many of them an organization has limits of its own for,
// these take the place of none of the operator's.
func TestOwnLimitsCrowdNoneOut(t *testing.T) {
	r := newRoom(t, sqlite(t))
	r.make(t, operator, policy.Draft{Effect: "limit", Subject: "org", Service: "stripe", Path: "a/b/*", Limits: []string{"2/1h"}})
	for _, subject := range []string{policy.IP, policy.Organization} {
		for _, path := range []string{"a/b/c/d", "*", "a/*"} {
			r.make(t, admin, policy.Draft{Effect: "limit", Subject: subject, Service: "stripe", Path: path, Limits: []string{"50/1h"}})
		}
	}
	if n := r.admitted(t, visit{"acme", "192.0.2.1", "stripe", "a%2Fb%252Fc%25252Fd"}, 10); n != 2 {
		t.Errorf("%d of 10 are admitted, want the operator's 2", n)
	}
}
