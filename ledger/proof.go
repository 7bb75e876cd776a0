package ledger

import (
	"context"
	"errors"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/store"
)

// Proof is all that it takes to check, with nothing else from Gatehouse but a
// public key, that an event is in a log: docs/audit-proofs.md.
type Proof struct {
	Organization, Class, EventID string
	Canonical                    []byte      // the event's bytes: what is hashed
	Index                        int64       // its place in the log
	Size                         int64       // of the tree that it is proved to be in
	Hashes                       []tlog.Hash // the inclusion proof (RFC 6962, section 2.1.1), lowest first
	Checkpoint                   string      // the signed note with the tree's root
	Key                          string      // which key signed it, in the form of C2SP signed-note
}

// Prove proves an event of the organization, the caller's own where that is
// empty. It needs audit:verify. [ErrNoEvent], [ErrUnsealed] within the first
// seconds, and [ErrAltered] where the log is not what was signed.
func (l *Ledger) Prove(ctx context.Context, caller access.Caller, organization, event string) (Proof, error) {
	if organization == "" {
		organization = caller.Organization
	}
	if err := access.Allow(caller, access.AuditVerify, organization); err != nil {
		return Proof{}, err
	}
	if !store.IsID("evt", event) {
		return Proof{}, ErrNoEvent
	}
	p, err := l.proveOnce(ctx, organization, event)
	if errors.Is(err, ErrAltered) { // or the key was rotated in between
		p, err = l.proveOnce(ctx, organization, event)
	}
	return p, err
}

func (l *Ledger) proveOnce(ctx context.Context, organization, event string) (Proof, error) {
	keys, err := l.Keys(ctx)
	if err != nil {
		return Proof{}, err
	}
	p := Proof{Organization: organization, EventID: event}
	err = l.db.View(ctx, organization, func(tx *store.Tx) error {
		var index *int64
		err := tx.Row(ctx, `SELECT class, log_index, canonical FROM events WHERE organization = $1 AND id = $2`, organization, event).
			Scan(&p.Class, &index, &p.Canonical)
		if errors.Is(err, store.ErrNotFound) {
			return ErrNoEvent
		}
		if err != nil {
			return err
		}
		if index == nil {
			return ErrUnsealed
		}
		p.Index = *index
		return l.prove(ctx, tx, &p, keys)
	})
	return p, err
}

func (l *Ledger) prove(ctx context.Context, tx *store.Tx, p *Proof, keys keyring) error {
	id := logID{p.Organization, p.Class}
	top, err := l.signedHead(ctx, tx, id, keys)
	if errors.Is(err, ErrNoLog) {
		return ErrAltered.Because(errors.New("it has a sealed event, and no head"))
	}
	if err != nil {
		return err
	}
	if p.Index < 0 || p.Index >= top.Size {
		return ErrAltered.Because(errors.New("the event's place is not in the log"))
	}
	hashes, err := tlog.ProveRecord(top.Size, p.Index, reader(ctx, tx, id))
	if err != nil {
		return err
	}
	if err := tlog.CheckRecord(hashes, top.Size, top.Root, p.Index, tlog.RecordHash(p.Canonical)); err != nil {
		return ErrAltered.Because(err) // better none than one that proves nothing
	}
	p.Size, p.Hashes, p.Checkpoint, p.Key = top.Size, hashes, top.note, keys.signer(top.note).VerifierKey(top.Origin)
	return nil
}

// VerifierKey gives the key as signed notes of one log are checked with it (C2SP
// signed-note): NAME+HASH+KEY.
func (k Key) VerifierKey(origin string) string {
	text, err := note.NewEd25519VerifierKey(origin, k.Public)
	if err != nil { // of a length that is checked where keys are read
		return ""
	}
	return text
}

// Checkpoint gives the latest signed notes of an organization's logs, one behind
// the other, the caller's own where organization is empty. Those of
// [access.InstanceOrganization] begin with the one of the instance's own log, which
// vouches for all logs of all organizations. It needs audit:verify, and gives
// [ErrNoLog] where nothing is sealed yet.
func (l *Ledger) Checkpoint(ctx context.Context, caller access.Caller, organization string) (notes []string, err error) {
	if organization == "" {
		organization = caller.Organization
	}
	if err := access.Allow(caller, access.AuditVerify, organization); err != nil {
		return nil, err
	}
	err = l.db.View(ctx, organization, func(tx *store.Tx) error {
		notes = nil
		return tx.Each(ctx, func(scan func(...any) error) error {
			var note string
			err := scan(&note)
			notes = append(notes, note)
			return err
		}, `SELECT CASE WHEN l.class = $2 THEN l.checkpoint ELSE b.checkpoint END FROM ledger_logs l
			LEFT JOIN ledger_blocks b ON b.organization = l.organization AND b.class = l.class AND b.number = l.blocks - 1
			WHERE l.organization = $1 AND (l.class = $2 OR b.number IS NOT NULL) ORDER BY CASE WHEN l.class = $2 THEN 0 ELSE 1 END, l.class`, organization, Class)
	})
	if err == nil && len(notes) == 0 {
		err = ErrNoLog
	}
	return notes, err
}
