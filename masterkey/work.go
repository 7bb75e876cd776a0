package masterkey

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
)

// The bounds of a batch, so that a transaction stays short and what it read
// stays fresh.
const (
	pageRows  = 500 // read at a time
	batchRows = 200 // written in one transaction
	batchTime = time.Second
)

// errNotOurs says that the rotation was stopped, ended or taken over.
var errNotOurs = errors.New("the rotation is not this worker's any more")

// workWhenever does rotations that nobody does, until ctx ends.
func (k *Keys) workWhenever(ctx context.Context) {
	tick := time.NewTicker(k.opts.Poll)
	defer tick.Stop()
	for {
		if err := k.workOnce(ctx, nil); err != nil && ctx.Err() == nil {
			k.opts.Logger.WarnContext(ctx, "the rotation of the master key goes on later", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-k.wake:
		case <-tick.C:
		}
	}
}

// Work does the running rotation, or waits while another process does it, and
// gives it when it has ended. progress, if not nil, is told every now and then.
// When ctx ends the rotation stays running, for another to go on with.
func (k *Keys) Work(ctx context.Context, caller access.Caller, progress func(Rotation)) (Rotation, error) {
	for {
		workErr := k.workOnce(ctx, progress)
		r, err := k.Progress(ctx, caller)
		if err == nil {
			err = workErr
		}
		if err != nil || r.State != Running {
			return r, err
		}
		if progress != nil {
			progress(r)
		}
		if err := store.Wait(ctx, min(k.opts.Poll, 500*time.Millisecond)); err != nil {
			return r, err
		}
	}
}

// workOnce does the running rotation to its end, if there is one, its key is
// here and nobody else does it.
func (k *Keys) workOnce(ctx context.Context, progress func(Rotation)) error {
	r, err := k.claim(ctx)
	if errors.Is(err, errNotOurs) || errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	w := &worker{k: k, key: r.Key, r: r, progress: progress}
	w.rate.Store(int64(r.Rate))
	err = w.run(ctx)
	if errors.Is(err, errNotOurs) {
		return nil
	}
	if err != nil {
		k.release(r.ID)
	}
	return err
}

// claim takes the lease of the running rotation, or gives errNotOurs.
func (k *Keys) claim(ctx context.Context) (Rotation, error) {
	var r Rotation
	look := func(tx *store.Tx) (err error) {
		if r, err = latestRotation(ctx, tx); err != nil {
			return err
		}
		free := r.Worker == "" || r.Worker == k.id || !k.opts.Now().Before(r.leaseUntil)
		if r.State != Running || !free || !k.ring.Holds(r.Key) {
			return errNotOurs
		}
		return nil
	}
	if err := k.db.View(ctx, access.InstanceOrganization, look); err != nil { // most looks find nothing to do
		return r, err
	}
	err := k.db.Update(ctx, access.InstanceOrganization, func(tx *store.Tx) error {
		if err := look(tx); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `UPDATE key_rotations SET worker = $1, lease_until = $2 WHERE id = $3`, k.id, k.lease(), r.ID)
		return err
	})
	return r, err
}

func (k *Keys) lease() store.Time { return store.At(k.opts.Now().Add(k.opts.Lease)) }

// release lets another worker go on at once.
func (k *Keys) release(id string) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = k.db.Update(ctx, access.InstanceOrganization, func(tx *store.Tx) error { // or the lease runs out
		_, err := tx.Exec(ctx, `UPDATE key_rotations SET worker = '', lease_until = 0 WHERE id = $1 AND worker = $2`, id, k.id)
		return err
	})
}

// worker moves everything to the key of one rotation.
type worker struct {
	k        *Keys
	key      seal.KeyID // that everything is moved to
	rate     atomic.Int64
	r        Rotation // as last saved
	progress func(Rotation)
}

// run goes over all columns until nothing is left to move and no instance seals
// under another key.
func (w *worker) run(ctx context.Context) error {
	if err := w.k.refresh(ctx); err != nil { // so that this keyring seals under the key too
		return err
	}
	if err := w.k.holdAll(ctx); err != nil {
		return err
	}
	if err := w.save(ctx, nil); err != nil {
		return err
	}
	named := 0
	for {
		moved, unreadable := int64(0), int64(0)
		for i := range w.k.opts.Columns {
			m, findings, err := w.column(ctx, &w.k.opts.Columns[i])
			if err != nil {
				return err
			}
			moved, unreadable = moved+m, unreadable+int64(len(findings))
			for _, f := range findings {
				if named++; named <= 20 {
					w.k.opts.Logger.WarnContext(ctx, "a sealed value does not open and stays under its key", "column", f.Column, "row", f.Row, "key", f.Key, "reason", f.Reason)
				}
			}
		}
		w.r.Unreadable = unreadable
		if moved == 0 {
			finished, err := w.finish(ctx)
			if finished || err != nil {
				return err
			}
			// An instance that has not noticed the switch may seal under the old key.
			if err := store.Wait(ctx, min(w.k.opts.Poll, time.Second)); err != nil {
				return err
			}
		}
		if err := w.save(ctx, nil); err != nil {
			return err
		}
	}
}

// batch is some rows of a column, rewrapped and ready to be written.
type batch struct {
	rows       int
	changes    []change
	unreadable []Finding
	err        error // what ended the preparation; no batch comes after it
}

// change is a row and its new value.
type change struct {
	row *sealedRow
	to  seal.Sealed
}

// column moves what is left in one column. The next batch is read and rewrapped
// while the database takes the one before.
func (w *worker) column(ctx context.Context, c *Column) (moved int64, unreadable []Finding, err error) {
	ctx, cancel := context.WithCancel(ctx)
	prepared := make(chan batch, 4)
	var preparing sync.WaitGroup
	preparing.Go(func() { defer close(prepared); w.prepare(ctx, c, prepared) })
	defer preparing.Wait()
	defer cancel()
	renew := time.NewTicker(w.k.opts.Lease / 4)
	defer renew.Stop()
	for {
		begin := time.Now()
		var b batch
		var more bool
		select {
		case b, more = <-prepared:
			if !more {
				return moved, unreadable, ctx.Err()
			}
		case <-renew.C: // deriving keys takes long
			if err := w.save(ctx, nil); err != nil {
				return moved, unreadable, err
			}
			continue
		}
		if b.err != nil {
			return moved, unreadable, b.err
		}
		before := w.r.Rewrapped
		if err := w.save(ctx, b.changes); err != nil {
			return moved, unreadable, err
		}
		moved += w.r.Rewrapped - before
		unreadable = append(unreadable, b.unreadable...)
		if rate := w.rate.Load(); rate > 0 {
			due := time.Duration(b.rows) * time.Second / time.Duration(rate)
			if err := store.Wait(ctx, due-time.Since(begin)); err != nil {
				return moved, unreadable, err
			}
		}
	}
}

// prepare reads and rewraps what is left in a column, until ctx ends.
func (w *worker) prepare(ctx context.Context, c *Column, prepared chan<- batch) {
	send := func(b batch) bool {
		select {
		case prepared <- b:
			return b.err == nil
		case <-ctx.Done():
			return false
		}
	}
	var after []any
	for {
		page, rows := pageRows, batchRows
		if rate := int(w.rate.Load()); rate > 0 { // few at a time, so that requests between them do not wait
			rows = min(max(rate/50, 1), batchRows)
			page = rows
		}
		var left []sealedRow
		err := w.k.db.ViewAcross(ctx, func(tx *store.Tx) (err error) {
			left, err = c.page(ctx, tx, underElse, w.key, after, page)
			return err
		})
		if err != nil {
			send(batch{err: err})
			return
		}
		if len(left) == 0 {
			return
		}
		after = slices.Clone(left[len(left)-1].key())
		for len(left) > 0 {
			b := w.rewrapSome(ctx, left, rows)
			if !send(b) {
				return
			}
			left = left[b.rows:]
		}
	}
}

// rewrapSome rewraps the first of rows: at most limit of them, fewer where
// deriving keys takes long.
func (w *worker) rewrapSome(ctx context.Context, rows []sealedRow, limit int) (b batch) {
	begin := time.Now()
	for b.rows < min(limit, len(rows)) && time.Since(begin) < batchTime {
		runtime.Gosched() // requests go first
		r := &rows[b.rows]
		b.rows++
		to, err := w.rewrap(ctx, r)
		switch reason := reasonOf(err); {
		case reason != "":
			b.unreadable = append(b.unreadable, r.finding(reason))
		case err != nil:
			b.err = err
			return b
		default:
			b.changes = append(b.changes, change{r, to})
		}
	}
	return b
}

func (w *worker) rewrap(ctx context.Context, r *sealedRow) (seal.Sealed, error) {
	c, salt, err := r.prepare(w.k.opts.Environment)
	if err != nil {
		return nil, err
	}
	if sealing, _ := w.k.ring.Sealing(); sealing != w.key {
		return nil, errNotOurs // the database has switched on: this rotation is over
	}
	for {
		to, err := w.k.ring.Rewrap(ctx, c, salt, r.sealed)
		if !errors.Is(err, seal.ErrBusy) {
			return to, err
		}
		if err := store.Wait(ctx, 50*time.Millisecond); err != nil { // requests go first
			return nil, err
		}
	}
}

// save writes changes, the count of them and the longer lease in one
// transaction, or gives errNotOurs and writes nothing.
func (w *worker) save(ctx context.Context, changes []change) error {
	r, k, statement := w.r, w.k, ""
	if len(changes) > 0 { // all of one column
		statement = changes[0].row.column.replaceStatement()
	}
	replacing := make([][]any, len(changes))
	for i, c := range changes {
		replacing[i] = c.row.replacing(c.to)
	}
	err := k.db.UpdateAcross(ctx, func(tx *store.Tx) error {
		changed, err := tx.ExecEach(ctx, statement, replacing) // those that are still as they were read
		if err != nil {
			return err
		}
		ours, err := tx.Exec(ctx, `UPDATE key_rotations SET rewrapped = rewrapped + $1, unreadable = $2, lease_until = $3, updated_at = $4
			WHERE id = $5 AND worker = $6 AND state = $7`, changed, w.r.Unreadable, k.lease(), store.At(k.opts.Now()), w.r.ID, k.id, string(Running))
		if err != nil {
			return err
		}
		if ours == 0 {
			return errNotOurs
		}
		r, err = scanRotation(tx.Row(ctx, `SELECT `+rotationColumns+` FROM key_rotations WHERE id = $1`, w.r.ID).Scan)
		return err
	})
	if err != nil {
		return err
	}
	w.r = r
	w.rate.Store(int64(r.Rate))
	if w.progress != nil {
		w.progress(r)
	}
	return nil
}

// finish ends the rotation, unless an instance still seals under another key.
func (w *worker) finish(ctx context.Context) (finished bool, err error) {
	err = w.k.db.Update(ctx, access.InstanceOrganization, func(tx *store.Tx) error {
		instances, err := w.k.instancesIn(ctx, tx)
		if err != nil {
			return err
		}
		finished = len(liveThat(instances, func(in Instance) bool { return in.Sealing != w.r.Key })) == 0
		if !finished {
			return nil
		}
		latest, err := latestRotation(ctx, tx)
		if err != nil {
			return err
		}
		if latest.ID != w.r.ID || latest.State != Running || latest.Worker != w.k.id {
			return errNotOurs
		}
		latest.Unreadable = w.r.Unreadable
		return w.k.end(ctx, tx, system(), &latest, Done)
	})
	return finished, err
}

// holdAll gives an error where a key that may still be in use is not here.
func (k *Keys) holdAll(ctx context.Context) error {
	st, err := readState(ctx, k.db)
	if err != nil {
		return err
	}
	return k.complete(ctx, st)
}
