package vault_test

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/instance"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/vault"
)

// unreadable says that a credential does not open, for a human or for use, that
// the answer is the one that says so, and that an event tells of it.
func (h *house) unreadable(t *testing.T, what string, caller access.Caller, id string) {
	t.Helper()
	before := h.told(t, caller.Organization)
	_, fields, err := h.Reveal(t.Context(), caller, id, "test")
	f, ok := fault.As(err)
	if !ok || f.Code != "credential_unreadable" || fields != nil {
		t.Errorf("%s: %v, %v", what, fields, err)
	}
	if err != nil && (strings.Contains(err.Error(), apiKey) || strings.Contains(err.Error(), "GHS")) {
		t.Errorf("%s: the error tells of the row: %v", what, err)
	}
	if after := h.told(t, caller.Organization); after <= before {
		t.Errorf("%s: no event tells of it", what)
	}
}

// told gives how many times the trail says that a seal did not open, the
// repeats that are still being counted left out.
func (h *house) told(t *testing.T, organization string) (n int) {
	for _, e := range h.events(t, organization, audit.CredentialUse) {
		if e.Outcome == audit.Failure && e.Reason == "seal_not_opened" && e.Class == audit.Security {
			n++
		}
	}
	return n
}

func (h *house) sealed(t *testing.T, organization, id string) (b []byte) {
	t.Helper()
	h.scan(t, &b, `SELECT fields_sealed FROM credential_versions WHERE organization = $1 AND credential_id = $2`, organization, id)
	return b
}

const putSealed = `UPDATE credential_versions SET fields_sealed = $1 WHERE organization = $2 AND credential_id = $3`

// What does not open is not answered as the request would have been: the event
// does not say so either.
func TestNoStatusOfWhatDoesNotOpen(t *testing.T) {
	h := newHouse(t, t.TempDir()+"/gatehouse.db", vault.Options{Reveal: true})
	a, b := h.create(t, owner, openai("a", apiKey)), h.create(t, owner, openai("b", apiKeyTwo))
	h.exec(t, putSealed, h.sealed(t, "acme", b.ID), "acme", a.ID)
	ctx := audit.WithRequest(t.Context(), &audit.Request{ID: "req_1", Method: "POST", Route: "/reveal", Status: 200})
	if _, _, err := h.Reveal(ctx, owner, a.ID, "test"); err == nil {
		t.Fatal("opened")
	}
	for _, e := range h.events(t, "acme", audit.CredentialUse) {
		if e.Reason == "seal_not_opened" && (e.Request.Status != 0 || e.Request.ID != "req_1") {
			t.Errorf("%+v", e.Request)
		}
	}
	if h.told(t, "acme") == 0 {
		t.Error("no event tells of it")
	}
}

// A sealed value opens in its own place only.
func TestMovedSeals(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		h := newHouse(t, url, vault.Options{Reveal: true})
		a, b := h.create(t, owner, openai("a", apiKey)), h.create(t, owner, openai("b", apiKeyTwo))
		theirs := h.create(t, stranger, openai("a", apiKeyTwo))
		sealedA, sealedB, sealedTheirs := h.sealed(t, "acme", a.ID), h.sealed(t, "acme", b.ID), h.sealed(t, "globex", theirs.ID)

		h.exec(t, putSealed, sealedB, "acme", a.ID)
		h.unreadable(t, "another credential's", owner, a.ID)
		if _, err := h.use(t, owner, "openai", "a"); fault.KindOf(err) != fault.Internal {
			t.Errorf("another credential's in use: %v", err)
		}
		h.exec(t, putSealed, sealedA, "acme", b.ID)
		h.unreadable(t, "and the other way", owner, b.ID)
		h.exec(t, putSealed, sealedA, "acme", a.ID)
		h.exec(t, putSealed, sealedB, "acme", b.ID)

		h.exec(t, putSealed, sealedA, "globex", theirs.ID)
		h.unreadable(t, "another organization's", stranger, theirs.ID)
		h.exec(t, putSealed, sealedTheirs, "globex", theirs.ID)

		// The whole key material of another organization, too.
		var salt, key []byte
		h.scan(t, &salt, `SELECT salt FROM organization_keys WHERE organization = 'acme'`)
		h.scan(t, &key, `SELECT fingerprint_key_sealed FROM organization_keys WHERE organization = 'acme'`)
		var ownSalt, ownKey []byte
		h.scan(t, &ownSalt, `SELECT salt FROM organization_keys WHERE organization = 'globex'`)
		h.scan(t, &ownKey, `SELECT fingerprint_key_sealed FROM organization_keys WHERE organization = 'globex'`)
		h.exec(t, `UPDATE organization_keys SET salt = $1, fingerprint_key_sealed = $2 WHERE organization = 'globex'`, salt, key)
		h.exec(t, putSealed, sealedA, "globex", theirs.ID)
		fresh := h.beside(t, url, vault.Options{Reveal: true}) // with nothing derived yet
		fresh.unreadable(t, "everything of another organization", stranger, theirs.ID)
		h.exec(t, `UPDATE organization_keys SET salt = $1, fingerprint_key_sealed = $2 WHERE organization = 'globex'`, ownSalt, ownKey)
		h.exec(t, putSealed, sealedTheirs, "globex", theirs.ID)

		// An older version of the same credential, and the same one under another number.
		if _, _, err := h.Rotate(t.Context(), owner, a.ID, store.Match{}, vault.Rotation{Fields: map[string]string{"apiKey": apiKeyTwo}}); err != nil {
			t.Fatal(err)
		}
		two := h.sealed(t, "acme", a.ID)
		h.exec(t, putSealed, sealedA, "acme", a.ID)
		other := h.beside(t, url, vault.Options{Reveal: true})
		other.unreadable(t, "an older version", owner, a.ID)
		h.exec(t, putSealed, two, "acme", a.ID)
		h.exec(t, `UPDATE credential_versions SET version = 7 WHERE organization = 'acme' AND credential_id = $1`, a.ID)
		h.exec(t, `UPDATE credentials SET version = 7 WHERE organization = 'acme' AND id = $1`, a.ID)
		third := h.beside(t, url, vault.Options{Reveal: true})
		third.unreadable(t, "another number", owner, a.ID)

		if got := h.values(t, stranger, theirs.ID); got["apiKey"] != apiKeyTwo {
			t.Errorf("put back: %v", got)
		}
	})
}

// Any byte that is changed, and any column that a seal is bound to.
func TestAlteredRows(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		h := newHouse(t, url, vault.Options{Reveal: true})
		c := h.create(t, owner, openai("", apiKey))
		good := h.sealed(t, "acme", c.ID)
		code := func() string {
			_, _, err := h.Reveal(t.Context(), owner, c.ID, "test")
			f, _ := fault.As(err)
			if f == nil {
				return fmt.Sprint(err)
			}
			return f.Code
		}
		for i := range good {
			for _, bit := range []byte{0x01, 0x80} { // package seal tries every bit
				if i == 21 && bit == 0x80 {
					continue // 8.5 million iterations: allowed, refused in the end, and a second of work
				}
				bad := append([]byte(nil), good...)
				bad[i] ^= bit
				h.exec(t, putSealed, bad, "acme", c.ID)
				if got := code(); got != "credential_unreadable" {
					t.Errorf("byte %d, bit %#x: %s", i, bit, got)
				}
			}
		}
		for name, bad := range map[string][]byte{
			"empty": {}, "short": good[:40], "one byte less": good[:len(good)-1], "one byte more": append(append([]byte(nil), good...), 0),
			"text": []byte("GHS\x01 not a seal at all"), "zeros": make([]byte, len(good)),
		} {
			h.exec(t, putSealed, bad, "acme", c.ID)
			if got := code(); got != "credential_unreadable" {
				t.Errorf("%s: %s", name, got)
			}
		}
		h.exec(t, putSealed, good, "acme", c.ID)
		for _, fields := range []string{`["apiKey","model"]`, `[]`, `["apikey"]`, `["apiKey","apiKey"]`, `["apiKey",""]`, `null`, `not JSON`, `{"apiKey":1}`, ``} {
			h.exec(t, `UPDATE credential_versions SET fields = $1 WHERE organization = 'acme' AND credential_id = $2`, fields, c.ID)
			if got := code(); got != "credential_unreadable" {
				t.Errorf("fields %s: %s", fields, got)
			}
			if _, err := h.List(t.Context(), owner, vault.Filter{}); err != nil {
				t.Errorf("fields %s: the list: %v", fields, err)
			}
		}
		h.exec(t, `UPDATE credential_versions SET fields = '["apiKey"]', hints = 'not JSON' WHERE organization = 'acme' AND credential_id = $1`, c.ID)
		if got := h.values(t, owner, c.ID); got["apiKey"] != apiKey {
			t.Errorf("put back: %v", got)
		}
		if h.told(t, "acme") == 0 {
			t.Error("no event tells of it")
		}
		// Storing it again is the mend that the error names.
		h.exec(t, putSealed, make([]byte, len(good)), "acme", c.ID)
		if _, _, err := h.Rotate(t.Context(), owner, c.ID, store.Match{}, vault.Rotation{Fields: map[string]string{"apiKey": apiKeyTwo}}); err != nil {
			t.Errorf("storing it again: %v", err)
		}
		h.uses(t, "", apiKeyTwo, nil)
	})
}

// The columns that the instance names to package masterkey are every column that
// is called sealed, and no other column holds the bytes of a sealed value.
func TestSealedColumns(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		h := newHouse(t, url, vault.Options{})
		h.create(t, owner, openai("", apiKey))
		h.hook(t)
		query := `SELECT m.name, p.name, upper(p.type) FROM sqlite_master m JOIN pragma_table_info(m.name) p WHERE m.type = 'table'`
		hex := `hex(CAST(%s AS BLOB))`
		if h.db.Kind() == "postgresql" {
			query = `SELECT table_name, column_name, upper(data_type) FROM information_schema.columns WHERE table_schema = 'public'`
			hex = `upper(encode(convert_to(CAST(%s AS TEXT), 'UTF8'), 'hex'))`
		}
		type column struct{ table, name, kind string }
		var columns []column
		err := h.db.View(t.Context(), "acme", func(tx *store.Tx) error {
			return tx.Each(t.Context(), func(scan func(...any) error) error {
				var c column
				err := scan(&c.table, &c.name, &c.kind)
				columns = append(columns, c)
				return err
			}, query)
		})
		if err != nil {
			t.Fatal(err)
		}
		named, holding := map[store.TableColumn]bool{}, map[store.TableColumn]bool{}
		for _, c := range columns {
			if strings.HasPrefix(c.table, "sqlite_") || strings.HasPrefix(c.table, "goose_") {
				continue
			}
			at := store.TableColumn{Table: c.table, Column: c.name}
			if strings.HasSuffix(c.name, "_sealed") {
				named[at] = true
				if c.kind != "BYTEA" {
					t.Errorf("%v is %s", at, c.kind)
				}
			}
			expression := fmt.Sprintf(hex, c.name)
			if c.kind == "BYTEA" && h.db.Kind() == "postgresql" {
				expression = `upper(encode(` + c.name + `, 'hex'))`
			}
			if h.count(t, `SELECT count(*) FROM `+c.table+` WHERE `+expression+` LIKE '%47485301%'`) > 0 { // GHS, suite 1
				holding[at] = true
			}
		}
		want := map[store.TableColumn]bool{}
		for _, c := range instance.SealedColumns() {
			want[store.TableColumn{Table: c.Table, Column: c.Name}] = true
		}
		if diff := cmp.Diff(want, named); diff != "" {
			t.Errorf("columns called _sealed (-SealedColumns +tables):\n%s", diff)
		}
		for at := range holding {
			if !want[at] {
				t.Errorf("%v holds a sealed value and is none of the sealed columns", at)
			}
		}
		if len(holding) < 2 { // the credential's, and its organization's own
			t.Errorf("only %v hold a sealed value after a credential was stored", holding)
		}
	})
}

// What a credential was made of is nowhere in the database, and a deleted one's
// sealed bytes are not even in SQLite's free pages.
func TestDeletedSealsAreGone(t *testing.T) {
	path := t.TempDir() + "/gatehouse.db"
	h := newHouse(t, path, vault.Options{})
	c := h.create(t, owner, openai("", apiKey))
	sealed := h.sealed(t, "acme", c.ID)
	kept := h.create(t, owner, openai("kept", apiKeyTwo))
	first := h.sealed(t, "acme", kept.ID)
	if _, _, err := h.Rotate(t.Context(), owner, kept.ID, store.Match{}, vault.Rotation{Fields: map[string]string{"apiKey": apiKey}}); err != nil {
		t.Fatal(err)
	}
	fold := func() {
		raw, err := sql.Open("sqlite", path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = raw.Close() }()
		var busy, frames, done int
		if err := raw.QueryRowContext(t.Context(), `PRAGMA wal_checkpoint(TRUNCATE)`).Scan(&busy, &frames, &done); err != nil || busy != 0 {
			t.Fatal(busy, err)
		}
	}
	fold()
	if gatehousetest.Occurrences(t, path, sealed[20:]) == 0 {
		t.Fatal("the sealed bytes are not to be found while they are there: this test proves nothing")
	}
	if err := h.Delete(t.Context(), owner, c.ID, store.Match{}); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < 500 && gatehousetest.Occurrences(t, path, sealed[20:60]) > 0; i++ {
		time.Sleep(10 * time.Millisecond) // the log is cut off once a second
	}
	for what, b := range map[string][]byte{
		"a deleted credential": sealed[20:60], "a rotated version": first[20:60], "a payload": sealed[len(sealed)-30:],
		"a key": []byte(apiKey), "another key": []byte(apiKeyTwo), "the master secret": []byte(gatehousetest.EncryptionKey),
	} {
		if n := gatehousetest.Occurrences(t, path, b); n != 0 {
			t.Errorf("%s is in the files, %d times", what, n)
		}
	}
	if n := len(h.events(t, "acme", audit.CredentialDelete)); n != 1 {
		t.Errorf("%d events of the deletion", n)
	}
}
