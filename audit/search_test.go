package audit_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/store"
)

// walk reads all pages, however short, and gives the reasons.
func walk(t testing.TB, l *audit.Log, f audit.Filter) (all []string) {
	for range 10_000 {
		page, err := l.Events(tctx, owner, f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, reasons(page.Events)...)
		if f.Cursor = page.NextCursor; f.Cursor == "" {
			return all
		}
	}
	t.Fatal("the pages do not end")
	return nil
}

// Whatever is looked for, the pages hold what a walk over all events would pick, in
// its order, and the count is theirs.
func TestSearchPicksWhatAWalkPicks(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db := openStore(t, url)
		l := audit.New(db, audit.Options{FlushEvery: time.Millisecond})
		run(t, l)
		var events []audit.Event
		for i := range 1500 { // more actors and targets than are merged, and more events than one look compares
			events = append(events, audit.Event{
				OccurredAt: noon.Add(time.Duration(i/3) * time.Millisecond), Reason: fmt.Sprint("n", i),
				Action:  []audit.Action{audit.CredentialCreate, audit.CredentialDelete, audit.PolicyUpdate}[i%7%3],
				Outcome: []audit.Outcome{audit.Success, audit.Success, audit.Failure}[i%11%3],
				Actor:   audit.Actor{Type: "user", ID: fmt.Sprintf("usr_%d", i%100)},
				Targets: []audit.Target{{Type: "credential", ID: fmt.Sprintf("cred_%d", i%90)}, {Type: "x", ID: fmt.Sprintf("_%d%%", i%5)}},
			})
		}
		put(t, db, l, events...)
		slices.Reverse(events)
		picks := func(value, id string) bool {
			if n := len(value); n > 0 && value[n-1] == '*' {
				return len(id) >= n-1 && id[:n-1] == value[:n-1]
			}
			return value == "" || value == id
		}
		check := func(t *testing.T, f audit.Filter) {
			var want []string
			for _, e := range events {
				if picks(f.Action, string(e.Action)) && picks(f.Actor, e.Actor.ID) && picks(f.Outcome, string(e.Outcome)) && picks(f.Class, "control") &&
					(f.Target == "" || picks(f.Target, e.Targets[0].ID) || picks(f.Target, e.Targets[1].ID)) &&
					!e.OccurredAt.Before(f.From) && (f.To.IsZero() || e.OccurredAt.Before(f.To)) {
					want = append(want, e.Reason)
				}
			}
			if diff := cmp.Diff(want, walk(t, l, f)); diff != "" {
				t.Errorf("%+v (-want +got):\n%s", f, diff)
			}
			f.Count = true
			page, err := l.Events(tctx, owner, f)
			if err != nil || page.Count > int64(len(want)) || !page.CountCapped && page.Count != int64(len(want)) {
				t.Errorf("%+v: counted %d (capped %v) of %d, %v", f, page.Count, page.CountCapped, len(want), err)
			}
		}
		random := rand.New(rand.NewPCG(1, 2))
		for range 40 {
			one := func(of ...string) string { return append(of, "", "")[random.IntN(len(of)+2)] }
			f := audit.Filter{
				Limit: []int{200, 500}[random.IntN(2)], Class: one("control"), Outcome: one("success", "failure", "denied"),
				Action: one("credential.create", "credential.*", "c*", "*", "policy.update", "policy.delete", "x*"),
				Actor:  one("usr_7", "usr_1*", "usr_*", "usr*", "usr_100", "%*"),
				Target: one("cred_3", "cred_3*", "cred_*", "_1%", "_*", "cred_99*"),
			}
			if random.IntN(2) == 0 {
				f.From = noon.Add(time.Duration(random.IntN(500)) * time.Millisecond)
				f.To = f.From.Add(time.Duration(1+random.IntN(1000)) * time.Millisecond)
			}
			check(t, f)
		}
		// Pages on either side of how many events a stream gives, of streams that are merged as
		// they are, five, and with others of nothing, eleven: over an end of the range.
		for _, limit := range []int{1, 2, 10, 11, 50, 51} {
			for _, f := range []audit.Filter{{}, {Target: "_*"}, {Actor: "usr_1*"}, {Target: "_*", Outcome: "failure"}} {
				f.Limit, f.To = limit, noon.Add(20*time.Millisecond)
				if limit > 2 {
					f.To = noon.Add(100 * time.Millisecond)
				}
				check(t, f)
			}
		}
	})
}

// Events of an older Gatehouse have no terms; a running one adds them.
func TestOlderEventsBecomeSearchable(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db := openStore(t, url)
		l := audit.New(db, audit.Options{})
		var want []string
		for i := range 300 {
			put(t, db, l, audit.Event{Action: audit.PolicyUpdate, Outcome: audit.Success, OccurredAt: noon.Add(-time.Duration(i) * time.Second),
				Reason: fmt.Sprint("n", i), Targets: []audit.Target{{Type: "policy", ID: "pol_1"}}})
			want = append(want, fmt.Sprint("n", i))
		}
		exec(t, db, `DELETE FROM event_terms`, `INSERT INTO event_terms_missing SELECT organization, id FROM events`)
		stop := run(t, l)
		for len(walk(t, l, audit.Filter{Target: "pol_*"})) < len(want) && t.Context().Err() == nil {
			time.Sleep(10 * time.Millisecond)
		}
		stop()
		l = audit.New(db, audit.Options{})
		run(t, l)
		if diff := cmp.Diff(want, walk(t, l, audit.Filter{Target: "pol_1", Actor: "u-*"})); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// An altered row is shown as damaged, and hides no other.
func TestDamagedEvents(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db := openStore(t, url)
		l := audit.New(db, audit.Options{})
		run(t, l)
		for i, alter := range []string{
			"", `UPDATE events SET canonical = $1 WHERE organization = $2 AND id = $3`,
			`UPDATE events SET action = 'credential.list' WHERE $1 <> '' AND organization = $2 AND id = $3`,
			`UPDATE events SET outcome = 'denied' WHERE $1 <> '' AND organization = $2 AND id = $3`,
			`UPDATE events SET actor_id = 'somebody' WHERE $1 <> '' AND organization = $2 AND id = $3`,
			`UPDATE event_persons SET data = '{"ip":"198.51.100.1"}' WHERE $1 <> '' AND organization = $2 AND event_id = $3`,
			`UPDATE event_persons SET data = 'no JSON' WHERE $1 <> '' AND organization = $2 AND event_id = $3`,
		} {
			id := store.NewID("evt")
			put(t, db, l, audit.Event{ID: id, Action: audit.PolicyUpdate, Outcome: audit.Success, OccurredAt: noon.Add(time.Duration(i) * time.Second),
				Request: audit.Request{IP: "192.0.2.7"}})
			if alter == "" {
				continue
			}
			var junk any = []byte("\x00{")
			if i > 1 {
				junk = "x"
			}
			if err := db.Update(tctx, "acme", func(tx *store.Tx) error { _, err := tx.Exec(tctx, alter, junk, "acme", id); return err }); err != nil {
				t.Fatal(alter, err)
			}
		}
		page, err := l.Events(tctx, owner, audit.Filter{})
		if err != nil || len(page.Events) != 7 {
			t.Fatalf("%d events, %v", len(page.Events), err)
		}
		for i, e := range page.Events {
			if whole := i == 6; e.Damaged == whole || e.Request.IP == "198.51.100.1" || e.ID == "" || e.Organization != "acme" {
				t.Errorf("event %d: %+v", 6-i, e)
			}
		}
	})
}

// So is a row in which SQLite holds a text where a time belongs; it stands first, as texts
// come after numbers.
func TestDamagedTime(t *testing.T) {
	db := openStore(t, t.TempDir()+"/gatehouse.db")
	l := audit.New(db, audit.Options{})
	run(t, l)
	for range 3 {
		put(t, db, l, change(1))
	}
	for _, column := range []string{"occurred_at", "recorded_at"} {
		err := db.Update(tctx, "acme", func(tx *store.Tx) error {
			_, err := tx.Exec(tctx, `UPDATE events SET `+column+` = 'x' WHERE organization = 'acme' AND id = (SELECT min(id) FROM events)`)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		page, err := l.Events(tctx, owner, audit.Filter{})
		if err != nil || len(page.Events) != 3 {
			t.Fatalf("%s: %+v, %v", column, page.Events, err)
		}
		first := column == "occurred_at"
		if page.Events[0].Damaged != first || page.Events[1].Damaged || page.Events[2].Damaged == first {
			t.Errorf("%s: %+v", column, page.Events)
		}
		// Page by page none of the others is left out.
		seen, cursor := 0, ""
		for {
			page, err := l.Events(tctx, owner, audit.Filter{Limit: 1, Cursor: cursor})
			if err != nil {
				t.Fatal(err)
			}
			seen += len(page.Events)
			if cursor = page.NextCursor; cursor == "" {
				break
			}
		}
		if seen != 3 {
			t.Errorf("%s: %d of 3, page by page", column, seen)
		}
		if err := db.Update(tctx, "acme", func(tx *store.Tx) error {
			_, err := tx.Exec(tctx, `UPDATE events SET `+column+` = 0 WHERE organization = 'acme' AND id = (SELECT min(id) FROM events)`)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// A cursor at the far end, a limit, and another role change nothing of who may read.
func TestPrefixesStayInTheOrganization(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db := openStore(t, url)
		l := audit.New(db, audit.Options{})
		run(t, l)
		put(t, db, l, audit.Event{Organization: "globex", Action: audit.PolicyUpdate, Outcome: audit.Success, Reason: "theirs", Actor: audit.Actor{Type: "user", ID: "u-1"},
			Targets: []audit.Target{{Type: "policy", ID: "pol_1"}}})
		for _, f := range []audit.Filter{{Actor: "*"}, {Target: "*"}, {Target: "pol_1"}, {Actor: "u-1"}, {Action: "*"}, {Class: "control"}} {
			f.Count = true
			page, err := l.Events(tctx, owner, f)
			if err != nil || len(page.Events) > 0 || page.Count > 0 || page.NextCursor != "" {
				t.Errorf("%+v: %+v, %v", f, page, err)
			}
			f.Organization = "globex"
			if _, err := l.Events(tctx, owner, f); err == nil {
				t.Errorf("%+v: read by another organization's owner", f)
			}
		}
	})
}
