package instance_test

import (
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/instance"
)

// Every secret that ENCRYPTION_KEY takes can be listed as an old one, and whatever a
// list meant before it means still.
func TestOldSecrets(t *testing.T) {
	one, two, comma := strings.Repeat("One.", 10), strings.Repeat("Two.", 10), "Zx9,qLr8Vt2nB5mK7pW3yC6hF1dS4gJ0,,aEuIoQzXcVbNmAsDf"
	for _, test := range []struct {
		old  string
		keys []string
	}{
		{one, []string{one}},
		{one + "," + two, []string{one, two}},
		{one + ", " + two + " ", []string{one, two, " " + two + " "}},
		{one + "\n" + two + "\r\n", []string{one, two, two + "\r\n", one + "\n" + two}},
		{one + "\n", []string{one, one + "\n"}},
		{one + "," + two + ",", []string{one, two, two + ","}},
		{comma, []string{comma}},
		{one + "," + comma + "," + two, []string{one, comma, two}},
		{comma + "\n" + one, []string{comma, one}},
		{"\t" + one, []string{"\t" + one, one}},
	} {
		if err := check(good("ENCRYPTION_KEYS_OLD", test.old)); err != nil {
			t.Errorf("%q: %v", test.old, err)
		}
		c, err := instance.FromEnvironment(good("ENCRYPTION_KEYS_OLD", test.old))
		if err != nil {
			t.Fatal(err)
		}
		found := make(map[string]bool)
		for _, s := range c.MasterSecrets() {
			found[s.ExposeSecret()] = true
		}
		for _, key := range append(test.keys, gatehousetest.EncryptionKey, gatehousetest.JWTSecret) {
			if !found[key] {
				t.Errorf("%q does not hold the key %q", test.old, key)
			}
		}
		if found[""] {
			t.Errorf("%q holds an empty key", test.old)
		}
	}
	// What is listed by the hundred is tried one by one, and not in every combination.
	c, err := instance.FromEnvironment(good("ENCRYPTION_KEYS_OLD", strings.Repeat(one+",", 100)))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(c.MasterSecrets()); n > 101*16+2 {
		t.Errorf("%d secrets to try", n)
	}
}
