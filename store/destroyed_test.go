package store_test

import (
	"bytes"
	"database/sql"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/store"
)

// What is deleted leaves no bytes in the file, once the write-ahead log has
// been folded into it.
func TestDeletedBytesAreGone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gatehouse.db")
	db := open(t, path)
	small := bytes.Repeat([]byte("small-sealed-value."), 10)   // beside others on a page
	large := bytes.Repeat([]byte("large-sealed-value."), 2000) // on overflow pages of its own
	sqlExec(t, db, `CREATE TABLE secrets (organization TEXT NOT NULL, id TEXT NOT NULL, sealed BYTEA NOT NULL, PRIMARY KEY (organization, id))`)
	err := db.Update(t.Context(), organization, func(tx *store.Tx) error {
		for id, value := range map[string][]byte{"keep": []byte("kept"), "small": small, "large": large, "replaced": small} {
			if _, err := tx.Exec(t.Context(), `INSERT INTO secrets (organization, id, sealed) VALUES ($1, $2, $3)`, organization, id, value); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	fold(t, path)
	if found := gatehousetest.Occurrences(t, path, []byte("sealed-value.")); found == 0 {
		t.Fatal("the values are not to be found while they are there: this test proves nothing")
	}
	sqlExec(t, db, `DELETE FROM secrets WHERE id = 'small' OR id = 'large'`, `UPDATE secrets SET sealed = 'none' WHERE id = 'replaced'`)
	fold(t, path)
	if found := gatehousetest.Occurrences(t, path, []byte("sealed-value.")); found != 0 {
		t.Errorf("deleted bytes are still in the files, %d times", found)
	}
}

// What a transaction destroys is in none of the files after it, whoever reads meanwhile.
func TestDestroyedBytesAreGone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gatehouse.db")
	db := open(t, path)
	sqlExec(t, db, `CREATE TABLE secrets (organization TEXT NOT NULL, id BIGINT NOT NULL, sealed BYTEA NOT NULL, PRIMARY KEY (organization, id))`)
	value := func(id int) []byte { return []byte(fmt.Sprintf("sealed-value-%d.", id)) }
	const values = 4
	for id := range values {
		err := db.Update(t.Context(), organization, func(tx *store.Tx) error {
			_, err := tx.Exec(t.Context(), `INSERT INTO secrets (organization, id, sealed) VALUES ($1, $2, $3)`, organization, id, bytes.Repeat(value(id), 100))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	destroy := func(id int) {
		t.Helper()
		if gatehousetest.Occurrences(t, path, value(id)) == 0 {
			t.Fatal("the value is not to be found while it is there: this test proves nothing")
		}
		err := db.Update(t.Context(), organization, func(tx *store.Tx) error {
			tx.Destroys()
			_, err := tx.Exec(t.Context(), `DELETE FROM secrets WHERE organization = $1 AND id = $2`, organization, id)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	gone := func(id int) {
		t.Helper()
		for i := 0; gatehousetest.Occurrences(t, path, value(id)) != 0; i++ {
			if i == 1000 {
				t.Fatalf("value %d is still in the files", id)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	time.Sleep(1100 * time.Millisecond) // since the log was cut off at the start
	destroy(0)
	if n := gatehousetest.Occurrences(t, path, value(0)); n != 0 {
		t.Errorf("after the commit the value is in the files %d times", n)
	}
	destroy(1) // and soon again
	gone(1)
	err := db.View(t.Context(), organization, func(tx *store.Tx) error {
		var n int
		if err := tx.Row(t.Context(), `SELECT count(*) FROM secrets`).Scan(&n); err != nil {
			return err
		}
		destroy(2)
		time.Sleep(1500 * time.Millisecond)
		if gatehousetest.Occurrences(t, path, value(2)) == 0 {
			t.Error("what is read was cut off")
		}
		sqlExec(t, db, `INSERT INTO secrets VALUES ('acme', 100, 'x')`) // nobody who writes waits for long
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	gone(2)
	if gatehousetest.Occurrences(t, path, value(3)) == 0 {
		t.Error("the value that stays is gone")
	}
}

// A command that destroys something beside a running server, and ends, leaves it in no file.
func TestDestroyedBesideAServer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gatehouse.db")
	server := open(t, path)
	sqlExec(t, server, `CREATE TABLE secrets (organization TEXT NOT NULL, id BIGINT NOT NULL, sealed BYTEA NOT NULL, PRIMARY KEY (organization, id))`)
	err := server.Update(t.Context(), organization, func(tx *store.Tx) error {
		_, err := tx.Exec(t.Context(), `INSERT INTO secrets VALUES ($1, 1, $2)`, organization, []byte("sealed-value."))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	command, err := store.Open(t.Context(), path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second so soon that it is put off
		err = command.Update(t.Context(), organization, func(tx *store.Tx) error {
			tx.Destroys()
			_, err := tx.Exec(t.Context(), `UPDATE secrets SET sealed = $1`, []byte("another"))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := command.Close(); err != nil {
		t.Fatal(err)
	}
	if n := gatehousetest.Occurrences(t, path, []byte("sealed-value.")); n != 0 {
		t.Errorf("after the command the value is in the files %d times", n)
	}
}

// fold makes SQLite write its log into the file and cut the log off.
func fold(t *testing.T, path string) {
	t.Helper()
	raw, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = raw.Close() }()
	var busy, frames, done int
	if err := raw.QueryRowContext(t.Context(), `PRAGMA wal_checkpoint(TRUNCATE)`).Scan(&busy, &frames, &done); err != nil || busy != 0 {
		t.Fatalf("checkpoint: busy %d, %v", busy, err)
	}
}
