package instance_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/instance"
)

// A start that fails at the last step that can gives back all that it took: no
// goroutine of it runs, its files of usage are a later process's, and no rotation waits
// for it.
func TestFailedStartLeavesNothing(t *testing.T) {
	data := t.TempDir()
	config, err := instance.FromEnvironment(map[string]string{
		"JWT_SECRET": gatehousetest.JWTSecret, "ENCRYPTION_KEY": gatehousetest.EncryptionKey, "GATEHOUSE_ENV": "test", "GATEHOUSE_DATA": data,
		"REDIS_URL": gatehousetest.Redis(t).URL(), "OTEL_EXPORTER_OTLP_ENDPOINT": gatehousetest.Collector(t).URL,
		"AUDIT_CHECKPOINTS": "file:" + filepath.Join(t.TempDir(), "checkpoints"),
	})
	if err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(data, "usage", uuid.NewString()+".spool") // a dead process's, of which all is applied
	if err := errors.Join(os.Mkdir(filepath.Dir(left), 0o700), os.WriteFile(left, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	inTheWay := filepath.Join(data, "spool") // a file where the gateway's folder should be
	if err := os.WriteFile(inTheWay, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	if _, err := instance.Open(t.Context(), config, new(gatehousetest.Buffer)); err == nil {
		t.Fatal("the instance starts without a folder for bodies")
	}
	for end := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
		}
	}
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the spool was not closed: %v", err)
	}
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	in, err := instance.Open(t.Context(), config, new(gatehousetest.Buffer))
	if err != nil {
		t.Fatal(err)
	}
	operator := access.NewCaller(access.InstanceOrganization, access.System, "test", access.Operator)
	status, err := in.Keys.Status(t.Context(), operator)
	if err != nil || len(status.Instances) != 1 {
		t.Errorf("%d instances are on the list, %v; want the one that runs", len(status.Instances), err)
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
}
