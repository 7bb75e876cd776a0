package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

func TestABackupReplacesNoFileMadeMeanwhile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "monday.age")
	err := writeWhole(path, func(w io.Writer) error {
		_, _ = io.WriteString(w, "second")
		return os.WriteFile(path, []byte("first"), 0o600) // another run is done before this one
	})
	if !errors.As(err, new(usageError)) {
		t.Errorf("answered %v", err)
	}
	onlyFile(t, path, "first")
}

func TestABackupOnAFileSystemWithoutLinks(t *testing.T) {
	withoutLinks := func(string, string) error { return &os.LinkError{Op: "link", Err: errors.ErrUnsupported} }
	from := func(t *testing.T) (part, path string) {
		part = filepath.Join(t.TempDir(), "part")
		if err := os.WriteFile(part, []byte("second"), 0o600); err != nil {
			t.Fatal(err)
		}
		return part, filepath.Join(filepath.Dir(part), "monday.age")
	}
	t.Run("new", func(t *testing.T) {
		part, path := from(t)
		if err := moveNew(part, path, withoutLinks); err != nil {
			t.Fatal(err)
		}
		onlyFile(t, path, "second")
	})
	t.Run("there already", func(t *testing.T) {
		part, path := from(t)
		if err := os.WriteFile(path, []byte("first"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := moveNew(part, path, withoutLinks); !errors.As(err, new(usageError)) {
			t.Errorf("answered %v", err)
		}
		if err := os.Remove(part); err != nil { // writeWhole takes it away
			t.Fatal(err)
		}
		onlyFile(t, path, "first")
	})
	t.Run("not movable", func(t *testing.T) {
		part, path := from(t)
		if err := os.Remove(part); err != nil {
			t.Fatal(err)
		}
		if err := moveNew(part, path, withoutLinks); err == nil {
			t.Error("nothing was moved, and no error said so")
		}
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("an empty file is left: %v", err)
		}
	})
}

// onlyFile checks that the folder of path holds it alone, with this text.
func onlyFile(t *testing.T, path, text string) {
	t.Helper()
	all, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(all) != 1 {
		t.Errorf("the folder holds %v, %v", all, err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != text {
		t.Errorf("the file says %q, %v", b, err)
	}
}
