package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// openError is a database that could not be opened, and what helps.
type openError struct {
	err  error
	mend string
}

// Error gives both on one line.
func (e *openError) Error() string { return e.err.Error() + "; " + e.mend }

// Unwrap gives the error without what helps.
func (e *openError) Unwrap() error { return e.err }

// Parts gives both apart.
func (e *openError) Parts() (what, mend string) { return e.err.Error(), e.mend }

// notOpened says why SQLite's file at path could not be opened.
// SQLite's own words are "disk I/O error" for a full disk and for much else.
func notOpened(path string, err error) error {
	why, mend := "", "see that the disk works and that the file is whole"
	var lite *sqlite.Error
	code, primary := 0, 0
	if errors.As(err, &lite) {
		code, primary = lite.Code(), lite.Code()&0xff
	}
	switch {
	case primary == sqlite3.SQLITE_FULL, code == sqlite3.SQLITE_IOERR_SHMSIZE: // no room for the side file
		why, mend = "its disk is full, or a quota is reached: ", "make room on the disk that it is on"
	case primary == sqlite3.SQLITE_NOTADB, primary == sqlite3.SQLITE_CORRUPT:
		why, mend = "it is no database, or damaged: ", "see that DATABASE_URL or GATEHOUSE_DATA names the file that Gatehouse made, or restore a backup"
	case errors.Is(err, syscall.ENOTDIR):
		mend = "a part of its path is a file and no folder: name another one in DATABASE_URL or GATEHOUSE_DATA"
	case errors.Is(err, fs.ErrPermission), primary == sqlite3.SQLITE_CANTOPEN, primary == sqlite3.SQLITE_READONLY, primary == sqlite3.SQLITE_PERM:
		why, mend = foreign(path, os.Geteuid()), "let the user that Gatehouse runs as own the file, those beside it (-wal, -shm) and its folder, and start Gatehouse as no other"
	}
	return &openError{fmt.Errorf("the database %s cannot be opened: %s%w", path, why, err), mend}
}

// foreign names a file of the database that belongs to another user than this process's;
// "" where none does.
func foreign(path string, user int) string {
	if user <= 0 { // root may do everything, and other systems have no such number
		return ""
	}
	for _, file := range []string{path, path + "-wal", path + "-shm"} {
		if owner, known := ownerOf(file); known && owner != user {
			return fmt.Sprintf("%s belongs to another user (%d; this process runs as %d): ", file, owner, user)
		}
	}
	return ""
}

// notConnected says why PostgreSQL took no connection. What the server itself says of the user or of
// the database is told alone: the driver puts the attempts without and with TLS beside it.
func notConnected(err error, config *pgx.ConnConfig) error {
	var said *pgconn.PgError
	if errors.As(err, &said) {
		safe := WithoutPassword(errors.New(said.Message), config.Password, config.User, config.Database)
		switch said.Code {
		case "28P01", "28000":
			return &openError{fmt.Errorf("PostgreSQL refuses the user of DATABASE_URL or its password: %w (SQLSTATE %s)", safe, said.Code),
				"see that both are right, and that the server's pg_hba.conf lets that user in from here"}
		case "3D000":
			return &openError{fmt.Errorf("PostgreSQL has no such database as DATABASE_URL names: %w (SQLSTATE %s)", safe, said.Code),
				"make it with `createdb`, or name another one"}
		}
	}
	safe := WithoutPassword(err, config.Password, config.User, config.Database)
	return fmt.Errorf("PostgreSQL does not answer at DATABASE_URL: %w", &toldOnce{safe})
}

// toldOnce is an error whose lines are told once each: a name with several addresses fails alike at each.
type toldOnce struct{ err error }

// Error gives the lines.
func (e *toldOnce) Error() string {
	var lines []string
	for line := range strings.SplitSeq(e.err.Error(), "\n") {
		if !slices.ContainsFunc(lines, func(l string) bool { return strings.TrimSpace(l) == strings.TrimSpace(line) }) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives the error as it was.
func (e *toldOnce) Unwrap() error { return e.err }
