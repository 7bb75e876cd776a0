package ledger

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/store"
)

// setAside keeps an event that is removed, with the proof that it is in the log.
func setAside(ctx context.Context, tx *store.Tx, id logID, c *Candidate, top *signed) error {
	proof, err := tlog.ProveRecord(top.Size, c.Index, reader(ctx, tx, id))
	if err != nil {
		return err
	}
	if err := tlog.CheckRecord(proof, top.Size, top.Root, c.Index, tlog.RecordHash(c.Canonical)); err != nil {
		return ErrAltered.Because(err)
	}
	hashes := make([]string, len(proof))
	for i := range proof {
		hashes[i] = proof[i].String()
	}
	_, err = tx.Exec(ctx, `INSERT INTO ledger_held (organization, class, log_index, event_id, occurred_at, canonical, size, hashes, checkpoint)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`, id.organization, id.class, c.Index, c.ID, store.At(c.OccurredAt), c.Canonical,
		top.Size, strings.Join(hashes, " "), top.note)
	return err
}

// HeldEvent is an event that was set aside: it is not in the trail any more, and a
// legal hold keeps it. Proof has all that it takes to check that it was there.
type HeldEvent struct {
	Proof
	Personal []byte // what [audit.Read] takes; nil where it was erased, or is not the event's
	Altered  string // what is not as it was set aside, for people; "" where all is
}

const (
	heldColumns = `h.class, h.log_index, h.event_id, h.occurred_at, h.canonical, h.size, h.hashes, h.checkpoint, p.salt, p.data`
	heldRows    = `ledger_held h LEFT JOIN event_persons p ON p.organization = h.organization AND p.event_id = h.event_id`
)

// scan reads a row, and looks whether all of it is what the event is bound to. The
// event itself is for whoever has the record of the prefix to hold it to.
func (h *HeldEvent) scan(scan func(...any) error) error {
	var hashes string
	var at store.Time
	var salt []byte
	var personal *string
	if err := scan(&h.Class, &h.Index, &h.EventID, &at, &h.Canonical, &h.Size, &hashes, &h.Checkpoint, &salt, &personal); err != nil {
		return err
	}
	for text := range strings.FieldsSeq(hashes) {
		hash, err := tlog.ParseHash(text)
		if err != nil {
			h.Hashes = nil // which proves nothing
			break
		}
		h.Hashes = append(h.Hashes, hash)
	}
	e, err := audit.Read(h.Canonical, nil)
	_, commitment := new(audit.Columns).Differ(h.Canonical)
	// Whatever else is wrong: an altered id may lead to another event's row.
	if personal != nil && audit.Committed(commitment, salt, []byte(*personal)) {
		h.Personal = []byte(*personal)
	}
	switch {
	case err != nil:
		h.Altered = "its bytes are no event"
	case e.ID != h.EventID || e.Organization != h.Organization || string(e.Class) != h.Class || !e.OccurredAt.Equal(at.Time):
		h.Altered = "a column says something else than the event"
	case personal != nil && h.Personal == nil:
		h.Altered = "its personal data is not what the event is bound to"
	case h.Check() != nil:
		h.Altered = "its proof does not hold"
	}
	return nil
}

// checkSigned looks whether the checkpoint that the event is proved with is of this
// instance and its log, and says which key signed it.
func (l *Ledger) checkSigned(h *HeldEvent, keys keyring) {
	c, err := keys.open(h.Checkpoint)
	switch {
	case h.Altered != "":
	case err != nil || c.Removed || c.Origin != l.origin(logID{h.Organization, h.Class}):
		h.Altered = "its checkpoint is not one that this instance signed for its log"
	default:
		h.Key = keys.signer(h.Checkpoint).VerifierKey(c.Origin)
	}
}

// eachHeld calls fn with the events of one log that are set aside, by place.
func eachHeld(ctx context.Context, tx *store.Tx, id logID, fn func(*HeldEvent) error) error {
	return tx.Each(ctx, func(scan func(...any) error) error {
		h := HeldEvent{Proof: Proof{Organization: id.organization}}
		if err := h.scan(scan); err != nil {
			return err
		}
		return fn(&h)
	}, `SELECT `+heldColumns+` FROM `+heldRows+` WHERE h.organization = $1 AND h.class = $2 ORDER BY h.log_index`, id.organization, id.class)
}

// HeldEvents gives the events of an organization that are set aside, from behind a
// class and a place on, by class and place. The caller has checked who may.
func (l *Ledger) HeldEvents(ctx context.Context, organization, class string, place int64, limit int) (all []HeldEvent, err error) {
	err = l.db.View(ctx, organization, func(tx *store.Tx) error {
		all = nil
		return tx.Each(ctx, func(scan func(...any) error) error {
			h := HeldEvent{Proof: Proof{Organization: organization}}
			err := h.scan(scan)
			all = append(all, h)
			return err
		}, `SELECT `+heldColumns+` FROM `+heldRows+`
			WHERE h.organization = $1 AND (h.class, h.log_index) > ($2, $3) ORDER BY h.class, h.log_index LIMIT $4`, organization, class, place, limit)
	})
	if err != nil || len(all) == 0 {
		return nil, err
	}
	keys, err := l.Keys(ctx) // after the events, so that none is of a key that was made since
	if err != nil && !errors.Is(err, errKey) {
		return nil, err
	}
	for i := range all {
		l.checkSigned(&all[i], keys)
	}
	return all, nil
}

// Release deletes events that were set aside and are held no more, at most most of
// them, and signs a new record of what still is. notes gives its other lines, of how many
// were released, and how many events the record covers. It
// belongs into a transaction of the log's organization. [ErrAltered] where what is
// set aside is not what the record before says.
func (l *Ledger) Release(ctx context.Context, tx *store.Tx, organization, class string, most int, held func(*Candidate) bool,
	notes func(released, size int64) []string) (released int64, p Prefix, err error) {
	id := logID{organization, class}
	if p, err = readPrefix(ctx, tx, id); err != nil || p.Size == 0 {
		return 0, p, err
	}
	keys, err := l.Keys(ctx)
	if err != nil {
		return 0, p, err
	}
	var before, after tlog.Hash
	var kept, all int64
	var gone []string
	var places []int64
	err = eachHeld(ctx, tx, id, func(h *HeldEvent) error {
		l.checkSigned(h, keys)
		if h.Altered != "" { // no trace of that is deleted
			return ErrAltered.Because(fmt.Errorf("the event at place %d that is set aside: %s", h.Index, h.Altered))
		}
		e, err := audit.Read(h.Canonical, nil)
		if err != nil {
			return ErrAltered.Because(err)
		}
		c := Candidate{ID: h.EventID, Index: h.Index, Canonical: h.Canonical, OccurredAt: e.OccurredAt, Action: string(e.Action), Actor: e.Actor.ID}
		leaf := tlog.RecordHash(c.Canonical)
		before = extend(before, c.Index, leaf)
		all++
		if len(gone) < most && !held(&c) {
			gone, places = append(gone, c.ID), append(places, c.Index)
			return nil
		}
		kept++
		after = extend(after, c.Index, leaf)
		return nil
	})
	if err != nil || len(gone) == 0 {
		return 0, p, err
	}
	said, n, err := heldSoFar(p, keys)
	if err != nil {
		return 0, p, err
	}
	if n != all || said != before {
		return 0, p, ErrAltered.Because(errors.New("the events that are set aside are not those that the record says"))
	}
	if err := l.record(ctx, tx, &p, p.Size-1, append(notes(int64(len(gone)), p.Size), heldNote(kept, after))); err != nil {
		return 0, p, err
	}
	for i := range gone {
		_, err := tx.Exec(ctx, `DELETE FROM ledger_held WHERE organization = $1 AND class = $2 AND log_index = $3`, organization, class, places[i])
		if err != nil {
			return 0, p, err
		}
	}
	return int64(len(gone)), p, audit.RemovePersons(ctx, tx, organization, gone)
}

// HeldAltered is what verification finds where the events that legal holds set
// aside are not those that the signed record of retention says.
const HeldAltered Kind = "held_altered"

// held holds what is set aside of a log to the record of its prefix, in one state
// of the database, since a sweep may run meanwhile.
func (v *verification) held(ctx context.Context, id logID) error {
	return v.ledger.db.View(ctx, id.organization, func(tx *store.Tx) error {
		p, err := readPrefix(ctx, tx, id)
		if err != nil {
			return err
		}
		var n int64
		var digest tlog.Hash
		if p.Size > 0 {
			c, err := v.keys.open(p.Record)
			if err != nil || !c.Removed || c.Size != p.Size || c.Root != p.Root || c.Origin != v.ledger.origin(id) {
				return nil //nolint:nilerr // told as a record that is not signed
			}
			if n, digest, err = heldOf(&c); err != nil {
				return nil //nolint:nilerr // not ours, and signed by us: there is none
			}
		}
		var there int64
		var all tlog.Hash
		err = eachHeld(ctx, tx, id, func(h *HeldEvent) error {
			there++
			all = extend(all, h.Index, tlog.RecordHash(h.Canonical))
			v.ledger.checkSigned(h, v.keys)
			if h.Altered != "" {
				v.find(Finding{HeldAltered, id.organization, id.class, h.Index, h.EventID, -1, "a legal hold set this event aside: " + h.Altered})
			}
			return nil
		})
		if err != nil {
			return err
		}
		switch {
		case there != n:
			v.ofLog(HeldAltered, id, -1, "%d events are set aside by legal holds, and the signed record says %d", there, n)
		case all != digest:
			v.ofLog(HeldAltered, id, -1, "an event that a legal hold set aside is not the one that was")
		}
		return nil
	})
}

// Check reports whether the hashes prove the event to be at its place in the tree of
// the checkpoint, whose signature is for whoever has the key to check.
func (p *Proof) Check() error {
	c, err := parseCheckpoint(noteText(p.Checkpoint))
	if err == nil && c.Size != p.Size {
		err = errors.New("the checkpoint is of another size")
	}
	if err != nil {
		return err
	}
	return tlog.CheckRecord(p.Hashes, c.Size, c.Root, p.Index, tlog.RecordHash(p.Canonical))
}
