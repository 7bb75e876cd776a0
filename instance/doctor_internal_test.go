package instance

import (
	"slices"
	"testing"
)

// The doctor says mends apart, those of other rooms too.
func TestDoctorTellsMendsApart(t *testing.T) {
	c, err := FromEnvironment(map[string]string{
		"GATEHOUSE_DATA": t.TempDir(), "CHAT_HOSTS": "openai=https://example.com,app=https://example.com", "JWT_SECRET": "short",
		"GATEHOUSE_DTA": "x",
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]Finding{
		"mistakes": {
			{"configuration", Failed, "JWT_SECRET is shorter than 32 bytes", "make one with `openssl rand -base64 48`"},
			{"configuration", Failed, `CHAT_HOSTS: entry "app": the name is reserved`, "choose another"},
			{"configuration", Failed, `CHAT_HOSTS: entry "openai": the catalogue has a service of this name`, "choose another, or set its origin in SERVICE_HOSTS"},
		},
		"warnings": {
			{"configuration", Doubtful, "ENCRYPTION_KEY is not set: credentials are sealed under JWT_SECRET, so whoever can sign tokens can open them", "set a key of its own"},
			{"configuration", Doubtful, "this variable is no setting and does nothing (variable: GATEHOUSE_DTA) (nearest: GATEHOUSE_DATA)", "it may be meant to be the other one"},
		},
	} {
		c := c
		if name == "warnings" {
			c.ChatHosts, c.JWTSecret = "", "a-signing-secret-for-tests-0123456789"
		}
		d := diagnosis{config: &c}
		d.settings(nil)
		if !slices.Equal(d.findings, want) {
			t.Errorf("%s:\n%+v", name, d.findings)
		}
	}
}
