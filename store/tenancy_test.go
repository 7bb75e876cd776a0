package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/store"
)

// tenantTables gives every table with a column organization, and organizations,
// with the column that says whose a row is, as the database itself lists them.
func tenantTables(t testing.TB, raw *sql.DB) map[string]string {
	t.Helper()
	tables := map[string]string{"organizations": "id"}
	rows, err := raw.QueryContext(t.Context(), `SELECT table_name FROM information_schema.columns WHERE table_schema = 'public' AND column_name = 'organization'`)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		tables[name] = "organization"
	}
	if rows.Err() != nil || len(tables) < 9 {
		t.Fatalf("only %d tables were found, %v", len(tables), rows.Err())
	}
	return tables
}

func rawDB(t testing.TB, url string) *sql.DB {
	t.Helper()
	raw, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	return raw
}

// dummyRow gives an INSERT of a row of organization with a value in each column.
// The table's checks and foreign keys have to be gone.
func dummyRow(t testing.TB, raw *sql.DB, table, owner, organization string) string {
	t.Helper()
	rows, err := raw.QueryContext(t.Context(), `SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = 'public' AND table_name = $1`, table)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	values := map[string]string{"text": "'of-" + organization + "'", "bigint": "7", "boolean": "true", "bytea": "'of-" + organization + "'"}
	var columns, row []string
	for rows.Next() {
		var name, kind string
		if err := rows.Scan(&name, &kind); err != nil {
			t.Fatal(err)
		}
		value := values[kind]
		if name == owner {
			value = "'" + organization + "'"
		}
		columns, row = append(columns, name), append(row, value)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`INSERT INTO %s (%s) VALUES (%s)`, table, strings.Join(columns, ", "), strings.Join(row, ", "))
}

// Without any filter of its own, a transaction that is named for one tenant
// sees, changes, deletes and makes no row of another, in every table there is.
func TestAnotherTenantsRowsAreOutOfSight(t *testing.T) {
	url := gatehousetest.Postgres(t)
	db, raw := open(t, url), rawDB(t, url)
	ctx := t.Context()
	tables := tenantTables(t, raw)

	// Rows need no company here, so that a row of every table can be made up.
	for table := range tables {
		_, err := raw.ExecContext(ctx, fmt.Sprintf(`DO $$ DECLARE name text; BEGIN
			FOR name IN SELECT conname FROM pg_constraint WHERE conrelid = '%[1]s'::regclass AND contype IN ('f', 'c') LOOP
				EXECUTE 'ALTER TABLE %[1]s DROP CONSTRAINT ' || quote_ident(name); END LOOP; END $$`, table))
		if err != nil {
			t.Fatal(err)
		}
	}
	exec := func(run func(func(*store.Tx) error) error, statement string) (n int64, err error) {
		err = run(func(tx *store.Tx) (err error) { n, err = tx.Exec(ctx, statement); return err })
		return n, err
	}
	acme := func(fn func(*store.Tx) error) error { return db.Update(ctx, "acme", fn) }
	beta := func(fn func(*store.Tx) error) error { return db.Update(ctx, "beta", fn) }
	all := func(fn func(*store.Tx) error) error { return db.UpdateAcross(ctx, fn) }
	for table, owner := range tables {
		if n, err := exec(beta, dummyRow(t, raw, table, owner, "beta")); n != 1 || err != nil {
			t.Fatalf("a row of its own in %s: %d, %v", table, n, err)
		}
	}
	for table, owner := range tables {
		t.Run(table, func(t *testing.T) {
			if n := number(t, db, `SELECT count(*) FROM `+table); n != 0 { // named for acme
				t.Errorf("%d rows of others are seen", n)
			}
			for _, statement := range []string{
				`UPDATE ` + table + ` SET ` + owner + ` = ` + owner, `UPDATE ` + table + ` SET ` + owner + ` = 'acme'`, `DELETE FROM ` + table,
			} {
				if n, err := exec(acme, statement); n != 0 || err != nil {
					t.Errorf("%s: %d rows, %v", statement, n, err)
				}
			}
			if n, err := exec(acme, dummyRow(t, raw, table, owner, "beta")); err == nil || !strings.Contains(err.Error(), "42501") {
				t.Errorf("a row put into another tenant: %d, %v", n, err)
			}
			if n, err := exec(acme, dummyRow(t, raw, table, owner, "acme")); n != 1 || err != nil {
				t.Errorf("a row of its own: %d, %v", n, err)
			}
			if n, err := exec(acme, `UPDATE `+table+` SET `+owner+` = 'beta'`); err == nil || !strings.Contains(err.Error(), "42501") {
				t.Errorf("a row given away: %d, %v", n, err)
			}
			if n := number(t, db, `SELECT count(*) FROM `+table); n != 1 {
				t.Errorf("%d rows of its own are seen, want 1", n)
			}
			if n, err := exec(all, `UPDATE `+table+` SET `+owner+` = `+owner); n < 2 || err != nil {
				t.Errorf("across organizations: %d rows, %v", n, err)
			}
			var n int64 // a session that says for nobody what it is for, as somebody at psql
			if err := raw.QueryRowContext(ctx, `SELECT count(*) FROM `+table).Scan(&n); n != 0 || err != nil {
				t.Errorf("an unnamed transaction sees %d rows, %v", n, err)
			}
		})
	}
}

// Every way to begin work says for whom, and none of them for all by a name.
func TestTransactionsAreNamed(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db := open(t, url)
		for _, name := range []string{"", "*", "a'b", `a\b`, "a b", "a\x00b", "acme'; set local gatehouse.organization = '*", "é"} {
			for _, run := range []func(context.Context, string, func(*store.Tx) error) error{db.Update, db.View} {
				if run(t.Context(), name, func(*store.Tx) error { t.Errorf("fn ran for %q", name); return nil }) == nil {
					t.Errorf("a transaction named for %q was let in", name)
				}
			}
		}
		for _, name := range []string{"acme", "_instance", "A.b_c-9"} {
			if err := db.View(t.Context(), name, func(*store.Tx) error { return nil }); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// Across lifts the bound for its statements alone, and what one transaction was
// named for does not stay with the session.
func TestAcross(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db := open(t, url)
		ctx := t.Context()
		isPostgres := db.Kind() == "postgresql"
		insert := func(tx *store.Tx, id string) error {
			_, err := tx.Exec(ctx, `INSERT INTO organizations (id, name, created_at) VALUES ($1, 'x', 1)`, id)
			return err
		}
		seen := func(tx *store.Tx) (n int64, err error) {
			return n, tx.Row(ctx, `SELECT count(*) FROM organizations WHERE id <> '_instance'`).Scan(&n)
		}
		err := db.Update(ctx, "acme", func(tx *store.Tx) error {
			if err := errors.Join(insert(tx, "acme"), tx.Across(ctx, func() error { return insert(tx, "beta") })); err != nil {
				return err
			}
			if n, err := seen(tx); err != nil || isPostgres && n != 1 {
				t.Errorf("after Across: %d rows are seen, %v", n, err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		err = db.ViewAcross(ctx, func(tx *store.Tx) error {
			n, err := seen(tx)
			if n != 2 {
				t.Errorf("%d rows across organizations, want 2", n)
			}
			return errors.Join(err, tx.Across(ctx, func() error { return nil }))
		})
		if err != nil {
			t.Fatal(err)
		}
		if n := number(t, db, `SELECT count(*) FROM organizations WHERE id <> '_instance'`); isPostgres && n != 1 {
			t.Errorf("%d rows after a transaction across organizations, want 1", n)
		}
		if err := db.ViewAcross(ctx, func(tx *store.Tx) error { return insert(tx, "gamma") }); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("a write in ViewAcross gave %v", err)
		}
	})
}

// A table that a migration adds is guarded at the next start, whatever the
// migration forgot; so is one that somebody took the guard off.
func TestNoTableIsForgotten(t *testing.T) {
	url := gatehousetest.Postgres(t)
	db, raw := open(t, url), rawDB(t, url)
	if missing, err := db.Unsecured(t.Context()); err != nil || len(missing) != 0 {
		t.Errorf("a new database: %v, %v", missing, err)
	}
	for _, statement := range []string{
		`CREATE TABLE additions (organization TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (organization, id))`,
		`ALTER TABLE events NO FORCE ROW LEVEL SECURITY`, `DROP POLICY gatehouse_organization ON credentials`,
	} {
		if _, err := raw.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	if missing, err := db.Unsecured(t.Context()); err != nil || fmt.Sprint(missing) != "[additions credentials events]" {
		t.Errorf("unguarded: %v, %v", missing, err)
	}
	// What is not ours is not ours to guard; one of ours is, whoever has it.
	gatehousetest.AsSuperuser(t, url, `CREATE TABLE somebodys AS SELECT * FROM members`, `ALTER TABLE roles OWNER TO CURRENT_USER`, `ALTER TABLE roles DISABLE ROW LEVEL SECURITY`)
	if missing, err := db.Unsecured(t.Context()); err != nil || fmt.Sprint(missing) != "[additions credentials events roles]" {
		t.Errorf("unguarded beside another owner's: %v, %v", missing, err)
	}
	gatehousetest.AsSuperuser(t, url, `DO $$ BEGIN EXECUTE 'ALTER TABLE roles OWNER TO ' || (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relname = 'organizations'); END $$`)
	failOn(t, together(4, func(int) error { // several instances start at once
		again, err := store.Open(t.Context(), url, slog.New(slog.DiscardHandler))
		if err != nil {
			return err
		}
		return again.Close()
	}))
	if missing, err := db.Unsecured(t.Context()); err != nil || len(missing) != 0 {
		t.Errorf("after a start: %v, %v", missing, err)
	}
}

// The role of the tests is an ordinary one, so that they prove something.
func TestTheTestsRoleIsOrdinary(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		role, bypasses, err := open(t, url).Bypasses(t.Context())
		if bypasses || err != nil {
			t.Errorf("the role %q bypasses row-level security: %v, %v", role, bypasses, err)
		}
	})
}
