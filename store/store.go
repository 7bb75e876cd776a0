// Package store opens the database and is the only room that knows a dialect.
//
// The database is SQLite (embedded, the default) or PostgreSQL. Both run the
// same SQL: $n placeholders, columns of the types TEXT, BIGINT, BOOLEAN and
// BYTEA only, times as BIGINT microseconds through [Time], JSON kept as text
// and never queried inside, keyset cursors, no FOR UPDATE.
//
// Work happens in transactions, each named for the one organization it
// touches:
//
//	err := db.Update(ctx, caller.Organization, func(tx *store.Tx) error {
//		_, err := tx.Exec(ctx, `UPDATE ... WHERE organization = $1 AND id = $2`, organization, id)
//		return err
//	})
//
// [DB.Update] is serializable: on SQLite there is one writer, on PostgreSQL a
// transaction that lost a race is run again, after the others of its
// organization that did, so fn must not have effects outside tx that cannot be
// repeated. [DB.View] reads one consistent state.
//
// On PostgreSQL every table that says whose its rows are is under row-level
// security, as a second line behind the organization in each query: a
// transaction sees and writes the rows of the organization that it is named
// for. Work across organizations is [DB.UpdateAcross] and [DB.ViewAcross].
//
// # Errors
//
// Driver errors are mapped once, here: [ErrNotFound] for a row that is not
// there, [ErrExists] for a unique constraint, [ErrRefused] for values that no
// repetition makes good (another constraint, text that is not UTF-8),
// [ErrUnavailable] for a database that is away, full or read-only, [ErrDamaged]
// for one that something else changed: a table that is gone, a value of another
// type. The original stays in the chain for the log.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

type dialect uint8

const (
	dialectSQLite dialect = iota
	dialectPostgres
)

// DB is an open database with its migrations applied. Its methods may be
// called by several goroutines at once.
type DB struct {
	dialect dialect
	write   *sql.DB  // on SQLite one connection, so that writers queue instead of failing
	read    *sql.DB  // on PostgreSQL the same pool
	bound   sync.Map // queries in the dialect's form
	bounds  atomic.Int64
	ready   prepared
	turns   turns                 // of transactions that lost a race
	writing atomic.Pointer[error] // why the last change could not be written; nil: it could
	cutter  cutter
}

// Open opens the database at url, makes it where it is a SQLite file that does
// not exist yet, and brings its tables up to date.
//
// url is "postgres://..." or "postgresql://...", or the path of a SQLite file,
// with or without "sqlite:" in front. A new file has mode 0600 and its folder
// 0700. Errors never hold the password of url.
func Open(ctx context.Context, url string, log *slog.Logger) (*DB, error) {
	db, err := connect(ctx, url)
	if err != nil {
		return nil, err
	}
	if err := db.migrate(ctx, log, 0); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// Close closes the database. Transactions that run are waited for by the driver.
func (db *DB) Close() error {
	db.finishCutting()
	err := errors.Join(db.ready.close(), db.write.Close())
	if db.read != db.write {
		err = errors.Join(err, db.read.Close())
	}
	return err
}

// Kind gives "sqlite" or "postgresql", for people.
func (db *DB) Kind() string {
	if db.dialect == dialectPostgres {
		return "postgresql"
	}
	return "sqlite"
}

// Ping asks the database for one row; [ErrUnavailable] when it does not answer.
func (db *DB) Ping(ctx context.Context) error {
	var one int
	return db.mapError(db.read.QueryRowContext(ctx, "SELECT 1").Scan(&one))
}

// attempts bounds how often a transaction that lost a race is run.
const attempts = 24

// Update runs fn in one read-write transaction on behalf of organization and
// commits when fn gives nil. On PostgreSQL fn is run again after a
// serialization failure, and sees and writes rows of this organization only.
func (db *DB) Update(ctx context.Context, organization string, fn func(*Tx) error) error {
	if organization == everyone {
		return errOneOrganization
	}
	return db.update(ctx, organization, fn)
}

// UpdateAcross is [DB.Update] for the instance's own work across organizations,
// such as rotating the master key. It is rare: a test lists every place.
func (db *DB) UpdateAcross(ctx context.Context, fn func(*Tx) error) error {
	return db.update(ctx, everyone, fn)
}

func (db *DB) update(ctx context.Context, organization string, fn func(*Tx) error) error {
	db.ready.prepare(ctx, db)
	opts := &sql.TxOptions{Isolation: db.isolation()}
	for attempt := 1; ; attempt++ {
		err := db.run(ctx, db.write, opts, organization, fn)
		db.noteFailed(err)
		switch {
		case err == nil || !isRetryable(err):
			return err
		case attempt == attempts:
			return fmt.Errorf("%w: a transaction lost %d races: %w", ErrUnavailable, attempts, err)
		case attempt == 1:
			done, err := db.turns.take(ctx, organization)
			if err != nil {
				return err
			}
			defer done()
		}
		if err := pause(ctx, attempt); err != nil {
			return err
		}
	}
}

// pause waits a random while before another attempt, on average longer with each,
// for the sake of those that other instances make.
func pause(ctx context.Context, attempt int) error {
	return Wait(ctx, rand.N(time.Duration(attempt)*5*time.Millisecond))
}

// Wait lets d go by; it gives ctx's error where that ends first.
func Wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// View runs fn in one read-only transaction on behalf of organization.
func (db *DB) View(ctx context.Context, organization string, fn func(*Tx) error) error {
	if organization == everyone {
		return errOneOrganization
	}
	return db.view(ctx, organization, fn)
}

// ViewAcross is [DB.View] for the instance's own work across organizations,
// such as reading all policies. It is rare: a test lists every place.
func (db *DB) ViewAcross(ctx context.Context, fn func(*Tx) error) error {
	return db.view(ctx, everyone, fn)
}

var errOneOrganization = errors.New("store: work across organizations is UpdateAcross and ViewAcross")

func (db *DB) view(ctx context.Context, organization string, fn func(*Tx) error) error {
	opts := new(sql.TxOptions) // on SQLite the connections of this pool only read, each transaction from one state
	if db.dialect == dialectPostgres {
		opts = &sql.TxOptions{ReadOnly: true, Isolation: sql.LevelRepeatableRead}
	}
	return db.run(ctx, db.read, opts, organization, fn)
}

func (db *DB) isolation() sql.IsolationLevel {
	if db.dialect == dialectPostgres {
		return sql.LevelSerializable
	}
	return sql.LevelDefault // immediate transactions on one writer are serial
}

func (db *DB) run(ctx context.Context, pool *sql.DB, opts *sql.TxOptions, organization string, fn func(*Tx) error) error {
	if err := checkOrganization(organization); err != nil {
		return err
	}
	stx, err := pool.BeginTx(namedFor(ctx, organization), opts)
	if err != nil {
		return db.mapError(err)
	}
	defer func() { _ = stx.Rollback() }() // after a commit it does nothing
	tx := &Tx{db: db, tx: stx, organization: organization}
	if err := fn(tx); err != nil {
		return db.outOfTime(ctx, err)
	}
	if tx.failed != nil {
		return db.outOfTime(ctx, tx.failed)
	}
	err = db.outOfTime(ctx, db.mapError(stx.Commit()))
	if err == nil && tx.wrote {
		db.writing.Store(nil)
		if tx.destroys {
			db.cutLog()
		}
	}
	return err
}

// outOfTime gives what ended a transaction in place of err, where that only says that it is over:
// database/sql rolls one back as soon as its context ends, and the next statement finds it so.
func (db *DB) outOfTime(ctx context.Context, err error) error {
	if errors.Is(err, sql.ErrTxDone) && ctx.Err() != nil {
		return db.mapError(ctx.Err())
	}
	return err
}

// Tx is one running transaction. It is for one goroutine.
type Tx struct {
	db           *DB
	tx           *sql.Tx
	organization string
	wrote        bool  // a row was changed
	destroys     bool  // what it deletes is to be gone from the files
	failed       error // of a statement of ExecPrepared: nothing is committed after it
}

// Exec runs a statement and gives how many rows it changed.
func (tx *Tx) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	res, err := tx.tx.ExecContext(ctx, tx.db.bind(query), args...)
	if err != nil {
		return 0, tx.db.mapError(err)
	}
	return tx.changed(res)
}

func (tx *Tx) changed(res sql.Result) (int64, error) {
	n, err := res.RowsAffected()
	tx.wrote = tx.wrote || n > 0
	return n, err
}

// Row runs a query for one row; its Scan gives [ErrNotFound] when there is none.
func (tx *Tx) Row(ctx context.Context, query string, args ...any) *Row {
	return &Row{db: tx.db, row: tx.tx.QueryRowContext(ctx, tx.db.bind(query), args...)}
}

// Raw is what [Tx.Each] scans bytes into that are not copied: it holds until fn
// returns.
type Raw = sql.RawBytes

// Each runs a query and calls fn for each row. fn scans and must not run
// another statement on tx.
func (tx *Tx) Each(ctx context.Context, fn func(scan func(dest ...any) error) error, query string, args ...any) error {
	rows, err := tx.tx.QueryContext(ctx, tx.db.bind(query), args...)
	if err != nil {
		return tx.db.mapError(err)
	}
	defer func() { _ = rows.Close() }() // rows.Err below tells of failures
	scan := func(dest ...any) error { return tx.db.mapError(rows.Scan(dest...)) }
	for rows.Next() {
		if err := fn(scan); err != nil {
			return err
		}
	}
	return tx.db.mapError(rows.Err())
}

// TakesAnyType reports whether the database keeps whatever is written to a column, of
// whatever type, as SQLite does.
func (tx *Tx) TakesAnyType() bool { return tx.db.dialect != dialectPostgres }

// Row is one row to be scanned.
type Row struct {
	db  *DB
	row *sql.Row
}

// Scan reads the row's columns into dest.
func (r *Row) Scan(dest ...any) error { return r.db.mapError(r.row.Scan(dest...)) }

// maxBounds is how many queries are remembered. There are a few hundred, but some hold a
// number that a caller chose, such as that of rows: what is remembered has to end.
const maxBounds = 4096

// placeholder is $n in a query.
var placeholder = regexp.MustCompile(`\$(\d+)`)

// bind gives the query in the dialect's form. SQLite numbers "$2" by first
// appearance, as a name, so that "?2" is what means the second argument there.
// Where every argument stands once and in order a bare "?" means the same; it
// has no name, and looking up names is quadratic in a long INSERT.
func (db *DB) bind(query string) string {
	if db.dialect == dialectPostgres {
		return query
	}
	if known, ok := db.bound.Load(query); ok {
		return known.(string)
	}
	inOrder := true
	for i, match := range placeholder.FindAllStringSubmatch(query, -1) {
		inOrder = inOrder && match[1] == strconv.Itoa(i+1)
	}
	bound := placeholder.ReplaceAllString(query, "?$1")
	if inOrder {
		bound = placeholder.ReplaceAllLiteralString(query, "?")
	}
	if db.bounds.Add(1) > maxBounds { // those in use are soon back
		db.bound.Clear()
		db.bounds.Store(0)
	}
	db.bound.Store(query, bound)
	return bound
}
