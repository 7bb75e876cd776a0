package instance_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/instance"
)

// Ages are days or durations, and are written as they can be read.
func TestAges(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"90d": 90 * 24 * time.Hour, "0": 0, "0d": 0, "36h": 36 * time.Hour, "1m30s": 90 * time.Second, "1d": 24 * time.Hour,
	} {
		var a, again instance.Age
		if err := a.UnmarshalText([]byte(text)); err != nil || time.Duration(a) != want {
			t.Errorf("%s is %v: %v", text, time.Duration(a), err)
		}
		if err := again.UnmarshalText([]byte(a.String())); err != nil || again != a {
			t.Errorf("%s is written %s: %v", text, a, err)
		}
	}
	c, err := instance.FromEnvironment(good("EXPIRY_WARNINGS", "14d,36h", "CREDENTIAL_TEST_EVERY", "0"))
	if err != nil || c.CredentialTestEvery != 0 || c.Check() != nil {
		t.Error(err, c.Check())
	}
	if diff := cmp.Diff([]instance.Age{instance.Age(14 * 24 * time.Hour), instance.Age(36 * time.Hour)}, c.ExpiryWarnings); diff != "" {
		t.Error(diff)
	}
}
