package policy_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/policy"
	"github.com/gatehouse-io/gatehouse/ratelimit"
	"github.com/gatehouse-io/gatehouse/store"
)

// holding gives the limits that hold for a visit, by subject.
func (r *room) holding(v visit) map[string][]string {
	q, _ := r.prepare(v)
	got := map[string][]string{}
	q.Limits(func(class int, l ratelimit.Limit) {
		name := policy.IP
		if class == policy.OrganizationIndex {
			name = policy.Organization
		}
		got[name] = append(got[name], l.String())
	})
	return got
}

// TestPrecedence is the table of the package comment: of the policies that hold
// for a request the most specific one stands.
func TestPrecedence(t *testing.T) {
	r := newRoom(t, sqlite(t))
	org := func(d policy.Draft, limits ...string) policy.Draft {
		d.Effect, d.Subject, d.Limits = "limit", "org", limits
		return d
	}
	ip := func(d policy.Draft, limits ...string) policy.Draft {
		d.Effect, d.Subject, d.Limits = "limit", "ip", limits
		return d
	}
	past := r.now.Add(time.Minute)
	for _, d := range []policy.Draft{
		org(policy.Draft{}, "900/1h"),
		org(policy.Draft{Service: "openai"}, "800/1h"),
		org(policy.Draft{Service: "openai", Path: "v1/**"}, "790/1h"),
		org(policy.Draft{Service: "openai", Path: "v1/chat/*"}, "780/1h"),
		org(policy.Draft{Service: "openai", Path: "v1/*/completions"}, "775/1h"),
		org(policy.Draft{Service: "openai", Path: "v1/chat/completions"}, "770/1h"),
		org(policy.Draft{CIDR: "203.0.113.0/24"}, "700/1h"),
		org(policy.Draft{CIDR: "203.0.113.7"}, "690/1h"),
		org(policy.Draft{CIDR: "203.0.113.0/24", Service: "openai"}, "680/1h"),
		org(policy.Draft{Organization: "acme"}, "600/1h"),
		org(policy.Draft{Organization: "acme", Service: "stripe"}, "20/1s", "500/1h"),
		org(policy.Draft{Organization: "acme", CIDR: "198.51.100.0/24"}, "400/1h"),
		org(policy.Draft{Organization: "gone", ExpiresAt: &past}, "1/1h"),
		org(policy.Draft{Organization: "tried", Mode: "observe"}, "1/1h"),
		ip(policy.Draft{CIDR: "2001:db8::/32"}, "90/1m"),
		ip(policy.Draft{CIDR: "2001:db8:0:1::/64"}, "80/1m"),
		ip(policy.Draft{CIDR: "0.0.0.0/0"}, "70/1m"),
	} {
		r.make(t, operator, d)
	}
	r.now = r.now.Add(2 * time.Minute)
	for _, test := range []struct {
		name    string
		v       visit
		ip, org string
	}{
		{"an operator's policy for everybody stands over the environment's", visit{"beta", "192.0.2.1", "", ""}, "70/1m", "900/1h"},
		{"a service", visit{"beta", "192.0.2.1", "openai", ""}, "70/1m", "800/1h"},
		{"another service", visit{"beta", "192.0.2.1", "stripe", "v1/charges"}, "70/1m", "900/1h"},
		{"a path that is open at its end", visit{"beta", "192.0.2.1", "openai", "v1/models"}, "70/1m", "790/1h"},
		{"** takes none as well", visit{"beta", "192.0.2.1", "openai", "v1"}, "70/1m", "790/1h"},
		{"a path with one segment of any kind", visit{"beta", "192.0.2.1", "openai", "v1/chat/x"}, "70/1m", "780/1h"},
		{"* takes one segment", visit{"beta", "192.0.2.1", "openai", "v1/chat/x/y"}, "70/1m", "790/1h"},
		{"an exact path", visit{"beta", "192.0.2.1", "openai", "v1/chat/completions"}, "70/1m", "770/1h"},
		{"the same path with an escape", visit{"beta", "192.0.2.1", "openai", "v1/ch%61t/completions"}, "70/1m", "770/1h"},
		{"escaped twice", visit{"beta", "192.0.2.1", "openai", "v1/ch%2561t/completions"}, "70/1m", "770/1h"},
		{"with empty segments and a slash at its end", visit{"beta", "192.0.2.1", "openai", "v1//chat/completions/"}, "70/1m", "770/1h"},
		{"with parameters", visit{"beta", "192.0.2.1", "openai", "v1/chat;x=1/completions;y"}, "70/1m", "770/1h"},
		{"with dot segments", visit{"beta", "192.0.2.1", "openai", "x/../v1/./chat/%2e/completions"}, "70/1m", "770/1h"},
		{"with more dots than segments", visit{"beta", "192.0.2.1", "openai", "../../v1/chat/completions"}, "70/1m", "770/1h"},
		{"a path is another in another case", visit{"beta", "192.0.2.1", "openai", "v1/Chat/completions"}, "70/1m", "775/1h"},
		{"an address range before service and path", visit{"beta", "203.0.113.9", "stripe", ""}, "70/1m", "700/1h"},
		{"the longer prefix", visit{"beta", "203.0.113.7", "openai", "v1/chat/completions"}, "70/1m", "690/1h"},
		{"of one prefix the service", visit{"beta", "203.0.113.9", "openai", "v1/chat/completions"}, "70/1m", "680/1h"},
		{"a mapped address is the IPv4 one", visit{"beta", "::ffff:203.0.113.9", "openai", ""}, "70/1m", "680/1h"},
		{"the organization before all", visit{"acme", "203.0.113.7", "openai", "v1/chat/completions"}, "70/1m", "600/1h"},
		{"several windows", visit{"acme", "203.0.113.7", "stripe", ""}, "70/1m", "20/1s 500/1h"},
		{"of an organization the address range", visit{"acme", "198.51.100.1", "stripe", ""}, "70/1m", "400/1h"},
		{"an expired policy is none", visit{"gone", "192.0.2.1", "", ""}, "70/1m", "900/1h"},
		{"an observed policy does not stand", visit{"tried", "192.0.2.1", "", ""}, "70/1m", "900/1h"},
		{"an IPv6 range", visit{"beta", "2001:db8:1::1", "", ""}, "90/1m", "900/1h"},
		{"a longer IPv6 range", visit{"beta", "2001:db8:0:1:2::1", "", ""}, "80/1m", "900/1h"},
		{"0.0.0.0/0 holds no IPv6", visit{"beta", "2001:db9::1", "", ""}, "100/1m", "900/1h"},
	} {
		got := r.holding(test.v)
		want := map[string][]string{"ip": {test.ip}, "org": {test.org}}
		if test.org == "20/1s 500/1h" {
			want["org"] = []string{"20/1s", "500/1h"}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

// Blocks come before exemptions, those before limits.
func TestBlocksAndExemptions(t *testing.T) {
	r := newRoom(t, sqlite(t))
	soon := r.now.Add(time.Hour)
	r.make(t, operator, policy.Draft{Effect: "limit", Subject: "org", Limits: []string{"2/1h"}})
	r.make(t, operator, policy.Draft{Effect: "exempt", Organization: "vip"})
	r.make(t, operator, policy.Draft{Effect: "exempt", CIDR: "192.0.2.0/24"})
	r.make(t, operator, policy.Draft{Effect: "block", CIDR: "192.0.2.66"})
	r.make(t, operator, policy.Draft{Effect: "block", Organization: "vip", Service: "stripe"})
	r.make(t, operator, policy.Draft{Effect: "block", Organization: "late", ExpiresAt: &soon})
	r.make(t, admin, policy.Draft{Effect: "block", CIDR: "203.0.113.0/24"})
	r.make(t, admin, policy.Draft{Effect: "block", CIDR: "192.0.2.77"})
	for _, test := range []struct {
		v    visit
		want policy.Outcome
	}{
		{visit{"beta", "198.51.100.1", "openai", ""}, policy.Admitted},
		{visit{"vip", "198.51.100.1", "openai", ""}, policy.Exempted},
		{visit{"vip", "198.51.100.1", "stripe", ""}, policy.Blocked},
		{visit{"beta", "192.0.2.1", "openai", ""}, policy.Exempted},
		{visit{"beta", "192.0.2.66", "openai", ""}, policy.Blocked},
		{visit{"late", "198.51.100.1", "openai", ""}, policy.Blocked},
		{visit{"acme", "203.0.113.1", "openai", ""}, policy.Blocked},
		{visit{"beta", "203.0.113.1", "openai", ""}, policy.Admitted}, // another's own block
		{visit{"acme", "192.0.2.77", "openai", ""}, policy.Blocked},   // an own block before the operator's exemption
	} {
		if got := r.take(t, test.v); got != test.want {
			t.Errorf("%+v: %s, want %s", test.v, got, test.want)
		}
	}
	// What is exempt is not counted.
	if got := r.admitted(t, visit{"vip", "198.51.100.1", "openai", ""}, 500); got != 500 {
		t.Errorf("%d of 500 exempt requests passed", got)
	}
	q, caller := r.prepare(visit{"vip", "198.51.100.1", "openai", ""})
	if err := r.Peek(t.Context(), r.now, q); err != nil || q.Standing(policy.OrganizationIndex).Used != 0 {
		t.Errorf("after exempt requests: %+v, %v", q.Standing(policy.OrganizationIndex), err)
	}
	if err := r.Take(t.Context(), caller, r.now, q); err != nil || q.Standing(policy.OrganizationIndex).Remaining != 2 || q.Standing(policy.IPIndex).Remaining != 100 {
		t.Errorf("an exempt request stands at %+v, %v", q.Decision, err)
	}
	// A block that expires says when, and does.
	q, caller = r.prepare(visit{"late", "198.51.100.1", "", ""})
	if err := r.Take(t.Context(), caller, r.now, q); err != policy.ErrBlocked || !q.Standing(policy.IPIndex).Reset.Equal(soon) || q.Standing(policy.IPIndex).Remaining != 0 {
		t.Errorf("a block until %v: %+v, %v", soon, q.Standing(policy.IPIndex), err)
	}
	r.now = soon
	if got := r.take(t, visit{"late", "198.51.100.1", "", ""}); got != policy.Admitted {
		t.Errorf("after the block expired: %s", got)
	}
}

// A scope that does not come from the subject alone has counters of its own,
// so that limits of different windows never meet on one.
func TestCountersOfScopes(t *testing.T) {
	r := newRoom(t, sqlite(t))
	r.make(t, operator, policy.Draft{Effect: "limit", Subject: "org", Service: "openai", Limits: []string{"5/1h"}})
	r.make(t, operator, policy.Draft{Effect: "limit", Subject: "org", Organization: "acme", Limits: []string{"8/1h"}})
	r.make(t, operator, policy.Draft{Effect: "limit", Subject: "ip", Organization: "beta", Limits: []string{"3/1m"}})
	if got := r.admitted(t, visit{"gamma", "192.0.2.1", "stripe", ""}, 10); got != 10 {
		t.Errorf("%d of 10 admitted", got)
	}
	if got := r.admitted(t, visit{"gamma", "192.0.2.2", "openai", ""}, 10); got != 5 {
		t.Errorf("the service: %d admitted, want 5, whatever the organization did elsewhere", got)
	}
	if got := r.admitted(t, visit{"acme", "192.0.2.3", "openai", ""}, 10); got != 8 {
		t.Errorf("the organization's own limit: %d admitted, want 8", got)
	}
	if got := r.admitted(t, visit{"gamma", "192.0.2.9", "stripe", ""}, 90); got != 90 {
		t.Errorf("the address under the default: %d admitted, want 90", got)
	}
	if got := r.admitted(t, visit{"beta", "192.0.2.9", "stripe", ""}, 90); got != 3 {
		t.Errorf("the address for that organization: %d admitted, want 3", got)
	}
	// A reset takes back what scopes counted, too.
	if _, err := r.Reset(t.Context(), operator, "ip", "192.0.2.9"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Reset(t.Context(), operator, "org", "gamma"); err != nil {
		t.Fatal(err)
	}
	if got := r.admitted(t, visit{"beta", "192.0.2.9", "stripe", ""}, 90); got != 3 {
		t.Errorf("after a reset: %d admitted, want 3", got)
	}
	if got := r.admitted(t, visit{"gamma", "192.0.2.2", "openai", ""}, 10); got != 5 {
		t.Errorf("the service after a reset: %d admitted, want 5", got)
	}
	// Changed windows keep the counts.
	s, err := r.Status(t.Context(), operator, "org", "acme")
	if err != nil || s.Limit.Requests != 8 || s.Used != 8 {
		t.Errorf("the organization stands at %+v, %v", s, err)
	}
	page, err := r.Policies(t.Context(), operator, policy.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(page.Policies, func(p policy.Policy) bool { return p.Organization == "acme" })
	if _, err := r.UpdatePolicy(t.Context(), operator, page.Policies[i].ID, store.Match{}, policy.Draft{
		Effect: "limit", Subject: "org", Organization: "acme", Limits: []string{"10/1h"}, Reason: "more",
	}); err != nil {
		t.Fatal(err)
	}
	if got := r.admitted(t, visit{"acme", "192.0.2.3", "openai", ""}, 10); got != 2 {
		t.Errorf("after 8 became 10: %d admitted, want 2", got)
	}
}

// A decision costs no lock and nearly no allocation, whatever is stored.
func TestDecisionAllocates(t *testing.T) {
	r := newRoom(t, sqlite(t))
	r.make(t, operator, policy.Draft{Effect: "block", CIDR: "198.51.100.0/24"})
	r.make(t, operator, policy.Draft{Effect: "exempt", Organization: "vip"})
	r.make(t, operator, policy.Draft{Effect: "limit", Subject: "org", Organization: "acme", Limits: []string{"1000000/1ms"}})
	r.make(t, operator, policy.Draft{Effect: "limit", Subject: "ip", Limits: []string{"1000000/1ms"}})
	q, _ := r.prepare(visit{"acme", "192.0.2.1", "openai", "v1/chat/completions"})
	caller := access.NewCaller("acme", access.Service, "backend", access.ServiceRole)
	v := policy.Visit{Addr: addrOf("192.0.2.1"), Service: "openai", Path: "v1/chat/completions"}
	ctx := t.Context()
	got := testing.AllocsPerRun(1000, func() {
		r.now = r.now.Add(time.Millisecond)
		r.Prepare(q, caller, v, r.now)
		if err := r.Take(ctx, caller, r.now, q); err != nil {
			t.Fatal(err)
		}
	})
	if got > 1 { // the key of the address
		t.Errorf("a decision under policies allocates %v times", got)
	}
}

// What others send is cut where its query or fragment begins, and not where one would begin
// that was part of the path; its escapes stay, so that its encoded slashes can be read both ways.
func TestPathOf(t *testing.T) {
	for target, want := range map[string]string{
		"/v1/chat?x=1": "v1/chat", "/v1/chat#x": "v1/chat", "/v1/chat#x?y": "v1/chat", "?x": "", "#": "", "": "",
		"/x%3F/refunds": "x?/refunds", "/x%23/refunds": "x#/refunds", "/%61dmin/x%zz": "admin/x%zz", "/%61dmin/%": "admin/%", "/x/%2e%2e/admin/%zz": "admin/%zz", "/%2": "%2", "/%+1%2B": "%+1+",
		"//a/./b/../c/;v=1?d": "a/c",
		"/a%2Fb?c":            "a/b a\x00b", "/a%2fb": "a/b a\x00b", "/a%252Fb": "a/b a\x00b", "/a%2%46b": "a/b a\x00b", "/a%2Fb%": "a/b% a\x00b%",
		"/a%2Fb%252Fc": "a/b/c a\x00b\x00c a/b\x00c", "/a%2Fb/../c": "a/c c", "/a/%2F": "a a/\x00", "/a%2F%2E%2E%2Fb": "b a\x00..\x00b",
		"/a%2F..;x": " a\x00..", "/a;x%2Fy/b": "a/y/b a/b",
		"http://h/admin/x?y": "admin/x", "HTTPS://u:p@h:1//admin/x": "admin/x", "http://h?/x": "", "http://h": "", "http:///x": "x", "/http://h/x": "http:/h/x", "ftp://h/x": "ftp:/h/x", "://x": ":/x",
	} {
		got := strings.Join(policy.Readings(policy.PathOf(target)), " ")
		if got != want {
			t.Errorf("%q became %q, want %q", target, got, want)
		}
	}
	for path, want := range map[string]string{
		"/api/proxy/stripe/v1/a%2Fb": "v1/a%2Fb", "//api/./x/../proxy;v=1/str%69pe/v1//a%2fb/": "v1//a%2fb/", "/api/proxy/stripe": "", "/api": "", "": "",
		"/api/proxy/stripe/%2e%2E/github/a": "a", "/../../api/x%2F../proxy/a": "a", "/api/proxy/stripe/a%2Fb/../c": "a%2Fb/../c", "/api/proxy/stripe/..": "",
	} {
		if got := policy.PathAfter(path, 3); got != want {
			t.Errorf("after three segments of %q is %q, want %q", path, got, want)
		}
	}
}

// The gateway's own paths and all others are read alike, however they are written: no reading is lost by
// what is cut off first.
func FuzzReadings(f *testing.F) {
	f.Add("/a%2Fb/%2e%2e;x//%252F%2%46%")
	f.Fuzz(func(t *testing.T, path string) {
		all := policy.Readings(path)
		if len(all) == 0 || len(all) > 5 {
			t.Fatalf("%d readings", len(all))
		}
		for _, plain := range all {
			if strings.Contains("/"+plain+"/", "//") && plain != "" || strings.Contains("/"+plain+"/", "/../") || strings.Contains(plain, ";") {
				t.Errorf("%q is not plain", plain)
			}
		}
	})
}
