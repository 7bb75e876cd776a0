package store_test

import (
	"bytes"
	"database/sql"
	"path/filepath"
	"testing"

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
