package ledger

import (
	"context"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/store"
)

// Health says how the sealer does.
type Health struct {
	Unsealed  int64         // events that wait to be sealed; at most MostUnsealed are counted
	Oldest    time.Time     // when the first of them was recorded; zero where there is none
	Lag       time.Duration // how long the oldest event of this process's last run had waited
	SealedAt  time.Time     // the last run of any instance
	LastError string        // of the last run of any instance; empty where it went well
	Held      bool          // an instance holds the lease
}

// MostUnsealed is up to how many waiting events are counted.
const MostUnsealed = 100_000

// sealed notes a run that went well.
func (l *Ledger) sealed(ctx context.Context, r *run) {
	l.mu.Lock()
	l.health.Lag = 0
	if !r.oldest.IsZero() {
		l.health.Lag = l.opts.Now().Sub(r.oldest)
	}
	l.mu.Unlock()
}

// Lag gives how long the oldest event of this process's last run had waited.
func (l *Ledger) Lag() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.health.Lag
}

// Failing reports whether this process's last run failed. The database may not say so,
// where it is what cannot be written.
func (l *Ledger) Failing() bool { return l.failing.Load() }

// ReadHealth says how the sealers of a database do. It needs no keys.
func ReadHealth(ctx context.Context, db *store.DB, now time.Time) (h Health, err error) {
	err = db.ViewAcross(ctx, func(tx *store.Tx) error {
		h = Health{}
		var until, sealedAt, oldest store.Time
		err := tx.Row(ctx, `SELECT lease_until, last_error, sealed_at FROM ledger_sealer WHERE organization = $1`, access.InstanceOrganization).
			Scan(&until, &h.LastError, &sealedAt)
		if err != nil {
			return err
		}
		h.SealedAt, h.Held = sealedAt.Time, until.After(now)
		err = tx.Row(ctx, `SELECT count(*), min(recorded_at) FROM (SELECT recorded_at FROM events WHERE log_index IS NULL LIMIT $1) AS u`, MostUnsealed).
			Scan(&h.Unsealed, &oldest)
		h.Oldest = oldest.Time
		return err
	})
	return h, err
}

// Newest gives when the newest event of all organizations occurred, by the clock of
// the server that recorded it; zero where there is none. Every change has an event.
func Newest(ctx context.Context, db *store.DB) (time.Time, error) {
	var at store.Time
	err := db.ViewAcross(ctx, func(tx *store.Tx) error {
		return tx.Row(ctx, `SELECT max(newest) FROM (SELECT (SELECT max(occurred_at) FROM events WHERE organization = o.id) AS newest
			FROM (SELECT id FROM organizations UNION SELECT CAST($1 AS TEXT)) AS o) AS n`, access.InstanceOrganization).Scan(&at)
	})
	return at.Time, err
}
