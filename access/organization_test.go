package access_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/gatehouse-io/gatehouse/access"
)

func TestValidOrganization(t *testing.T) {
	for _, id := range []string{"a", "A", "0", "acme", "acme.example-1_2", strings.Repeat("a", 64)} {
		if !access.ValidOrganization(id) {
			t.Errorf("%q is refused", id)
		}
	}
	for _, id := range []string{
		"", "_instance", "-a", ".a", "..", "a b", "a/b", "a\n", "\na", "a\x00", "é", "a\u200b", "a%00", "a'", strings.Repeat("a", 65), access.InstanceOrganization,
	} {
		if access.ValidOrganization(id) {
			t.Errorf("%q is taken", id)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.String().Draw(t, "id")
		if access.ValidOrganization(id) && (strings.Trim(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != "" || id > "z~") {
			t.Fatalf("%q is taken", id)
		}
	})
}
