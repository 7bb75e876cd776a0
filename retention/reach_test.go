package retention_test

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/retention"
	"github.com/gatehouse-io/gatehouse/store"
)

// fillRows gives an organization a row of each class without a log, all as old as now, and
// others beside them that no rule takes.
func (a *archive) fillRows(t *testing.T, organization string) {
	t.Helper()
	now := a.clock.Now().UnixMicro()
	a.exec(t, `INSERT INTO usage_hours (organization, hour, service, model, credential, member, requests, failed, partial, counted, uncounted,
		input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, bytes_in, bytes_out)
		VALUES ($1, $2, 's', 'm', 'cred_1', 'ann', 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)`, organization, now)
	for revision, id := range []string{"pol_gone", "pol_1", "pol_1"} { // of pol_1 the last stays
		content := any("{}")
		if id == "pol_gone" {
			content = nil
		}
		a.exec(t, `INSERT INTO limit_policy_revisions (organization, id, revision, content, changed_at, changed_by) VALUES ($1, $2, $3, $4, $5, 'ann')`,
			organization, id, revision+1, content, now)
	}
	credential := func(id string, expires any) {
		a.exec(t, `INSERT INTO credentials (organization, id, service, name, version, revision, disabled, expires_at, created_at, created_by, updated_at)
			VALUES ($1, $2, 'openai', $2, 4, 1, $3, $4, 1, 'ann', 1)`, organization, id, false, expires)
	}
	credential("cred_x", now)
	credential("cred_1", nil)
	for version, state := range []string{"retired", "retired", "retiring", "active", "retired"} {
		destroyed := any(nil)
		if state == "retired" {
			destroyed = now
		}
		a.exec(t, `INSERT INTO credential_version_history (organization, credential_id, version, state, fields, fingerprint, created_at, created_by, destroyed_at, last_test)
			VALUES ($1, 'cred_1', $2, $3, '[]', 'fp', $4, 'ann', $5, '{}')`, organization, version+1, state, now, destroyed)
	}
	a.exec(t, `INSERT INTO webhooks (organization, id, url, types, description, disabled, disabled_reason, revision, secret_version, created_at, created_by, updated_at)
		VALUES ($1, 'wh_1', 'https://hooks.example.com', '[]', '', $2, '', 1, 1, 1, 'ann', 1)`, organization, false)
	for _, status := range []string{"pending", "delivered", "failed"} {
		a.delivery(t, organization, "dlv_"+status, status, a.clock.Now())
	}
}

func (a *archive) delivery(t *testing.T, organization, id, status string, at time.Time) {
	t.Helper()
	a.exec(t, `INSERT INTO webhook_deliveries (organization, id, webhook_id, message_id, type, body, status, attempts, next_at, last_status, last_error, created_at)
		VALUES ($1, $2, 'wh_1', 'msg_1', 'x', '{}', $3, 1, 1, 200, '', $4)`, organization, id, status, at.UnixMicro())
}

// rows names the rows that an organization has.
func (a *archive) rows(t *testing.T, organization string) string {
	t.Helper()
	var all []string
	err := a.db.View(context.Background(), organization, func(tx *store.Tx) error {
		all = nil
		return tx.Each(context.Background(), func(scan func(...any) error) error {
			var row string
			err := scan(&row)
			all = append(all, row)
			return err
		}, `SELECT 'usage' AS what FROM usage_hours WHERE organization = $1
			UNION ALL SELECT id || '/' || revision FROM limit_policy_revisions WHERE organization = $1
			UNION ALL SELECT id FROM credentials WHERE organization = $1
			UNION ALL SELECT 'v' || version || CASE WHEN last_test IS NULL THEN '' ELSE ' tested' END FROM credential_version_history WHERE organization = $1
			UNION ALL SELECT id FROM webhook_deliveries WHERE organization = $1 ORDER BY 1`, organization)
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// Each class's length reaches the rows of its own table that are over, when they are older than
// it, and nothing else: neither other classes' nor another organization's.
func TestWhatEachClassReaches(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		a := newArchive(t, url, retention.Options{})
		a.fillRows(t, "acme")
		a.fillRows(t, "globex")
		keep := map[string]string{"usage": "40d", "limit-history": "50d", "tests": "60d", "versions": "70d", "expired": "80d", "deliveries": "25d"}
		if _, err := a.Put(t.Context(), owner, "", store.Match{}, retention.Draft{Keep: keep}); err != nil {
			t.Fatal(err)
		}
		a.seal(t)
		all := "cred_1, cred_x, dlv_delivered, dlv_failed, dlv_pending, pol_1/2, pol_1/3, pol_gone/1, usage, v1 tested, v2 tested, v3 tested, v4 tested, v5 tested"
		passed := time.Duration(0)
		for _, step := range []struct {
			class   retention.Class
			after   time.Duration
			removed int64
			left    string
		}{
			{retention.Deliveries, 25 * day, 2, "cred_1, cred_x, dlv_pending, pol_1/2, pol_1/3, pol_gone/1, usage, v1 tested, v2 tested, v3 tested, v4 tested, v5 tested"},
			{retention.Usage, 40 * day, 1, "cred_1, cred_x, dlv_pending, pol_1/2, pol_1/3, pol_gone/1, v1 tested, v2 tested, v3 tested, v4 tested, v5 tested"},
			{retention.LimitHistory, 50 * day, 2, "cred_1, cred_x, dlv_pending, pol_1/3, v1 tested, v2 tested, v3 tested, v4 tested, v5 tested"},
			{retention.Tests, 60 * day, 3, "cred_1, cred_x, dlv_pending, pol_1/3, v1, v2, v3 tested, v4 tested, v5"},
			{retention.Versions, 70 * day, 2, "cred_1, cred_x, dlv_pending, pol_1/3, v3 tested, v4 tested, v5"},
			{retention.Expired, 80 * day, 1, "cred_1, dlv_pending, pol_1/3, v3 tested, v4 tested, v5"},
		} {
			before := a.rows(t, "acme")
			a.later(t, step.after-passed)
			a.sweep(t)
			if got := a.rows(t, "acme"); got != before {
				t.Errorf("%s at their very age: left are %s", step.class, got)
			}
			a.later(t, time.Microsecond)
			a.sweep(t)
			passed = step.after + time.Microsecond
			if diff := cmp.Diff(step.left, a.rows(t, "acme")); diff != "" {
				t.Errorf("%s, what is left (-want +got):\n%s", step.class, diff)
			}
			certificates, _, err := a.Certificates(t.Context(), auditor, "", 1, "")
			if err != nil || len(certificates) != 1 || certificates[0].Class != step.class || certificates[0].Removed != step.removed {
				t.Errorf("%s: the newest certificate is %+v, %v", step.class, certificates, err)
			}
		}
		if diff := cmp.Diff(all, a.rows(t, "globex")); diff != "" {
			t.Errorf("another organization's (-want +got):\n%s", diff)
		}
	})
}

// A hold keeps what was from its first instant on until just before its last, of rows as of events.
func TestHoldsOfATime(t *testing.T) {
	begin, minute := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), time.Minute
	for name, test := range map[string]struct {
		scope retention.Scope
		kept  string // of the minutes 0 to 4
	}{
		"from":                 {retention.Scope{From: begin.Add(2 * minute)}, "2 3 4"},
		"to":                   {retention.Scope{To: begin.Add(2 * minute)}, "0 1"},
		"from and to":          {retention.Scope{From: begin.Add(minute), To: begin.Add(3 * minute)}, "1 2"},
		"from and to between":  {retention.Scope{From: begin.Add(minute + time.Microsecond), To: begin.Add(3*minute + time.Microsecond)}, "2 3"},
		"with a target":        {retention.Scope{From: begin.Add(minute), To: begin.Add(3 * minute), Target: "wh_1"}, "1 2"},
		"with another target":  {retention.Scope{From: begin.Add(minute), To: begin.Add(3 * minute), Target: "wh_2"}, ""},
		"from a later time on": {retention.Scope{From: begin.Add(time.Hour)}, ""},
		"to an earlier time":   {retention.Scope{To: begin}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			gatehousetest.Databases(t, func(t *testing.T, url string) {
				a := newArchive(t, url, retention.Options{})
				a.exec(t, `INSERT INTO webhooks (organization, id, url, types, description, disabled, disabled_reason, revision, secret_version, created_at, created_by, updated_at)
					VALUES ('acme', 'wh_1', 'https://hooks.example.com', '[]', '', $1, '', 1, 1, 1, 'ann', 1)`, false)
				minuteOf := map[string]string{}
				for i := range 5 {
					at := a.clock.Now()
					minuteOf[at.String()] = strconv.Itoa(i)
					a.delivery(t, "acme", "dlv_"+strconv.Itoa(i), "delivered", at)
					a.changeAt(t, "wh_1", at)
					a.clock.Pass(minute)
				}
				a.seal(t)
				a.hold(t, test.scope)
				a.later(t, 366*day)
				a.sweep(t)
				if got := strings.ReplaceAll(a.rows(t, "acme"), "dlv_", ""); got != strings.ReplaceAll(test.kept, " ", ", ") {
					t.Errorf("deliveries that are left: %q, want %q", got, test.kept)
				}
				held, _, err := a.HeldEvents(t.Context(), auditor, 0, "")
				if err != nil {
					t.Fatal(err)
				}
				var kept []string
				for _, h := range held {
					e, err := audit.Read(h.Canonical, nil)
					if err != nil {
						t.Fatal(err)
					}
					if e.Action == audit.CredentialUpdate {
						kept = append(kept, minuteOf[e.OccurredAt.UTC().String()])
					}
				}
				if got := strings.Join(kept, " "); got != test.kept {
					t.Errorf("events that are set aside: %q, want %q", got, test.kept)
				}
				if n := a.number(t, `SELECT count(*) FROM events WHERE action = 'credential.update'`); n != 0 {
					t.Errorf("%d events were not swept", n)
				}
				a.clean(t)
			})
		})
	}
}

// changeAt writes one control event that occurred at an instant.
func (a *archive) changeAt(t *testing.T, target string, at time.Time) {
	t.Helper()
	err := a.db.Update(context.Background(), "acme", func(tx *store.Tx) error {
		return a.trail.Append(context.Background(), tx, owner, audit.Event{
			OccurredAt: at, Action: audit.CredentialUpdate, Outcome: audit.Success, Targets: []audit.Target{{Type: "credential", ID: target}},
		})
	})
	if err != nil {
		t.Fatal(err)
	}
}
