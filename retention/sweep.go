package retention

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/internal/wiretime"
	"github.com/gatehouse-io/gatehouse/ledger"
	"github.com/gatehouse-io/gatehouse/store"
)

// run is one run over one organization's data.
type run struct {
	*Retention
	organization string
	now          time.Time

	// The run as it is stored. Empty until something was removed: one that removes
	// nothing leaves nothing behind.
	id                             string
	policyRevision, boundsRevision int64
	removed                        int64 // by this process
}

// errOther says that a run must end here, and another begin: the policy was changed,
// or another sweeper was in between. Its certificate would not be true of what comes.
var errOther = errors.New("retention: the run is over")

// maxRuns bounds how often an organization's run is begun again in one go.
const maxRuns = 20

// sweepOrganization removes what is due of one organization at now.
func (r *Retention) sweepOrganization(ctx context.Context, organization string, now time.Time, alive func(context.Context) error) (removed int64, err error) {
	for range maxRuns {
		w := &run{Retention: r, organization: organization, now: now}
		if err := w.resume(ctx); err != nil {
			return removed, err
		}
		err := w.classes(ctx, alive)
		removed += w.removed
		if w.fatal(ctx, err) {
			return removed, err // what was begun is gone on with by the next run
		}
		other := errors.Is(err, errOther)
		if other {
			err = nil
		}
		if err = errors.Join(err, w.finish(ctx)); !other || err != nil {
			return removed, err
		}
	}
	return removed, nil
}

// resume takes a run up that was broken off.
func (w *run) resume(ctx context.Context) error {
	err := w.db.View(ctx, w.organization, func(tx *store.Tx) error {
		return tx.Row(ctx, `SELECT id, policy_revision, bounds_revision FROM retention_sweeps WHERE organization = $1 AND finished_at IS NULL ORDER BY id LIMIT 1`,
			w.organization).Scan(&w.id, &w.policyRevision, &w.boundsRevision)
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// fatal reports whether a run cannot even be ended now.
func (w *run) fatal(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, store.ErrUnavailable) || errors.Is(err, errNotHolder)
}

// work is what a step does, in its transaction.
type work func(*step, context.Context) error

// classes removes what is due of every class, step by step. What is wrong with one
// class stops no other.
func (w *run) classes(ctx context.Context, alive func(context.Context) error) error {
	due, err := w.look(ctx)
	if err != nil {
		return err
	}
	var failed error
	for _, c := range Classes() {
		if !due[c] {
			continue
		}
		steps := []work{(*step).rows}
		switch {
		case c.Events():
			steps = []work{(*step).events, (*step).release}
		case c == Expired:
			steps = []work{(*step).expired}
		case c == DeletedMembers:
			steps = []work{(*step).members}
		}
		for _, do := range steps {
			err := w.repeat(ctx, c, do, alive)
			if errors.Is(err, errOther) || w.fatal(ctx, err) {
				return errors.Join(failed, err)
			}
			if err != nil {
				failed = errors.Join(failed, fmt.Errorf("%s/%s: %w", w.organization, c, err))
			}
		}
	}
	return failed
}

// look gives the classes in which something may be due, so that an organization in
// which nothing is costs one transaction that only reads.
func (w *run) look(ctx context.Context) (due map[Class]bool, err error) {
	err = w.db.View(ctx, w.organization, func(tx *store.Tx) error {
		due = make(map[Class]bool)
		for _, c := range Classes() {
			s := &step{run: &run{Retention: w.Retention, organization: w.organization, now: w.now}, class: c, tx: tx}
			if err := s.prepare(ctx); err != nil {
				return err
			}
			if s.stopped {
				continue
			}
			if c.Events() {
				var aside int64
				err := tx.Row(ctx, `SELECT count(*) FROM (SELECT 1 FROM ledger_held WHERE organization = $1 AND class = $2 LIMIT 1) AS h`, w.organization, string(c)).Scan(&aside)
				if err != nil {
					return err
				}
				head, err := dueEvents(ctx, tx, w.organization, c, s.before, s.now, 1)
				if err != nil {
					return err
				}
				due[c] = aside > 0 || head.To > head.From
				continue
			}
			first, err := tables()[c].dueRows(w.organization, s.before, s.holds).count(ctx, tx, 1)
			if err != nil {
				return err
			}
			due[c] = first.n > 0
		}
		return nil
	})
	return due, err
}

// repeat does one step after the other, with a pause between two, until there is
// nothing left to do.
func (w *run) repeat(ctx context.Context, c Class, do work, alive func(context.Context) error) error {
	var at memberPlace
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		s := &step{run: w, class: c, member: at}
		err := w.db.Update(ctx, w.organization, func(tx *store.Tx) error {
			*s = step{run: w, class: c, member: at, tx: tx}
			if err := s.prepare(ctx); err != nil || s.stopped {
				return err
			}
			return do(s, ctx)
		})
		if err != nil {
			return err
		}
		if s.saved {
			w.id, w.policyRevision, w.boundsRevision = s.sweep, s.policy.Revision, s.policy.Bounds.Revision
		}
		if s.removed > 0 {
			w.removed += s.removed
			w.opts.Swept(string(c), s.removed)
		}
		if !s.more {
			return nil
		}
		at = s.member
		if err := alive(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(w.opts.Pause):
		}
	}
}

// step is one transaction of a run. It may be run again after a lost race.
type step struct {
	*run
	tx     *store.Tx
	class  Class
	member memberPlace // of the class [DeletedMembers]

	policy  Policy
	length  Length
	holds   holdsOf
	before  time.Time // what is older is due
	stopped bool      // nothing of the class is ever due, or all of it is held

	sweep   string // the run's id, a new one where the run has none yet
	saved   bool   // the run is stored, since something was removed
	removed int64
	more    bool // there may be more to do
}

func (s *step) prepare(ctx context.Context) (err error) {
	if s.policy, err = readPolicy(ctx, s.tx, s.organization); err != nil {
		return err
	}
	if s.id != "" && (s.policyRevision != s.policy.Revision || s.boundsRevision != s.policy.Bounds.Revision) {
		return errOther
	}
	active, err := activeHolds(ctx, s.tx, s.organization, s.now)
	if err != nil {
		return err
	}
	s.holds, s.length = of(s.class, active), s.policy.of(s.class)
	due := false
	s.before, due = s.length.Keep.before(s.now)
	s.stopped = s.holds.whole() || !due && !s.class.Events() // events that were set aside may still be released
	return nil
}

// certificate gives the run's certificate of this class so far, of a new run where
// there is none.
func (s *step) certificate(ctx context.Context) (Certificate, error) {
	if s.sweep = s.id; s.sweep == "" {
		s.sweep = store.NewID("sweep")
	}
	all, err := readCertificates(ctx, s.tx, `c.organization = $1 AND c.sweep_id = $2 AND c.class = $3`, s.organization, s.sweep, string(s.class))
	if err != nil {
		return Certificate{}, err
	}
	if len(all) > 0 {
		return all[0], nil
	}
	return Certificate{Organization: s.organization, Sweep: s.sweep, Class: s.class}, nil
}

// save stores the certificate, and the run where it is new.
func (s *step) save(ctx context.Context, c *Certificate) error {
	if s.id == "" {
		_, err := s.tx.Exec(ctx, `INSERT INTO retention_sweeps (organization, id, policy_revision, bounds_revision, started_at) VALUES ($1, $2, $3, $4, $5)`,
			s.organization, s.sweep, s.policy.Revision, s.policy.Bounds.Revision, store.At(s.now))
		if err != nil {
			return err
		}
	}
	s.saved = true
	return writeCertificate(ctx, s.tx, c)
}

// notes are the lines of the signed record, beside those that package ledger adds.
func (c *Certificate) notes() []string {
	at := wiretime.Text
	lines := []string{
		"sweep " + c.Sweep, "policy revision " + strconv.FormatInt(c.PolicyRevision, 10), "kept " + c.Kept, "before " + at(c.Before),
	}
	if c.Class.Events() {
		lines = append(lines, "first "+strconv.FormatInt(c.First, 10), "set aside "+strconv.FormatInt(c.Held, 10))
	} else if !c.Oldest.IsZero() {
		lines = append(lines, "oldest "+at(c.Oldest), "newest "+at(c.Newest))
	}
	if c.Released > 0 {
		lines = append(lines, "released "+strconv.FormatInt(c.Released, 10))
	}
	return append(lines, "removed "+strconv.FormatInt(c.Removed, 10))
}

// add puts into the certificate what every step says.
func (s *step) add(c *Certificate, removed int64, oldest, newest time.Time) {
	c.PolicyRevision, c.Kept, c.Before, c.UpdatedAt = s.policy.Revision, s.length.Keep.String(), s.before, s.now
	c.Removed += removed
	if c.Oldest.IsZero() || !oldest.IsZero() && oldest.Before(c.Oldest) {
		c.Oldest = oldest
	}
	if newest.After(c.Newest) {
		c.Newest = newest
	}
}

// events removes the next events from the head of the class's log.
func (s *step) events(ctx context.Context) error {
	if s.before.IsZero() {
		return nil
	}
	due, err := dueEvents(ctx, s.tx, s.organization, s.class, s.before, s.now, int64(s.opts.Batch))
	if err != nil || due.To == due.From {
		return err
	}
	c, err := s.certificate(ctx)
	if err != nil {
		return err
	}
	switch {
	case c.Record == "":
		c.First = due.From
	case c.To != due.From:
		return errOther // another sweeper's run is in between
	}
	s.add(&c, due.To-due.From, due.Oldest, due.Newest)
	c.To = due.To
	done, err := s.ledger.Remove(ctx, s.tx, ledger.Removal{
		Organization: s.organization, Class: string(s.class), To: due.To, Sealed: s.before, Now: s.now, Since: c.First, Held: s.held(),
		Notes: func(held int64) []string {
			c.Held += held
			c.Removed -= held
			return c.notes()
		},
	})
	if err != nil {
		return err
	}
	c.Root, c.Record = done.Root.String(), done.Record
	s.removed, s.more = due.To-due.From-done.Held, true
	return s.save(ctx, &c)
}

// held gives the question whether an event is held; nil where none is.
func (s *step) held() func(*ledger.Candidate) bool {
	if len(s.holds.all) == 0 {
		return nil
	}
	return s.holds.event
}

// release removes events that were set aside and that no hold holds any more.
func (s *step) release(ctx context.Context) error {
	c, err := s.certificate(ctx)
	if err != nil {
		return err
	}
	released, p, err := s.ledger.Release(ctx, s.tx, s.organization, string(s.class), s.opts.Batch, s.holds.event, func(n, size int64) []string {
		if c.Record == "" {
			c.First, c.To = size, size
		}
		s.add(&c, 0, time.Time{}, time.Time{})
		c.Released += n
		return c.notes()
	})
	if err != nil || released == 0 {
		return err
	}
	c.Root, c.Record = p.Root.String(), p.Record
	s.removed, s.more = released, released == int64(s.opts.Batch)
	return s.save(ctx, &c)
}

// rows removes the oldest rows of a class that has no log.
func (s *step) rows(ctx context.Context) error {
	q := tables()[s.class].dueRows(s.organization, s.before, s.holds)
	due, err := q.count(ctx, s.tx, s.opts.Batch)
	if err != nil || due.n == 0 {
		return err
	}
	n, err := q.remove(ctx, s.tx, s.opts.Batch)
	if err == nil && n != due.n {
		err = fmt.Errorf("retention: %d rows were due, and %d were removed", due.n, n)
	}
	if err != nil {
		return err
	}
	s.removed, s.more = n, due.n == int64(s.opts.Batch)
	return s.attest(ctx, due)
}

// attest adds to the certificate of a class that has no log.
func (s *step) attest(ctx context.Context, due span) error {
	c, err := s.certificate(ctx)
	if err != nil {
		return err
	}
	s.add(&c, due.n, due.oldest, due.newest)
	if c.Record, err = s.ledger.Attest(ctx, s.organization, string(s.class), c.notes()...); err != nil {
		return err
	}
	return s.save(ctx, &c)
}

// finish ends the run and tells of it.
func (w *run) finish(ctx context.Context) error {
	if w.id == "" {
		return nil
	}
	return w.db.Update(ctx, w.organization, func(tx *store.Tx) error {
		n, err := tx.Exec(ctx, `UPDATE retention_sweeps SET finished_at = $1 WHERE organization = $2 AND id = $3 AND finished_at IS NULL`,
			store.At(w.now), w.organization, w.id)
		if err != nil || n == 0 { // another sweeper was first
			return err
		}
		all, err := readCertificates(ctx, tx, `c.organization = $1 AND c.sweep_id = $2`, w.organization, w.id)
		if err != nil {
			return err
		}
		metadata := map[string]any{"policyRevision": w.policyRevision, "boundsRevision": w.boundsRevision}
		for _, c := range all {
			class := string(c.Class)
			metadata["removed."+class] = c.Removed + c.Released
			if c.Class.Events() {
				metadata["upto."+class], metadata["root."+class] = c.To, c.Root
			}
			if c.Held > 0 {
				metadata["setAside."+class] = c.Held
			}
		}
		return w.trail.Append(ctx, tx, access.SystemCaller(w.organization), audit.Event{
			Organization: w.organization, Action: audit.RetentionSweep, Outcome: audit.Success,
			Targets: []audit.Target{{Type: "sweep", ID: w.id}}, Metadata: metadata,
		})
	})
}
