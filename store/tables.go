package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// A Table is one table of Gatehouse's own, as the database describes it.
type Table struct {
	Name    string
	Columns []Column // in the order that the table has them
}

// A Column is a column of a [Table]. Type is TEXT, BIGINT, BOOLEAN or BYTEA.
type Column struct{ Name, Type string }

// Tables gives every table but the migrations' own, those that others refer to
// first, so that rows can be put in in this order. What it gives is alike on
// both databases where they are at the same migration.
func (tx *Tx) Tables(ctx context.Context) ([]Table, error) {
	columns := `SELECT m.name, p.name, upper(p.type) FROM sqlite_master m JOIN pragma_table_info(m.name) p
		WHERE m.type = 'table' AND m.name NOT LIKE 'goose%' AND m.name NOT LIKE 'sqlite%' ORDER BY m.name, p.cid`
	references := `SELECT m.name, f."table" FROM sqlite_master m JOIN pragma_foreign_key_list(m.name) f WHERE m.type = 'table'`
	if tx.db.dialect == dialectPostgres {
		columns = `SELECT c.relname, a.attname, upper(format_type(a.atttypid, a.atttypmod)) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
			WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' AND c.relname NOT LIKE 'goose%' AND a.attnum > 0 AND NOT a.attisdropped
			ORDER BY c.relname COLLATE "C", a.attnum`
		references = `SELECT a.relname, b.relname FROM pg_constraint k JOIN pg_class a ON a.oid = k.conrelid JOIN pg_class b ON b.oid = k.confrelid
			WHERE k.contype = 'f' AND a.relnamespace = current_schema()::regnamespace`
	}
	var tables []Table
	err := tx.Each(ctx, func(scan func(...any) error) error {
		var table string
		var c Column
		if err := scan(&table, &c.Name, &c.Type); err != nil {
			return err
		}
		if len(tables) == 0 || tables[len(tables)-1].Name != table {
			tables = append(tables, Table{Name: table})
		}
		last := &tables[len(tables)-1]
		last.Columns = append(last.Columns, c)
		return nil
	}, columns)
	if err != nil {
		return nil, err
	}
	parents := make(map[string][]string)
	err = tx.Each(ctx, func(scan func(...any) error) error {
		var child, parent string
		if err := scan(&child, &parent); err != nil {
			return err
		}
		if child != parent {
			parents[child] = append(parents[child], parent)
		}
		return nil
	}, references)
	if err != nil {
		return nil, err
	}
	return parentsFirst(tables, parents)
}

// parentsFirst orders tables so that each stands after those it refers to.
func parentsFirst(tables []Table, parents map[string][]string) ([]Table, error) {
	var ordered []Table
	done := make(map[string]bool)
	for len(ordered) < len(tables) {
		before := len(ordered)
		for _, t := range tables {
			waits := slices.ContainsFunc(parents[t.Name], func(p string) bool { return !done[p] })
			if !done[t.Name] && !waits {
				ordered, done[t.Name] = append(ordered, t), true
			}
		}
		if len(ordered) == before {
			return nil, errors.New("store: tables refer to each other in a circle")
		}
	}
	return ordered, nil
}

// ErrOtherSchema says that a database has tables of a later migration than is
// asked for; see [OpenAt].
var ErrOtherSchema = errors.New("the database's tables are of a later version")

// Attach opens the database at url as it is: it runs no migration and makes no
// file. It is for looking at a database, as a diagnosis does.
func Attach(ctx context.Context, url string) (*DB, error) {
	if err := CheckURL(url); err != nil { // first: what is no path is not told as one
		return nil, err
	}
	if path, file := FilePath(url); file {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("there is no database file: %w", err)
		} else if err != nil { // a folder above it that may not be entered, as a rule
			return nil, notOpened(path, err)
		}
	}
	return connect(ctx, url)
}

// OpenAt opens the database at url, makes it where it is a SQLite file that
// does not exist yet, and brings its tables to exactly this migration, to be
// filled with data of that time. A database that is past it gives
// [ErrOtherSchema]. [Open] brings it up to date afterwards.
func OpenAt(ctx context.Context, url string, migration int64, log *slog.Logger) (*DB, error) {
	db, err := connect(ctx, url)
	if err != nil {
		return nil, err
	}
	if err := db.migrate(ctx, log, migration); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// Migration gives the number of the last migration that the database has had, 0
// for one without tables, and the newest that this program knows.
func (db *DB) Migration(ctx context.Context) (current, newest int64, err error) {
	provider, err := db.migrations(false)
	if err != nil {
		return 0, 0, err
	}
	sources := provider.ListSources()
	if len(sources) > 0 {
		newest = sources[len(sources)-1].Version
	}
	// Asking the provider would make its table.
	err = db.mapError(db.read.QueryRowContext(ctx, `SELECT coalesce(max(version_id), 0) FROM goose_db_version`).Scan(&current))
	if errors.Is(err, errNoTable) {
		return 0, newest, nil
	}
	return current, newest, err
}

// Migration gives the number of the last migration that the state which tx reads
// has had.
func (tx *Tx) Migration(ctx context.Context) (current int64, err error) {
	return current, tx.Row(ctx, `SELECT coalesce(max(version_id), 0) FROM goose_db_version`).Scan(&current)
}

// Fill runs fn in one read-write transaction across organizations beside which
// nobody else writes to any table, and commits when fn gives nil. It is not run
// again, so that fn may read from a stream.
func (db *DB) Fill(ctx context.Context, fn func(*Tx) error) error {
	return db.run(ctx, db.write, &sql.TxOptions{}, everyone, func(tx *Tx) error {
		if db.dialect == dialectPostgres {
			tables, err := tx.Tables(ctx)
			if err != nil {
				return err
			}
			var names []string
			for _, t := range tables {
				names = append(names, pgx.Identifier{t.Name}.Sanitize())
			}
			if len(names) > 0 {
				if _, err := tx.Exec(ctx, "LOCK TABLE "+strings.Join(names, ", ")+" IN EXCLUSIVE MODE"); err != nil {
					return err
				}
			}
		}
		return fn(tx)
	})
}

// Size gives how many bytes the database takes, its write-ahead log not counted.
func (db *DB) Size(ctx context.Context) (bytes int64, err error) {
	query := `SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()`
	if db.dialect == dialectPostgres {
		query = `SELECT pg_database_size(current_database())`
	}
	return bytes, db.mapError(db.read.QueryRowContext(ctx, query).Scan(&bytes))
}

// Server gives what the database server says of itself, such as "PostgreSQL
// 17.2" or "SQLite 3.50.4".
func (db *DB) Server(ctx context.Context) (string, error) {
	query, name := `SELECT sqlite_version()`, "SQLite"
	if db.dialect == dialectPostgres {
		query, name = `SELECT split_part(current_setting('server_version'), ' ', 1)`, "PostgreSQL"
	}
	var version string
	err := db.read.QueryRowContext(ctx, query).Scan(&version)
	return fmt.Sprintf("%s %s", name, version), db.mapError(err)
}

// Now gives the time on the database server's clock; false on SQLite, whose clock
// is this machine's.
func (db *DB) Now(ctx context.Context) (now time.Time, has bool, err error) {
	if db.dialect != dialectPostgres {
		return time.Time{}, false, nil
	}
	var at Time
	err = db.read.QueryRowContext(ctx, `SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint`).Scan(&at)
	return at.Time, true, db.mapError(err)
}
