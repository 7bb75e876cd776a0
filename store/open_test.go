package store_test

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/store"
)

func TestFileModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "data")
	path := filepath.Join(dir, "a %41?b=c#d&e f.db") // signs that mean something in SQLite's addresses
	db := open(t, "sqlite:"+path)
	counter(t, db)
	want := map[string]fs.FileMode{
		filepath.Dir(dir): 0o700, dir: 0o700, path: 0o600, path + "-wal": 0o600, path + "-shm": 0o600,
	}
	for name, mode := range want {
		info, err := os.Stat(name)
		if err != nil {
			t.Error(err)
		} else if info.Mode().Perm() != mode {
			t.Errorf("%s has mode %o, want %o", name, info.Mode().Perm(), mode)
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 3 {
		t.Errorf("the folder holds %v, %v; want the database and its two side files", files, err)
	}
}

// What was meant as another address is not taken for the name of a file.
func TestAddressesThatAreNoFile(t *testing.T) {
	for _, url := range []string{
		"host=db.internal dbname=gatehouse user=gatehouse sslmode=require", "dbname = gatehouse", "service=gatehouse",
		"file:/abs/gatehouse.db", "file:gatehouse.db?mode=ro", "sqlite:///x.db?mode=ro", "gatehouse.db?cache=shared&mode=rw", "x.db?_pragma=foreign_keys(0)",
		"postgres//gate:pw@127.0.0.1/gh", "postgresql//gate:pw@127.0.0.1/gh", "Postgres/gate", "Postgres:/gate/gh", "gate:pw@127.0.0.1:5432/gh", "//gate:pw@127.0.0.1/gh",
		"/gate:pw@127.0.0.1/gh", "gate@db/gh", " gatehouse.db", "postgres://gate:pw@127.0.0.1/gh\n",
		":memory:", "sqlite::memory:", "sqlite://:memory:", "postgres:5432", "mysql://db/gatehouse",
	} {
		if store.CheckURL(url) == nil {
			t.Errorf("%s would be a file", url)
		}
	}
	for _, url := range []string{"gatehouse.db", "sqlite:/data/support=1/user gatehouse.db", "/what?/a=b.db", "/home/me@work/gatehouse.db", "./me@work.db", "sqlite:me@work.db", "postgresfiles/gatehouse.db"} {
		if err := store.CheckURL(url); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestAddresses(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, address := range []string{
		dir + "/one.db", "sqlite:" + dir + "/two.db", "sqlite://" + dir + "/three.db", "four.db", "sqlite:five.db", "sqlite:./six/seven.db",
	} {
		db := open(t, address)
		if db.Kind() != "sqlite" || db.Ping(t.Context()) != nil {
			t.Errorf("%s: kind %s, ping %v", address, db.Kind(), db.Ping(t.Context()))
		}
	}
	for _, name := range []string{"one.db", "two.db", "three.db", "four.db", "five.db", "six/seven.db"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

// Whatever is wrong with the address, its password is not told: not whole, not
// in pieces, not in the driver's words.
func TestPasswordIsNeverTold(t *testing.T) {
	t.Chdir(t.TempDir()) // nothing of these may become a file
	closed := "127.0.0.1:1"
	for _, address := range []string{
		"postgres://user:hunter2secret@" + closed + "/db",
		"postgres://user:hunter2secret@" + closed + "/db?sslmode=disable",
		"postgresql://user:hunter2secret@" + closed + "/db?connect_timeout=1",
		"postgres://user@" + closed + "/db?password=hunter2secret",
		"postgres://user:hunter2secret@[::1/db",
		"postgres://user:hunter2secret@host:port/db",
		"postgres://user:hunter2/secret@host/db",
		"postgres://user:hunter2?secret@host/db",
		"postgres://user:hunter2#secret@host/db",
		"postgres://user:hunter2%zzsecret@host/db",
		"postgres://user:hunter2 secret@" + closed + "/db",
		"postgres://user:hunter2secret@" + closed + "/db?sslmode=nonsense",
		"postgres://user:hunter2secret@" + closed + "/db?sslrootcert=/missing&sslmode=verify-full",
		"POSTGRES://user:hunter2secret@host/db",
		"postgres//user:hunter2secret@host/db",
		"user:hunter2secret@host/db",
		" postgres://user:hunter2secret@host/db",
		"postgres:/user:hunter2secret@host/db",
		"postgres:user:hunter2secret@host/db",
		"mysql://user:hunter2secret@host/db",
		"host=" + closed + " user=user password=hunter2secret",
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		db, err := store.Open(ctx, address, slog.New(slog.DiscardHandler))
		cancel()
		if err == nil {
			t.Errorf("%s was opened", address)
			_ = db.Close()
			continue
		}
		for _, piece := range []string{"hunter2", "secret", "%zz"} {
			if strings.Contains(err.Error(), piece) {
				t.Errorf("%s: the error tells of the password: %v", address, err)
			}
		}
	}
	if files, err := os.ReadDir("."); err != nil || len(files) != 0 {
		t.Errorf("files were made of an address: %v, %v", files, err)
	}
}

func TestWrongPassword(t *testing.T) {
	address, err := url.Parse(gatehousetest.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	address.User = url.UserPassword("nobody_of_this_name", "hunter2secret")
	_, err = store.Open(t.Context(), address.String(), slog.New(slog.DiscardHandler))
	if err == nil || strings.Contains(err.Error(), "hunter2secret") || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "SQLSTATE 28") {
		t.Errorf("a role that does not exist: %v", err)
	}
	if address, err = url.Parse(gatehousetest.Postgres(t)); err != nil {
		t.Fatal(err)
	}
	address.Path = "/nothing_of_this_name"
	_, err = store.Open(t.Context(), address.String(), slog.New(slog.DiscardHandler))
	if err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "has no such database") {
		t.Errorf("a database that does not exist: %v", err)
	}
}

// A file in a folder that may not be entered is there, for all that is known.
func TestFolderThatIsClosed(t *testing.T) {
	dir, mend := filepath.Join(t.TempDir(), "closed"), "; let the user that Gatehouse runs as own"
	if os.Geteuid() == 0 { // who enters every folder, but no file
		mend = "; a part of its path is a file"
		if err := os.WriteFile(dir, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	} else if err := os.Mkdir(dir, 0o000); err != nil {
		t.Fatal(err)
	}
	_, err := store.Attach(t.Context(), filepath.Join(dir, "gatehouse.db"))
	if err == nil || strings.Contains(err.Error(), "no database file") || !strings.Contains(err.Error(), mend) {
		t.Errorf("a folder that may not be entered: %v", err)
	}
}

func TestNoDatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notes.txt")
	if err := os.WriteFile(path, []byte(strings.Repeat("this is no database\n", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(t.Context(), path, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a text file was opened as a database")
	}
	if b, err := os.ReadFile(path); err != nil || !strings.HasPrefix(string(b), "this is no database") {
		t.Error("the file that is no database was written to")
	}
}

func TestMigrationsAreIdempotent(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db := open(t, url)
		counter(t, db)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		var log gatehousetest.Buffer
		again, err := store.Open(t.Context(), url, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = again.Close() }()
		if log.String() != "" {
			t.Errorf("the second start did something: %s", log.String())
		}
		if n := number(t, again, `SELECT count(*) FROM things`); n != 1 {
			t.Errorf("%d rows after a restart, want 1", n)
		}
	})
}

func TestNewerDatabaseIsRefused(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db := open(t, url)
		sqlExec(t, db, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, `+map[string]string{"sqlite": "1", "postgresql": "true"}[db.Kind()]+`)`)
		newer, err := store.Open(t.Context(), url, slog.New(slog.DiscardHandler))
		if err == nil {
			_ = newer.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "newer Gatehouse") {
			t.Errorf("a database of a newer version gave %v", err)
		}
	})
}

// The columns are of the four types that both databases keep alike, and every
// table of tenants names its organization in its primary key.
func TestTables(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db := open(t, url)
		query := `SELECT m.name, p.name, upper(p.type) FROM sqlite_master m JOIN pragma_table_info(m.name) p
			WHERE m.type = 'table' AND m.name NOT LIKE 'goose%' AND m.name NOT LIKE 'sqlite%'`
		if db.Kind() == "postgresql" {
			query = `SELECT table_name, column_name, upper(data_type) FROM information_schema.columns
				WHERE table_schema = 'public' AND table_name NOT LIKE 'goose%'`
		}
		allowed := map[string]bool{"TEXT": true, "BIGINT": true, "BOOLEAN": true, "BYTEA": true}
		tables := map[string]bool{}
		owned := map[string]bool{"instance": true, "master_keys": true, "running_instances": true, "key_rotations": true, "organizations": true}
		err := db.View(t.Context(), organization, func(tx *store.Tx) error {
			return tx.Each(t.Context(), func(scan func(...any) error) error {
				var table, column, kind string
				if err := scan(&table, &column, &kind); err != nil {
					return err
				}
				tables[table] = true
				if column == "organization" {
					owned[table] = true
				}
				if !allowed[kind] {
					return fmt.Errorf("%s.%s is %s", table, column, kind)
				}
				return nil
			}, query)
		})
		if err != nil {
			t.Error(err)
		}
		if len(tables) < 9 {
			t.Errorf("only %d tables were found", len(tables))
		}
		for table := range tables {
			if !owned[table] {
				t.Errorf("%s does not say whose its rows are", table)
			}
		}
	})
}
