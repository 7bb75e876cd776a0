package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// The errors that callers of this package tell apart, with errors.Is.
var (
	ErrNotFound    = errors.New("no such row")
	ErrExists      = errors.New("the row exists already")
	ErrUnavailable = errors.New("the database is not available")
	ErrRefused     = errors.New("the database refuses the values")

	// ErrDamaged is a database that is not what Gatehouse made of it: a value that is
	// none of its column's (SQLite takes any), or a table that is gone.
	ErrDamaged = errors.New("the database was changed by something other than Gatehouse")
)

// errFull is a companion of [ErrUnavailable]: writes fail until somebody makes room.
var errFull = errors.New("its disk is full")

// errNoTable is a companion of [ErrDamaged]: what was asked for is in a table that is
// not there.
var errNoTable = errors.New("there is no such table")

// noteFailed remembers why a change could not be written, until one that changes a
// row is.
func (db *DB) noteFailed(err error) {
	if errors.Is(err, ErrUnavailable) {
		db.writing.Store(&err)
	}
}

// Writing gives [ErrUnavailable] where changes cannot be written at the moment, and
// why in a few words that hold nothing of the database's own: "" where they can.
func (db *DB) Writing() (why string, err error) {
	failed := db.writing.Load()
	switch {
	case failed == nil:
		return "", nil
	case errors.Is(*failed, errFull):
		return "the disk is full", *failed
	}
	return "changes cannot be written", *failed
}

// mapError gives a driver's error one of this package's errors as a companion.
func (db *DB) mapError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sql.ErrNoRows):
		return ErrNotFound
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) { // whatever the server said, there is no session
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return mapPostgres(pg, err)
	}
	var lite *sqlite.Error
	if errors.As(err, &lite) {
		return mapSQLite(lite, err)
	}
	if strings.HasPrefix(err.Error(), "sql: Scan error on column") { // which has no type of its own
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	var network net.Error
	if errors.As(err, &network) || errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || pgconn.SafeToRetry(err) {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

func mapPostgres(pg *pgconn.PgError, err error) error {
	switch {
	case pg.Code == "23505":
		return fmt.Errorf("%w: %w", ErrExists, err)
	case pg.Code == "53100":
		return fmt.Errorf("%w: %w: %w", ErrUnavailable, errFull, err)
	case len(pg.Code) == 5 && (pg.Code[:2] == "08" || pg.Code[:2] == "53" || pg.Code[:3] == "57P"), pg.Code == "25006":
		// connection lost, out of resources, shutting down, read-only
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	case len(pg.Code) == 5 && (pg.Code[:2] == "22" || pg.Code[:2] == "23"):
		// text that is no UTF-8, a constraint
		return fmt.Errorf("%w: %w", ErrRefused, err)
	case pg.Code == "42P01": // undefined table
		return fmt.Errorf("%w: %w: %w", ErrDamaged, errNoTable, err)
	}
	return err
}

func mapSQLite(lite *sqlite.Error, err error) error {
	code := lite.Code()
	if code == sqlite3.SQLITE_CONSTRAINT_UNIQUE || code == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY {
		return fmt.Errorf("%w: %w", ErrExists, err)
	}
	switch code & 0xff {
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("%w: %w: %w", ErrUnavailable, errFull, err)
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR,
		sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	case sqlite3.SQLITE_ERROR:
		if strings.Contains(lite.Error(), "no such table: ") {
			return fmt.Errorf("%w: %w: %w", ErrDamaged, errNoTable, err)
		}
	case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH:
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return err
}

// isRetryable reports whether the transaction lost a race and may be run again.
func isRetryable(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "40001" || pg.Code == "40P01")
}
