package retention

import (
	"context"
	"errors"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/store"
)

// Health says how the sweeper does.
type Health struct {
	SweptAt      time.Time // the last run over all organizations that any instance ended
	LastError    string    // of the last run of any instance; empty where it went well
	DoubtedSince time.Time // the clock is doubted since then; zero: it is not
	Open         int64     // runs that were broken off, and are gone on with
	Held         int64     // events that are set aside
}

// ReadHealth says how the sweepers of a database do.
func ReadHealth(ctx context.Context, db *store.DB) (h Health, err error) {
	err = db.ViewAcross(ctx, func(tx *store.Tx) error {
		h = Health{}
		var swept, doubted store.Time
		err := tx.Row(ctx, `SELECT swept_at, last_error, doubted_since FROM retention_sweeper WHERE organization = $1`, access.InstanceOrganization).
			Scan(&swept, &h.LastError, &doubted)
		if err != nil {
			return err
		}
		h.SweptAt, h.DoubtedSince = swept.Time, doubted.Time
		return tx.Row(ctx, `SELECT (SELECT count(*) FROM retention_sweeps WHERE finished_at IS NULL), (SELECT count(*) FROM ledger_held)`).Scan(&h.Open, &h.Held)
	})
	return h, err
}

// Run sweeps until ctx ends, whenever this process holds the lease.
func (r *Retention) Run(ctx context.Context) {
	// So that a clock that jumps before the first sweep is found to have. What is wrong with it the sweep says.
	_, _ = r.clock(ctx)
	// Soon after the start, but not in the middle of it.
	next := time.NewTimer(min(time.Minute, r.opts.Every))
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		}
		if n, err := r.Sweep(ctx); err != nil && !errors.Is(err, errNotHolder) && ctx.Err() == nil {
			r.opts.Logger.ErrorContext(ctx, "retention could not remove all that is due; it is tried again", "removed", n, "error", err)
		} else if n > 0 {
			r.opts.Logger.InfoContext(ctx, "retention removed what was due", "rows", n)
		}
		next.Reset(r.opts.Every)
	}
}

// errNotHolder says that another process sweeps.
var errNotHolder = errors.New("another instance holds the lease")

// Sweep takes the lease, if it is free, and removes what is due of all
// organizations. It gives how many rows that were, also beside an error. What is
// wrong with one organization stops no other.
func (r *Retention) Sweep(ctx context.Context) (removed int64, err error) {
	if err := r.hold(ctx); err != nil {
		if errors.Is(err, errNotHolder) {
			return 0, nil
		}
		return 0, err
	}
	defer r.lease.Release(ctx)
	removed, err = r.sweepAll(ctx)
	if errors.Is(err, errNotHolder) {
		return removed, nil
	}
	r.note(ctx, err)
	return removed, err
}

func (r *Retention) sweepAll(ctx context.Context) (removed int64, err error) {
	now, err := r.clock(ctx)
	if err != nil {
		return 0, err
	}
	if err := r.ledger.Prepare(ctx); err != nil {
		return 0, err
	}
	var failed error
	failures := 0
	for after := ""; ; {
		ids, err := r.organizations(ctx, after)
		if err != nil {
			return removed, err
		}
		for _, id := range ids {
			if err := r.hold(ctx); err != nil {
				return removed, err
			}
			n, err := r.sweepOrganization(ctx, id, now, r.hold)
			removed += n
			if ctx.Err() != nil || errors.Is(err, errNotHolder) {
				return removed, err
			}
			if err != nil {
				if failures++; failures <= 10 {
					failed = errors.Join(failed, err)
				}
			}
			after = id
		}
		if len(ids) < pageOfOrganizations {
			return removed, failed
		}
	}
}

// SweepOne removes what is due of one organization, the caller's own where it is
// empty, without the lease: beside another sweeper it does no harm. It needs
// retention:manage, as a policy does that would remove as much.
func (r *Retention) SweepOne(ctx context.Context, caller access.Caller, organization string) (removed int64, err error) {
	organization = ownOr(caller, organization)
	if err := access.Allow(caller, access.RetentionManage, organization); err != nil {
		return 0, err
	}
	now, err := r.clock(ctx)
	if err != nil {
		return 0, err
	}
	if err := r.ledger.Prepare(ctx); err != nil {
		return 0, err
	}
	return r.sweepOrganization(ctx, organization, now, func(context.Context) error { return nil })
}

const pageOfOrganizations = 100

// organizations gives the next organizations by id, deleted ones too, whose trail
// remains for as long as their policy says, and the instance's own.
func (r *Retention) organizations(ctx context.Context, after string) (ids []string, err error) {
	err = r.db.ViewAcross(ctx, func(tx *store.Tx) error {
		ids = nil
		return tx.Each(ctx, func(scan func(...any) error) error {
			var id string
			err := scan(&id)
			ids = append(ids, id)
			return err
		}, `SELECT id FROM (SELECT id FROM organizations UNION SELECT CAST($1 AS TEXT)) AS o WHERE id > $2 ORDER BY id LIMIT $3`,
			access.InstanceOrganization, after, pageOfOrganizations)
	})
	return ids, err
}

// hold takes the lease or holds on to it; [errNotHolder] where another process has it.
func (r *Retention) hold(ctx context.Context) error {
	held, err := r.lease.Take(ctx)
	if err == nil && !held {
		err = errNotHolder
	}
	return err
}

// note keeps how a run ended where every instance can see it.
func (r *Retention) note(ctx context.Context, failed error) {
	if failed != nil {
		r.lease.Note(ctx, failed)
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_ = r.db.Update(ctx, access.InstanceOrganization, func(tx *store.Tx) error { // the next run says so too
		_, err := tx.Exec(ctx, `UPDATE retention_sweeper SET last_error = '', swept_at = $1 WHERE organization = $2`, store.At(r.opts.Now()), access.InstanceOrganization)
		return err
	})
}

// vouched gives the time of this machine's clock, and whether the database server has the
// same: [ErrClockSkewed] where it has another.
func (r *Retention) vouched(ctx context.Context) (now store.Time, vouched bool, err error) {
	at := r.opts.Now()
	vouched, err = r.server.Vouches(ctx, at)
	var skew *store.SkewError
	if errors.As(err, &skew) {
		err = ErrClockSkewed.Because(err)
	}
	return store.At(at), vouched, err
}

// clock gives the time that sweeps go by, or [ErrClock] or [ErrClockSkewed].
func (r *Retention) clock(ctx context.Context) (time.Time, error) {
	now, vouched, err := r.vouched(ctx)
	if err != nil {
		return time.Time{}, err
	}
	var doubted bool
	err = r.db.Update(ctx, access.InstanceOrganization, func(tx *store.Tx) error {
		doubted = false
		var believed, since store.Time
		err := tx.Row(ctx, `SELECT clock, doubted_since FROM retention_sweeper WHERE organization = $1`, access.InstanceOrganization).Scan(&believed, &since)
		if err != nil {
			return err
		}
		if believed.IsZero() { // the first look
			if believed, err = r.lastSealed(ctx, tx); err != nil {
				return err
			}
			if believed.IsZero() {
				believed = now
			}
		}
		if now.Sub(believed.Time) > r.opts.MaxJump {
			stood := now.Sub(since.Time)
			if since.IsZero() || stood < 0 {
				_, err := tx.Exec(ctx, `UPDATE retention_sweeper SET doubted_since = $1, clock = $2 WHERE organization = $3`, now, believed, access.InstanceOrganization)
				doubted = true
				return err
			}
			if stood < r.opts.MaxJump {
				doubted = true
				return nil
			}
		}
		if now.Before(believed.Time) && !vouched { // nothing goes early, and what is believed stays
			doubted = believed.Sub(now.Time) > store.MaxSkew
			return nil
		}
		_, err = tx.Exec(ctx, `UPDATE retention_sweeper SET clock = $1, doubted_since = NULL WHERE organization = $2`, now, access.InstanceOrganization)
		return err
	})
	if err == nil && doubted {
		err = ErrClock
	}
	return now.Time, err
}

// lastSealed gives when the trail was sealed last, before the first gap of more than
// [Options.MaxJump]: what follows one was perhaps sealed by a clock that had jumped, a
// moment before it is asked about. Zero: nothing was sealed.
func (r *Retention) lastSealed(ctx context.Context, tx *store.Tx) (at store.Time, err error) {
	err = tx.Across(ctx, func() error {
		return tx.Row(ctx, `SELECT COALESCE(min(CASE WHEN sealed_at - before > $1 THEN before END), max(sealed_at)) FROM
			(SELECT sealed_at, lag(sealed_at) OVER (ORDER BY sealed_at) AS before FROM ledger_blocks) AS b`, r.opts.MaxJump.Microseconds()).Scan(&at)
	})
	return at, err
}

// AcceptClock says that this machine's clock is right although it came forward
// further than [Options.MaxJump] since the last look, such as after a long time
// without a running instance. One that is not the database server's is not accepted:
// [ErrClockSkewed]. It needs retention:manage on the instance.
func (r *Retention) AcceptClock(ctx context.Context, caller access.Caller) error {
	if err := access.Allow(caller, access.RetentionManage, access.InstanceOrganization); err != nil {
		return err
	}
	now, _, err := r.vouched(ctx)
	if err != nil {
		return err
	}
	return r.db.Update(ctx, access.InstanceOrganization, func(tx *store.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE retention_sweeper SET clock = $1, doubted_since = NULL WHERE organization = $2`, now, access.InstanceOrganization)
		if err != nil {
			return err
		}
		return r.trail.Append(ctx, tx, caller, audit.Event{
			Organization: access.InstanceOrganization, Action: audit.RetentionAcceptClock, Outcome: audit.Success,
			Permission: access.RetentionManage.String(), Targets: []audit.Target{{Type: "instance", ID: access.InstanceOrganization}},
		})
	})
}
