package ledger

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/store"
)

// A Candidate is an event that retention may remove.
type Candidate struct {
	ID, Action, Actor string
	Index             int64 // its place in the log
	OccurredAt        time.Time
	Canonical         []byte
}

// A Removal is one step of retention over the head of a log.
type Removal struct {
	Organization, Class string
	To                  int64     // the events before this place go, those that are still there
	Sealed              time.Time // each of them must have been sealed before this instant
	Now                 time.Time // on the clock that is believed

	// Held reports whether an event must stay: it is set aside, with a proof that it
	// was in the log. nil: none.
	Held func(*Candidate) bool

	// Since is where the run began that this step is one of: records of its earlier
	// steps are replaced by the one of this step.
	Since int64
	// Notes gives the lines of the record, once it is known how many were set aside.
	Notes func(held int64) []string
}

// Removed is what a [Removal] did.
type Removed struct {
	Prefix
	From int64 // the first place that was removed
	Held int64 // how many of them were set aside
}

// Remove deletes events from the head of a log, behind a signed record that
// [Ledger.Verify] and anybody else can check, sets aside those that are held, and
// leaves blocks and hashes as they are. It belongs into a transaction of the log's
// organization. The caller has checked who may.
//
// Before anything goes, the events are held to the log's signed checkpoint, and the
// times of their blocks to those blocks' signatures, so that no trace of tampering
// is removed: [ErrAltered].
func (l *Ledger) Remove(ctx context.Context, tx *store.Tx, r Removal) (Removed, error) {
	id := logID{r.Organization, r.Class}
	before, err := readPrefix(ctx, tx, id)
	if err != nil {
		return Removed{}, err
	}
	done := Removed{Prefix: before, From: before.Size}
	if r.To <= before.Size {
		return done, nil
	}
	keys, err := l.Keys(ctx)
	if err != nil {
		return done, err
	}
	top, err := l.signedHead(ctx, tx, id, keys)
	if err != nil {
		return done, err
	}
	digest, held, err := heldSoFar(before, keys)
	if err != nil {
		return done, err
	}
	all, root, err := checkedEvents(ctx, tx, id, before.Size, r.To, &top)
	if err != nil {
		return done, err
	}
	if err := l.checkSealed(ctx, tx, id, before.Size, &r, keys); err != nil {
		return done, err
	}
	var keep []string
	for i := range all {
		if r.Held == nil || !r.Held(&all[i]) {
			continue
		}
		if err := setAside(ctx, tx, id, &all[i], &top); err != nil {
			return done, err
		}
		keep = append(keep, all[i].ID)
		digest = extend(digest, all[i].Index, tlog.RecordHash(all[i].Canonical))
	}
	done.Held = int64(len(keep))
	done.Size, done.Root = r.To, root
	if err := l.record(ctx, tx, &done.Prefix, r.Since, append(r.Notes(done.Held), heldNote(held+done.Held, digest))); err != nil {
		return done, err
	}
	n, err := audit.Remove(ctx, tx, r.Organization, audit.Class(r.Class), done.From, r.To, keep)
	if err == nil && n != r.To-done.From {
		err = fmt.Errorf("ledger: %d events were to be removed, and %d were", r.To-done.From, n)
	}
	return done, err
}

// checkedEvents gives the events of the places from from up to to, and the root of
// the tree of all before to, which top vouches for.
func checkedEvents(ctx context.Context, tx *store.Tx, id logID, from, to int64, top *signed) ([]Candidate, tlog.Hash, error) {
	if to > top.Size {
		return nil, tlog.Hash{}, errors.New("ledger: only what is sealed can be removed")
	}
	t, err := readTree(ctx, tx, id, from)
	if errors.Is(err, errNoTile) {
		err = ErrAltered.Because(err)
	}
	if err != nil {
		return nil, tlog.Hash{}, err
	}
	all := make([]Candidate, 0, to-from)
	err = tx.Each(ctx, func(scan func(...any) error) error {
		var c Candidate
		var at, recorded store.Time
		var outcome string
		var salt []byte
		var personal *string
		if err := scan(&c.ID, &c.Index, &at, &recorded, &c.Action, &outcome, &c.Actor, &c.Canonical, &salt, &personal); err != nil {
			return err
		}
		columns := audit.Columns{Organization: id.organization, ID: c.ID, OccurredAt: at.Time, RecordedAt: recorded.Time, Class: id.class,
			Action: c.Action, Outcome: outcome, ActorID: c.Actor}
		column, commitment := columns.Differ(c.Canonical)
		if column != "" {
			return ErrAltered.Because(fmt.Errorf("the column %s of the event at place %d says something else than the event", column, c.Index))
		}
		if personal != nil && !audit.Committed(commitment, salt, []byte(*personal)) {
			return ErrAltered.Because(fmt.Errorf("the personal data of the event at place %d is not what the event is bound to", c.Index))
		}
		if c.Index != from+int64(len(all)) {
			return ErrAltered.Because(fmt.Errorf("an event is missing at place %d or stands there twice", from+int64(len(all))))
		}
		c.OccurredAt = at.Time
		t.append(tlog.RecordHash(c.Canonical))
		all = append(all, c)
		return nil
	}, `SELECT e.id, e.log_index, e.occurred_at, e.recorded_at, e.action, e.outcome, e.actor_id, e.canonical, p.salt, p.data FROM events e
		LEFT JOIN event_persons p ON p.organization = e.organization AND p.event_id = e.id
		WHERE e.organization = $1 AND e.class = $2 AND e.log_index >= $3 AND e.log_index < $4 ORDER BY e.log_index`, id.organization, id.class, from, to)
	if err != nil {
		return nil, tlog.Hash{}, err
	}
	if int64(len(all)) != to-from {
		return nil, tlog.Hash{}, ErrAltered.Because(fmt.Errorf("an event is missing at place %d", from+int64(len(all))))
	}
	proof, err := tlog.ProveTree(top.Size, to, reader(ctx, tx, id))
	if err != nil {
		return nil, tlog.Hash{}, err
	}
	if err := tlog.CheckTree(proof, top.Size, top.Root, to, t.root()); err != nil {
		return nil, tlog.Hash{}, ErrAltered.Because(fmt.Errorf("the events before place %d are not those that were sealed: %w", to, err))
	}
	return all, t.root(), nil
}

// EachEvent calls fn with the events of a log that have the places from from up to,
// not including, to. It checks nothing: it is for looking at what [Ledger.Remove]
// would be asked about.
func EachEvent(ctx context.Context, tx *store.Tx, organization, class string, from, to int64, fn func(*Candidate)) error {
	return tx.Each(ctx, func(scan func(...any) error) error {
		var c Candidate
		var at store.Time
		if err := scan(&c.ID, &c.Index, &at, &c.Action, &c.Actor, &c.Canonical); err != nil {
			return err
		}
		c.OccurredAt = at.Time
		fn(&c)
		return nil
	}, `SELECT id, log_index, occurred_at, action, actor_id, canonical FROM events
		WHERE organization = $1 AND class = $2 AND log_index >= $3 AND log_index < $4 ORDER BY log_index`, organization, class, from, to)
}

// Sealed says which events of a log were sealed before an instant, of those that
// are still there: those of the places from From up to, not including, To. Times
// are those of their blocks.
type Sealed struct {
	From, To       int64
	Oldest, Newest time.Time // zero where there is none
}

// SealedBefore looks at the head of a log, at most events far. A block whose time is still to
// come, by now, was sealed by a clock that was wrong: it counts as sealed when the next one
// was whose time is not.
func SealedBefore(ctx context.Context, tx *store.Tx, organization, class string, before, now time.Time, events int64) (Sealed, error) {
	id := logID{organization, class}
	p, err := readPrefix(ctx, tx, id)
	if err != nil {
		return Sealed{}, err
	}
	s := Sealed{From: p.Size, To: p.Size}
	errFar := errors.New("far enough")
	err = eachBlock(ctx, tx, id, p.Size, func(b *block) error {
		switch {
		case s.To-s.From >= events:
			return errFar
		case b.sealedAt.After(now):
			return nil
		case !b.sealedAt.Before(before):
			return errFar
		}
		if s.Oldest.IsZero() {
			s.Oldest = b.sealedAt
		}
		s.Newest, s.To = b.sealedAt, min(b.first+b.count, s.From+events)
		return nil
	})
	if errors.Is(err, errFar) {
		err = nil
	}
	return s, err
}

// eachBlock calls fn with the blocks from that of a place on. A place behind the
// last block has none.
func eachBlock(ctx context.Context, tx *store.Tx, id logID, place int64, fn func(*block) error) error {
	number := int64(0)
	err := tx.Row(ctx, `SELECT number FROM ledger_blocks WHERE organization = $1 AND class = $2 AND first <= $3 ORDER BY first DESC LIMIT 1`,
		id.organization, id.class, place).Scan(&number)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return tx.Each(ctx, func(scan func(...any) error) error {
		var b block
		if err := b.scan(scan); err != nil {
			return err
		}
		if b.first+b.count <= place {
			return nil
		}
		return fn(&b)
	}, `SELECT `+blockColumns+` FROM ledger_blocks WHERE organization = $1 AND class = $2 AND number >= $3 ORDER BY number`,
		id.organization, id.class, number)
}

// checkSealed holds the blocks of what is removed to what was signed of them. Behind a block
// whose time is still to come there must be one that was sealed early enough, be it of events
// that stay.
func (l *Ledger) checkSealed(ctx context.Context, tx *store.Tx, id logID, from int64, r *Removal, keys keyring) error {
	next, vouched := from, true
	errFar := errors.New("far enough")
	err := eachBlock(ctx, tx, id, from, func(b *block) error {
		if next >= r.To && vouched {
			return errFar
		}
		c, err := keys.open(b.note)
		if err != nil || c.Removed || c.Origin != l.origin(id) || c.First != b.first || c.Count != b.count || c.First > next || c.First+c.Count <= next {
			return ErrAltered.Because(errors.Join(fmt.Errorf("block %d is not what was sealed", b.number), err))
		}
		vouched = c.SealedAt.Before(r.Sealed)
		if !vouched && !c.SealedAt.After(r.Now) {
			return ErrAltered.Because(fmt.Errorf("block %d was sealed later than its row says", b.number))
		}
		next = c.First + c.Count
		return nil
	})
	if errors.Is(err, errFar) {
		err = nil
	}
	if err == nil && (next < r.To || !vouched) {
		err = ErrAltered.Because(errors.New("blocks are missing"))
	}
	return err
}

// record signs what the prefix p is, with these notes, in place of the records of
// the run that began at since, and of one of the same size.
func (l *Ledger) record(ctx context.Context, tx *store.Tx, p *Prefix, since int64, notes []string) error {
	_, err := tx.Exec(ctx, `DELETE FROM ledger_prefixes WHERE organization = $1 AND class = $2 AND size > $3 AND size <= $4`,
		p.Organization, p.Class, since, p.Size)
	if err != nil {
		return err
	}
	covered, err := l.cover(ctx, tx, p.Organization, p.Class, p.Size, notes...)
	if err == nil && covered.Root != p.Root {
		return ErrAltered.Because(errors.New("the tree is not that of the events"))
	}
	*p = covered
	return err
}

// Attest signs a statement that rows of a class which has no log were removed by
// retention: the notes say which. It is in the form of a prefix's record, of size 0.
func (l *Ledger) Attest(ctx context.Context, organization, class string, notes ...string) (string, error) {
	key, err := l.signer(ctx)
	if err != nil {
		return "", err
	}
	return key.sign(&Checkpoint{Origin: l.origin(logID{organization, class}), Root: emptyRoot, Block: -1,
		SealedAt: store.At(l.opts.Now()).Time, Removed: true, Notes: notes})
}

// What the record of a prefix says of the events that are set aside: how many, and
// a digest of them, in the order of their places.
const heldWord = "held "

func heldNote(n int64, digest tlog.Hash) string {
	return heldWord + strconv.FormatInt(n, 10) + " " + digest.String()
}

// extend adds an event to a digest: SHA-256 over the digest before, zeros at first,
// the place as 8 bytes, big-endian, and the leaf's hash.
func extend(digest tlog.Hash, index int64, leaf tlog.Hash) tlog.Hash {
	b := append(make([]byte, 0, 2*tlog.HashSize+8), digest[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(index))
	return sha256.Sum256(append(b, leaf[:]...))
}

// heldOf reads the note of a prefix's record; 0 where it has none.
func heldOf(c *Checkpoint) (n int64, digest tlog.Hash, err error) {
	for _, line := range c.Notes {
		rest, ok := strings.CutPrefix(line, heldWord)
		if !ok {
			continue
		}
		number, hash, _ := strings.Cut(rest, " ")
		n, err = strconv.ParseInt(number, 10, 64)
		if err == nil {
			digest, err = tlog.ParseHash(hash)
		}
		return n, digest, err
	}
	return 0, tlog.Hash{}, nil
}

// heldSoFar gives what the record of the prefix says is set aside.
func heldSoFar(p Prefix, keys keyring) (tlog.Hash, int64, error) {
	if p.Size == 0 {
		return tlog.Hash{}, 0, nil
	}
	c, err := keys.open(p.Record)
	if err != nil || !c.Removed || c.Size != p.Size || c.Root != p.Root {
		return tlog.Hash{}, 0, ErrAltered.Because(errors.Join(errors.New("the record of retention is another"), err))
	}
	n, digest, err := heldOf(&c)
	if err != nil {
		return tlog.Hash{}, 0, ErrAltered.Because(err)
	}
	return digest, n, nil
}
