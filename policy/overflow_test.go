package policy_test

import (
	"testing"

	"github.com/gatehouse-io/gatehouse/policy"
	"github.com/gatehouse-io/gatehouse/ratelimit"
)

func TestSharedWith(t *testing.T) {
	tests := []struct{ subjectType, key, want string }{
		{policy.IP, "203.0.113.7", "203.0.113.0/24|"},
		{policy.IP, "2001:db8:1:2::", "2001:db8:1::/48|"},
		{policy.IP, "2001:db8:1::", "2001:db8:1::/48|"},
		{policy.IP, "203.0.113.7|service=openai", "203.0.113.0/24|service=openai"},
		{"observe-ip", "203.0.113.7|pol_1", "203.0.113.0/24|pol_1"},
		{policy.IP, "", ""},
		{policy.IP, "no address", ""},
		{policy.Organization, "acme", ""},
		{policy.Organization, "203.0.113.7", ""},
		{policy.CredentialTests, "acme", ""},
	}
	for _, test := range tests {
		if got := policy.SharedWith(ratelimit.Subject{Type: test.subjectType, Key: test.key}); got != test.want {
			t.Errorf("%s %q: %q, want %q", test.subjectType, test.key, got, test.want)
		}
	}
}
