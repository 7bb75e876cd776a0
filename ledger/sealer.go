package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/store"
)

// The bounds of one run of the sealer, which is one transaction.
const (
	maxLogs   = 128     // logs
	maxEvents = 8192    // events, over all logs
	maxBytes  = 8 << 20 // bytes of events
	maxRun    = 30 * time.Second
)

// Run seals until ctx ends, whenever this process holds the lease, and gives the
// lease back.
func (l *Ledger) Run(ctx context.Context) {
	tick := time.NewTicker(l.opts.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			l.lease.Release(ctx)
			return
		case <-tick.C:
			l.run(ctx)
		}
	}
}

// run seals what there is, in as many transactions as it takes.
func (l *Ledger) run(ctx context.Context) {
	for ctx.Err() == nil {
		n, err := l.Seal(ctx)
		l.failing.Store(err != nil && ctx.Err() == nil)
		if err != nil && ctx.Err() == nil {
			l.opts.Logger.ErrorContext(ctx, "the trail could not be sealed; it is tried again", "error", err)
			l.lease.Note(ctx, err)
			return
		}
		if n == 0 {
			return
		}
	}
}

// errNotHolder says that another process seals.
var errNotHolder = errors.New("another instance holds the lease")

// Seal takes the lease, if it is free, and seals one batch of events over all
// logs. It gives how many that were: 0 where nothing is to be sealed, or another
// process seals. [Ledger.Run] calls it.
func (l *Ledger) Seal(ctx context.Context) (events int, err error) {
	ctx, cancel := context.WithTimeout(ctx, maxRun)
	defer cancel()
	held, err := l.lease.Take(ctx)
	if err != nil || !held {
		return 0, err
	}
	logs, unreadable, err := l.findUnsealed(ctx)
	if err != nil || len(logs) == 0 {
		return 0, errors.Join(unreadable, err)
	}
	key, err := l.signer(ctx)
	if err != nil {
		return 0, err
	}
	r := run{ledger: l, key: key, now: store.At(l.opts.Now()).Truncate(time.Millisecond)}
	err = l.db.UpdateAcrossCommitted(ctx, func(tx *store.Tx) error { return r.seal(ctx, tx, logs) })
	if errors.Is(err, errNotHolder) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	l.sealed(ctx, &r)
	return r.events, errors.Join(append(r.altered, unreadable)...)
}

// clockIsRight reports whether the database server has the time of this process. Where not,
// its blocks would say that events are older, or younger, than they are, and retention goes by
// that: so another instance is left the lease.
func (l *Ledger) clockIsRight(ctx context.Context, now time.Time) (bool, error) {
	vouched, err := l.server.Vouches(ctx, now)
	var skew *store.SkewError
	wrong := errors.As(err, &skew)
	if err != nil && !wrong {
		return false, err
	}
	l.mu.Lock()
	told := l.skewed
	l.skewed, l.vouch = wrong, vouched
	l.mu.Unlock()
	if wrong && !told {
		l.opts.Logger.ErrorContext(ctx, "this instance does not seal the trail: set its clock, which is not the database server's",
			"server", skew.Server.UTC().Format(time.RFC3339))
	}
	return !wrong, nil
}

// clockIsVouched reports whether the database server had the time of this process when it was
// asked last, so that nothing else has to say that this clock did not go back.
func (l *Ledger) clockIsVouched() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.vouch
}

// believedTime gives the latest time that retention believes, zero for none. Nobody stops the
// sealing by what stands there: a row that is gone or holds no time is none.
func believedTime(ctx context.Context, tx *store.Tx) (time.Time, error) {
	clock := "clock"
	if tx.TakesAnyType() {
		clock = "CASE WHEN typeof(clock) = 'integer' THEN clock END"
	}
	var believed store.Time
	err := tx.Row(ctx, `SELECT `+clock+` FROM retention_sweeper WHERE organization = $1`, access.InstanceOrganization).Scan(&believed)
	if errors.Is(err, store.ErrNotFound) {
		err = nil
	}
	return believed.Time, err
}

// findUnsealed gives logs that have something to be sealed, going round them all
// where there are many. It passes over those whose names are no text, and says that there are.
func (l *Ledger) findUnsealed(ctx context.Context) (logs []logID, unreadable, err error) {
	l.mu.Lock()
	start := l.after
	l.mu.Unlock()
	err = l.db.ViewAcross(ctx, func(tx *store.Tx) error {
		logs, unreadable = nil, nil
		condition := unsealed
		if tx.TakesAnyType() {
			condition += namedByText
			var there int64
			err := tx.Row(ctx, `SELECT count(*) FROM (SELECT 1 FROM events WHERE `+unsealed+` AND NOT (1 = 1`+namedByText+`) LIMIT 1) AS u`).Scan(&there)
			if err != nil {
				return err
			}
			if there > 0 {
				unreadable = ErrAltered.Because(errors.New("there are events of a log whose name is no text"))
			}
		}
		at, wrapped := start, start == logID{}
		for len(logs) < maxLogs {
			id, found, err := nextLog(ctx, tx, "events", condition, "", at)
			if err != nil {
				return err
			}
			if !found && !wrapped {
				at, wrapped = logID{}, true
				continue
			}
			if !found || len(logs) > 0 && id == logs[0] {
				break
			}
			logs, at = append(logs, id), id
		}
		return nil
	})
	if err == nil {
		l.mu.Lock()
		l.after = logID{}
		if len(logs) == maxLogs {
			l.after = logs[maxLogs-1]
		}
		l.mu.Unlock()
	}
	return logs, unreadable, err
}

// signer gives the key that signs, as the database says.
func (l *Ledger) signer(ctx context.Context) (*signingKey, error) {
	l.mu.Lock()
	key := l.key
	l.mu.Unlock()
	if key != nil {
		var id string
		err := l.db.View(ctx, access.InstanceOrganization, func(tx *store.Tx) error {
			return tx.Row(ctx, `SELECT id FROM ledger_keys WHERE organization = $1 AND retired_at IS NULL`, access.InstanceOrganization).Scan(&id)
		})
		switch {
		case errors.Is(err, store.ErrNotFound): // a new one would let the trail begin anew
			return nil, ErrAltered.Because(fmt.Errorf("the signing key %s is gone, and no other signs", key.ID))
		case err != nil:
			return nil, err
		case id == key.ID:
			return key, nil
		}
	}
	key, err := l.active(ctx)
	if err == nil {
		l.mu.Lock()
		l.key = key
		l.mu.Unlock()
	}
	return key, err
}

// run is one transaction of the sealer.
type run struct {
	ledger *Ledger
	key    *signingKey
	now    time.Time

	events  int
	oldest  time.Time // when the first of them was recorded
	entries []entry
	altered []error // logs that are left alone
}

func (r *run) seal(ctx context.Context, tx *store.Tx, logs []logID) error {
	// This row first: whoever else seals waits here, and then finds another holder.
	held, err := tx.Exec(ctx, `UPDATE ledger_sealer SET sealed_at = $1, last_error = '' WHERE organization = $2 AND holder = $3`,
		store.At(r.now), access.InstanceOrganization, r.ledger.lease.Holder())
	if err != nil {
		return err
	}
	if held == 0 {
		return errNotHolder
	}
	var id string
	if err := tx.Row(ctx, `SELECT id FROM ledger_keys WHERE organization = $1 AND retired_at IS NULL`, access.InstanceOrganization).Scan(&id); err != nil {
		return err
	}
	believed, err := believedTime(ctx, tx)
	if err != nil {
		return err
	}
	// A clock that went back would make events look older than they are, and due.
	if r.now.Before(believed) && !r.ledger.clockIsVouched() {
		r.now = believed.Truncate(time.Millisecond)
	}
	if id != r.key.ID {
		return errNotHolder // rotated since; the next run takes the new one
	}
	for i, log := range logs {
		room := min(r.ledger.opts.Batch, (maxEvents-r.events)/(len(logs)-i))
		if err := r.sealLog(ctx, tx, log, max(room, 1)); err != nil {
			return fmt.Errorf("%s/%s: %w", log.organization, log.class, err)
		}
	}
	return r.sealInstance(ctx, tx)
}

// open gives the log's head and the tree that goes on from it, after a look
// whether both are still what was signed. A log that nothing knows of is empty.
func (r *run) open(ctx context.Context, tx *store.Tx, id logID) (head, *tree, error) {
	top, err := r.ledger.signedHead(ctx, tx, id, keyring{r.key.Key})
	if errors.Is(err, ErrNoLog) {
		return head{}, &tree{}, r.unheard(ctx, tx, id)
	}
	if errors.Is(err, ErrAltered) { // or signed with the key before
		keys, keysErr := r.ledger.Keys(ctx)
		if keysErr != nil {
			return head{}, nil, keysErr
		}
		top, err = r.ledger.signedHead(ctx, tx, id, keys)
	}
	if err != nil {
		return head{}, nil, err
	}
	t, err := readTree(ctx, tx, id, top.Size)
	if errors.Is(err, errNoTile) || err == nil && t.root() != top.Root {
		return top.head, nil, ErrAltered.Because(errors.New("the tree is not what was signed"))
	}
	return top.head, t, err
}

// unheard gives an error where a log without a head is not new: it has a block, or
// one on the instance's list, or is the instance's own, which begins with its first
// key.
func (r *run) unheard(ctx context.Context, tx *store.Tx, id logID) error {
	if id == instanceLog() {
		return ErrAltered.Because(errors.New("its head is missing"))
	}
	var there int64
	err := tx.Row(ctx, `SELECT (SELECT count(*) FROM (SELECT 1 FROM ledger_blocks WHERE organization = $1 AND class = $2 LIMIT 1) AS b) +
		(SELECT count(*) FROM (SELECT 1 FROM ledger_entries WHERE organization = $3 AND log_organization = $1 AND log_class = $2 LIMIT 1) AS e)`,
		id.organization, id.class, access.InstanceOrganization).Scan(&there)
	if err == nil && there > 0 {
		err = ErrAltered.Because(errors.New("it has blocks, and no head"))
	}
	return err
}

// sealLog adds a block of at most room events to the log.
func (r *run) sealLog(ctx context.Context, tx *store.Tx, id logID, room int) error {
	h, t, err := r.open(ctx, tx, id)
	if errors.Is(err, ErrAltered) {
		r.altered = append(r.altered, fmt.Errorf("%s/%s is left unsealed: %w", id.organization, id.class, err))
		return nil
	}
	if err != nil {
		return err
	}
	save := &saver{id: id}
	t.full = save.full
	var ids []string
	size := 0
	errFull := errors.New("full")
	err = tx.Each(ctx, func(scan func(...any) error) error {
		var event string
		var canonical []byte
		var recorded store.Time
		if err := scan(&event, &canonical, &recorded); err != nil {
			return err
		}
		ids = append(ids, event)
		t.append(tlog.RecordHash(canonical))
		if r.oldest.IsZero() || recorded.Before(r.oldest) {
			r.oldest = recorded.Time
		}
		if size += len(canonical); size > maxBytes {
			return errFull
		}
		return nil
	}, `SELECT id, canonical, recorded_at FROM events WHERE organization = $1 AND class = $2 AND log_index IS NULL ORDER BY id LIMIT $3`,
		id.organization, id.class, room)
	if err != nil && !errors.Is(err, errFull) {
		return err
	}
	if len(ids) == 0 { // sealed by another since the look
		return nil
	}
	if err := place(ctx, tx, id, ids, h.size); err != nil {
		return err
	}
	c := Checkpoint{Origin: r.ledger.origin(id), Size: t.size, Root: t.root(), Block: h.blocks, First: h.size, Count: int64(len(ids)), Previous: h.blockHash, SealedAt: r.now}
	if h.blocks == 0 {
		c.Previous = emptyRoot
	}
	note, err := r.key.sign(&c)
	if err != nil {
		return err
	}
	b := block{number: c.Block, first: c.First, count: c.Count, sealedAt: r.now, keyID: r.key.ID, note: note}
	if err := writeBlock(ctx, tx, id, &b); err != nil {
		return err
	}
	if err := save.save(ctx, tx, t, h.size); err != nil {
		return err
	}
	r.events += len(ids)
	r.entries = append(r.entries, entry{log: id, number: b.number, hash: noteHash(note)})
	return writeHead(ctx, tx, id, head{size: t.size, blocks: h.blocks + 1, blockHash: noteHash(note)}, r.now)
}

// sealInstance adds the blocks of this run to the instance's own log.
func (r *run) sealInstance(ctx context.Context, tx *store.Tx) error {
	if len(r.entries) == 0 {
		return nil
	}
	id := instanceLog()
	h, t, err := r.open(ctx, tx, id)
	if err != nil {
		return fmt.Errorf("the instance's own log: %w", err)
	}
	save := &saver{id: id}
	t.full = save.full
	for i := range r.entries {
		e := &r.entries[i]
		e.index = t.size
		t.append(e.leaf())
		if err := writeEntry(ctx, tx, e); err != nil {
			return err
		}
	}
	note, err := r.key.sign(&Checkpoint{Origin: r.ledger.origin(id), Size: t.size, Root: t.root(), Block: -1, SealedAt: r.now})
	if err != nil {
		return err
	}
	if err := save.save(ctx, tx, t, h.size); err != nil {
		return err
	}
	return writeHead(ctx, tx, id, head{size: t.size, blockHash: noteHash(note), checkpoint: note}, r.now)
}
