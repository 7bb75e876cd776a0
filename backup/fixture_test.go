package backup_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/backup"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
	"github.com/gatehouse-io/gatehouse/instance"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/vault"
)

func TestMain(m *testing.M) { gatehousetest.Main(m) }

var (
	operator = access.NewCaller(access.InstanceOrganization, access.System, "test", access.Operator)
	secret   = seal.NewSecret(gatehousetest.EncryptionKey)
)

func ownerOf(organization string) access.Caller {
	return access.NewCaller(organization, access.User, "u-1", access.Owner)
}

// kinds gives how to make a new, empty database of each kind.
var kinds = map[string]func(t testing.TB) string{
	"sqlite":     func(t testing.TB) string { return filepath.Join(t.TempDir(), "gatehouse.db") },
	"postgresql": gatehousetest.Postgres,
}

func serve(t testing.TB, url string) *instancetest.Server {
	t.Helper()
	return instancetest.Serve(t, map[string]string{"DATABASE_URL": url})
}

// put stores a credential of the organization and gives its id.
func put(t testing.TB, s *instancetest.Server, organization, name string) string {
	t.Helper()
	caller := ownerOf(organization)
	if err := s.Orgs.Admit(t.Context(), caller); err != nil {
		t.Fatal(err)
	}
	c, _, err := s.Vault.Create(t.Context(), caller, vault.NewCredential{
		Service: "openai", Name: name, Fields: map[string]string{"apiKey": "sk-" + organization + "-0123456789abcdef"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c.ID
}

func newIdentity(t testing.TB) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func open(t testing.TB, url string) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), url, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// create backs the database up for id.
func create(t testing.TB, db *store.DB, id *age.X25519Identity) ([]byte, backup.Report) {
	t.Helper()
	var file bytes.Buffer
	report, err := backup.Create(t.Context(), operator, db, audit.New(db, audit.Options{}), &file, backup.Options{
		Gatehouse: "test", Recipients: []age.Recipient{id.Recipient()}, Columns: instance.SealedColumns(),
		Secrets: []seal.Secret{secret},
	})
	if err != nil {
		t.Fatal(err)
	}
	return file.Bytes(), report
}

// restore puts a backup into the database at url.
func restore(t testing.TB, file []byte, id age.Identity, url string, change func(*backup.RestoreOptions)) (backup.Restored, error) {
	t.Helper()
	r, err := backup.Open(bytes.NewReader(file), []age.Identity{id})
	if err != nil {
		return backup.Restored{}, err
	}
	opts := backup.RestoreOptions{Environment: "test", Secrets: []seal.Secret{secret}, Columns: instance.SealedColumns()}
	if change != nil {
		change(&opts)
	}
	return r.Restore(t.Context(), operator, url, opts)
}

// lines decrypts a backup, and gives its rows by table, each table sorted.
func lines(t testing.TB, file []byte, id age.Identity) map[string][]string {
	t.Helper()
	tables := make(map[string][]string)
	current := ""
	for line := range strings.Lines(string(plain(t, file, id))) {
		switch {
		case strings.HasPrefix(line, `{"table":`):
			current = line
		case strings.HasPrefix(line, "["):
			tables[current] = append(tables[current], line)
		}
	}
	for _, rows := range tables {
		slices.Sort(rows)
	}
	return tables
}

func plain(t testing.TB, file []byte, id age.Identity) []byte {
	t.Helper()
	decrypted, err := age.Decrypt(bytes.NewReader(file), id)
	if err != nil {
		t.Fatal(err)
	}
	unpacked, err := gzip.NewReader(decrypted)
	if err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(unpacked)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// wrap packs and encrypts text as a backup's file.
func wrap(t testing.TB, text []byte, id *age.X25519Identity) []byte {
	t.Helper()
	var file bytes.Buffer
	sealed, err := age.Encrypt(&file, id.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	packed := gzip.NewWriter(sealed)
	_, err = packed.Write(text)
	for _, err := range []error{err, packed.Close(), sealed.Close()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return file.Bytes()
}

func exec(t testing.TB, db *store.DB, statement string, args ...any) {
	t.Helper()
	err := db.UpdateAcross(context.Background(), func(tx *store.Tx) error {
		_, err := tx.Exec(context.Background(), statement, args...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func number(t testing.TB, db *store.DB, query string, args ...any) (n int64) {
	t.Helper()
	err := db.ViewAcross(context.Background(), func(tx *store.Tx) error {
		return tx.Row(context.Background(), query, args...).Scan(&n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// rowsOf counts the rows of every table.
func rowsOf(t testing.TB, db *store.DB) string {
	t.Helper()
	var all []string
	var tables []store.Table
	err := db.ViewAcross(t.Context(), func(tx *store.Tx) (err error) { tables, err = tx.Tables(t.Context()); return err })
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range tables {
		all = append(all, fmt.Sprint(table.Name, "=", number(t, db, `SELECT count(*) FROM `+table.Name)))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}
