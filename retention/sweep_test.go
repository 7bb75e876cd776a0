package retention_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/ledger"
	"github.com/gatehouse-io/gatehouse/retention"
)

const controlOfAcme = `SELECT count(*) FROM events WHERE organization = 'acme' AND class = 'control'`

// After a sweep the log verifies, its head and the proofs of what stays are as
// before, and one row more than the certificate covers is tampering.
func TestSweep(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		a := newArchive(t, url, retention.Options{})
		a.changes(t, 23)
		a.change(t, "globex", "boss", "cred_2", audit.CredentialUpdate)
		a.later(t, 300*day)
		a.changes(t, 10)
		saved, err := a.ledger.Checkpoint(t.Context(), owner, "")
		if err != nil {
			t.Fatal(err)
		}
		if n := a.sweep(t); n != 0 {
			t.Errorf("%d events were removed before their time", n)
		}
		a.later(t, 66*day)
		preview, err := a.Preview(t.Context(), auditor, "", nil)
		if err != nil || preview[0].Due != 23 || preview[0].Held != 0 {
			t.Errorf("the preview says %+v, %v", preview[0], err)
		}
		if n := a.sweep(t); n != 23 {
			t.Errorf("%d events were removed, of 23", n)
		}
		if n := a.number(t, `SELECT count(*) FROM event_persons p WHERE NOT EXISTS (SELECT 1 FROM events e WHERE e.organization = p.organization AND e.id = p.event_id)`); n != 0 {
			t.Errorf("%d rows of personal data outlived their events", n)
		}
		if n := a.number(t, `SELECT count(*) FROM event_terms p WHERE NOT EXISTS (SELECT 1 FROM events e WHERE e.organization = p.organization AND e.id = p.event_id)`); n != 0 {
			t.Errorf("%d terms outlived their events", n)
		}
		if n := a.number(t, `SELECT count(*) FROM events WHERE organization = 'globex'`); n != 1 {
			t.Error("another organization was swept")
		}
		a.clean(t)
		r, err := a.ledger.Verify(t.Context(), owner, ledger.VerifyOptions{Checkpoints: saved})
		if err != nil || !r.Clean() || r.Logs[0].Removed != 23 {
			t.Errorf("against the checkpoint from before the sweep: %+v, %v", r, err)
		}
		certificates, _, err := a.Certificates(t.Context(), auditor, "", 0, "")
		a.sound(t, certificates)
		if err != nil || len(certificates) != 1 {
			t.Fatalf("%d certificates, %v", len(certificates), err)
		}
		c := certificates[0]
		if c.First != 0 || c.To != 23 || c.Removed != 23 || c.Held != 0 || !c.Finished || c.Kept != "365d" {
			t.Errorf("the certificate says %+v", c)
		}
		page, err := a.trail.Events(t.Context(), owner, audit.Filter{Action: string(audit.RetentionSweep)})
		if err != nil || len(page.Events) != 1 || page.Events[0].Metadata["removed.control"] != float64(23) {
			t.Errorf("the sweep's event: %+v, %v", page.Events, err)
		}
		if n := a.sweep(t); n != 0 {
			t.Errorf("a second sweep removed %d", n)
		}
		if n := a.number(t, `SELECT count(*) FROM retention_sweeps`); n != 1 {
			t.Errorf("a sweep that removed nothing left a trace: %d", n)
		}

		a.exec(t, `DELETE FROM events WHERE organization = 'acme' AND class = 'control' AND log_index = 23`)
		if r := a.verify(t); len(r.Findings) == 0 || r.Findings[0].Kind != ledger.EventMissing || r.Findings[0].Index != 23 {
			t.Errorf("one row more: %+v", r.Findings)
		}
	})
}

// A forged certificate, or none, is named.
func TestForgedRecord(t *testing.T) {
	for name, c := range map[string]struct {
		forge string
		want  ledger.Kind
	}{
		"missing":        {`DELETE FROM ledger_prefixes`, ledger.EventMissing},
		"longer":         {`UPDATE ledger_prefixes SET size = size + 1`, ledger.RecordInvalid},
		"altered":        {`UPDATE ledger_prefixes SET record = replace(record, 'removed ', 'removed 1')`, ledger.RecordInvalid},
		"of another log": {`UPDATE ledger_prefixes SET class = 'access' WHERE class = 'control'`, ledger.EventMissing},
		"held deleted":   {`DELETE FROM ledger_held WHERE log_index = 20`, ledger.HeldAltered},
		"held altered":   {`UPDATE ledger_held SET canonical = (SELECT canonical FROM ledger_held WHERE log_index = 21) WHERE log_index = 20`, ledger.HeldAltered},
	} {
		t.Run(name, func(t *testing.T) {
			a := newArchive(t, t.TempDir()+"/gatehouse.db", retention.Options{})
			a.changes(t, 20)
			for range 2 {
				a.change(t, "acme", "eve", "cred_9", audit.CredentialReveal)
			}
			a.changes(t, 1)
			a.hold(t, retention.Scope{Action: "credential.*", To: a.clock.Now().Add(time.Second), Target: "cred_9"})
			a.hold(t, retention.Scope{Actor: "eve"})
			a.later(t, 400*day)
			a.sweep(t)
			a.clean(t)
			a.exec(t, c.forge)
			r := a.verify(t)
			if !slices.ContainsFunc(r.Findings, func(f ledger.Finding) bool { return f.Kind == c.want }) {
				t.Errorf("%+v, want %s", r.Findings, c.want)
			}
		})
	}
}

// What was tampered with is not swept away.
func TestTamperedIsNotRemoved(t *testing.T) {
	for name, forge := range map[string]string{
		"an event altered":     `UPDATE events SET canonical = (SELECT canonical FROM events WHERE log_index = 4 AND class = 'control' AND organization = 'acme') WHERE log_index = 3`,
		"a column altered":     `UPDATE events SET actor_id = 'nobody' WHERE log_index = 3`,
		"an event deleted":     `DELETE FROM events WHERE log_index = 3`,
		"a block's time moved": `UPDATE ledger_blocks SET sealed_at = 1`,
		"a block deleted":      `DELETE FROM ledger_blocks WHERE number = 1`,
		"a person altered":     `UPDATE event_persons SET data = '{"ip":"10.9.9.9"}' WHERE event_id = (SELECT id FROM events WHERE log_index = 3 AND class = 'control' AND organization = 'acme')`,
		"a tile altered":       `UPDATE ledger_tiles SET hashes = zeroblob(length(hashes)) WHERE level = 0 AND organization = 'acme'`,
	} {
		t.Run(name, func(t *testing.T) {
			a := newArchive(t, t.TempDir()+"/gatehouse.db", retention.Options{})
			a.changes(t, 20)
			if name == "a block's time moved" {
				a.later(t, 90*day)
			} else {
				a.later(t, 366*day)
			}
			a.exec(t, forge)
			before := a.number(t, controlOfAcme)
			n, err := a.SweepOne(t.Context(), owner, "")
			if !errors.Is(err, ledger.ErrAltered) || n >= 5 || a.number(t, controlOfAcme) < before-n {
				t.Errorf("%d were removed, %v", n, err)
			}
			if r, err := a.ledger.Verify(t.Context(), commandLine, ledger.VerifyOptions{All: true}); err != nil || r.Clean() {
				t.Error("nothing is found any more")
			}
		})
	}
}

// A hold sets events aside, with proofs, and they go with the first sweep after it.
func TestHold(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		a := newArchive(t, url, retention.Options{})
		a.changes(t, 10)
		a.change(t, "acme", "eve", "cred_9", audit.CredentialReveal)
		a.changes(t, 12)
		a.change(t, "acme", "eve", "cred_9", audit.CredentialDelete)
		a.seal(t)
		h := a.hold(t, retention.Scope{Target: "cred_9"})
		also := a.hold(t, retention.Scope{Actor: "eve", Action: "credential.reveal"})
		a.later(t, 366*day)
		preview, err := a.Preview(t.Context(), owner, "", nil)
		if err != nil || preview[0].Due != 22 || preview[0].Held != 2 {
			t.Errorf("the preview says %+v, %v", preview[0], err)
		}
		if n := a.sweep(t); n != 22 {
			t.Errorf("%d were removed, of 22", n)
		}
		a.clean(t)
		held, _, err := a.HeldEvents(t.Context(), auditor, 0, "")
		if err != nil || len(held) != 2 || held[0].Index != 10 || held[1].Index != 23 || held[0].Personal == nil {
			t.Fatalf("set aside: %+v, %v", held, err)
		}
		if e, err := audit.Read(held[0].Canonical, held[0].Personal); err != nil || e.Actor.ID != "eve" || e.Request.IP != "192.0.2.1" {
			t.Errorf("%+v, %v", e, err)
		}
		for _, e := range held {
			if err := e.Check(); err != nil {
				t.Error("the proof of an event that was set aside:", err)
			}
		}
		if all, _, err := a.HeldEvents(t.Context(), stranger, 0, ""); err != nil || len(all) != 0 {
			t.Errorf("another organization sees %d", len(all))
		}

		if err := a.Release(t.Context(), stranger, h.ID); !errors.Is(err, retention.ErrHoldNotFound) {
			t.Error("another organization's hold:", err)
		}
		if err := a.Release(t.Context(), owner, h.ID); err != nil {
			t.Fatal(err)
		}
		if n := a.sweep(t); n != 1 {
			t.Errorf("%d were released, of 1", n)
		}
		a.clean(t)
		if err := a.Release(t.Context(), owner, also.ID); err != nil {
			t.Fatal(err)
		}
		a.sweep(t)
		a.clean(t)
		certificates, _, err := a.Certificates(t.Context(), auditor, "", 0, "")
		if err != nil || len(certificates) < 3 {
			t.Errorf("%d certificates, %v", len(certificates), err)
		}
		a.sound(t, certificates)
		if n := a.number(t, `SELECT count(*) FROM ledger_held`); n != 0 {
			t.Errorf("%d are still set aside", n)
		}
		if n := a.number(t, `SELECT count(*) FROM event_persons p WHERE NOT EXISTS (SELECT 1 FROM events e WHERE e.organization = p.organization AND e.id = p.event_id)`); n != 0 {
			t.Errorf("%d rows of personal data outlived their events", n)
		}
	})
}

// What is set aside is kept as it was: the events, their personal data and proofs.
// An alteration is found, shown, and not swept away.
func TestHeldForgeries(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		a := newArchive(t, url, retention.Options{})
		a.changes(t, 3)
		a.change(t, "acme", "eve", "cred_9", audit.CredentialReveal)
		a.changes(t, 3)
		a.change(t, "acme", "eve", "cred_9", audit.CredentialDelete)
		a.seal(t)
		h := a.hold(t, retention.Scope{Target: "cred_9"})
		a.later(t, 366*day)
		a.sweep(t)
		a.change(t, "acme", "bob", "cred_8", audit.CredentialReveal) // whose address is nobody else's
		all := func(queries ...string) {
			for _, q := range queries {
				a.exec(t, q)
			}
		}
		restore := []string{`DELETE FROM ledger_held`, `INSERT INTO ledger_held SELECT * FROM saved_held`, `DELETE FROM event_persons`, `INSERT INTO event_persons SELECT * FROM saved_persons`}
		all(`CREATE TABLE saved_held AS SELECT * FROM ledger_held`, `CREATE TABLE saved_persons AS SELECT * FROM event_persons`)
		if err := a.Release(t.Context(), owner, h.ID); err != nil {
			t.Fatal(err)
		}
		for _, forge := range []string{
			`UPDATE event_persons SET data = '{"ip":"10.9.9.9"}' WHERE event_id = (SELECT event_id FROM ledger_held WHERE log_index = 3)`,
			`UPDATE ledger_held SET hashes = '' WHERE log_index = 3`,
			`UPDATE ledger_held SET hashes = 'x' WHERE log_index = 3`,
			`UPDATE ledger_held SET size = size - 1 WHERE log_index = 3`,
			`UPDATE ledger_held SET event_id = 'evt_other' WHERE log_index = 3`,
			`UPDATE ledger_held SET event_id = (SELECT event_id FROM event_persons WHERE data LIKE '%192.0.2.%' AND event_id NOT IN (SELECT event_id FROM saved_held) LIMIT 1) WHERE log_index = 3`,
			`UPDATE ledger_held SET occurred_at = occurred_at + 1 WHERE log_index = 3`,
			`UPDATE ledger_held SET checkpoint = replace(checkpoint, 'acme', 'globex') WHERE log_index = 3`,
			`UPDATE ledger_held SET canonical = (SELECT canonical FROM saved_held WHERE log_index = 7) WHERE log_index = 3`,
			`DELETE FROM ledger_held WHERE log_index = 3`,
			`INSERT INTO ledger_held SELECT organization, 'system', 0, 'evt_made_up', occurred_at, canonical, size, hashes, checkpoint FROM saved_held WHERE log_index = 3`,
		} {
			all(append(slices.Clone(restore), forge)...)
			r, err := a.ledger.Verify(t.Context(), commandLine, ledger.VerifyOptions{All: true})
			if err != nil || !slices.ContainsFunc(r.Findings, func(f ledger.Finding) bool { return f.Kind == ledger.HeldAltered || f.Kind == ledger.LogMissing }) {
				t.Errorf("%s: found %+v, %v", forge, r.Findings, err)
			}
			held, _, err := a.HeldEvents(t.Context(), auditor, 0, "")
			if err != nil || len(held) > 1 && !slices.ContainsFunc(held, func(h ledger.HeldEvent) bool { return h.Altered != "" }) {
				t.Errorf("%s: shown as they were, %v", forge, err)
			}
			for _, h := range held {
				if strings.Contains(string(h.Personal), "10.9.9.9") {
					t.Errorf("%s: a made-up address is shown", forge)
				}
				if h.Altered != "" && strings.Contains(forge, "event_") && h.Personal != nil {
					t.Errorf("%s: somebody's personal data is shown with an event that it is not of: %s", forge, h.Personal)
				}
			}
			if strings.Contains(forge, "system") {
				continue // a class without a log of its own is not swept
			}
			if n, err := a.SweepOne(t.Context(), owner, ""); !errors.Is(err, ledger.ErrAltered) || n != 0 {
				t.Errorf("%s: %d were released, %v", forge, n, err)
			}
		}
		all(restore...)
		a.clean(t)
		held, _, err := a.HeldEvents(t.Context(), auditor, 0, "")
		if err != nil || len(held) != 2 || held[0].Altered != "" || held[0].Key == "" {
			t.Errorf("after all was taken back: %+v, %v", held, err)
		}
		// Many at once: each needs one connection at a time.
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var readers sync.WaitGroup
		for range 32 {
			readers.Go(func() {
				for range 5 {
					if held, _, err := a.HeldEvents(ctx, auditor, 0, ""); err != nil || len(held) != 2 {
						t.Errorf("%d are set aside, %v", len(held), err)
						return
					}
				}
			})
		}
		readers.Wait()
	})
}

// A hold on a whole class stops it, and no other organization's.
func TestHoldOfClass(t *testing.T) {
	a := newArchive(t, t.TempDir()+"/gatehouse.db", retention.Options{})
	a.changes(t, 10)
	a.hold(t, retention.Scope{Class: retention.Control})
	a.later(t, 366*day)
	if n := a.sweep(t); n != 0 || a.number(t, `SELECT count(*) FROM ledger_held`) != 0 {
		t.Errorf("%d were removed", n)
	}
	a.clean(t)
}

// A sweep that is cut off anywhere leaves a log that verifies, and is gone on with
// under the same certificate; two at once do no harm.
func TestCutOff(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		steps := 0
		ctx, cut := context.WithCancel(t.Context())
		a := newArchive(t, url, retention.Options{Batch: 3, Swept: func(string, int64) {
			if steps++; steps == 3 {
				cut()
			}
		}})
		a.changes(t, 31)
		a.later(t, 366*day)
		n, err := a.SweepOne(ctx, owner, "")
		if !errors.Is(err, context.Canceled) || n != 9 {
			t.Fatalf("%d, %v", n, err)
		}
		a.clean(t)
		done := make(chan int64)
		for range 2 {
			other := a.beside()
			go func() {
				n, err := other.SweepOne(context.Background(), owner, "")
				if err != nil {
					t.Error(err)
				}
				done <- n
			}()
		}
		if n += <-done + <-done; n != 31 {
			t.Errorf("%d were removed, of 31", n)
		}
		a.clean(t)
		if n := a.number(t, `SELECT CAST(sum(removed) AS BIGINT) FROM retention_certificates`); n != 31 {
			t.Errorf("certificates cover %d, of 31", n)
		}
		if n := a.number(t, `SELECT count(*) FROM retention_sweeps WHERE finished_at IS NULL`); n != 0 {
			t.Errorf("%d runs are open", n)
		}
	})
}

// A clock that jumps removes nothing until somebody says that it is right, or it
// has stood for long.
func TestClockJumps(t *testing.T) {
	a := newArchive(t, t.TempDir()+"/gatehouse.db", retention.Options{})
	a.changes(t, 10)
	if _, err := a.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.clock.Pass(2 * 365 * day)
	a.changes(t, 1) // sealed under the wrong clock
	for range 6 {
		if n, err := a.Sweep(t.Context()); !errors.Is(err, retention.ErrClock) || n != 0 {
			t.Fatalf("a clock two years ahead: %d, %v", n, err)
		}
		a.clock.Pass(day)
	}
	h, err := retention.ReadHealth(t.Context(), a.db)
	if err != nil || h.LastError == "" || h.DoubtedSince.IsZero() {
		t.Errorf("health says %+v, %v", h, err)
	}
	a.clock.Pass(-2*365*day - 5*day) // mended
	if n, err := a.Sweep(t.Context()); err != nil || n != 0 {
		t.Fatalf("after it was mended: %d, %v", n, err)
	}
	a.clock.Pass(366 * day)
	if _, err := a.Sweep(t.Context()); !errors.Is(err, retention.ErrClock) {
		t.Fatal(err)
	}
	if err := a.AcceptClock(t.Context(), owner); err == nil {
		t.Error("an owner may not say so for the instance")
	}
	if err := a.AcceptClock(t.Context(), commandLine); err != nil {
		t.Fatal(err)
	}
	// What lets data go is not told as a change of the bounds.
	if n := a.number(t, `SELECT count(*) FROM events WHERE organization = '_instance' AND action = 'retention.accept-clock'`); n != 1 {
		t.Errorf("%d events say that the clock was accepted", n)
	}
	if n, err := a.Sweep(t.Context()); err != nil || n < 10 {
		t.Fatalf("after it was accepted: %d, %v", n, err)
	}
}
