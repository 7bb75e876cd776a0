package ledger_test

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/ledger"
)

// The tree over the instance's list of blocks is looked at on each of its levels: what
// nothing can be sealed on is found.
func TestTreeOfTheList(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		b := newBook(t, url, ledger.Options{Batch: 1})
		for i := range 70 { // as many blocks, so that there is a second level
			b.change(t, "acme", i)
		}
		b.sealAll(t)
		if r := b.verifyAll(t); !r.Clean() {
			t.Fatalf("before: %+v", r.Findings)
		}
		b.save(t)
		const list = ` WHERE organization = '_instance' AND class = 'ledger' `
		for name, forged := range map[string]string{
			"gone":              `DELETE FROM ledger_tiles` + list,
			"the lowest is":     `DELETE FROM ledger_tiles` + list + `AND level = 0 AND number = 0`,
			"the edge is":       `DELETE FROM ledger_tiles` + list + `AND level = 0 AND number = 1`,
			"the upper is":      `DELETE FROM ledger_tiles` + list + `AND level = 1`,
			"the upper another": `UPDATE ledger_tiles SET hashes = (SELECT hashes FROM ledger_tiles WHERE organization = 'acme' AND level = 0 AND number = 0)` + list + `AND level = 1`,
		} {
			t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
				b.restore(t)
				b.exec(t, forged)
				r := b.verifyAll(t)
				if r.Clean() || r.Findings[0].Kind != ledger.TreeAltered || r.Findings[0].Organization != access.InstanceOrganization {
					t.Errorf("found %+v", r.Findings)
				}
				if own, err := b.Verify(t.Context(), ownerOf("acme"), ledger.VerifyOptions{}); err != nil || own.Clean() || own.Findings[0].Kind != ledger.EntryAltered {
					t.Errorf("by acme's own: %+v, %v", own, err)
				}
			})
		}
	})
}

// SQLite keeps whatever is written to a column. That is found as an alteration, and no
// error that keeps verification from its work.
func TestDamagedRows(t *testing.T) {
	b := corpus(t, filepath.Join(t.TempDir(), "gatehouse.db"))
	for _, f := range []forgery{
		{"when it occurred", []string{`UPDATE events SET occurred_at = 'x'` + acme + `AND log_index = 3`}, ledger.ColumnAltered, "acme/control", 3, -1, false},
		{"when it was recorded", []string{`UPDATE events SET recorded_at = x'00'` + acme + `AND log_index = 3`}, ledger.ColumnAltered, "acme/control", 3, -1, false},
		{"its place, a text", []string{`UPDATE events SET log_index = 'x'` + acme + `AND log_index = 3`}, ledger.ColumnAltered, "acme/control", -1, -1, false},
		{"its place, a fraction", []string{`UPDATE events SET log_index = 3.5` + acme + `AND log_index = 3`}, ledger.ColumnAltered, "acme/control", -1, -1, false},
		{"a block's number", []string{`UPDATE ledger_blocks SET number = 'x'` + acme + `AND number = 3`}, ledger.BlockAltered, "acme/control", 60, -1, false},
		{"a block's first", []string{`UPDATE ledger_blocks SET first = 'x'` + acme + `AND number = 3`}, ledger.BlockAltered, "acme/control", -1, 3, false},
		{"a block's time", []string{`UPDATE ledger_blocks SET sealed_at = 1.5` + acme + `AND number = 3`}, ledger.BlockAltered, "acme/control", 60, 3, false},
		{"a log's size", []string{`UPDATE ledger_logs SET size = 'x'` + acme}, ledger.LogAltered, "acme/control", -1, -1, false},
		{"the list's size", []string{`UPDATE ledger_logs SET size = 'x' WHERE organization = '_instance'`}, ledger.LogAltered, "_instance/ledger", -1, -1, false},
		{"an entry's place", []string{`UPDATE ledger_entries SET log_index = 'x' WHERE log_index = 3`}, ledger.EntryAltered, "_instance/ledger", -1, -1, false},
		{"an entry's number", []string{`UPDATE ledger_entries SET number = 'x' WHERE log_organization = 'acme' AND log_class = 'control' AND number = 3`}, ledger.EntryAltered, "_instance/ledger", -1, -1, false},
		{"a key's time", []string{`UPDATE ledger_keys SET created_at = 'x'`}, ledger.KeyAltered, "_instance/ledger", -1, -1, false},
		{"a record of retention", []string{`INSERT INTO ledger_prefixes (organization, class, size, root, record, created_at) VALUES ('acme', 'control', 'x', '', '', 0)`}, ledger.RecordInvalid, "acme/control", -1, -1, false},
		{"an event that was held", []string{`INSERT INTO ledger_held (organization, class, log_index, event_id, occurred_at, canonical, size, hashes, checkpoint) VALUES ('acme', 'control', 'x', 'evt_x', 0, '', 0, '', '')`}, ledger.HeldAltered, "acme/control", -1, -1, false},
		{"a class", []string{`UPDATE events SET class = x'ff'` + acme + `AND log_index = 3`}, ledger.ColumnAltered, "acme/\xff", 3, -1, false},
		{"a block's class", []string{`UPDATE ledger_blocks SET class = x'ff'` + acme + `AND number = 3`}, ledger.BlockAltered, "acme/\xff", 60, 3, false},
		{"an entry's class", []string{`UPDATE ledger_entries SET log_class = x'ff' WHERE log_index = 0`}, ledger.EntryAltered, "_instance/ledger", -1, -1, false},
		{"an entry's organization", []string{`UPDATE ledger_entries SET log_organization = x'ff' WHERE log_index = 0`}, ledger.EntryAltered, "_instance/ledger", -1, -1, false},
		{"a salt", []string{`UPDATE event_persons SET salt = 5 WHERE event_id = (SELECT id FROM events` + acme + `AND log_index = 9)`}, ledger.PersonAltered, "acme/control", 9, -1, false},
	} {
		t.Run(strings.ReplaceAll(f.name, " ", "_"), func(t *testing.T) {
			b.restore(t)
			b.exec(t, `DELETE FROM ledger_held`)
			b.exec(t, f.sql...)
			r := b.verifyAll(t)
			if r.Clean() || !slices.ContainsFunc(r.Findings, func(found ledger.Finding) bool {
				return found.Kind == f.kind && found.Organization+"/"+found.Class == f.log && found.Index == f.index && found.Block == f.block
			}) {
				t.Errorf("found %+v", r.Findings)
			}
			own, err := b.Verify(t.Context(), ownerOf("acme"), ledger.VerifyOptions{})
			if err != nil || own.Clean() {
				t.Errorf("by acme's own: %+v, %v", own, err)
			}
			for _, found := range own.Findings {
				if found.Organization == "globex" || strings.Contains(found.Detail, "globex") {
					t.Errorf("told of another organization: %+v", found)
				}
			}
		})
	}
}

// What has no name that can be read is not sealed, and keeps nobody else from it.
func TestUnreadableLog(t *testing.T) {
	b := newBook(t, filepath.Join(t.TempDir(), "gatehouse.db"), ledger.Options{})
	b.fill(t, 1, 1)
	b.change(t, "acme", 1)
	b.change(t, "acme", 2)
	b.change(t, "globex", 1)
	b.change(t, "globex", 2)
	b.exec(t, `UPDATE events SET class = x'ff' WHERE organization = 'acme' AND log_index IS NULL`,
		`UPDATE events SET organization = x'ff' WHERE id = (SELECT min(id) FROM events WHERE organization = 'globex' AND log_index IS NULL)`)
	if n, err := b.Seal(t.Context()); n != 1 || !errors.Is(err, ledger.ErrAltered) {
		t.Errorf("sealed %d: %v", n, err)
	}
}

// A table that is gone is a deletion like any other.
func TestTableGone(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		b := newBook(t, url, ledger.Options{})
		b.fill(t, 2, 3)
		for _, table := range []string{"ledger_tiles", "ledger_held", "ledger_prefixes", "ledger_entries", "ledger_blocks", "event_persons"} {
			b.exec(t, `ALTER TABLE `+table+` RENAME TO away`)
			r := b.verifyAll(t)
			if r.Clean() || len(r.Findings) == 0 || !strings.Contains(r.Findings[0].Detail, table) {
				t.Errorf("%s: %+v", table, r.Findings)
			}
			b.exec(t, `ALTER TABLE away RENAME TO `+table)
		}
		if r := b.verifyAll(t); !r.Clean() {
			t.Errorf("after all: %+v", r.Findings)
		}
	})
}
