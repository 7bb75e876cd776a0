package instance_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
	"github.com/gatehouse-io/gatehouse/instance"
)

// A second server on one SQLite file is warned of, at its start and by the doctor, unless
// limits are shared.
func TestTwoServersOnOneFile(t *testing.T) {
	const text = "servers run on this"
	url := filepath.Join(t.TempDir(), "gatehouse.db")
	environ := map[string]string{"DATABASE_URL": url}
	first := instancetest.Serve(t, environ)
	environ["GATEHOUSE_ENV"] = first.Config.Environment
	for _, f := range diagnose(t, environ) {
		if strings.Contains(f.Text, text) {
			t.Errorf("of one server: %+v", f)
		}
	}
	second := instancetest.Serve(t, environ)
	if strings.Contains(first.Logs.String(), text) || !strings.Contains(second.Logs.String(), text) {
		t.Errorf("the second said %s", second.Logs)
	}
	has(t, diagnose(t, environ), "database", instance.Doubtful, "2 servers run on this file")
	environ["REDIS_URL"] = gatehousetest.Redis(t).URL()
	third := instancetest.Serve(t, environ)
	if strings.Contains(third.Logs.String(), text) {
		t.Errorf("with Redis it said %s", third.Logs)
	}
}
