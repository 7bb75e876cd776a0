package backup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"runtime"
	"strings"
	"sync"
	"testing"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/backup"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/vault"
)

// From each kind of database to each, made while a server is written to: the
// backup is one state, everything in it comes back byte for byte and opens, and
// the restored database serves.
func TestBothWays(t *testing.T) {
	for from, source := range kinds {
		for to, target := range kinds {
			t.Run(from+" to "+to, func(t *testing.T) { bothWays(t, source(t), target(t)) })
		}
	}
}

func bothWays(t *testing.T, source, target string) {
	s := serve(t, source)
	put(t, s, "acme", "Default")
	put(t, s, "gone", "Default")
	// Of a deleted organization the salt is destroyed; a row that is left of it stays closed.
	exec(t, s.DB, `DELETE FROM organization_keys WHERE organization = 'gone'`)
	exec(t, s.DB, `UPDATE organizations SET deleted_at = 1 WHERE id = 'gone'`)

	writing, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	var failed sync.Map
	for w := range 3 {
		writers.Go(func() {
			caller := ownerOf(fmt.Sprint("tenant-", w))
			if err := s.Orgs.Admit(t.Context(), caller); err != nil {
				failed.Store(w, err)
				return
			}
			for i := 0; writing.Err() == nil; i++ {
				_, _, err := s.Vault.Create(t.Context(), caller, vault.NewCredential{
					Service: "openai", Name: fmt.Sprint("n", i), Fields: map[string]string{"apiKey": "sk-0123456789abcdefghij"},
				})
				if err != nil {
					failed.Store(w, err)
					return
				}
			}
		})
	}
	for number(t, s.DB, `SELECT count(*) FROM credentials`) < 20 { // until there is something in the way
		if t.Context().Err() != nil {
			t.Fatal("the writers do not write")
		}
	}
	id := newIdentity(t)
	file, made := create(t, s.DB, id)
	after := number(t, s.DB, `SELECT count(*) FROM credentials`)
	stop()
	writers.Wait()
	failed.Range(func(w, err any) bool { t.Errorf("writer %v: %v", w, err); return true })

	done, err := restore(t, file, id, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(made, done.Report); diff != "" {
		t.Errorf("what was restored is not what was backed up (-made +restored):\n%s", diff)
	}
	if done.Seals.Destroyed != 1 || done.Seals.Total() < 20 || done.Seals.Err() != nil {
		t.Errorf("the seals: %+v", done.Seals)
	}
	db := open(t, target)
	credentials := number(t, db, `SELECT count(*) FROM credentials`)
	if credentials > after {
		t.Errorf("%d credentials in the backup, %d in the database when it was done", credentials, after)
	}
	for _, check := range []string{ // a credential, its version and its event are written in one transaction
		`SELECT count(*) FROM credential_versions`,
		`SELECT count(*) FROM events WHERE action = 'credential.create'`,
	} {
		if n := number(t, db, check); n != credentials {
			t.Errorf("%d credentials and %d of %s: not one state", credentials, n, check)
		}
	}
	again, _ := create(t, db, id)
	was, is := lines(t, file, id), lines(t, again, id)
	for table, rows := range is { // without the two events since
		var kept []string
		for _, row := range rows {
			if strings.HasPrefix(table, `{"table":"event_terms"`) && !contains(was[table], row) {
				continue // what those two are found by
			}
			if !strings.Contains(row, `"backup.restore"`) && (!strings.Contains(row, `"backup.create"`) || !strings.HasPrefix(table, `{"table":"events"`) || contains(was[table], row)) {
				kept = append(kept, row)
			}
		}
		is[table] = kept
	}
	if diff := cmp.Diff(was, is); diff != "" {
		t.Errorf("restored rows (-backed up +restored):\n%s", diff)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	back := serve(t, target)
	if err := back.Orgs.Admit(t.Context(), ownerOf("gone")); err == nil {
		t.Error("a deleted organization is alive again")
	}
	page, err := back.Vault.List(t.Context(), ownerOf("acme"), vault.Filter{})
	if err != nil || len(page.Credentials) != 1 {
		t.Errorf("after the restore acme has %d credentials, %v", len(page.Credentials), err)
	}
	put(t, back, "acme", "another")
}

func contains(rows []string, row string) bool {
	for _, r := range rows {
		if r == row {
			return true
		}
	}
	return false
}

// Everything that is refused says why, and leaves the target as it was.
func TestRefusedRestores(t *testing.T) {
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			s := serve(t, kind(t))
			put(t, s, "acme", "Default")
			id := newIdentity(t)
			file, report := create(t, s.DB, id)
			url := kind(t)
			wrong := seal.NewSecret("another-master-secret-0123456789abcdefgh")
			for name, test := range map[string]struct {
				change func(*backup.RestoreOptions)
				want   string
			}{
				"another master key": {func(o *backup.RestoreOptions) { o.Secrets = []seal.Secret{wrong} }, report.Header.SealingKey},
				"a line break": {func(o *backup.RestoreOptions) {
					o.Secrets = []seal.Secret{seal.NewSecret(secret.ExposeSecret() + "\n")}
				}, "without the white space around it"},
				"no master key": {func(o *backup.RestoreOptions) { o.Secrets = nil }, report.Header.SealingKey},
				"environment":   {func(o *backup.RestoreOptions) { o.Environment = "production" }, `"test"`},
			} {
				_, err := restore(t, file, id, url, test.change)
				if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "another-master") {
					t.Errorf("%s: %v; want %q in it", name, err, test.want)
				}
			}
			if _, err := restore(t, file, newIdentity(t), url, nil); !errors.Is(err, backup.ErrWrongIdentity) {
				t.Errorf("another identity: %v", err)
			}
			phrase, err := age.NewScryptIdentity("not this passphrase")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := restore(t, file, phrase, url, nil); !errors.Is(err, backup.ErrWrongIdentity) {
				t.Errorf("a passphrase for a backup to recipients: %v", err)
			}
			if _, err := restore(t, file, id, url, func(o *backup.RestoreOptions) { o.Secrets = []seal.Secret{wrong, secret} }); err != nil {
				t.Errorf("after all that, with the key among others: %v", err)
			}
			before := rowsOf(t, open(t, url))
			if _, err := restore(t, file, id, url, nil); !errors.Is(err, backup.ErrNotEmpty) {
				t.Errorf("a second restore: %v", err)
			}
			if after := rowsOf(t, open(t, url)); after != before {
				t.Errorf("a refused restore changed something: %s, then %s", before, after)
			}
			if _, err := restore(t, file, id, kind(t), func(o *backup.RestoreOptions) { o.Secrets, o.SkipOpening = nil, true }); err != nil {
				t.Errorf("without opening: %v", err)
			}

			// A value that does not open keeps everything out, and is named.
			exec(t, s.DB, `UPDATE credential_versions SET hints = '{}', created_by = 'x', version = version`)
			exec(t, s.DB, `UPDATE credential_versions SET fields = '["apiKey","other"]'`)
			broken, _ := create(t, s.DB, id)
			url = kind(t)
			if _, err := restore(t, broken, id, url, nil); err == nil || !strings.Contains(err.Error(), "credential_versions acme/cred_") {
				t.Errorf("a value that does not open: %v", err)
			}
			if n := number(t, open(t, url), `SELECT count(*) FROM events`); n != 0 {
				t.Errorf("%d events after it", n)
			}
		})
	}
}

// Nobody but who runs the instance takes or brings back everything.
func TestPermission(t *testing.T) {
	db := open(t, kinds["sqlite"](t))
	id := newIdentity(t)
	var denied *access.DeniedError
	var file bytes.Buffer
	for _, role := range []access.Role{access.Owner, access.Admin, access.Auditor, access.Viewer, access.Developer} {
		caller := access.NewCaller("acme", access.User, "u", role)
		_, err := backup.Create(t.Context(), caller, db, audit.New(db, audit.Options{}), &file, backup.Options{Recipients: []age.Recipient{id.Recipient()}})
		if !errors.As(err, &denied) || file.Len() > 0 {
			t.Errorf("%s makes a backup: %v, %d bytes", role, err, file.Len())
		}
	}
	whole, _ := create(t, db, id)
	r, err := backup.Open(bytes.NewReader(whole), []age.Identity{id})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Restore(t.Context(), ownerOf("acme"), kinds["sqlite"](t), backup.RestoreOptions{}); !errors.As(err, &denied) {
		t.Errorf("an owner restores: %v", err)
	}
	// Of a database that has sealed nothing yet there is nothing to open, and no key is needed but to tell who made it.
	if _, err := restore(t, whole, id, kinds["postgresql"](t), func(o *backup.RestoreOptions) { o.Secrets, o.Unsigned = nil, true }); err != nil {
		t.Errorf("a new database: %v", err)
	}
}

// A backup of more than fits goes by in pieces.
func TestMemoryStaysFlat(t *testing.T) {
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			db := open(t, kind(t))
			const rows, size = 300, 128 << 10 // 38 MB, that do not pack
			for i := range rows {
				blob := make([]byte, size)
				copy(blob, randomText(i))
				for n := 700; n < size; n *= 2 {
					copy(blob[n:], blob[:n])
				}
				exec(t, db, `INSERT INTO events (organization, id, occurred_at, recorded_at, class, action, outcome, actor_id, canonical)
					VALUES ('acme', $1, 1, 1, 'access', 'x.y', 'success', 'a', $2)`, fmt.Sprint("e", i), blob)
			}
			var highest uint64
			look := func() {
				var m runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&m)
				highest = max(highest, m.HeapAlloc)
			}
			look()
			start := highest
			id := newIdentity(t)
			pipe, w := io.Pipe()
			go func() {
				_, err := backup.Create(context.Background(), operator, db, audit.New(db, audit.Options{}), w, backup.Options{Recipients: []age.Recipient{id.Recipient()}})
				w.CloseWithError(err)
			}()
			r, err := backup.Open(&watched{pipe, look, 0}, []age.Identity{id})
			if err != nil {
				t.Fatal(err)
			}
			done, err := r.Restore(t.Context(), operator, kinds["sqlite"](t), backup.RestoreOptions{Logger: slog.New(slog.DiscardHandler), Unsigned: true})
			if err != nil {
				t.Fatal(err)
			}
			if done.Rows < rows || highest-start > 24<<20 {
				t.Errorf("%d rows of %d bytes took %d MB", done.Rows, size, (highest-start)>>20)
			}
		})
	}
}

// watched looks at the memory now and then while it is read.
type watched struct {
	io.Reader
	look  func()
	reads int
}

func (w *watched) Read(p []byte) (int, error) {
	if w.reads++; w.reads%100 == 0 {
		w.look()
	}
	return w.Reader.Read(p)
}

// Every value of every type comes back as it was.
func TestValues(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		for kind, value := range map[string]any{
			"TEXT":    rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })).Draw(t, "text"),
			"BIGINT":  rapid.OneOf(rapid.Int64(), rapid.SampledFrom([]int64{math.MinInt64, math.MaxInt64, 1<<53 + 1})).Draw(t, "bigint"),
			"BOOLEAN": rapid.Bool().Draw(t, "boolean"), "BYTEA": append([]byte{}, rapid.SliceOf(rapid.Byte()).Draw(t, "bytea")...),
		} {
			back, err := backup.RoundTrip(kind, value)
			if err != nil {
				t.Fatalf("%s %q: %v", kind, value, err)
			}
			if diff := cmp.Diff(value, back); diff != "" {
				t.Errorf("%s (-want +got):\n%s", kind, diff)
			}
			if back, err := backup.RoundTrip(kind, nil); back != nil || err != nil {
				t.Errorf("NULL of %s became %v, %v", kind, back, err)
			}
		}
	})
	for _, wrong := range []any{1.5, []string{"x"}} {
		if _, err := backup.RoundTrip("TEXT", wrong); err == nil {
			t.Errorf("%T was taken", wrong)
		}
	}
}

// older is an earlier version of the tables that this program's events still fit.
const older = 9

// A backup of an earlier version comes back with the tables of this one.
func TestOlderBackup(t *testing.T) {
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			old, err := store.OpenAt(t.Context(), kind(t), older, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = old.Close() })
			exec(t, old, `INSERT INTO organizations (id, name, created_at) VALUES ('acme', 'Acme', 1)`)
			id := newIdentity(t)
			file, report := create(t, old, id)
			if report.Header.Migration != older {
				t.Fatalf("the backup is of migration %d", report.Header.Migration)
			}
			url := kind(t)
			if _, err := restore(t, file, id, url, nil); err != nil {
				t.Fatal(err)
			}
			db := open(t, url)
			if current, newest, err := db.Migration(t.Context()); current != newest || err != nil {
				t.Errorf("migration %d of %d, %v", current, newest, err)
			}
			if n := number(t, db, `SELECT count(*) FROM limit_policy_state`); n != 1 {
				t.Errorf("%d rows of a table that came later, want 1", n)
			}
			if n := number(t, db, `SELECT count(*) FROM organizations WHERE id <> '_instance'`); n != 1 {
				t.Errorf("%d organizations, want 1", n)
			}
			if missing, err := db.Unsecured(t.Context()); err != nil || len(missing) != 0 {
				t.Errorf("unguarded: %v, %v", missing, err)
			}
			later := kind(t) // empty, but with the tables of today
			open(t, later)
			if _, err := restore(t, file, id, later, nil); !errors.Is(err, backup.ErrOtherTables) {
				t.Errorf("into later tables: %v", err)
			}
		})
	}
}
