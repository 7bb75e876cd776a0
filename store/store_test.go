package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/store"
)

func TestMain(m *testing.M) { gatehousetest.Main(m) }

const organization = "acme"

func open(t testing.TB, url string) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), url, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// sqlExec runs statements in one transaction and fails the test on an error.
func sqlExec(t testing.TB, db *store.DB, statements ...string) {
	t.Helper()
	err := db.Update(t.Context(), organization, func(tx *store.Tx) error {
		for _, s := range statements {
			if _, err := tx.Exec(t.Context(), s); err != nil {
				return fmt.Errorf("%s: %w", s, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// number gives the one number that a query finds.
func number(t testing.TB, db *store.DB, query string, args ...any) (n int64) {
	t.Helper()
	err := db.View(context.Background(), organization, func(tx *store.Tx) error {
		return tx.Row(context.Background(), query, args...).Scan(&n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

const things = `CREATE TABLE things (id TEXT PRIMARY KEY, n BIGINT NOT NULL CHECK (n >= 0), note TEXT, at BIGINT, UNIQUE (note))`

func TestUpdate(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		ctx, db := t.Context(), open(t, url)
		sqlExec(t, db, things)

		broken := errors.New("broken")
		err := db.Update(ctx, organization, func(tx *store.Tx) error {
			if n, err := tx.Exec(ctx, `INSERT INTO things (id, n) VALUES ('a', 1), ('b', 2)`); n != 2 || err != nil {
				t.Errorf("Exec = %d, %v; want 2 rows", n, err)
			}
			return broken
		})
		if !errors.Is(err, broken) {
			t.Errorf("Update gave %v, want the error of fn", err)
		}
		if n := number(t, db, `SELECT count(*) FROM things`); n != 0 {
			t.Errorf("%d rows after a transaction that failed", n)
		}

		func() {
			defer func() { _ = recover() }()
			_ = db.Update(ctx, organization, func(tx *store.Tx) error {
				_, _ = tx.Exec(ctx, `INSERT INTO things (id, n) VALUES ('a', 1)`)
				panic("in the middle")
			})
		}()
		if n := number(t, db, `SELECT count(*) FROM things`); n != 0 {
			t.Errorf("%d rows after a transaction that panicked", n)
		}

		sqlExec(t, db, `INSERT INTO things (id, n) VALUES ('a', 1)`)
		if n := number(t, db, `SELECT count(*) FROM things`); n != 1 {
			t.Errorf("%d rows after a commit, want 1", n)
		}

		cancelled, cancel := context.WithCancel(ctx)
		err = db.Update(cancelled, organization, func(tx *store.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO things (id, n) VALUES ('late', 1)`)
			cancel()
			return err
		})
		if err == nil || number(t, db, `SELECT count(*) FROM things WHERE id = 'late'`) != 0 {
			t.Errorf("a transaction whose context ended was committed, or said so: %v", err)
		}

		for _, run := range []func(context.Context, string, func(*store.Tx) error) error{db.Update, db.View} {
			err := run(ctx, "", func(*store.Tx) error { t.Error("fn ran without an organization"); return nil })
			if err == nil {
				t.Error("a transaction without an organization was let in")
			}
		}
	})
}

func TestViewReadsOneState(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		ctx, db := t.Context(), open(t, url)
		sqlExec(t, db, things, `INSERT INTO things (id, n) VALUES ('a', 1)`)
		var before, after int64
		err := db.View(ctx, organization, func(tx *store.Tx) error {
			if err := tx.Row(ctx, `SELECT n FROM things WHERE id = 'a'`).Scan(&before); err != nil {
				return err
			}
			sqlExec(t, db, `UPDATE things SET n = 2 WHERE id = 'a'`) // by somebody else, meanwhile
			return tx.Row(ctx, `SELECT n FROM things WHERE id = 'a'`).Scan(&after)
		})
		if err != nil {
			t.Fatal(err)
		}
		if before != 1 || after != 1 {
			t.Errorf("one View read %d and then %d", before, after)
		}
	})
}

func TestViewDoesNotWrite(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		ctx, db := t.Context(), open(t, url)
		sqlExec(t, db, things)
		err := db.View(ctx, organization, func(tx *store.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO things (id, n) VALUES ('a', 1)`)
			return err
		})
		if !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("a write in a View gave %v, want what a read-only database gives", err)
		}
		if n := number(t, db, `SELECT count(*) FROM things`); n != 0 {
			t.Errorf("%d rows were written in a View", n)
		}
	})
}

func TestErrors(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db := open(t, url)
		sqlExec(t, db, things, `CREATE TABLE parts (id TEXT PRIMARY KEY, thing TEXT NOT NULL REFERENCES things (id))`,
			`INSERT INTO things (id, n, note) VALUES ('a', 1, 'one')`)
		tests := []struct {
			name  string
			query string
			want  error // nil: none of the package's own
		}{
			{"primary key", `INSERT INTO things (id, n) VALUES ('a', 1)`, store.ErrExists},
			{"unique constraint", `INSERT INTO things (id, n, note) VALUES ('b', 1, 'one')`, store.ErrExists},
			{"check", `INSERT INTO things (id, n) VALUES ('b', -1)`, store.ErrRefused},
			{"not null", `INSERT INTO things (id) VALUES ('b')`, store.ErrRefused},
			{"foreign key", `INSERT INTO parts (id, thing) VALUES ('p', 'missing')`, store.ErrRefused},
			{"no such table", `INSERT INTO nothing (id) VALUES ('b')`, nil},
			{"no SQL", `INSERT OR ELSE`, nil},
		}
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				err := db.Update(t.Context(), organization, func(tx *store.Tx) error {
					_, err := tx.Exec(t.Context(), test.query)
					return err
				})
				if err == nil {
					t.Fatal("no error")
				}
				for _, known := range []error{store.ErrExists, store.ErrNotFound, store.ErrRefused, store.ErrUnavailable} {
					if errors.Is(err, known) != (known == test.want) {
						t.Errorf("errors.Is(%q, %q) = %v", err, known, errors.Is(err, known))
					}
				}
			})
		}
		err := db.View(t.Context(), organization, func(tx *store.Tx) error {
			var n int64
			return tx.Row(t.Context(), `SELECT n FROM things WHERE id = 'missing'`).Scan(&n)
		})
		if !errors.Is(err, store.ErrNotFound) {
			t.Errorf("a row that is not there gave %v", err)
		}
	})
}

// $n means the n-th argument, in whatever order and however often it stands.
func TestPlaceholders(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		ctx, db := t.Context(), open(t, url)
		args := make([]any, 12)
		for i := range args {
			args[i] = fmt.Sprintf("v%d", i+1)
		}
		tests := []struct {
			query string
			args  int
			want  []string
		}{
			{`SELECT CAST($2 AS TEXT), CAST($1 AS TEXT)`, 2, []string{"v2", "v1"}},
			{`SELECT CAST($3 AS TEXT), CAST($1 AS TEXT), CAST($2 AS TEXT), CAST($1 AS TEXT), CAST($3 AS TEXT)`, 3, []string{"v3", "v1", "v2", "v1", "v3"}},
			{`SELECT CAST($12 AS TEXT), CAST($1 AS TEXT), CAST($2 AS TEXT), CAST($11 AS TEXT), CAST($3 AS TEXT), CAST($4 AS TEXT), CAST($5 AS TEXT),
				CAST($6 AS TEXT), CAST($7 AS TEXT), CAST($8 AS TEXT), CAST($9 AS TEXT), CAST($10 AS TEXT)`, 12,
				[]string{"v12", "v1", "v2", "v11", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10"}},
		}
		for _, test := range tests {
			for range 2 { // the second time from what is remembered
				got := make([]string, len(test.want))
				dest := make([]any, len(got))
				for i := range got {
					dest[i] = &got[i]
				}
				err := db.View(ctx, organization, func(tx *store.Tx) error {
					return tx.Row(ctx, test.query, args[:test.args]...).Scan(dest...)
				})
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", test.query, diff)
				}
			}
		}
	})
}

func TestTimeRoundTrip(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		ctx, db := t.Context(), open(t, url)
		sqlExec(t, db, things)
		east := time.FixedZone("east", 5*3600)
		tests := []struct{ in, want time.Time }{
			{time.Time{}, time.Time{}},
			{time.Unix(0, 0), time.Unix(0, 0).UTC()},
			{time.Date(1969, 12, 31, 23, 59, 59, 999_999_999, time.UTC), time.Date(1969, 12, 31, 23, 59, 59, 999_999_000, time.UTC)},
			{time.Date(2026, 11, 23, 8, 41, 0, 123_456_789, east), time.Date(2026, 11, 23, 3, 41, 0, 123_456_000, time.UTC)},
			{time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC)},
		}
		for i, test := range tests {
			id := fmt.Sprint("t", i)
			var got store.Time
			var null bool
			err := db.Update(ctx, organization, func(tx *store.Tx) error {
				if _, err := tx.Exec(ctx, `INSERT INTO things (id, n, at) VALUES ($1, 0, $2)`, id, store.At(test.in)); err != nil {
					return err
				}
				return tx.Row(ctx, `SELECT at, at IS NULL FROM things WHERE id = $1`, id).Scan(&got, &null)
			})
			if err != nil {
				t.Fatal(err)
			}
			if !got.Equal(test.want) || got.Location() != test.want.Location() || null != test.in.IsZero() {
				t.Errorf("%v came back as %v (null: %v), want %v", test.in, got.Time, null, test.want)
			}
			if at := store.At(test.in); !at.Equal(got.Time) {
				t.Errorf("At(%v) = %v, and the database gave %v", test.in, at.Time, got.Time)
			}
		}
	})
}

// rawPostgres gives a function that runs a statement outside any transaction.
func rawPostgres(t testing.TB, address string) func(statement string) {
	t.Helper()
	raw, err := sql.Open("pgx", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	return func(statement string) {
		t.Helper()
		if _, err := raw.ExecContext(context.Background(), statement); err != nil {
			t.Fatal(err)
		}
	}
}

// What callers choose, such as how many rows they want, does not fill the memory.
func TestQueriesAreNotRememberedForGood(t *testing.T) {
	ctx, db := t.Context(), open(t, t.TempDir()+"/gatehouse.db")
	err := db.View(ctx, organization, func(tx *store.Tx) error {
		for i := range 10_000 {
			var got int
			if err := tx.Row(ctx, fmt.Sprintf(`SELECT CAST($1 AS BIGINT) LIMIT %d`, i+1), i).Scan(&got); err != nil || got != i {
				return fmt.Errorf("%d, %w", got, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := db.Remembered(); n > 5000 || n == 0 {
		t.Errorf("%d queries are remembered", n)
	}
}
