package audit

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/store"
)

// eraseBatch is how many events lose their side row in one transaction.
const eraseBatch = 1000

// eraseRows are those of the event_terms that have a person's id, in the order of erasure.
const eraseRows = `SELECT t.occurred_at, t.event_id, e.canonical FROM event_terms t
	LEFT JOIN events e ON e.organization = t.organization AND e.id = t.event_id WHERE t.organization = $1 AND t.term = $2`

// namesPerson reports whether an event has the id of a person as that of one: a service, a
// credential or a token may have the same, and whose address is on its events is another's
// business. A caller by JWT may be a person whatever its role. What cannot be read counts as one.
func namesPerson(canonical []byte, id string) bool {
	e, err := decode(canonical, nil)
	if err != nil {
		return true
	}
	actor := e.Actor.ID == id && (e.Actor.Type == string(access.User) || e.Actor.Type == string(access.Service) && !store.IsID("tok", id))
	return actor || slices.ContainsFunc(e.Targets, func(t Target) bool { return t.ID == id && people[t.Type] })
}

// people are the types of targets that are people.
var people = map[string]bool{"member": true, "person": true, "user": true}

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
	for _, kind := range []byte{actorTerm, targetTerm} {
		e := erasure{id: id, kind: kind}
		for !e.done {
			var next erasure // the transaction may run again after a lost race, from where e stands
			err := l.db.Update(ctx, organization, func(tx *store.Tx) (err error) {
				next, err = l.eraseSome(ctx, tx, caller, e)
				return err
			})
			if err != nil {
				return erased, fmt.Errorf("erasing a person: %w", err)
			}
			e = next
			erased += e.erased
		}
	}
	return erased, nil
}

// erasure is how far the erasure of a person has come among the events of one kind of term.
type erasure struct {
	id     string
	kind   byte
	after  place // the last event that was looked at
	erased int64 // events whose personal data the last batch took away
	done   bool
}

// eraseSome erases the next batch, and gives how far the erasure has come then.
func (l *Log) eraseSome(ctx context.Context, tx *store.Tx, caller access.Caller, e erasure) (erasure, error) {
	var events []place
	var named []bool
	query, args := eraseRows, []any{caller.Organization, append([]byte{e.kind}, e.id...)}
	if e.after.id != "" {
		query += ` AND (t.occurred_at, t.event_id) > ($3, $4)`
		args = append(args, e.after.at, e.after.id)
	}
	args = append(args, eraseBatch)
	query += ` ORDER BY t.occurred_at, t.event_id LIMIT $` + strconv.Itoa(len(args))
	err := tx.Each(ctx, func(scan func(...any) error) error {
		var p place
		var canonical []byte
		err := scan(&p.at, &p.id, &canonical)
		events, named = append(events, p), append(named, namesPerson(canonical, e.id))
		return err
	}, query, args...)
	if err != nil {
		return e, err
	}
	tx.Destroys()
	first := e.after.id == ""
	e.erased, e.done = 0, len(events) < eraseBatch
	for i, p := range events {
		if !named[i] {
			continue
		}
		// An erasure names the person too, and the address in it is of whoever asked for it.
		one, err := tx.ExecPrepared(ctx, `DELETE FROM event_persons WHERE organization = $1 AND event_id = $2 AND NOT EXISTS
			(SELECT 1 FROM events e WHERE e.organization = $1 AND e.id = $2 AND e.action = $3 AND e.actor_id <> $4)`, caller.Organization, p.id, string(AuditErase), e.id)
		if err != nil {
			return e, err
		}
		e.erased += one
	}
	if len(events) > 0 {
		e.after = events[len(events)-1]
	}
	if e.erased > 0 || e.done && first && e.kind == actorTerm { // an erasure that finds nothing is an event too
		event := Event{Action: AuditErase, Outcome: Success, Permission: access.MemberManage.String(), Metadata: map[string]any{"events": e.erased}}
		if e.erased > 0 { // an id that nobody has may be anything, a secret pasted by mistake too
			event.Targets = []Target{{Type: "person", ID: e.id}}
		}
		err = l.Append(ctx, tx, caller, event)
	}
	return e, err
}
