package instance_test

import (
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// A role that walks past row-level security is said at start; the ordinary one
// of the tests is not.
func TestBypassingRoleIsWarnedOf(t *testing.T) {
	const warning = "bypasses row-level security"
	address := gatehousetest.Postgres(t)
	s := instancetest.Serve(t, map[string]string{"DATABASE_URL": address, "REDIS_URL": ""})
	if s.Stop(); strings.Contains(s.Logs.String(), warning) {
		t.Errorf("an ordinary role is warned of: %s", s.Logs.String())
	}
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User("postgres") // of the private server
	if named := os.Getenv(gatehousetest.PostgresEnv); named != "" {
		admin, err := url.Parse(named)
		if err != nil {
			t.Fatal("the named server's URL cannot be read")
		}
		u.User = admin.User
	}
	s = instancetest.Serve(t, map[string]string{"DATABASE_URL": u.String()})
	if s.Stop(); !strings.Contains(s.Logs.String(), warning) {
		t.Errorf("a superuser is not warned of: %s", s.Logs.String())
	}
}
