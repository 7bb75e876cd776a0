package gatehousetest

import (
	"bytes"
	"database/sql"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver pgx
)

// The secrets that test servers use unless told otherwise.
const (
	JWTSecret     = "test-signing-secret-0123456789abcdefghijklmnop"
	EncryptionKey = "test-master-secret-0123456789abcdefghijklmnopq"
)

// Databases runs test once on SQLite and once on PostgreSQL, each with the URL
// of a fresh database.
func Databases(t *testing.T, test func(t *testing.T, url string)) {
	t.Run("sqlite", func(t *testing.T) { test(t, filepath.Join(t.TempDir(), "gatehouse.db")) })
	t.Run("postgresql", func(t *testing.T) { test(t, Postgres(t)) })
}

// Shut ends every session of a database that [Postgres] made and lets no new one begin, until the function it gives
// is called.
func Shut(t testing.TB, databaseURL string) (back func()) {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal("gatehousetest: not the URL of a database")
	}
	name := u.Path[1:]
	u.Path = "/postgres"
	server, err := sql.Open("pgx", u.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	do := func(statement string) {
		t.Helper()
		if _, err := server.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	do(`ALTER DATABASE ` + name + ` ALLOW_CONNECTIONS false`)
	do(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '` + name + `'`)
	return func() { do(`ALTER DATABASE ` + name + ` ALLOW_CONNECTIONS true`) }
}

// Occurrences counts what in the files of the SQLite database at path: the database itself, its log and its index.
func Occurrences(t testing.TB, path string, what []byte) (n int) {
	t.Helper()
	files, err := filepath.Glob(path + "*")
	if err != nil || len(files) == 0 {
		t.Fatalf("gatehousetest: no files of a database, %v", err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		n += bytes.Count(content, what)
	}
	return n
}

// Across gives databaseURL for a session that sees every organization's rows, past row-level security, as store's
// transactions across organizations do.
func Across(t testing.TB, databaseURL string) string {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal("gatehousetest: not the URL of a database")
	}
	query := u.Query()
	query.Set("gatehouse.organization", "*")
	u.RawQuery = query.Encode()
	return u.String()
}
