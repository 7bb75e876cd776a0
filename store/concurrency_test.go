package store_test

import (
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/store"
)

// together runs fn n times at once and gives the errors.
func together(n int, fn func(i int) error) []error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = fn(i) })
	}
	wg.Wait()
	return errs
}

func failOn(t testing.TB, errs []error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// add reads a number and writes it back one higher, with time in between for
// others to come along.
func add(t testing.TB, db *store.DB) error {
	return db.Update(t.Context(), organization, func(tx *store.Tx) error {
		var n int64
		if err := tx.Row(t.Context(), `SELECT n FROM things WHERE id = 'a'`).Scan(&n); err != nil {
			return err
		}
		_, err := tx.Exec(t.Context(), `UPDATE things SET n = $1 WHERE id = 'a'`, n+1)
		return err
	})
}

func TestNoLostUpdates(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		one, two := open(t, url), open(t, url)
		counter(t, one)
		const writers = 200
		failOn(t, together(writers, func(i int) error {
			if i%2 == 0 {
				return add(t, one)
			}
			return add(t, two)
		}))
		if n := number(t, one, `SELECT n FROM things WHERE id = 'a'`); n != writers {
			t.Errorf("%d of %d read-modify-writes were lost", writers-n, writers)
		}
	})
}

// Where transactions take long, as on a busy machine, those that lose still get
// their turn: they do not try again against one another.
func TestLosersGetTheirTurn(t *testing.T) {
	db := open(t, gatehousetest.Postgres(t))
	counter(t, db)
	const writers = 60
	failOn(t, together(writers, func(int) error {
		return db.Update(t.Context(), organization, func(tx *store.Tx) error {
			var n int64
			if err := tx.Row(t.Context(), `SELECT n FROM things WHERE id = 'a'`).Scan(&n); err != nil {
				return err
			}
			time.Sleep(60 * time.Millisecond)
			_, err := tx.Exec(t.Context(), `UPDATE things SET n = $1 WHERE id = 'a'`, n+1)
			return err
		})
	}))
	if n := number(t, db, `SELECT n FROM things WHERE id = 'a'`); n != writers {
		t.Errorf("%d of %d read-modify-writes were lost", writers-n, writers)
	}
}

// One that always loses is told that the database is not available, after a bounded
// number of tries. That others may write is not in doubt for it.
func TestOneThatAlwaysLoses(t *testing.T) {
	url := gatehousetest.Postgres(t)
	db, rival := open(t, url), open(t, url)
	counter(t, db)
	tries := 0
	err := db.Update(t.Context(), organization, func(tx *store.Tx) error {
		tries++
		var n int64
		if err := tx.Row(t.Context(), `SELECT n FROM things WHERE id = 'a'`).Scan(&n); err != nil {
			return err
		}
		if err := add(t, rival); err != nil {
			t.Error(err)
		}
		_, err := tx.Exec(t.Context(), `UPDATE things SET n = $1 WHERE id = 'a'`, n+1)
		return err
	})
	if !errors.Is(err, store.ErrUnavailable) || tries < 2 {
		t.Errorf("after %d tries: %v", tries, err)
	}
	if n := number(t, db, `SELECT n FROM things WHERE id = 'a'`); n != int64(tries) {
		t.Errorf("the number is %d after %d of the rival's changes", n, tries)
	}
	if why, err := db.Writing(); err != nil {
		t.Errorf("changes are said to fail: %s, %v", why, err)
	}
}

func counter(t testing.TB, db *store.DB) {
	sqlExec(t, db, things, `INSERT INTO things (id, n) VALUES ('a', 0)`)
}

// Write skew: each of two transactions reads what the other writes. One must
// see the other's row.
func TestSerializable(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db := open(t, url)
		sqlExec(t, db, things)
		failOn(t, together(20, func(i int) error {
			return db.Update(t.Context(), organization, func(tx *store.Tx) error {
				var n int64
				if err := tx.Row(t.Context(), `SELECT count(*) FROM things`).Scan(&n); err != nil || n > 0 {
					return err
				}
				_, err := tx.Exec(t.Context(), `INSERT INTO things (id, n) VALUES ($1, 0)`, string(rune('a'+i)))
				return err
			})
		}))
		if n := number(t, db, `SELECT count(*) FROM things`); n != 1 {
			t.Errorf("%d transactions each found an empty table", n)
		}
	})
}

func TestConcurrentStart(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		failOn(t, together(8, func(int) error {
			db, err := store.Open(t.Context(), url, slog.New(slog.DiscardHandler))
			if err != nil {
				return err
			}
			return db.Close()
		}))
		db := open(t, url)
		if n := number(t, db, `SELECT count(*) FROM events`); n != 0 {
			t.Errorf("%d events in a new database", n)
		}
	})
}

const childEnv = "GATEHOUSE_STORE_TEST_FILE"

// A command line works on the file of a running server: several processes
// start on it at once and add to one number.
func TestSeveralProcesses(t *testing.T) {
	if path := os.Getenv(childEnv); path != "" {
		db := open(t, path)
		for range 25 {
			if err := add(t, db); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	path := filepath.Join(t.TempDir(), "gatehouse.db")
	db := open(t, path)
	counter(t, db)
	const processes = 4
	failOn(t, together(processes, func(int) error {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSeveralProcesses$")
		child.Env = append(os.Environ(), childEnv+"="+path)
		out, err := child.CombinedOutput()
		if err != nil {
			t.Errorf("%s", out)
		}
		return err
	}))
	if n := number(t, db, `SELECT n FROM things WHERE id = 'a'`); n != 25*processes {
		t.Errorf("the number is %d, want %d", n, 25*processes)
	}
}
