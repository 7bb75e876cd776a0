package instance_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/instance"
)

// Issuers come from a file or as they are; mistakes are listed at start with
// their mends, and none of them repeats a value.
func TestIssuersOfTheConfiguration(t *testing.T) {
	good := `[{"issuer":"https://idp.example","jwks":"https://idp.example/keys","algorithm":"RS256","audience":"gatehouse"}]`
	file := filepath.Join(t.TempDir(), "issuers.json")
	if err := os.WriteFile(file, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	check := func(issuers string, more ...string) error {
		environ := map[string]string{"JWT_SECRET": strings.Repeat("k3", 24), "AUTH_ISSUERS": issuers}
		for i := 0; i+1 < len(more); i += 2 {
			environ[more[i]] = more[i+1]
		}
		c, err := instance.FromEnvironment(environ)
		if err != nil {
			t.Fatal(err)
		}
		return c.Check()
	}
	for _, issuers := range []string{"", "[]", good, " " + good, file} {
		if err := check(issuers); err != nil {
			t.Errorf("%.40s: %v", issuers, err)
		}
	}
	for issuers, want := range map[string]string{
		file + ".not": "AUTH_ISSUERS cannot be read",
		`[{}]`:        "AUTH_ISSUERS: issuer 1: audience must be",
		`[7]`:         "AUTH_ISSUERS: must be a JSON array",
		strings.Replace(good, "https://idp.example/keys", "http://127.0.0.1/CANARY", 1): "AUTH_ISSUERS: issuer 1: jwks must be",
	} {
		if err := check(issuers); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "CANARY") {
			t.Errorf("%.40s: %v, want %q", issuers, err, want)
		}
	}
	if err := check(good, "JWT_ISSUER", "https://idp.example"); err == nil || !strings.Contains(err.Error(), "JWT_ISSUER") {
		t.Errorf("an issuer that signs with JWT_SECRET too: %v", err)
	}
	if err := check(strings.Replace(good, "https://idp.example/keys", "http://127.0.0.1/keys", 1), "GATEHOUSE_ENV", "development"); err != nil {
		t.Errorf("plain http from this machine, in development: %v", err)
	}
}
