package audit_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
)

// An export holds what was recorded when it began, whatever the clocks said of it, and
// nothing that came later, sealed or not. A time that was asked for holds as it was given.
func TestExportIsOfWhatIsThere(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db := openStore(t, url)
		l := audit.New(db, audit.Options{FlushEvery: time.Millisecond})
		run(t, l)
		now := time.Now()
		const ahead = 400 * 24 * time.Hour
		event := func(reason string, at time.Time) audit.Event {
			return audit.Event{Action: audit.PolicyUpdate, Outcome: audit.Success, Reason: reason, OccurredAt: at, Targets: []audit.Target{{Type: "policy", ID: "@pol"}}}
		}
		put(t, db, l, event("sealed", now.Add(-time.Hour)), event("sealed +2h", now.Add(2*time.Hour)), event("sealed +400d", now.Add(ahead)))
		sealAll(t, db)
		put(t, db, l, event("waiting", now.Add(-time.Minute)), event("waiting +400d", now.Add(ahead+time.Hour)))

		read := func(f audit.Filter, between func()) ([]string, audit.Manifest) {
			t.Helper()
			x, err := l.StartExport(t.Context(), owner, f, audit.NDJSON)
			if err != nil {
				t.Fatal(err)
			}
			x.WithoutTrailer = true
			between()
			var b bytes.Buffer
			m, err := x.Write(t.Context(), &b)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for line := range strings.Lines(b.String()) {
				var e struct{ Reason string }
				if err := json.Unmarshal([]byte(line), &e); err != nil {
					t.Fatal(err)
				}
				if !strings.HasPrefix(e.Reason, "export_") { // of the exports before
					got = append(got, e.Reason)
				}
			}
			if m.Events < int64(len(got)) || m.SealedTo == "" {
				t.Errorf("%d events, and the manifest is %+v", len(got), m)
			}
			return got, m
		}
		there := []string{"waiting +400d", "sealed +400d", "sealed +2h", "waiting", "sealed"}
		n := 0
		for name, f := range map[string]audit.Filter{
			"all": {}, "by action": {Action: "policy.*"}, "by target": {Target: "@p*"}, "by outcome": {Outcome: "success", Actor: owner.ID},
		} {
			// What came late in a round is there in the next.
			got, m := read(f, func() {
				n++
				put(t, db, l, event("late", now.Add(-time.Second)), event("late +400d", now.Add(2*ahead)))
				if n%2 == 0 {
					sealAll(t, db)
				}
			})
			if m.First == nil || n == 1 && m.SealedTo != "c3-a0-s0-y0" {
				t.Errorf("%s: %+v", name, m)
			}
			late, old := 0, []string(nil)
			for _, reason := range got {
				if strings.HasPrefix(reason, "late") {
					late++
				} else {
					old = append(old, reason)
				}
			}
			if late != 2*(n-1) {
				t.Errorf("%s: %d events that came in the rounds before, want %d", name, late, 2*(n-1))
			}
			if diff := cmp.Diff(there, old); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
		to := now.Add(ahead - time.Hour)
		got, m := read(audit.Filter{To: to, Target: "@pol", From: now}, func() {})
		if diff := cmp.Diff([]string{"sealed +2h"}, got); diff != "" || m.Filter["to"] != to.UTC().Format(time.RFC3339Nano) {
			t.Errorf("up to a time to come, %q (-want +got):\n%s", m.Filter, diff)
		}
		if strings.Contains(url, "://") {
			return
		}
		// A place, an id or a class that is none keeps no other event out, and neither its own.
		exec(t, db, `UPDATE events SET log_index = 'x' WHERE organization = 'acme' AND occurred_at = (SELECT min(occurred_at) FROM events WHERE organization = 'acme')`,
			`UPDATE events SET log_index = NULL, id = x'00' WHERE organization = 'acme' AND id = (SELECT id FROM events WHERE organization = 'acme' ORDER BY occurred_at DESC LIMIT 1)`)
		all, m := read(audit.Filter{}, func() {})
		if len(all) != 5+2*n || m.Damaged != 1 {
			t.Errorf("with altered rows %d events, want %d; %+v", len(all), 5+2*n, m)
		}
	})
}
