package retention_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/retention"
	"github.com/gatehouse-io/gatehouse/store"
)

// modelEvent is an event as the model knows it.
type modelEvent struct {
	actor  string
	at     time.Time
	sealed time.Time
}

// TestModel lets policies, holds and sweeps follow each other in any order, and
// compares what is left of one log with a model of a few lines.
func TestModel(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		a := newArchive(t, url, retention.Options{Batch: 4})
		runs := 0
		rapid.Check(t, func(rt *rapid.T) {
			if runs++; runs > 8 { // the databases are slow, and each run has many steps
				return
			}
			// Each run has a far instant of its own in one database, and an organization.
			organization := fmt.Sprintf("org-%d", runs)
			a.exec(t, `INSERT INTO organizations (id, name, created_at) VALUES ($1, $1, 1) ON CONFLICT (id) DO NOTHING`, organization)
			boss := ownerOf(organization)
			var live, aside []modelEvent
			keep := 365
			holds := map[string]string{} // id: actor
			actors := rapid.SampledFrom([]string{"ann", "bob", "eve"})
			for range rapid.IntRange(4, 14).Draw(rt, "steps") {
				switch rapid.SampledFrom([]string{"write", "write", "wait", "policy", "hold", "release", "sweep", "sweep"}).Draw(rt, "step") {
				case "write":
					for range rapid.IntRange(1, 6).Draw(rt, "events") {
						actor := actors.Draw(rt, "actor")
						a.visit(t, organization, actor)
						live = append(live, modelEvent{actor: actor, at: a.clock.Now(), sealed: a.clock.Now()})
					}
					a.seal(t)
				case "wait":
					a.later(t, time.Duration(rapid.IntRange(1, 200).Draw(rt, "days"))*day)
				case "policy":
					keep = rapid.IntRange(7, 400).Draw(rt, "keep")
					if _, err := a.Put(t.Context(), boss, "", store.Match{}, retention.Draft{Keep: map[string]string{"access": fmt.Sprintf("%dd", keep)}}); err != nil {
						rt.Fatal(err)
					}
				case "hold":
					actor := actors.Draw(rt, "held")
					h, err := a.Hold(t.Context(), boss, "a case", retention.Scope{Class: retention.Access, Actor: actor}, time.Time{})
					if err != nil {
						rt.Fatal(err)
					}
					holds[h.ID] = actor
				case "release":
					for id := range holds {
						if err := a.Release(t.Context(), boss, id); err != nil {
							rt.Fatal(err)
						}
						delete(holds, id)
						break
					}
				case "sweep":
					k := keep
					if p, err := a.Policy(t.Context(), boss, ""); err != nil || p.Revision == 0 {
						k = 90
					}
					held := func(e modelEvent) bool {
						for _, actor := range holds {
							if actor == e.actor {
								return true
							}
						}
						return false
					}
					preview, err := a.Preview(t.Context(), boss, "", nil)
					if err != nil {
						rt.Fatal(err)
					}
					n, due := 0, int64(0)
					for n < len(live) && live[n].sealed.Before(a.clock.Now().Add(-time.Duration(k)*day)) {
						if !held(live[n]) {
							due++
						} else {
							aside = append(aside, live[n])
						}
						n++
					}
					if preview[1].Due != due || preview[1].Held != int64(n)-due {
						rt.Errorf("the preview says %+v, the model %d and %d", preview[1], due, int64(n)-due)
					}
					live = live[n:]
					aside = slices.DeleteFunc(aside, func(e modelEvent) bool { return !held(e) })
					if _, err := a.SweepOne(t.Context(), boss, ""); err != nil {
						rt.Fatal(err)
					}
				}
				var want []string
				for _, e := range append(slices.Clone(aside), live...) {
					want = append(want, e.actor)
				}
				if got := a.left(t, organization); got != strings.Join(want, " ") {
					rt.Fatalf("left are %q, of the model %q", got, want)
				}
			}
			a.clean(t)
		})
	})
}

// Whatever an organization says, the operator's floors and ceilings hold, also when
// they come later than the policy.
func TestBounds(t *testing.T) {
	a := newArchive(t, t.TempDir()+"/gatehouse.db", retention.Options{})
	put := func(keep string) error {
		_, err := a.Put(t.Context(), owner, "", store.Match{}, retention.Draft{Keep: map[string]string{"control": keep}})
		return err
	}
	if err := put("89d"); err == nil || strings.Contains(err.Error(), "89") {
		t.Errorf("under the built-in floor: %v", err)
	}
	if err := put("90d"); err != nil {
		t.Fatal(err)
	}
	for _, keep := range []string{"31d", "36500d", "forever"} {
		_, err := a.Put(t.Context(), owner, "", store.Match{}, retention.Draft{Keep: map[string]string{"deliveries": keep}})
		if f, ok := fault.As(err); !ok || len(f.Fields) != 1 || f.Fields[0].Name != "keep.deliveries" || !strings.Contains(f.Fields[0].Message, "30d") {
			t.Errorf("deliveries for %s: %v", keep, err)
		}
	}
	if _, err := a.PutBounds(t.Context(), owner, store.Match{}, nil, nil); err == nil {
		t.Error("an owner set the operator's bounds")
	}
	if _, err := a.PutBounds(t.Context(), operator, store.Match{}, map[string]string{"control": "200d"}, map[string]string{"control": "100d"}); err == nil {
		t.Error("a ceiling under the floor")
	}
	if _, err := a.PutBounds(t.Context(), operator, store.MatchOf(0), map[string]string{"control": "200d"}, map[string]string{"access": "30d"}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.PutBounds(t.Context(), operator, store.MatchOf(0), nil, nil); err == nil {
		t.Error("an older state of the bounds was replaced")
	}
	p, err := a.Policy(t.Context(), owner, "")
	if err != nil || p.Classes[0].Keep != 200 || p.Classes[0].Because != retention.FromFloor || p.Classes[1].Keep != 30 || p.Classes[1].Because != retention.FromCeiling {
		t.Errorf("%+v, %v", p.Classes[:2], err)
	}
	a.changes(t, 5)
	a.later(t, 150*day)
	if n := a.sweep(t); n != 0 {
		t.Errorf("%d were removed under the floor", n)
	}
	a.later(t, 51*day)
	if n := a.sweep(t); n == 0 {
		t.Error("nothing was removed past the floor")
	}
	if _, err := a.Put(t.Context(), owner, "", store.Match{}, retention.Draft{Preset: "gdpr"}); err != nil {
		t.Errorf("a preset under a floor is lifted to it: %v", err)
	}
	a.clean(t)
}

// A hold of what there is not would keep nothing, and nobody would know.
func TestHoldOfNothing(t *testing.T) {
	a := newArchive(t, t.TempDir()+"/gatehouse.db", retention.Options{})
	for field, scope := range map[string]retention.Scope{
		"scope.actor":  {Class: retention.Deliveries, Actor: "u_1"},
		"scope.target": {Target: "cred_*"},
		"scope.action": {Class: retention.DeletedMembers, Action: "credential.*"},
	} {
		_, err := a.Hold(t.Context(), owner, "a case", scope, time.Time{})
		if f, ok := fault.As(err); !ok || len(f.Fields) != 1 || f.Fields[0].Name != field {
			t.Errorf("%+v: %v", scope, err)
		}
	}
	for _, scope := range []retention.Scope{{Class: retention.Usage, Actor: "u_1"}, {Class: retention.DeletedMembers, Actor: "u_1"}, {Action: "credential.*"}, {Actor: "a*b"}} {
		if _, err := a.Hold(t.Context(), owner, "a case", scope, time.Time{}); err != nil {
			t.Errorf("%+v: %v", scope, err)
		}
	}
}

// A hold of an action that there is not would keep nothing, and nobody would know.
func TestHoldOfNoAction(t *testing.T) {
	a := newArchive(t, t.TempDir()+"/gatehouse.db", retention.Options{})
	for action, right := range map[string]bool{"credential.reveal": true, "credential.*": true, "credentials.*": false, "credential.creat": false, "nope.*": false} {
		_, err := a.Hold(t.Context(), owner, "a case", retention.Scope{Action: action}, time.Time{})
		if f, ok := fault.As(err); (err == nil) != right || !right && (!ok || f.Fields[0].Name != "scope.action") {
			t.Errorf("a hold of %s: %v", action, err)
		}
	}
}

// Rows that have no log: usage, what policies said, lines of versions, deliveries.
func TestRows(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		a := newArchive(t, url, retention.Options{Batch: 3})
		for i := range 10 {
			a.exec(t, `INSERT INTO usage_hours (organization, hour, service, model, credential, member, requests, failed, partial, counted, uncounted,
				input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, bytes_in, bytes_out)
				VALUES ('acme', $1, 's', 'm', 'cred_1', $2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)`,
				a.clock.Now().Add(time.Duration(i)*time.Hour).UnixMicro(), []string{"ann", "bob"}[i%2])
			a.exec(t, `INSERT INTO limit_policy_revisions (organization, id, revision, content, changed_at, changed_by) VALUES ('acme', 'pol_1', $1, '{}', $2, 'ann')`,
				i+1, a.clock.Now().UnixMicro())
		}
		a.changes(t, 1)
		a.hold(t, retention.Scope{Class: retention.Usage, Actor: "bob"})
		a.later(t, 366*day)
		preview, err := a.Preview(t.Context(), owner, "", nil)
		if err != nil || preview[4].Due != 5 || preview[4].Held != 5 || preview[5].Due != 9 {
			t.Errorf("%+v, %v", preview[4:6], err)
		}
		a.sweep(t)
		if n := a.number(t, `SELECT count(*) FROM usage_hours`); n != 5 {
			t.Errorf("%d hours are left, of 5 that are held", n)
		}
		if n := a.number(t, `SELECT min(revision) FROM limit_policy_revisions`); n != 10 {
			t.Errorf("the newest revision must stay: %d", n)
		}
		all, _, err := a.Certificates(t.Context(), auditor, "", 0, "")
		a.sound(t, all)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range all {
			if c.Class == retention.Usage && (c.Removed != 5 || !strings.Contains(c.Record, "gatehouse/test/acme/usage/removed\n") || !strings.Contains(c.Record, "\nremoved 5\n")) {
				t.Errorf("%+v", c)
			}
		}
		a.clean(t)
	})
}

// A credential that expired long ago goes with its sealed values, each with an event,
// unless a hold names it; one that has time left, or was given more, stays.
func TestExpired(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		a := newArchive(t, url, retention.Options{Batch: 3})
		expires := a.clock.Now().Add(day)
		for i := range 9 {
			id, at := fmt.Sprintf("cred_%d", i), any(expires.Add(time.Duration(i)).UnixMicro())
			if i == 8 {
				at = nil // never
			}
			a.exec(t, `INSERT INTO credentials (organization, id, service, name, version, revision, disabled, expires_at, created_at, created_by, updated_at)
				VALUES ('acme', $1, 'openai', $1, 2, 1, $2, $3, 1, 'boss', 1)`, id, i%2 == 0, at)
			a.exec(t, `INSERT INTO credential_versions (organization, credential_id, version, fields, hints, fingerprint, fields_sealed, created_at, created_by)
				VALUES ('acme', $1, 2, '[]', '{}', 'fp', 'sealed', 1, 'boss')`, id)
			a.exec(t, `INSERT INTO credential_version_history (organization, credential_id, version, state, fields, fingerprint, created_at, created_by)
				VALUES ('acme', $1, 2, 'active', '[]', 'fp', 1, 'boss')`, id)
		}
		a.changes(t, 1)
		h := a.hold(t, retention.Scope{Target: "cred_3"})
		a.later(t, 100*day)
		a.exec(t, `UPDATE credentials SET expires_at = $1 WHERE id = 'cred_4'`, a.clock.Now().Add(300*day).UnixMicro())
		if n := a.sweep(t); n != 0 {
			t.Errorf("%d went before their time", n)
		}
		a.later(t, 267*day)
		preview, err := a.Preview(t.Context(), owner, "", nil)
		if at := slices.Index(retention.Classes(), retention.Expired); err != nil || preview[at].Due != 6 || preview[at].Held != 1 {
			t.Errorf("%+v, %v", preview[at], err)
		}
		a.sweep(t)
		left := a.number(t, `SELECT count(*) FROM credentials`)
		versions := a.number(t, `SELECT count(*) FROM credential_versions`)
		held := a.number(t, `SELECT count(*) FROM credentials WHERE id IN ('cred_3', 'cred_4', 'cred_8')`)
		events := a.number(t, `SELECT count(*) FROM events WHERE action = 'credential.delete' AND actor_id = 'gatehouse'`)
		if left != 3 || versions != 3 || held != 3 || events != 6 {
			t.Errorf("%d credentials with %d versions are left, and %d events tell of those that went", left, versions, events)
		}
		all, _, err := a.Certificates(t.Context(), auditor, "", 0, "")
		a.sound(t, all)
		if i := slices.IndexFunc(all, func(c retention.Certificate) bool { return c.Class == retention.Expired }); err != nil || i < 0 || all[i].Removed != 6 {
			t.Errorf("%+v, %v", all, err)
		}
		if err := a.Release(t.Context(), owner, h.ID); err != nil {
			t.Fatal(err)
		}
		if a.sweep(t); a.number(t, `SELECT count(*) FROM credentials`) != 2 {
			t.Error("it stays after its hold")
		}
		a.clean(t)
	})
}

// A deleted member's personal data goes from the trail, and no byte that is hashed;
// what a hold keeps stays until it ends.
func TestDeletedMember(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		a := newArchive(t, url, retention.Options{Batch: 3})
		for range 7 {
			a.change(t, "acme", "ann", "cred_1", audit.CredentialUpdate)
			a.change(t, "acme", "bob", "cred_1", audit.CredentialUpdate)
		}
		a.change(t, "acme", "ann", "cred_9", audit.CredentialReveal)
		a.seal(t)
		h := a.hold(t, retention.Scope{Action: "credential.reveal"})
		a.exec(t, `INSERT INTO members (organization, id, deleted_at) VALUES ('acme', 'ann', $1)`, a.clock.Now().UnixMicro())
		a.later(t, 29*day)
		if n := a.sweep(t); n != 0 {
			t.Errorf("%d were erased before their time", n)
		}
		a.later(t, 2*day)
		if all, err := a.Preview(t.Context(), owner, "", nil); err != nil || all[10].Class != retention.DeletedMembers || all[10].Due != 7 || all[10].Held != 1 {
			t.Errorf("the preview says %+v, %v", all, err)
		}
		if n := a.sweep(t); n != 7 {
			t.Errorf("%d were erased, of 7", n)
		}
		a.clean(t)
		persons := `SELECT count(*) FROM event_persons p JOIN events e ON e.organization = p.organization AND e.id = p.event_id WHERE e.actor_id = `
		if ann, bob := a.number(t, persons+`'ann'`), a.number(t, persons+`'bob'`); ann != 1 || bob != 7 {
			t.Errorf("left are %d of ann and %d of bob", ann, bob)
		}
		if err := a.Release(t.Context(), owner, h.ID); err != nil {
			t.Fatal(err)
		}
		if n := a.sweep(t); n != 1 {
			t.Errorf("%d were erased after the hold, of 1", n)
		}
		if n := a.sweep(t); n != 0 || a.number(t, `SELECT count(*) FROM retention_erasures`) != 1 {
			t.Errorf("%d more were erased", n)
		}
		a.clean(t)
	})
}
