package store_test

import (
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/store"
)

// Both databases describe the same tables, those first that others refer to.
func TestTablesOfBothDatabases(t *testing.T) {
	var described [][]store.Table
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db := open(t, url)
		var tables []store.Table
		err := db.ViewAcross(t.Context(), func(tx *store.Tx) (err error) { tables, err = tx.Tables(t.Context()); return err })
		if err != nil {
			t.Fatal(err)
		}
		described = append(described, tables)
		at := func(name string) int {
			return slices.IndexFunc(tables, func(t store.Table) bool { return t.Name == name })
		}
		for child, parent := range map[string]string{"credential_versions": "credentials", "credentials": "organizations", "organization_keys": "organizations"} {
			if at(child) < at(parent) || at(parent) < 0 {
				t.Errorf("%s stands at %d, and %s, which it refers to, at %d", child, at(child), parent, at(parent))
			}
		}
		current, newest, err := db.Migration(t.Context())
		if err != nil || current != newest || current < 2 {
			t.Errorf("migration %d of %d, %v", current, newest, err)
		}
		for range 2 { // a second time only where the first left nothing
			if err := db.TryWrite(t.Context(), organization); err != nil {
				t.Errorf("trying to write: %v", err)
			}
		}
		if size, err := db.Size(t.Context()); err != nil || size < 10_000 {
			t.Errorf("size %d, %v", size, err)
		}
		if server, err := db.Server(t.Context()); err != nil || !strings.ContainsAny(server, "0123456789") {
			t.Errorf("server %q, %v", server, err)
		}
		now, has, err := db.Now(t.Context())
		if err != nil || has != (db.Kind() == "postgresql") || has && time.Since(now).Abs() > time.Hour {
			t.Errorf("now %v, %v, %v", now, has, err)
		}
	})
	if len(described) == 2 {
		if diff := cmp.Diff(described[0], described[1]); diff != "" {
			t.Errorf("tables (-sqlite +postgresql):\n%s", diff)
		}
	}
}

// OpenAt stops at a migration, never goes back, and Open goes on from there.
func TestOpenAt(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		discard := slog.New(slog.DiscardHandler)
		db, err := store.OpenAt(t.Context(), url, 1, discard)
		if err != nil {
			t.Fatal(err)
		}
		if current, _, err := db.Migration(t.Context()); err != nil || current != 1 {
			t.Errorf("migration %d, %v; want 1", current, err)
		}
		if missing, err := db.Unsecured(t.Context()); err != nil || len(missing) != 0 {
			t.Errorf("unguarded: %v, %v", missing, err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		open(t, url)
		if again, err := store.OpenAt(t.Context(), url, 1, discard); !errors.Is(err, store.ErrOtherSchema) {
			t.Errorf("OpenAt of a later database gave %v, %v", again, err)
		}
	})
}

// The tables that SQLite keeps by their keys alone are filled with what was in them.
func TestRowlessTables(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db, err := store.OpenAt(t.Context(), url, 12, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		sqlExec(t, db, `INSERT INTO event_terms (organization, term, occurred_at, event_id) VALUES ('acme', 'a1', 2, 'evt_2'), ('acme', 'a1', 1, 'evt_1')`,
			`INSERT INTO event_persons (organization, event_id, salt, data) VALUES ('acme', 'evt_1', 'salt', '{"ip":"192.0.2.7"}')`)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		var log gatehousetest.Buffer
		if db, err = store.Open(t.Context(), url, slog.New(slog.NewTextHandler(&log, nil))); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = db.Close() }()
		if said := log.String(); !strings.Contains(said, "from=12 to=") || !strings.Contains(said, "migration=13 ") {
			t.Errorf("what is done is not told: %s", said)
		}
		if n := number(t, db, `SELECT count(*) FROM event_terms t JOIN event_persons p ON p.event_id = 'evt_1' AND p.data = '{"ip":"192.0.2.7"}'
			WHERE t.organization = 'acme' AND t.term = 'a1' AND t.event_id = 'evt_' || t.occurred_at`); n != 2 {
			t.Errorf("%d of 2 rows are left as they were", n)
		}
		if db.Kind() == "sqlite" {
			if n := number(t, db, `SELECT count(*) FROM sqlite_master WHERE name IN ('event_terms', 'event_persons') AND sql LIKE '%WITHOUT ROWID'`); n != 2 {
				t.Errorf("%d of 2 tables are kept by their keys", n)
			}
		}
	})
}

// Attach makes nothing, neither a file nor a table.
func TestAttach(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none.db")
	if _, err := store.Attach(t.Context(), path); err == nil {
		t.Error("a file that is not there was attached")
	}
	if files, err := filepath.Glob(path + "*"); err != nil || len(files) != 0 {
		t.Errorf("files were made: %v, %v", files, err)
	}
	db, err := store.Attach(t.Context(), gatehousetest.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if current, newest, err := db.Migration(t.Context()); err != nil || current != 0 || newest < 2 {
		t.Errorf("a database without tables: migration %d of %d, %v", current, newest, err)
	}
	if n := number(t, db, `SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace`); n != 0 {
		t.Errorf("%d relations were made", n)
	}
}

// While Fill runs nobody else writes, and it is run once.
func TestFill(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db, other := open(t, url), open(t, url)
		sqlExec(t, db, things)
		ran := 0
		wrote := make(chan error, 1)
		err := db.Fill(t.Context(), func(tx *store.Tx) error {
			ran++
			go func() {
				wrote <- other.Update(t.Context(), organization, func(tx *store.Tx) error {
					_, err := tx.Exec(t.Context(), `INSERT INTO things (id, n) VALUES ('late', 1)`)
					return err
				})
			}()
			time.Sleep(50 * time.Millisecond)
			var n int64
			if err := tx.Row(t.Context(), `SELECT count(*) FROM things`).Scan(&n); err != nil || n != 0 {
				t.Errorf("somebody wrote while it ran: %d rows, %v", n, err)
			}
			_, err := tx.Exec(t.Context(), `INSERT INTO things (id, n) VALUES ('a', 7)`)
			return err
		})
		if err != nil || ran != 1 {
			t.Fatalf("ran %d times: %v", ran, err)
		}
		if err := <-wrote; err != nil {
			t.Errorf("who waited: %v", err)
		}
		broken := errors.New("broken")
		err = db.Fill(t.Context(), func(tx *store.Tx) error {
			_, err := tx.Exec(t.Context(), `DELETE FROM things`)
			return errors.Join(broken, err)
		})
		if n := number(t, db, `SELECT count(*) FROM things`); n != 2 || !errors.Is(err, broken) {
			t.Errorf("after a Fill that failed: %d rows, %v", n, err)
		}
	})
}
