package ledger_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/ledger"
	"github.com/gatehouse-io/gatehouse/store"
)

// tables are those that a forger would write to.
var tables = []string{"event_persons", "events", "ledger_logs", "ledger_blocks", "ledger_tiles", "ledger_entries", "ledger_keys", "ledger_prefixes", "ledger_sealer"}

// save keeps what the tables hold; restore brings it back.
func (b *book) save(t testing.TB) {
	for _, table := range tables {
		b.exec(t, `CREATE TABLE saved_`+table+` AS SELECT * FROM `+table)
	}
}

func (b *book) restore(t testing.TB) {
	var all []string
	for _, table := range tables {
		all = append(all, `DELETE FROM `+table, `INSERT INTO `+table+` SELECT * FROM saved_`+table)
	}
	b.exec(t, append(all, `CREATE UNIQUE INDEX IF NOT EXISTS events_in_log ON events (organization, class, log_index) WHERE log_index IS NOT NULL`)...)
}

// forgery is a way to alter the trail with the database's password.
type forgery struct {
	name  string
	sql   []string
	kind  ledger.Kind // that must be found
	log   string      // where
	index int64       // and at which place; -1: of the log as a whole
	block int64       // and in which block; -2: any
	first bool        // it must be the first that is found
}

const (
	acme  = ` WHERE organization = 'acme' AND class = 'control' `
	other = ` WHERE organization = 'globex' AND class = 'control' `
)

// deleteLog deletes a log with all that names it but the instance's own.
func deleteLog(where string) []string {
	return []string{
		`DELETE FROM event_persons WHERE event_id IN (SELECT id FROM events ` + where + `)`, `DELETE FROM events` + where, `DELETE FROM ledger_logs` + where,
		`DELETE FROM ledger_blocks` + where, `DELETE FROM ledger_tiles` + where, `DELETE FROM ledger_prefixes` + where,
	}
}

// The corpus: acme's control log has 200 events in 10 blocks of 20.
var forgeries = []forgery{
	{"an event's bytes", []string{`UPDATE events SET canonical = (SELECT canonical FROM events` + acme + `AND log_index = 8)` + acme + `AND log_index = 7`},
		ledger.EventAltered, "acme/control", 7, 0, false},
	{"two events exchanged", []string{`UPDATE events SET log_index = 1000007` + acme + `AND log_index = 7`, `UPDATE events SET log_index = 7` + acme + `AND log_index = 8`, `UPDATE events SET log_index = 8` + acme + `AND log_index = 1000007`},
		ledger.EventAltered, "acme/control", 7, 0, true},
	{"the first event deleted", []string{`DELETE FROM events` + acme + `AND log_index = 0`}, ledger.EventMissing, "acme/control", 0, -1, true},
	{"an event in the middle deleted", []string{`DELETE FROM events` + acme + `AND log_index = 77`}, ledger.EventMissing, "acme/control", 77, -1, true},
	{"the last event deleted", []string{`DELETE FROM events` + acme + `AND log_index = 199`}, ledger.EventMissing, "acme/control", 199, -1, true},
	{"a head deleted", []string{`DELETE FROM events` + acme + `AND log_index < 50`}, ledger.EventMissing, "acme/control", 0, -1, true},
	{"all events deleted", []string{`DELETE FROM events` + acme}, ledger.EventMissing, "acme/control", 0, -1, true},
	{"an event sealed a second time", []string{`UPDATE events SET log_index = NULL` + acme + `AND log_index = 30`}, ledger.EventMissing, "acme/control", 30, -1, true},
	{"an event moved to another organization", []string{`UPDATE events SET organization = 'globex', log_index = 100000` + acme + `AND log_index = 12`}, ledger.EventMissing, "acme/control", 12, -1, false},
	{"an event moved to another class", []string{`UPDATE events SET class = 'access', log_index = -1` + acme + `AND log_index = 12`}, ledger.EventMissing, "acme/control", 12, -1, false},
	{"a class of its own", []string{`UPDATE events SET class = 'nothing'` + acme + `AND log_index = 12`}, ledger.LogMissing, "acme/nothing", -1, -1, false},
	{"an event added behind the end", []string{`INSERT INTO events (organization, id, occurred_at, recorded_at, class, action, outcome, actor_id, canonical, log_index)
		SELECT organization, 'evt_new', occurred_at, recorded_at, class, action, outcome, actor_id, canonical, 200 FROM events` + acme + `AND log_index = 5`},
		ledger.EventAdded, "acme/control", 200, -1, true},
	{"an event added in a place that is taken", []string{`DROP INDEX events_in_log`, `INSERT INTO events (organization, id, occurred_at, recorded_at, class, action, outcome, actor_id, canonical, log_index)
		SELECT organization, 'evt_zzz', occurred_at, recorded_at, class, action, outcome, actor_id, canonical, 5 FROM events` + acme + `AND log_index = 5`},
		ledger.EventAdded, "acme/control", 5, -1, false},

	{"the time of an event", []string{`UPDATE events SET occurred_at = occurred_at - 1` + acme + `AND log_index = 3`}, ledger.ColumnAltered, "acme/control", 3, -1, true},
	{"the time at which an event was recorded", []string{`UPDATE events SET recorded_at = recorded_at + 1` + acme + `AND log_index = 3`}, ledger.ColumnAltered, "acme/control", 3, -1, true},
	{"the time at which an event was recorded, to none", []string{`UPDATE events SET recorded_at = -62135596800000000` + acme + `AND log_index = 3`}, ledger.ColumnAltered, "acme/control", 3, -1, true},
	{"the action of an event", []string{`UPDATE events SET action = 'credential.read'` + acme + `AND log_index = 3`}, ledger.ColumnAltered, "acme/control", 3, -1, true},
	{"the outcome of an event", []string{`UPDATE events SET outcome = 'denied'` + acme + `AND log_index = 199`}, ledger.ColumnAltered, "acme/control", 199, -1, true},
	{"the actor of an event", []string{`UPDATE events SET actor_id = 'u-2'` + acme + `AND log_index = 3`}, ledger.ColumnAltered, "acme/control", 3, -1, true},
	{"the id of an event", []string{`UPDATE events SET id = 'evt_other'` + acme + `AND log_index = 3`}, ledger.ColumnAltered, "acme/control", 3, -1, true},
	{"somebody's address", []string{`UPDATE event_persons SET data = '{"ip":"192.0.2.99"}' WHERE event_id = (SELECT id FROM events` + acme + `AND log_index = 9)`}, ledger.PersonAltered, "acme/control", 9, -1, true},
	{"a salt", []string{`UPDATE event_persons SET salt = (SELECT salt FROM event_persons WHERE organization = 'globex' LIMIT 1) WHERE event_id = (SELECT id FROM events` + acme + `AND log_index = 9)`}, ledger.PersonAltered, "acme/control", 9, -1, true},
	{"a person made up", []string{`INSERT INTO event_persons (organization, event_id, salt, data) SELECT organization, id, (SELECT salt FROM event_persons WHERE organization = 'globex' LIMIT 1), '{}' FROM events WHERE organization = 'acme' AND class = 'access' AND log_index = 2`},
		ledger.PersonAltered, "acme/access", 2, -1, true},

	{"a hash of the tree", []string{`UPDATE ledger_tiles SET hashes = (SELECT hashes FROM ledger_tiles` + acme + `AND level = 0 AND number = 1)` + acme + `AND level = 0 AND number = 0`}, ledger.TreeAltered, "acme/control", 0, 0, true},
	{"a hash higher up", []string{`UPDATE ledger_tiles SET hashes = (SELECT hashes FROM ledger_tiles` + acme + `AND level = 0 AND number = 1)` + acme + `AND level = 1`}, ledger.TreeAltered, "acme/control", -1, -2, true},
	{"a row of hashes deleted", []string{`DELETE FROM ledger_tiles` + acme + `AND level = 0 AND number = 2`}, ledger.TreeAltered, "acme/control", 128, -2, true},
	{"all hashes deleted", []string{`DELETE FROM ledger_tiles` + acme}, ledger.TreeAltered, "acme/control", 0, -2, true},
	{"an event and its hash", []string{`UPDATE events SET canonical = (SELECT canonical FROM events` + acme + `AND log_index = 64)` + acme + `AND log_index = 0`,
		`UPDATE ledger_tiles SET hashes = (SELECT hashes FROM ledger_tiles` + acme + `AND level = 0 AND number = 1)` + acme + `AND level = 0 AND number = 0`}, ledger.EventAltered, "acme/control", 1, 0, false},

	{"a block deleted", []string{`DELETE FROM ledger_blocks` + acme + `AND number = 4`}, ledger.BlockMissing, "acme/control", -1, 4, true},
	{"the first block deleted", []string{`DELETE FROM ledger_blocks` + acme + `AND number = 0`}, ledger.BlockMissing, "acme/control", -1, 0, true},
	{"the last block deleted", []string{`DELETE FROM ledger_blocks` + acme + `AND number = 9`}, ledger.BlockMissing, "acme/control", -1, 9, true},
	{"two blocks exchanged", []string{`UPDATE ledger_blocks SET number = 1004` + acme + `AND number = 4`, `UPDATE ledger_blocks SET number = 4` + acme + `AND number = 5`, `UPDATE ledger_blocks SET number = 5` + acme + `AND number = 1004`}, ledger.BlockAltered, "acme/control", -2, 4, true},
	{"a block's checkpoint", []string{`UPDATE ledger_blocks SET checkpoint = replace(checkpoint, 'block 4', 'block 5')` + acme + `AND number = 4`}, ledger.BlockAltered, "acme/control", 80, 4, true},
	{"a block's signature", []string{`UPDATE ledger_blocks SET checkpoint = checkpoint || '— gatehouse/test/acme/control AAAA' || substr(checkpoint, 1, 0)` + acme + `AND number = 4`}, ledger.BlockAltered, "acme/control", 80, 4, true},
	{"the last block's signature", []string{`UPDATE ledger_blocks SET checkpoint = replace(checkpoint, 'block 9', 'block 8')` + acme + `AND number = 9`}, ledger.SignatureInvalid, "acme/control", 180, 9, false},
	{"the signatures of the last blocks", []string{`UPDATE ledger_blocks SET checkpoint = replace(checkpoint, 'block', 'blocks')` + acme + `AND number >= 7`}, ledger.SignatureInvalid, "acme/control", 140, 7, false},
	{"another organization's block in place of the last", []string{`UPDATE ledger_blocks SET checkpoint = (SELECT checkpoint FROM ledger_blocks` + other + `AND number = 9)` + acme + `AND number = 9`}, ledger.SignatureInvalid, "acme/control", 180, 9, false},
	{"a block's time", []string{`UPDATE ledger_blocks SET sealed_at = sealed_at - 1000` + acme + `AND number = 4`}, ledger.BlockAltered, "acme/control", 80, 4, true},
	{"a block's key", []string{`UPDATE ledger_blocks SET key_id = 'another'` + acme + `AND number = 4`}, ledger.BlockAltered, "acme/control", 80, 4, true},
	{"another organization's block", []string{`UPDATE ledger_blocks SET checkpoint = (SELECT checkpoint FROM ledger_blocks` + other + `AND number = 4)` + acme + `AND number = 4`}, ledger.BlockAltered, "acme/control", 80, 4, true},
	{"the tail cut clean", []string{`DELETE FROM events` + acme + `AND log_index >= 180`, `DELETE FROM ledger_blocks` + acme + `AND number = 9`,
		`UPDATE ledger_logs SET size = 180, blocks = 9` + acme, `DELETE FROM ledger_tiles` + acme + `AND level = 0 AND number = 3`}, ledger.BlockMissing, "acme/control", -1, 9, true},
	{"a log deleted", deleteLog(acme), ledger.LogMissing, "acme/control", -1, 0, true},
	{"an organization deleted", deleteLog(` WHERE organization = 'acme' `), ledger.LogMissing, "acme/access", -1, 0, true},
	{"an organization deleted, and what lists it", append(deleteLog(` WHERE organization = 'acme' `), `DELETE FROM ledger_entries WHERE log_organization = 'acme'`), ledger.EntryAltered, "_instance/ledger", -1, -1, true},
	{"a log's head", []string{`UPDATE ledger_logs SET size = 150` + acme}, ledger.LogAltered, "acme/control", -1, 9, true},
	{"a log's head deleted", []string{`DELETE FROM ledger_logs` + acme}, ledger.LogMissing, "acme/control", -1, -1, true},

	{"an entry of the instance's list", []string{`UPDATE ledger_entries SET block_hash = (SELECT block_hash FROM ledger_logs` + other + `) WHERE log_organization = 'acme' AND log_class = 'control' AND number = 2`}, ledger.EntryAltered, "_instance/ledger", -1, -1, true},
	{"an entry deleted", []string{`DELETE FROM ledger_entries WHERE log_organization = 'acme' AND log_class = 'control' AND number = 2`}, ledger.EntryAltered, "_instance/ledger", -1, -1, true},
	{"the last entry deleted with its block", []string{`DELETE FROM ledger_blocks WHERE organization = 'globex' AND number = 9`, `DELETE FROM ledger_entries WHERE log_index = (SELECT max(log_index) FROM ledger_entries)`}, ledger.EntryAltered, "_instance/ledger", -1, -1, true},
	{"the instance's checkpoint", []string{`UPDATE ledger_logs SET checkpoint = (SELECT checkpoint FROM ledger_blocks` + acme + `AND number = 0) WHERE class = 'ledger'`}, ledger.SignatureInvalid, "_instance/ledger", -1, -1, true},
	{"the head of the instance's list", []string{`UPDATE ledger_logs SET block_hash = (SELECT block_hash FROM ledger_logs` + other + `) WHERE class = 'ledger'`}, ledger.LogAltered, "_instance/ledger", -1, -1, true},
	{"the instance's own log deleted", []string{`DELETE FROM ledger_logs WHERE class = 'ledger'`}, ledger.LogMissing, "_instance/ledger", -1, -1, true},
	{"a key exchanged", []string{`UPDATE ledger_keys SET public = (SELECT block_hash FROM ledger_logs` + other + `)`}, ledger.KeyAltered, "_instance/ledger", -1, -1, true},
	{"a record of retention made up", []string{`DELETE FROM events` + acme + `AND log_index < 20`,
		`INSERT INTO ledger_prefixes (organization, class, size, root, record, created_at) SELECT organization, class, 20, block_hash, (SELECT checkpoint FROM ledger_blocks` + acme + `AND number = 0), 0 FROM ledger_logs` + acme},
		ledger.RecordInvalid, "acme/control", -1, -1, true},
}

// corpus makes the trail that the forgeries are made in.
func corpus(t *testing.T, url string) *book {
	b := newBook(t, url, ledger.Options{Batch: 20})
	b.fill(t, 10, 20)
	if r := b.verifyAll(t); !r.Clean() {
		t.Fatalf("before any forgery: %+v", r.Findings)
	}
	b.save(t)
	return b
}

// Every forgery is named, at its place.
func TestForgeries(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		b := corpus(t, url)
		for _, f := range forgeries {
			t.Run(strings.ReplaceAll(f.name, " ", "_"), func(t *testing.T) {
				b.restore(t)
				b.exec(t, f.sql...)
				r := b.verifyAll(t)
				at := slices.IndexFunc(r.Findings, func(found ledger.Finding) bool {
					return found.Kind == f.kind && found.Organization+"/"+found.Class == f.log && (f.index == -2 || found.Index == f.index) && (f.block == -2 || found.Block == f.block)
				})
				if at < 0 || f.first && at > 0 || r.Clean() {
					t.Errorf("want %s in %s at %d (block %d), first: %v; found %d:", f.kind, f.log, f.index, f.block, f.first, len(r.Findings))
					for _, found := range r.Findings {
						t.Errorf("  %+v", found)
					}
				}
				if f.index >= 0 && at >= 0 && r.Findings[at].Event == "" && !slices.Contains([]ledger.Kind{ledger.EventMissing, ledger.BlockAltered, ledger.SignatureInvalid}, f.kind) {
					t.Errorf("the event is not named: %+v", r.Findings[at])
				}
				for _, found := range r.Findings {
					if strings.Contains(found.Detail, "192.0.2") || strings.Contains(found.Detail, "Marie") {
						t.Errorf("a finding tells what an event says: %s", found.Detail)
					}
				}
			})
		}
		b.restore(t)
		if r := b.verifyAll(t); !r.Clean() {
			t.Errorf("after all were taken back: %+v", r.Findings)
		}
	})
}

// Each organization's own verification finds them too, where it has no sight of the
// others: also an end that was cut off, or all of it, with what lists it. It is told
// of nobody else.
func TestForgeriesInOnesOwnLogs(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		b := corpus(t, url)
		cut := append([]string{`DELETE FROM ledger_entries WHERE log_organization = 'acme' AND log_class = 'control' AND number = 9`},
			`DELETE FROM events`+acme+`AND log_index >= 180`, `DELETE FROM ledger_blocks`+acme+`AND number = 9`,
			`UPDATE ledger_logs SET size = 180, blocks = 9, block_hash = (SELECT block_hash FROM ledger_entries WHERE log_organization = 'acme' AND log_class = 'control' AND number = 8)`+acme)
		instead := append(slices.Clone(cut), `INSERT INTO ledger_entries (organization, log_index, log_organization, log_class, number, block_hash)
			SELECT e.organization, x.missing, e.log_organization, e.log_class, 10, e.block_hash FROM ledger_entries e,
			(SELECT min(a.log_index) + 1 AS missing FROM ledger_entries a WHERE NOT EXISTS (SELECT 1 FROM ledger_entries n WHERE n.log_index = a.log_index + 1)) x
			WHERE e.log_organization = 'globex' AND e.number = 9`)
		all := append(slices.Clone(forgeries),
			forgery{"the tail cut clean, with what lists it", cut, ledger.EntryAltered, "_instance/ledger", -1, -1, true},
			forgery{"another's entry in the place of what lists it", instead, ledger.EntryAltered, "_instance/ledger", -1, -1, true})
		for _, f := range all {
			t.Run(strings.ReplaceAll(f.name, " ", "_"), func(t *testing.T) {
				b.restore(t)
				b.exec(t, f.sql...)
				r, err := b.Verify(t.Context(), ownerOf("acme"), ledger.VerifyOptions{})
				if err != nil || r.Clean() || !r.Complete {
					t.Errorf("not found: %+v, %v", r, err)
				}
				for _, found := range r.Findings {
					if found.Organization == "globex" || strings.Contains(found.Detail, "globex") {
						t.Errorf("told of another organization: %+v", found)
					}
				}
				if everything := b.verifyAll(t); everything.Clean() {
					t.Error("not found where everything is verified")
				}
			})
		}
		b.restore(t)
		if r, err := b.Verify(t.Context(), ownerOf("acme"), ledger.VerifyOptions{}); err != nil || !r.Clean() || len(r.Logs) != 2 {
			t.Errorf("after all were taken back: %+v, %v", r, err)
		}
	})
}

// A database that is older than a saved checkpoint, or was written anew with a key
// of its own, shows against it, and only against it.
func TestSavedCheckpoints(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		b := corpus(t, url)
		kept, err := b.Checkpoint(t.Context(), operator, access.InstanceOrganization)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := b.Checkpoint(t.Context(), ownerOf("acme"), "")
		if err != nil {
			t.Fatal(err)
		}
		b.fill(t, 1, 3)
		if r := b.verifyAll(t, append(kept, theirs...)...); !r.Clean() {
			t.Fatalf("later: %+v", r.Findings)
		}
		later, err := b.Checkpoint(t.Context(), operator, access.InstanceOrganization)
		if err != nil {
			t.Fatal(err)
		}
		b.restore(t) // the older database
		if r := b.verifyAll(t); !r.Clean() {
			t.Fatalf("the older database by itself: %+v", r.Findings)
		}
		if r := b.verifyAll(t, later...); r.Clean() || r.Findings[0].Kind != ledger.RolledBack {
			t.Errorf("an older database against a later checkpoint: %+v", r.Findings)
		}
		b.fill(t, 2, 2) // and it goes on: another future
		if r := b.verifyAll(t, later...); r.Clean() || r.Findings[0].Kind != ledger.Rewritten {
			t.Errorf("another future against a checkpoint of the first: %+v", r.Findings)
		}

		// Everything written anew, with the engine itself.
		wipe := []string{`UPDATE events SET log_index = NULL`, `DELETE FROM events` + acme + `AND id = (SELECT min(id) FROM events` + acme + `)`, `UPDATE ledger_sealer SET holder = '', lease_until = 0`}
		for _, table := range []string{"ledger_logs", "ledger_blocks", "ledger_tiles", "ledger_entries", "ledger_prefixes"} {
			wipe = append(wipe, `DELETE FROM `+table)
		}
		b.exec(t, wipe...)
		restarted := b.beside()
		free := `UPDATE ledger_sealer SET holder = '', lease_until = 0`
		for _, l := range []*ledger.Ledger{b.Ledger, restarted} { // neither of them signs what is left
			b.exec(t, free)
			if n, err := l.Seal(t.Context()); n != 0 || !errors.Is(err, ledger.ErrAltered) {
				t.Errorf("sealed %d events of a trail without its ledger: %v", n, err)
			}
		}
		if r := b.verifyAll(t); r.Clean() || r.Findings[0].Kind != ledger.LogMissing || r.Findings[0].Organization != access.InstanceOrganization {
			t.Errorf("a trail without its ledger: %+v", r.Findings)
		}
		// The keys, too: who has the key in memory does not make another.
		b.exec(t, `DELETE FROM ledger_keys`)
		if n, err := restarted.Seal(t.Context()); n != 0 || !errors.Is(err, ledger.ErrAltered) {
			t.Errorf("sealed %d events without its key: %v", n, err)
		}
		b.exec(t, free)
		b.Ledger = b.beside()
		b.sealAll(t)
		if r := b.verifyAll(t, kept...); r.Clean() || r.Findings[0].Kind != ledger.Rewritten {
			t.Errorf("a trail written anew under a new key: %+v", r.Findings)
		}
	})
}

// A log that was altered is not sealed any further, and the others are.
func TestAlteredLogIsLeftAlone(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		b := newBook(t, url, ledger.Options{})
		b.fill(t, 2, 3)
		b.exec(t, `UPDATE ledger_tiles SET hashes = (SELECT hashes FROM ledger_tiles`+other+`)`+acme)
		b.change(t, "acme", 1)
		b.change(t, "globex", 1)
		if n, err := b.Seal(t.Context()); n != 1 || err == nil || !strings.Contains(err.Error(), "acme/control is left unsealed") {
			t.Errorf("sealed %d: %v", n, err)
		}
		var left, others int64
		b.scan(t, &left, `SELECT count(*) FROM events`+acme+`AND log_index IS NULL`)
		b.scan(t, &others, `SELECT count(*) FROM events`+other+`AND log_index IS NULL`)
		if left != 1 || others != 0 {
			t.Errorf("%d of acme's and %d of the others' wait", left, others)
		}
	})
}

// What retention removes behind a signed record is not missed; one event more is.
func TestPrefix(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		b := corpus(t, url)
		kept, err := b.Checkpoint(t.Context(), ownerOf("acme"), "")
		if err != nil {
			t.Fatal(err)
		}
		var event string
		b.scan(t, &event, `SELECT id FROM events`+acme+`AND log_index = 150`)
		before, err := b.Prove(t.Context(), ownerOf("acme"), "", event)
		if err != nil {
			t.Fatal(err)
		}
		const size = 97 // neither a tile nor a block
		err = b.db.Update(t.Context(), "acme", func(tx *store.Tx) error {
			if _, err := b.Cover(t.Context(), tx, "acme", "control", size, "policy rp_1 revision 3"); err != nil {
				return err
			}
			_, err := tx.Exec(t.Context(), fmt.Sprintf(`DELETE FROM events`+acme+`AND log_index < %d AND log_index <> 50`, size)) // 50 is held
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		r := b.verifyAll(t, kept...)
		if !r.Clean() {
			t.Fatalf("after a sweep: %+v", r.Findings)
		}
		for _, log := range r.Logs {
			if log.Organization == "acme" && log.Class == "control" && (log.Removed != size-1 || log.Verified != 200-size+1) {
				t.Errorf("%+v", log)
			}
		}
		after, err := b.Prove(t.Context(), ownerOf("acme"), "", event)
		if err != nil || fmt.Sprint(before) != fmt.Sprint(after) {
			t.Errorf("the proof of a later event changed: %v", err)
		}
		b.exec(t, fmt.Sprintf(`DELETE FROM events`+acme+`AND log_index = %d`, size))
		if r := b.verifyAll(t); r.Clean() || r.Findings[0].Kind != ledger.EventMissing || r.Findings[0].Index != size {
			t.Errorf("one event past the record: %+v", r.Findings)
		}
	})
}
