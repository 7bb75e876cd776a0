package audit

import (
	"context"
	"fmt"
	"unicode/utf8"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/store"
)

// eraseBatch is how many events lose their side row in one transaction.
const eraseBatch = 1000

// ErasePerson takes the personal data (addresses, user agents, names) off every
// event of the caller's organization whose actor or target is this person, and
// gives how many held any. The events stay, with every byte that is hashed: what
// names the person in them is the id alone, the organization's own pseudonym. It
// needs member:manage. Each batch is an event of its own, in its transaction; what
// was interrupted is finished by asking again. Errors: Invalid.
func (l *Log) ErasePerson(ctx context.Context, caller access.Caller, id string) (erased int64, err error) {
	organization := caller.Organization
	if err := access.Allow(caller, access.MemberManage, organization); err != nil {
		return 0, err
	}
	if id == "" || len(id) > maxID || !utf8.ValidString(id) || bounded(id, maxID) != id {
		return 0, fault.InvalidFields(fault.Field{Name: "person", Message: "must be the id of a person, as events have it, of at most 256 bytes"})
	}
	l.settle(ctx, organization) // what waits holds personal data too
	after := [...]place{{}, {}}
	for i, kind := range []byte{actorTerm, targetTerm} {
		for more := true; more; {
			var n int64
			err := l.db.Update(ctx, organization, func(tx *store.Tx) (err error) {
				n, more, err = l.eraseSome(ctx, tx, caller, append([]byte{kind}, id...), &after[i], id)
				return err
			})
			if err != nil {
				return erased, fmt.Errorf("erasing a person: %w", err)
			}
			erased += n
		}
	}
	return erased, nil
}

func (l *Log) eraseSome(ctx context.Context, tx *store.Tx, caller access.Caller, text []byte, after *place, id string) (n int64, more bool, err error) {
	var events []place
	from := *after
	query := `SELECT occurred_at, event_id FROM event_terms WHERE organization = $1 AND term = $2 ORDER BY occurred_at, event_id LIMIT 1000`
	args := []any{caller.Organization, text}
	if from.id != "" {
		query = `SELECT occurred_at, event_id FROM event_terms WHERE organization = $1 AND term = $2 AND (occurred_at, event_id) > ($3, $4)
			ORDER BY occurred_at, event_id LIMIT 1000`
		args = append(args, from.at, from.id)
	}
	err = tx.Each(ctx, func(scan func(...any) error) error {
		var p place
		err := scan(&p.at, &p.id)
		events = append(events, p)
		return err
	}, query, args...)
	if err != nil {
		return 0, false, err
	}
	for _, p := range events {
		// An erasure names the person too, and the address in it is of whoever asked for it.
		one, err := tx.ExecPrepared(ctx, `DELETE FROM event_persons WHERE organization = $1 AND event_id = $2 AND NOT EXISTS
			(SELECT 1 FROM events e WHERE e.organization = $1 AND e.id = $2 AND e.action = $3 AND e.actor_id <> $4)`, caller.Organization, p.id, string(AuditErase), id)
		if err != nil {
			return 0, false, err
		}
		n += one
	}
	if len(events) > 0 {
		*after = events[len(events)-1]
	}
	more = len(events) == eraseBatch
	if n > 0 || !more && from.id == "" && text[0] == actorTerm { // an erasure that finds nothing is an event too
		e := Event{Action: AuditErase, Outcome: Success, Permission: access.MemberManage.String(), Metadata: map[string]any{"events": n}}
		if n > 0 { // an id that nobody has may be anything, a secret pasted by mistake too
			e.Targets = []Target{{Type: "person", ID: id}}
		}
		err = l.Append(ctx, tx, caller, e)
	}
	return n, more, err
}
