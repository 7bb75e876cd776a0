package vault

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/store"
)

// dueBatch is how many versions one look finds at most.
const dueBatch = 100

// due is a version whose grace is over.
type due struct {
	rowKey
	version int64
	at      store.Time
}

// destroyAllDue destroys every version whose grace is over, in all organizations,
// and gives how many it destroyed. [Vault.Run] calls it every two seconds.
// Several instances may at once: each version is destroyed, with one event, by
// the transaction that is first. One that cannot be destroyed is in the error and
// holds up no other. Nothing is destroyed by a clock that is not the database
// server's: that is a [store.SkewError].
func (v *Vault) destroyAllDue(ctx context.Context) (int, error) {
	now := store.At(v.opts.Now())
	var last due
	var failed []error
	destroyed := 0
	for {
		batch, err := v.findDue(ctx, now, last)
		if err != nil {
			return destroyed, errors.Join(append(failed, err)...)
		}
		if len(batch) > 0 && last.at.IsZero() {
			if err := v.mayActBy(ctx, now.Time); err != nil {
				return 0, err
			}
		}
		for _, d := range batch {
			done, err := v.destroyDue(ctx, d, now)
			switch {
			case err != nil && ctx.Err() != nil:
				return destroyed, errors.Join(append(failed, err)...)
			case err != nil:
				failed = append(failed, err)
			case done:
				destroyed++
			}
		}
		if len(batch) < dueBatch {
			return destroyed, errors.Join(failed...)
		}
		last = batch[len(batch)-1]
	}
}

// runTimer calls destroyAllDue each turn until ctx ends.
func (v *Vault) runTimer(ctx context.Context) {
	tick := time.NewTicker(turn)
	defer tick.Stop()
	skewed := false
	for {
		select {
		case <-tick.C:
			_, err := v.destroyAllDue(ctx)
			told := skewed
			var skew *store.SkewError
			if skewed = errors.As(err, &skew); skewed && told {
				continue // every two seconds is too often for what somebody has to set right
			}
			if err != nil && ctx.Err() == nil {
				v.opts.Logger.WarnContext(ctx, "versions whose grace is over could not be destroyed; the next turn tries again", "error", err)
			}
		case <-ctx.Done():
			return
		}
	}
}

// findDue gives the versions that are due, in order, past last.
func (v *Vault) findDue(ctx context.Context, now store.Time, last due) (batch []due, err error) {
	// The timer works for all organizations; what it finds it destroys in each one's own name.
	err = v.db.ViewAcross(ctx, func(tx *store.Tx) error {
		batch = nil
		after := store.At(time.UnixMicro(1))
		if !last.at.IsZero() {
			after = last.at
		}
		return tx.Each(ctx, func(scan func(...any) error) error {
			var d due
			err := scan(&d.organization, &d.id, &d.version, &d.at)
			batch = append(batch, d)
			return err
		}, `SELECT organization, credential_id, version, destroy_at FROM credential_version_history
			WHERE destroy_at IS NOT NULL AND destroy_at <= $1 AND (destroy_at, organization, credential_id, version) > ($2, $3, $4, $5)
			ORDER BY destroy_at, organization, credential_id, version LIMIT `+strconv.Itoa(dueBatch), now, after, last.organization, last.id, last.version)
	})
	return batch, err
}

// destroyDue destroys one version with its event, and says whether it was the
// one to do it: another instance may have been first, or somebody may have rolled
// back to the version.
func (v *Vault) destroyDue(ctx context.Context, d due, now store.Time) (done bool, err error) {
	var service, name string
	var active int64
	err = v.db.Update(ctx, d.organization, func(tx *store.Tx) error {
		done = false
		changed, err := tx.Exec(ctx, `UPDATE credential_version_history SET state = 'retired', destroy_at = NULL, destroyed_at = $1, destroyed_by = NULL
			WHERE organization = $2 AND credential_id = $3 AND version = $4 AND state = 'retiring' AND destroy_at <= $1`,
			now, d.organization, d.id, d.version)
		if err != nil || changed == 0 {
			return err
		}
		tx.Destroys()
		if _, err := tx.Exec(ctx, deleteVersion, d.organization, d.id, d.version); err != nil {
			return err
		}
		err = tx.Row(ctx, `SELECT service, name, version FROM credentials WHERE organization = $1 AND id = $2`, d.organization, d.id).
			Scan(&service, &name, &active)
		if err != nil {
			return err
		}
		done = true
		timer := access.SystemCaller(d.organization)
		return v.log.Append(ctx, tx, timer, audit.Event{
			Action: audit.CredentialDestroy, Outcome: audit.Success, Reason: "grace_over",
			Targets:  []audit.Target{{Type: "credential", ID: d.id, Name: name}},
			Metadata: map[string]any{"service": service, "version": d.version, "destroyed": strconv.FormatInt(d.version, 10), "state": string(StateRetiring)},
		})
	})
	if err == nil && done {
		v.forget(d.organization, service, name)
		v.previous.Forget(versionKey{d.rowKey, d.version})
	}
	return done && err == nil, err
}
