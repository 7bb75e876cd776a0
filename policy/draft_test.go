package policy_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/policy"
)

func known(service string) bool { return service == "openai" || service == "stripe" }

func TestDraftRefuses(t *testing.T) {
	limit := func(limits ...string) policy.Draft {
		return policy.Draft{Effect: "limit", Subject: "org", Limits: limits, Reason: "x"}
	}
	past, far := noon, time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
	cidr := func(s string) policy.Draft { return policy.Draft{Effect: "block", CIDR: s, Reason: "x"} }
	path := func(s string) policy.Draft {
		return policy.Draft{Effect: "block", Service: "openai", Path: s, Reason: "x"}
	}
	for _, test := range []struct {
		d    policy.Draft
		want []string
	}{
		{policy.Draft{}, []string{"effect", "reason"}},
		{limit(), []string{"limits"}},
		{limit("1/1s", "2/2s", "3/3s", "4/4s", "5/5s"), []string{"limits"}},
		{limit("0/1s"), []string{"limits[0]"}},
		{limit("-1/1s"), []string{"limits[0]"}},
		{limit("1.5/1s"), []string{"limits[0]"}},
		{limit("1e3/1s"), []string{"limits[0]"}},
		{limit("1000001/1s"), []string{"limits[0]"}},
		{limit("99999999999999999999/1s"), []string{"limits[0]"}},
		{limit("1/0s"), []string{"limits[0]"}},
		{limit("1/-1s"), []string{"limits[0]"}},
		{limit("1/0.5ms"), []string{"limits[0]"}},
		{limit("1/8785h"), []string{"limits[0]"}},
		{limit("1/99999999999h"), []string{"limits[0]"}},
		{limit("NaN/1s", "1/Inf", ""), []string{"limits[0]", "limits[1]", "limits[2]"}},
		{limit("1/1m", "2/60s"), []string{"limits[1]"}},
		{limit(strings.Repeat("9", 1<<20) + "/1s"), []string{"limits[0]"}},
		{policy.Draft{Effect: "limit", Subject: "user", Limits: []string{"1/1s"}, Reason: "x"}, []string{"subject"}},
		{policy.Draft{Effect: "limit", Mode: "shadow", Subject: "ip", Limits: []string{"1/1s"}, Reason: "x"}, []string{"mode"}},
		{policy.Draft{Effect: "exempt", Mode: "observe", CIDR: "192.0.2.1", Reason: "x"}, []string{"mode"}},
		{policy.Draft{Effect: "exempt", Reason: "x"}, []string{"organization"}},
		{policy.Draft{Effect: "block", CIDR: "0.0.0.0/0", Reason: "x"}, []string{"organization"}},
		{policy.Draft{Effect: "exempt", CIDR: "::/0", Reason: "x"}, []string{"organization"}},
		{policy.Draft{Effect: "block", Subject: "ip", Limits: []string{"1/1s"}, CIDR: "192.0.2.1", Reason: "x"}, []string{"subject", "limits"}},
		{cidr("192.0.2.0/33"), []string{"cidr"}},
		{cidr("192.0.2.1/24"), []string{"cidr"}},
		{cidr("192.0.2/24"), []string{"cidr"}},
		{cidr("2001:db8::1/32"), []string{"cidr"}},
		{cidr("fe80::1%eth0"), []string{"cidr"}},
		{cidr("::ffff:0.0.0.0/90"), []string{"cidr"}},
		{cidr("localhost"), []string{"cidr"}},
		{cidr(strings.Repeat("1", 1<<20)), []string{"cidr"}},
		{policy.Draft{Effect: "block", Organization: "_instance", Reason: "x"}, []string{"organization"}},
		{policy.Draft{Effect: "block", Organization: "a|b", Reason: "x"}, []string{"organization"}},
		{policy.Draft{Effect: "block", Organization: strings.Repeat("a", 65), Reason: "x"}, []string{"organization"}},
		{policy.Draft{Effect: "block", Service: "opneai", Reason: "x"}, []string{"service"}},
		{policy.Draft{Effect: "block", CIDR: "192.0.2.1", Path: "v1", Reason: "x"}, []string{"service"}},
		{path("/"), []string{"path"}},
		{path("v1/../x"), []string{"path"}},
		{path("v1//x"), []string{"path"}},
		{path("v1/"), []string{"path"}},
		{path("v1/ch%61t"), []string{"path"}},
		{path("v1/**/x"), []string{"path"}},
		{path("v1/x*"), []string{"path"}},
		{path("v1/a;b"), []string{"path"}},
		{path("v1/a?b=c"), []string{"path"}},
		{path("v1/\x00"), []string{"path"}},
		{path(strings.Repeat("a", 257)), []string{"path"}},
		{policy.Draft{Effect: "block", CIDR: "192.0.2.1", Reason: strings.Repeat("x", 201)}, []string{"reason"}},
		{policy.Draft{Effect: "block", CIDR: "192.0.2.1", Reason: " \n "}, []string{"reason"}},
		{policy.Draft{Effect: "block", CIDR: "192.0.2.1", Reason: "a\nb"}, []string{"reason"}},
		{policy.Draft{Effect: "block", CIDR: "192.0.2.1", Reason: "\xff"}, []string{"reason"}},
		{policy.Draft{Effect: "block", CIDR: "192.0.2.1", Reason: "x", ExpiresAt: &past}, []string{"expiresAt"}},
		{policy.Draft{Effect: "block", CIDR: "192.0.2.1", Reason: "x", ExpiresAt: &far}, []string{"expiresAt"}},
	} {
		_, wrong := test.d.Check(noon, known)
		var names []string
		for _, f := range wrong {
			names = append(names, f.Name)
		}
		if !slices.Equal(names, test.want) {
			t.Errorf("%.200v: wrong are %q, want %q", test.d, names, test.want)
		}
	}
}

// FuzzDraft: what is accepted says the same when it is checked again, and no
// error says a value again.
func FuzzDraft(f *testing.F) {
	f.Add("limit", "enforce", "org", "acme", "192.0.2.0/24", "openai", "v1/chat/*", "20/1s", "why")
	f.Add("block", "", "", "", "2001:db8::/32", "", "", "", "why")
	f.Add("exempt", "observe", "ip", "_instance", "::ffff:192.0.2.1", "nope", "../x", "-1/1s", "")
	f.Fuzz(func(t *testing.T, effect, mode, subject, organization, cidr, service, path, limit, reason string) {
		d := policy.Draft{Effect: effect, Mode: mode, Subject: subject, Organization: organization, CIDR: cidr, Service: service, Path: path, Reason: reason}
		if limit != "" {
			d.Limits = []string{limit}
		}
		c, wrong := d.Check(noon, known)
		for _, field := range wrong {
			for _, value := range []string{cidr, path, limit} {
				if len(value) > 12 && strings.Contains(field.Message, value) {
					t.Errorf("%s says the value again: %q", field.Name, field.Message)
				}
			}
		}
		if len(wrong) > 0 {
			return
		}
		again := policy.Draft{Effect: string(c.Effect), Mode: string(c.Mode), Subject: c.Subject, Organization: c.Organization, Service: c.Service, Path: c.Path, Reason: c.Reason}
		if c.CIDR.IsValid() {
			again.CIDR = c.CIDR.String()
		}
		for _, l := range c.Limits {
			again.Limits = append(again.Limits, l.String())
		}
		if _, wrong := again.Check(noon, known); len(wrong) > 0 {
			t.Errorf("%+v was accepted as %+v, which is not: %v", d, c, wrong)
		}
	})
}
