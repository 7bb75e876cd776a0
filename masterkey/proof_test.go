package masterkey_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/masterkey"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/vault"
)

// signing is a sealed column that a room of the future might add.
func signing() masterkey.Column {
	return masterkey.Column{
		Table: "signing_secrets", Name: "secret_sealed", Key: []string{"organization", "id"},
		Context: func(environment string, r masterkey.Row) seal.Context {
			return seal.Context{Environment: environment, Organization: r.Text("organization"), Kind: "signing-secret", ID: r.Text("id")}
		},
	}
}

// addSigning makes its table, with n secrets of acme.
func (h *house) addSigning(t *testing.T, ring *seal.Keyring, n int) {
	t.Helper()
	h.exec(t, `CREATE TABLE signing_secrets (organization TEXT NOT NULL, id TEXT NOT NULL, secret_sealed BYTEA, PRIMARY KEY (organization, id))`)
	var salt seal.OrganizationSalt
	err := h.db.View(t.Context(), "acme", func(tx *store.Tx) error {
		return tx.Row(t.Context(), `SELECT salt FROM organization_keys WHERE organization = 'acme'`).Scan(&salt)
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		id := string(rune('a' + i))
		sealed, err := ring.Seal(t.Context(), seal.Context{Environment: "test", Organization: "acme", Kind: "signing-secret", ID: id}, salt, []byte("whsec"))
		if err != nil {
			t.Fatal(err)
		}
		h.exec(t, `INSERT INTO signing_secrets (organization, id, secret_sealed) VALUES ('acme', $1, $2)`, id, sealed)
	}
	h.exec(t, `INSERT INTO signing_secrets (organization, id) VALUES ('acme', 'none')`)
}

// rotateTo moves everything to the secret, with these columns on the list.
func (h *house) rotateTo(t *testing.T, columns []masterkey.Column, secrets ...string) *process {
	t.Helper()
	o := h.options(secrets...)
	o.Columns = columns
	p := h.open(t, o)
	if _, err := p.Stage(t.Context(), operator, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Rotate(t.Context(), operator, masterkey.RotateOptions{}); err != nil {
		t.Fatal(err)
	}
	p.rotated(t)
	return p
}

// TestForgottenColumn adds a sealed column to the database. While nobody has
// told of it no key retires; once it is on the list everything moves.
func TestForgottenColumn(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		ctx, h := t.Context(), newHouse(t, url)
		p := h.open(t, h.options(first))
		h.organization(t, "acme")
		c := p.store(t, "acme", "one")
		h.addSigning(t, p.Ring(), 3)

		p = h.rotateTo(t, vault.SealedColumns(), second, first)
		s := p.status(t)
		if !slices.Equal(s.Unregistered, []string{"signing_secrets.secret_sealed"}) {
			t.Errorf("unregistered: %q", s.Unregistered)
		}
		old := s.Keys[0]
		if _, err := p.Retire(ctx, operator, old.ID, false); code(err) != "column_unregistered" || !strings.Contains(err.Error(), "signing_secrets.secret_sealed") {
			t.Errorf("a key retires while a sealed column is nobody's: %v", err)
		}

		whole := append(vault.SealedColumns(), signing())
		o := h.options(second, first)
		o.Columns = whole
		p = h.open(t, o)
		if _, err := p.Retire(ctx, operator, old.ID, false); code(err) != "key_in_use" || !strings.Contains(err.Error(), "signing_secrets.secret_sealed 3") ||
			!strings.Contains(err.Error(), "signing_secrets.secret_sealed acme/a") {
			t.Errorf("a key retires while the new column hangs on it: %v", err)
		}
		p = h.rotateTo(t, whole, second, first)
		if s := p.status(t); s.Unregistered != nil || s.Keys[0].Rows != 0 || s.Keys[1].Rows != 5 {
			t.Errorf("with the column on the list: %+v", s)
		}
		if v, err := p.Verify(ctx, operator, masterkey.VerifyOptions{}); err != nil || v.Checked != 5 || v.Unreadable != 0 {
			t.Errorf("verified: %+v, %v", v, err)
		}
		if _, err := p.Retire(ctx, operator, old.ID, false); err != nil {
			t.Error(err)
		}
		p.reads(t, "acme", c, keyOf("acme", "one"))
	})
}

// TestUnreadableRows: what does not open stays where it is, is named, stops no
// other row, and keeps its key from retiring.
func TestUnreadableRows(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		ctx, h := t.Context(), newHouse(t, url)
		p := h.open(t, h.options(first))
		for _, organization := range []string{"acme", "globex", "initech"} {
			h.organization(t, organization)
		}
		good, altered, moved := p.store(t, "acme", "good"), p.store(t, "acme", "altered"), p.store(t, "acme", "moved")
		malformed, gone := p.store(t, "globex", "malformed"), p.store(t, "initech", "gone")
		h.exec(t, `UPDATE credential_versions SET fields = '["apiKey","model"]' WHERE credential_id = $1`, altered.ID)
		h.exec(t, `UPDATE credential_versions SET fields_sealed = (SELECT fields_sealed FROM credential_versions WHERE credential_id = $1) WHERE credential_id = $2`, good.ID, moved.ID)
		h.exec(t, `UPDATE credential_versions SET fields_sealed = $1 WHERE credential_id = $2`, []byte("GHS"), malformed.ID)
		h.exec(t, `DELETE FROM organization_keys WHERE organization = 'initech'`)

		p = h.rotateTo(t, vault.SealedColumns(), second, first)
		r, err := p.Progress(ctx, operator)
		if err != nil || r.Unreadable != 4 || r.Rewrapped != 3 { // good, and the keys of acme and globex
			t.Errorf("%+v, %v", r, err)
		}
		p.reads(t, "acme", good, keyOf("acme", "good"))
		v, err := p.Verify(ctx, operator, masterkey.VerifyOptions{})
		if err != nil || v.Checked != 7 || v.Unreadable != 4 {
			t.Fatalf("%+v, %v", v, err)
		}
		reasons := map[string]string{}
		for _, f := range v.Findings {
			reasons[f.Row] = f.Reason
		}
		for row, want := range map[string]string{
			"acme/" + altered.ID + "/1": masterkey.NotOpened, "acme/" + moved.ID + "/1": masterkey.NotOpened,
			"globex/" + malformed.ID + "/1": masterkey.Malformed, "initech/" + gone.ID + "/1": masterkey.SaltMissing,
		} {
			if reasons[row] != want {
				t.Errorf("%s is %q, want %q", row, reasons[row], want)
			}
		}
		s := p.status(t)
		if s.Keys[0].Rows != 3 || len(s.Unknown) != 1 || s.Unknown[0].Rows != 1 {
			t.Errorf("%+v", s)
		}
		if _, err := p.Retire(ctx, operator, s.Keys[0].ID, false); code(err) != "key_in_use" || !strings.Contains(err.Error(), altered.ID) {
			t.Errorf("retired with rows left: %v", err)
		}
		if got := h.events(t); got[len(got)-1] != "key.rotate finish partial" {
			t.Errorf("the trail: %q", got)
		}
		if log := h.logs.String(); !strings.Contains(log, altered.ID) {
			t.Error("the log does not name what stayed behind")
		}
		// The mends: the credential is deleted, or stored again.
		if err := p.vault.Delete(ctx, ownerOf("acme"), altered.ID, store.Match{}); err != nil {
			t.Error(err)
		}
		if _, _, err := p.vault.Rotate(ctx, ownerOf("acme"), moved.ID, store.Match{}, vault.Rotation{Fields: map[string]string{"apiKey": keyOf("acme", "again")}}); err != nil {
			t.Error(err)
		}
		h.exec(t, `DELETE FROM credential_versions WHERE organization = 'initech'`)
		if _, err := p.Retire(ctx, operator, s.Keys[0].ID, false); err != nil {
			t.Error(err)
		}
	})
}

// TestSample opens a part of what there is.
func TestSample(t *testing.T) {
	h := newHouse(t, t.TempDir()+"/gatehouse.db")
	p := h.open(t, h.options(first))
	h.organization(t, "acme")
	for i := range 9 {
		p.store(t, "acme", string(rune('a'+i)))
	}
	for _, sample := range []int{1, 3, 10, 1000} {
		v, err := p.Verify(t.Context(), operator, masterkey.VerifyOptions{Sample: sample})
		if err != nil || !v.Complete || v.Total != 10 || v.Checked > int64(sample) || v.Checked < 1 {
			t.Errorf("a sample of %d: %+v, %v", sample, v, err)
		}
	}
}

// TestVerifiedBesideChanges: a value that is gone before it is looked at is not one that does
// not open.
func TestVerifiedBesideChanges(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		h := newHouse(t, url)
		p := h.open(t, h.options(first))
		for _, organization := range []string{"acme", "globex"} {
			h.organization(t, organization)
			p.store(t, organization, "one")
		}
		told := 0
		v, err := p.Verify(t.Context(), operator, masterkey.VerifyOptions{Progress: func(_, total int64) {
			if told++; told == 1 && total == 4 { // the rows of one column are read; those of the other go
				h.exec(t, `DELETE FROM credential_versions WHERE organization = 'globex'`)
				h.exec(t, `DELETE FROM organization_keys WHERE organization = 'globex'`)
			}
		}})
		if err != nil || !v.Complete || v.Checked != 3 || v.Unreadable != 0 || v.Total != 3 {
			t.Errorf("%+v, %v", v, err)
		}
	})
}

// TestWriterThatWasHeldUp seals under a key, is held up until after the key
// was retired, and is then refused: the value would never open again.
func TestWriterThatWasHeldUp(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		ctx, h := t.Context(), newHouse(t, url)
		h.organization(t, "acme")
		c := h.open(t, h.options(first)).store(t, "acme", "one")
		if _, err := h.open(t, h.options(second, first)).Stage(ctx, operator, 0); err != nil {
			t.Fatal(err)
		}
		slow := h.open(t, h.options(first, second)) // a process that holds both and hears of nothing
		p := h.rotateTo(t, vault.SealedColumns(), second, first)
		slow.store(t, "acme", "late") // the old key is not retired: this is swept up
		s := p.status(t)
		if _, err := p.Retire(ctx, operator, s.Keys[0].ID, false); code(err) != "key_in_use" {
			t.Errorf("retired while the late value hangs on it: %v", err)
		}
		if _, err := p.Rotate(ctx, operator, masterkey.RotateOptions{}); err != nil {
			t.Fatal(err)
		}
		p.rotated(t)
		if _, err := p.Retire(ctx, operator, s.Keys[0].ID, false); err != nil {
			t.Fatal(err)
		}
		_, _, err := slow.vault.Create(ctx, ownerOf("acme"), vault.NewCredential{Service: "openai", Name: "too late", Fields: map[string]string{"apiKey": keyOf("acme", "x")}})
		if !errors.Is(err, masterkey.ErrSuperseded) {
			t.Errorf("a value under a retired key is stored: %v", err)
		}
		if _, _, err := slow.vault.Rotate(ctx, ownerOf("acme"), c.ID, store.Match{}, vault.Rotation{Fields: map[string]string{"apiKey": keyOf("acme", "x")}}); err == nil {
			t.Error("a change under a retired key is stored")
		}
		p.reads(t, "acme", c, keyOf("acme", "one"))
		if s := p.status(t); s.Keys[0].Rows != 0 {
			t.Errorf("%+v", s.Keys)
		}
		// Neither is a value of an organization whose salt is gone.
		err = h.db.Update(ctx, "globex", func(tx *store.Tx) error {
			sealed, err := p.Ring().Seal(ctx, seal.Context{Environment: "test", Organization: "globex", Kind: "x", ID: "x"}, seal.NewOrganizationSalt(), nil)
			if err != nil {
				return err
			}
			return masterkey.Admit(ctx, tx, "globex", sealed)
		})
		if !errors.Is(err, masterkey.ErrSuperseded) {
			t.Errorf("a value of an organization without a salt: %v", err)
		}
	})
}

// TestIncompleteColumns: a column that is not described in full is refused at
// start, not found out when a key is lost.
func TestIncompleteColumns(t *testing.T) {
	h := newHouse(t, t.TempDir()+"/gatehouse.db")
	for name, change := range map[string]func(*masterkey.Column){
		"no table":          func(c *masterkey.Column) { c.Table = "" },
		"another name":      func(c *masterkey.Column) { c.Name = "secret" },
		"no key":            func(c *masterkey.Column) { c.Key = nil },
		"another first key": func(c *masterkey.Column) { c.Key = []string{"id"} },
		"no context":        func(c *masterkey.Column) { c.Context = nil },
	} {
		c := signing()
		change(&c)
		o := h.options(first)
		o.Columns = []masterkey.Column{c}
		if _, err := masterkey.Open(t.Context(), h.db, h.trail, o); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}

// TestDestroy takes an organization's rows out of every sealed table, and no
// other's.
func TestDestroy(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		h := newHouse(t, url)
		p := h.open(t, h.options(first))
		h.organization(t, "acme")
		h.organization(t, "globex")
		p.store(t, "acme", "one")
		theirs := p.store(t, "globex", "one")
		h.addSigning(t, p.Ring(), 2)
		err := h.db.UpdateAcross(t.Context(), func(tx *store.Tx) error {
			n, err := masterkey.Destroy(t.Context(), tx, append(vault.SealedColumns(), signing()), "acme")
			if n != 5 {
				t.Errorf("%d rows, want 5: one version, the organization's keys, 3 of the other table", n)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		p.reads(t, "globex", theirs, keyOf("globex", "one"))
		if n := h.count(t, `SELECT count(*) FROM organization_keys`); n != 1 {
			t.Errorf("%d organizations have keys", n)
		}
	})
}
