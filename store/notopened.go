package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// fileError is a file of SQLite that could not be opened, and what helps.
type fileError struct {
	err  error
	mend string
}

// Error gives both on one line.
func (e *fileError) Error() string { return e.err.Error() + "; " + e.mend }

// Unwrap gives the error without what helps.
func (e *fileError) Unwrap() error { return e.err }

// Parts gives both apart.
func (e *fileError) Parts() (what, mend string) { return e.err.Error(), e.mend }

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
	case errors.Is(err, fs.ErrPermission), primary == sqlite3.SQLITE_CANTOPEN, primary == sqlite3.SQLITE_READONLY, primary == sqlite3.SQLITE_PERM:
		why, mend = foreign(path, os.Geteuid()), "let the user that Gatehouse runs as own the file, those beside it (-wal, -shm) and its folder, and start Gatehouse as no other"
	}
	return &fileError{fmt.Errorf("the database %s cannot be opened: %s%w", path, why, err), mend}
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
