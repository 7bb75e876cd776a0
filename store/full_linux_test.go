package store_test

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/gatehouse-io/gatehouse/store"
)

const fullEnv = "GATEHOUSE_STORE_TEST_FULL"

// A file that may not grow any more is a database that is away for writers:
// nothing of the change is there, and reading goes on. The limit holds for a
// whole process, so the test runs in one of its own.
func TestSQLiteFull(t *testing.T) {
	path := os.Getenv(fullEnv)
	if path == "" {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSQLiteFull$")
		child.Env = append(os.Environ(), fullEnv+"="+filepath.Join(t.TempDir(), "gatehouse.db"))
		if out, err := child.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	db := open(t, path)
	counter(t, db)
	signal.Ignore(syscall.SIGXFSZ)
	limit := syscall.Rlimit{Cur: 2 << 20, Max: syscall.RLIM_INFINITY & 0x7fffffffffffffff}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	err := db.Update(t.Context(), organization, func(tx *store.Tx) error {
		if _, err := tx.Exec(t.Context(), `UPDATE things SET n = 7 WHERE id = 'a'`); err != nil {
			return err
		}
		_, err := tx.Exec(t.Context(), `INSERT INTO things (id, n, note) VALUES ('big', 1, $1)`, strings.Repeat("x", 8<<20))
		return err
	})
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a full disk gave %v", err)
	}
	if n := number(t, db, `SELECT sum(n) FROM things`); n != 0 {
		t.Errorf("half a change is there: %d", n)
	}
	if err := db.TryWrite(t.Context(), organization); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("trying to write gave %v", err)
	}
	if err := add(t, db); err != nil {
		t.Errorf("a change that still fits: %v", err)
	}
}

// Without the right to write, as another user's process would be.
func TestSQLiteReadOnly(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root writes to read-only files")
	}
	path := filepath.Join(t.TempDir(), "gatehouse.db")
	counter(t, open(t, path))
	if err := os.Chmod(path, 0o400); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(t.Context(), path, nil); err == nil {
		t.Error("a file that may not be written was opened")
	}
}
