package instance_test

import (
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/instance"
)

// TestTrustingEverybodyIsRefused: with every address trusted each client would
// choose the address that limits go by.
func TestTrustingEverybodyIsRefused(t *testing.T) {
	c, err := instance.FromEnvironment(map[string]string{
		"JWT_SECRET": gatehousetest.JWTSecret, "TRUSTED_PROXIES": "10.0.0.0/8,0.0.0.0/0,::/0",
	})
	if err != nil {
		t.Fatal(err)
	}
	err = c.Check()
	if err == nil || !strings.Contains(err.Error(), "entry 2") || !strings.Contains(err.Error(), "entry 3") || strings.Contains(err.Error(), "entry 1") {
		t.Errorf("%v; want entries 2 and 3 refused", err)
	}
}
