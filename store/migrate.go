package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	"modernc.org/sqlite"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrateAttempts bounds how often a start that met another one is repeated.
const migrateAttempts = 8

// migrate brings the tables to this migration, or with 0 up to date. Several
// processes may start at once: on PostgreSQL they queue on an advisory lock.
// SQLite has none, so the slower one finds a table made already, is rolled back,
// and looks again.
func (db *DB) migrate(ctx context.Context, log *slog.Logger, migration int64) error {
	for attempt := 1; ; attempt++ {
		// A migration works on every organization's rows.
		err := db.migrateOnce(namedFor(ctx, everyone), log, migration)
		var lite *sqlite.Error
		if err == nil || attempt == migrateAttempts || !errors.As(err, &lite) {
			return err
		}
		if err := pause(ctx, attempt); err != nil {
			return err
		}
	}
}

// migrations gives what runs them, one process at a time where lock is set.
func (db *DB) migrations(locked bool) (*goose.Provider, error) {
	all, err := scripts()
	if err != nil {
		return nil, err
	}
	options := []goose.ProviderOption{goose.WithDisableGlobalRegistry(true), goose.WithGoMigrations(append(all, db.rowless())...)}
	dialect := goose.DialectSQLite3
	if db.dialect == dialectPostgres {
		dialect = goose.DialectPostgres
		if locked {
			locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300)) // look each second, five minutes long
			if err != nil {
				return nil, err
			}
			options = append(options, goose.WithSessionLocker(locker))
		}
	}
	provider, err := goose.NewProvider(dialect, db.write, nil, options...)
	if err != nil {
		return nil, fmt.Errorf("the migrations could not be read: %w", err)
	}
	return provider, nil
}

// The comments that begin the two parts of a migration's file, as goose's own command reads them.
const upMark, downMark = "-- +goose Up\n", "-- +goose Down\n"

// scripts gives the migrations that are files. Each of their parts goes to the database as it
// is: goose would take it apart into statements, with four megabytes of memory for each file.
func scripts() ([]*goose.Migration, error) {
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	var all []*goose.Migration
	for _, file := range files {
		version, err := goose.NumericComponent(file)
		if err != nil {
			return nil, err
		}
		text, err := migrations.ReadFile(file)
		if err != nil {
			return nil, err
		}
		up, down, ok := strings.Cut(strings.TrimPrefix(string(text), upMark), downMark)
		if !ok {
			return nil, fmt.Errorf("%s has no line %q", file, strings.TrimSpace(downMark))
		}
		all = append(all, goose.NewGoMigration(version, script(up), script(down)))
	}
	return all, nil
}

// script runs statements, all or none.
func script(statements string) *goose.GoFunc {
	return &goose.GoFunc{RunTx: func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, statements)
		return err
	}}
}

func (db *DB) migrateOnce(ctx context.Context, log *slog.Logger, migration int64) error {
	provider, err := db.migrations(true)
	if err != nil {
		return err
	}
	current, target, err := versions(ctx, provider, migration)
	if err != nil {
		return err
	}
	if current > 0 && current < target {
		log.InfoContext(ctx, "the database is brought up to date; a large one takes a while", "from", current, "to", target)
	}
	var done []*goose.MigrationResult
	if migration > 0 {
		done, err = provider.UpTo(ctx, migration)
	} else {
		done, err = provider.Up(ctx)
	}
	if err != nil {
		return fmt.Errorf("the database could not be brought up to date: %w", db.mapError(err))
	}
	for _, m := range done {
		log.InfoContext(ctx, "database migrated", "migration", m.Source.Version, "tookMs", m.Duration.Milliseconds())
	}
	if db.dialect == dialectPostgres {
		return db.secure(ctx)
	}
	return nil
}

// versions gives the migration that the database is at, and the newest. It keeps an
// old binary from writing to tables it does not know, and data of an older
// migration out of newer tables.
func versions(ctx context.Context, provider *goose.Provider, migration int64) (current, target int64, err error) {
	current, target, err = provider.GetVersions(ctx)
	switch {
	case err != nil:
		return 0, 0, fmt.Errorf("the database's version could not be read: %w", err)
	case current > target:
		return 0, 0, errors.New("this database was written by a newer Gatehouse; start that version or a later one")
	case migration > 0 && current > migration:
		return 0, 0, ErrOtherSchema
	}
	return current, target, nil
}
