package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// writeWhole makes the file at path of what write writes, or leaves none: what
// is not finished has another name. A file that is there stays, also one that
// came while write wrote.
func writeWhole(path string, write func(io.Writer) error) error {
	if path == "-" {
		return write(os.Stdout)
	}
	if _, err := os.Lstat(path); err == nil { // before the work, not after it
		return neverReplaced(path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.part") // 0600
	if err != nil {
		return fmt.Errorf("the backup cannot be written: %w", err)
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = moveNew(f.Name(), path, os.Link)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncFolder(filepath.Dir(path))
}

func neverReplaced(path string) error {
	return usagef("%s exists already; a backup never replaces a file", path)
}

// moveNew gives the file from the name to, unless there is one of that name. A
// link does both in one step. Some file systems have none: there the name is
// first taken by an empty file, which a process killed between the two steps
// leaves behind.
func moveNew(from, to string, link func(from, to string) error) error {
	err := link(from, to)
	switch {
	case err == nil:
		_ = os.Remove(from) // the file is whole under its name; the other may be left beside it
		return nil
	case errors.Is(err, fs.ErrExist):
		return neverReplaced(to)
	}
	taken, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	switch {
	case errors.Is(err, fs.ErrExist):
		return neverReplaced(to)
	case err != nil:
		return err
	}
	if err := errors.Join(taken.Close(), os.Rename(from, to)); err != nil {
		return errors.Join(err, os.Remove(to))
	}
	return nil
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
