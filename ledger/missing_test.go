package ledger_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/ledger"
)

// Who verifies the instance's own logs alone is told of each block, of whichever
// organization, that was sealed and is not there.
func TestBlocksThatTheInstanceMisses(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		b := corpus(t, url)
		verify := func(caller access.Caller) ledger.Report {
			t.Helper()
			r, err := b.Verify(t.Context(), caller, ledger.VerifyOptions{Organization: access.InstanceOrganization})
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		for _, caller := range []access.Caller{commandLine, operator} {
			if r := verify(caller); !r.Clean() {
				t.Errorf("nothing is missing: %+v", r.Findings)
			}
		}
		b.exec(t, `DELETE FROM ledger_blocks`+acme+`AND number = 4`, `DELETE FROM ledger_blocks`+other+`AND number = 9`)
		b.exec(t, deleteLog(` WHERE organization = 'acme' AND class = 'access' `)...)
		want := map[string]int{"acme/control": 1, "globex/control": 1, "acme/access": 10}
		for _, caller := range []access.Caller{commandLine, operator} {
			got := map[string]int{}
			r := verify(caller)
			for _, f := range r.Findings {
				if f.Kind != ledger.BlockMissing {
					t.Errorf("%s is told %+v", caller.ID, f)
				}
				got[f.Organization+"/"+f.Class]++
			}
			for log, n := range want {
				if got[log] != n {
					t.Errorf("%s is told of %d blocks of %s, want %d: %+v", caller.ID, got[log], log, n, r.Findings)
				}
			}
			if !slices.ContainsFunc(r.Findings, func(f ledger.Finding) bool { return f.Class == "control" && f.Organization == "acme" && f.Block == 4 }) {
				t.Errorf("%s is not told which block: %+v", caller.ID, r.Findings)
			}
		}
	})
}

// A log that a saved checkpoint knows is missed, though nothing in the database names it
// any more.
func TestLogThatASavedCheckpointMisses(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		b := corpus(t, url)
		kept, err := b.Checkpoint(t.Context(), ownerOf("acme"), "")
		if err != nil {
			t.Fatal(err)
		}
		b.exec(t, append(deleteLog(acme), `DELETE FROM ledger_entries WHERE log_organization = 'acme' AND log_class = 'control'`)...)
		missed := func(r ledger.Report) bool {
			return slices.ContainsFunc(r.Findings, func(f ledger.Finding) bool {
				return f.Kind == ledger.LogMissing && f.Organization == "acme" && f.Class == "control" && strings.Contains(f.Detail, "200 events")
			})
		}
		if missed(b.verifyAll(t)) {
			t.Error("missed without a checkpoint: this test proves nothing")
		}
		if r := b.verifyAll(t, kept...); !missed(r) {
			t.Errorf("the command line finds %+v", r.Findings)
		}
		r, err := b.Verify(t.Context(), ownerOf("acme"), ledger.VerifyOptions{Checkpoints: kept})
		if err != nil || !missed(r) {
			t.Errorf("acme finds %+v, %v", r.Findings, err)
		}
		// Of others' logs nobody learns whether they are there.
		if r, err := b.Verify(t.Context(), ownerOf("globex"), ledger.VerifyOptions{Checkpoints: kept}); err != nil || missed(r) {
			t.Errorf("globex finds %+v, %v", r.Findings, err)
		}
	})
}

// An event that is not what was sealed has no proof; the others have theirs.
func TestNoProofOfWhatWasAltered(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		b := corpus(t, url)
		var altered, beside string
		b.scan(t, &altered, `SELECT id FROM events`+acme+`AND log_index = 7`)
		b.scan(t, &beside, `SELECT id FROM events`+acme+`AND log_index = 8`)
		for name, sql := range map[string][]string{
			"its bytes":            {`UPDATE events SET canonical = (SELECT canonical FROM events` + acme + `AND log_index = 9)` + acme + `AND log_index = 7`},
			"its place":            {`UPDATE events SET log_index = 1000` + acme + `AND log_index = 30`, `UPDATE events SET log_index = 30` + acme + `AND log_index = 7`},
			"behind the end":       {`UPDATE events SET log_index = 200` + acme + `AND log_index = 7`},
			"before the beginning": {`UPDATE events SET log_index = -1` + acme + `AND log_index = 7`},
		} {
			b.restore(t)
			b.exec(t, sql...)
			if p, err := b.Prove(t.Context(), ownerOf("acme"), "", altered); !errors.Is(err, ledger.ErrAltered) || p.Hashes != nil || p.Checkpoint != "" {
				t.Errorf("%s: %+v, %v", name, p, err)
			}
			if p, err := b.Prove(t.Context(), ownerOf("acme"), "", beside); err != nil || p.Index != 8 {
				t.Errorf("%s, the event beside it: %+v, %v", name, p, err)
			}
		}
		b.restore(t)
		if _, err := b.Prove(t.Context(), ownerOf("acme"), "", altered); err != nil {
			t.Error("after all was taken back:", err)
		}
	})
}
