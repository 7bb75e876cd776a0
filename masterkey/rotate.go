package masterkey

import (
	"context"
	"errors"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
)

// RotationState says how far a rotation is.
type RotationState string

// The states of a rotation.
const (
	Running RotationState = "running"
	Stopped RotationState = "stopped" // by an operator; Rotate goes on with what is left
	Done    RotationState = "done"
)

// Rotation is a move of everything sealed to one key.
type Rotation struct {
	ID         string // "" where there was nothing to do
	Key        seal.KeyID
	State      RotationState
	Rate       int    // rows a second at most; 0: as fast as it goes
	Total      int64  // rows to move, as counted at its start
	Rewrapped  int64  // rows moved
	Unreadable int64  // rows that do not open, and so could not be moved, as last seen
	Worker     string // the process that does it; "" between two
	StartedAt  time.Time
	UpdatedAt  time.Time
	FinishedAt time.Time // zero: it is not

	leaseUntil time.Time
}

// RotateOptions says to which key to rotate, and how fast.
type RotateOptions struct {
	Key  seal.KeyID // zero: the newest that is staged, or else the one that seals
	Rate int        // rows a second at most; 0: as fast as it goes
}

// DefaultRate is the rate where nobody asked for one, in rows a second: slow
// enough for requests beside it not to notice much (docs/benchmarks.md).
const DefaultRate = 1000

// MaxRate is the largest rate that can be asked for, in rows a second.
const MaxRate = 1_000_000

// Rotate makes the key seal, once every live instance holds it, and starts
// moving everything to it. It gives the rotation at once; [Keys.Run] of this or
// another instance does it, or [Keys.Work]. It needs key:rotate. Where one is
// running already that one is given, at the new rate. Where everything is under
// the key already, a rotation without an id that is done is given.
//
// Errors: key_not_everywhere, [ErrNotHeld], [ErrUnknownKey], [ErrRotating].
func (k *Keys) Rotate(ctx context.Context, caller access.Caller, o RotateOptions) (Rotation, error) {
	if err := access.Allow(caller, access.KeyRotate, access.InstanceOrganization); err != nil {
		return Rotation{}, err
	}
	if o.Rate < 0 || o.Rate > MaxRate {
		return Rotation{}, fault.InvalidFields(fault.Field{Name: "rate", Message: "must be from 0, which is no limit, to 1000000 rows a second"})
	}
	if err := k.refresh(ctx); err != nil {
		return Rotation{}, err
	}
	if err := k.say(ctx, &heartbeat{}); err != nil { // this instance is one of those that must hold the key
		return Rotation{}, err
	}
	st, err := readState(ctx, k.db)
	if err != nil {
		return Rotation{}, err
	}
	target, err := k.target(st, o.Key)
	if err != nil {
		return Rotation{}, err
	}
	total, err := k.countElse(ctx, target)
	if err != nil {
		return Rotation{}, err
	}
	var r Rotation
	err = k.db.Update(ctx, access.InstanceOrganization, func(tx *store.Tx) error {
		r, err = k.start(ctx, tx, caller, target, total, o.Rate)
		return err
	})
	if err != nil {
		return Rotation{}, err
	}
	if err := k.refresh(ctx); err != nil {
		return Rotation{}, err
	}
	select {
	case k.wake <- struct{}{}:
	default:
	}
	return r, nil
}

// target gives the key to rotate to.
func (k *Keys) target(st state, asked seal.KeyID) (seal.KeyID, error) {
	var r *record
	if asked.IsZero() {
		r = st.find(st.sealing)
		for i := range st.records {
			if st.records[i].state(st.sealing) == Staged {
				r = &st.records[i]
			}
		}
	} else {
		r = st.find(asked)
	}
	switch {
	case r == nil || !r.retiredAt.IsZero():
		return seal.KeyID{}, ErrUnknownKey
	case !k.ring.Holds(r.ID):
		return seal.KeyID{}, ErrNotHeld
	}
	return r.ID, nil
}

// start switches to the target and writes the rotation down, or gives the one
// that is running.
func (k *Keys) start(ctx context.Context, tx *store.Tx, caller access.Caller, target seal.KeyID, total int64, rate int) (Rotation, error) {
	latest, err := latestRotation(ctx, tx)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return Rotation{}, err
	}
	now := store.At(k.opts.Now())
	if err == nil && latest.State == Running {
		if latest.Key != target {
			return Rotation{}, ErrRotating
		}
		latest.Rate = rate
		_, err := tx.Exec(ctx, `UPDATE key_rotations SET rate = $1 WHERE id = $2`, rate, latest.ID)
		return latest, err
	}
	st, err := readStateIn(ctx, tx)
	if err != nil {
		return Rotation{}, err
	}
	if record := st.find(target); record == nil || !record.retiredAt.IsZero() {
		return Rotation{}, ErrUnknownKey
	}
	instances, err := k.instancesIn(ctx, tx)
	if err != nil {
		return Rotation{}, err
	}
	if st.sealing == target && total == 0 && len(liveThat(instances, func(in Instance) bool { return in.Sealing != target })) == 0 {
		return Rotation{Key: target, State: Done}, nil
	}
	if err := heldByAll(instances, target); err != nil {
		return Rotation{}, err
	}
	if _, err := tx.Exec(ctx, `UPDATE instance SET sealing_key = $1 WHERE id = 1`, target); err != nil {
		return Rotation{}, err
	}
	if _, err := tx.Exec(ctx, `UPDATE master_keys SET activated_at = $1 WHERE id = $2 AND activated_at IS NULL`, now, target); err != nil {
		return Rotation{}, err
	}
	r := Rotation{ID: store.NewID("rot"), Key: target, State: Running, Rate: rate, Total: total, StartedAt: now.Time, UpdatedAt: now.Time}
	_, err = tx.Exec(ctx, `INSERT INTO key_rotations (id, key_id, state, rate, total, rewrapped, unreadable, worker, lease_until, started_at, started_by, updated_at)
		VALUES ($1, $2, $3, $4, $5, 0, 0, '', 0, $6, $7, $6)`, r.ID, target, string(Running), rate, total, now, caller.ID)
	if err != nil {
		return Rotation{}, err
	}
	e := keyEvent(audit.KeyRotate, target, map[string]any{"phase": "start", "rotation": r.ID, "rows": total, "from": st.sealing.String()})
	e.Permission = access.KeyRotate.String()
	return r, k.log.Append(ctx, tx, caller, e)
}

// Stop ends the running rotation after its current batch. What was moved stays
// moved and the key goes on sealing; [Keys.Rotate] goes on with the rest. It
// needs key:rotate. Where none is running the latest is given.
func (k *Keys) Stop(ctx context.Context, caller access.Caller) (Rotation, error) {
	if err := access.Allow(caller, access.KeyRotate, access.InstanceOrganization); err != nil {
		return Rotation{}, err
	}
	var r Rotation
	err := k.db.Update(ctx, access.InstanceOrganization, func(tx *store.Tx) (err error) {
		if r, err = latestRotation(ctx, tx); err != nil || r.State != Running {
			return err
		}
		return k.end(ctx, tx, caller, &r, Stopped)
	})
	if errors.Is(err, store.ErrNotFound) {
		return Rotation{State: Done}, nil
	}
	return r, err
}

// end writes down that the rotation ended, with its event.
func (k *Keys) end(ctx context.Context, tx *store.Tx, caller access.Caller, r *Rotation, as RotationState) error {
	now := store.At(k.opts.Now())
	_, err := tx.Exec(ctx, `UPDATE key_rotations SET state = $1, unreadable = $2, worker = '', lease_until = 0, finished_at = $3, updated_at = $3 WHERE id = $4`,
		string(as), r.Unreadable, now, r.ID)
	if err != nil {
		return err
	}
	r.State, r.Worker, r.FinishedAt, r.UpdatedAt = as, "", now.Time, now.Time
	e := keyEvent(audit.KeyRotate, r.Key, map[string]any{"phase": "finish", "rotation": r.ID, "rows": r.Rewrapped, "unreadable": r.Unreadable})
	switch {
	case as == Stopped:
		e.Metadata["phase"], e.Outcome, e.Permission = "stop", audit.Partial, access.KeyRotate.String()
	case r.Unreadable > 0:
		e.Outcome = audit.Partial
	}
	return k.log.Append(ctx, tx, caller, e)
}

const rotationColumns = `id, key_id, state, rate, total, rewrapped, unreadable, worker, lease_until, started_at, updated_at, finished_at`

func scanRotation(scan func(...any) error) (Rotation, error) {
	var r Rotation
	var lease, started, updated, finished store.Time
	var rotationState string
	err := scan(&r.ID, &r.Key, &rotationState, &r.Rate, &r.Total, &r.Rewrapped, &r.Unreadable, &r.Worker, &lease, &started, &updated, &finished)
	r.State = RotationState(rotationState)
	r.leaseUntil, r.StartedAt, r.UpdatedAt, r.FinishedAt = lease.Time, started.Time, updated.Time, finished.Time
	return r, err
}

// latestRotation gives the rotation that is running, else the newest, or [store.ErrNotFound].
func latestRotation(ctx context.Context, tx *store.Tx) (Rotation, error) {
	return scanRotation(tx.Row(ctx, `SELECT `+rotationColumns+` FROM key_rotations
		ORDER BY CASE WHEN state = 'running' THEN 0 ELSE 1 END, id DESC LIMIT 1`).Scan)
}

// Progress gives the newest rotation, one without an id where there was none.
// It needs key:read.
func (k *Keys) Progress(ctx context.Context, caller access.Caller) (Rotation, error) {
	if err := access.Allow(caller, access.KeyRead, access.InstanceOrganization); err != nil {
		return Rotation{}, err
	}
	var r Rotation
	err := k.db.View(ctx, access.InstanceOrganization, func(tx *store.Tx) (err error) {
		r, err = latestRotation(ctx, tx)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return Rotation{}, nil
	}
	return r, err
}
