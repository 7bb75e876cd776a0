package store

import (
	"context"
	"database/sql"

	"github.com/pressly/goose/v3"
)

// rowlessMigration is the only migration that the two databases do not share:
// SQLite keeps the narrow tables, of which each event has several rows, by their
// keys alone, where it had them by a number of its own and the key in a second
// tree. It halves what an event writes beside its own row
// (docs/adr/034-tables-without-row-numbers.md). PostgreSQL has no such tables.
const rowlessMigration = 13

// rowlessTables are those tables, as they were made.
var rowlessTables = [...]struct{ name, columns, key string }{
	{"event_persons", "organization TEXT NOT NULL, event_id TEXT NOT NULL, salt BYTEA NOT NULL, data TEXT NOT NULL", "organization, event_id"},
	{"event_terms", "organization TEXT NOT NULL, term BYTEA NOT NULL, occurred_at BIGINT NOT NULL, event_id TEXT NOT NULL", "organization, term, occurred_at, event_id"},
}

// rowless gives the migration for db.
func (db *DB) rowless() *goose.Migration {
	if db.dialect == dialectPostgres {
		return goose.NewGoMigration(rowlessMigration, nil, nil)
	}
	rebuilt := func(how string) *goose.GoFunc {
		return &goose.GoFunc{RunTx: func(ctx context.Context, tx *sql.Tx) error { return rebuild(ctx, tx, how) }}
	}
	return goose.NewGoMigration(rowlessMigration, rebuilt("WITHOUT ROWID"), rebuilt(""))
}

// rebuild copies each of the tables, in the order of its keys, which is the order
// that the new one is filled in fastest.
func rebuild(ctx context.Context, tx *sql.Tx, how string) error {
	for _, t := range rowlessTables {
		for _, statement := range [...]string{
			"CREATE TABLE rebuilt (" + t.columns + ", PRIMARY KEY (" + t.key + ")) " + how,
			"INSERT INTO rebuilt SELECT * FROM " + t.name + " ORDER BY " + t.key,
			"DROP TABLE " + t.name,
			"ALTER TABLE rebuilt RENAME TO " + t.name,
		} {
			if _, err := tx.ExecContext(ctx, statement); err != nil {
				return err
			}
		}
	}
	return nil
}
