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

// A disk without room for SQLite's side file is told of as full, and not as an I/O error alone.
func TestSQLiteFullAtOpen(t *testing.T) {
	const env = fullEnv + "_OPEN"
	path := os.Getenv(env)
	if path == "" {
		path = filepath.Join(t.TempDir(), "gatehouse.db")
		db := open(t, path)
		counter(t, db)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSQLiteFullAtOpen$")
		child.Env = append(os.Environ(), env+"="+path)
		if out, err := child.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	signal.Ignore(syscall.SIGXFSZ)
	limit := syscall.Rlimit{Cur: 16 << 10, Max: syscall.RLIM_INFINITY & 0x7fffffffffffffff}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	_, err := store.Attach(t.Context(), path)
	if err == nil || !strings.Contains(err.Error(), "disk is full") || !strings.Contains(err.Error(), "; make room") {
		t.Errorf("a full disk gave %v", err)
	}
}

// What is no database, or is somebody else's, is told of as that, with what helps.
func TestSQLiteNotOpened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gatehouse.db")
	if err := os.WriteFile(path, []byte(strings.Repeat("no database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Attach(t.Context(), path); err == nil || !strings.Contains(err.Error(), "it is no database, or damaged") || !strings.Contains(err.Error(), "; see that DATABASE_URL") {
		t.Errorf("a file that is no database gave %v", err)
	}
	if text := store.Foreign(path, os.Geteuid()); text != "" {
		t.Errorf("its own user's: %q", text)
	}
	if text := store.Foreign(path, os.Geteuid()+1); !strings.Contains(text, path+" belongs to another user") {
		t.Errorf("another user's: %q", text)
	}
	if os.Geteuid() == 0 {
		return // who reads what has no mode
	}
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Attach(t.Context(), path); err == nil || !strings.Contains(err.Error(), "; let the user that Gatehouse runs as") {
		t.Errorf("a file without the right to it gave %v", err)
	}
}
