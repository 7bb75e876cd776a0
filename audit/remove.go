package audit

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/gatehouse-io/gatehouse/store"
)

// Remove deletes the events of a class that have the places from from up to, not
// including, to in its log, with their personal data and what they are searched by,
// and gives how many that were. The personal data of the events keep stays. It is
// for package ledger, which sees to it that a signed record says so, and for a few
// thousand events at a time.
func Remove(ctx context.Context, tx *store.Tx, organization string, class Class, from, to int64, keep []string) (int64, error) {
	var terms []term
	var persons []string
	err := tx.Each(ctx, func(scan func(...any) error) error {
		e, at := Event{Organization: organization}, store.Time{}
		var canonical []byte
		if err := scan(&e.ID, &at, &e.Actor.ID, &canonical); err != nil {
			return err
		}
		if read, err := decode(canonical, nil); err == nil {
			e.Targets = read.Targets
		}
		e.OccurredAt = at.Time
		terms = appendTerms(terms, &e)
		persons = append(persons, e.ID)
		return nil
	}, `SELECT id, occurred_at, actor_id, canonical FROM events WHERE organization = $1 AND class = $2 AND log_index >= $3 AND log_index < $4`,
		organization, string(class), from, to)
	if err != nil {
		return 0, err
	}
	if err := removeTerms(ctx, tx, organization, terms); err != nil {
		return 0, err
	}
	if err := removeListed(ctx, tx, "event_terms_missing", organization, persons); err != nil {
		return 0, err
	}
	kept := make(map[string]bool, len(keep))
	for _, id := range keep {
		kept[id] = true
	}
	if err := RemovePersons(ctx, tx, organization, slices.DeleteFunc(persons, func(id string) bool { return kept[id] })); err != nil {
		return 0, err
	}
	tx.Destroys()
	return tx.Exec(ctx, `DELETE FROM events WHERE organization = $1 AND class = $2 AND log_index >= $3 AND log_index < $4`,
		organization, string(class), from, to)
}

// RemovePersons deletes the personal data of these events.
func RemovePersons(ctx context.Context, tx *store.Tx, organization string, events []string) error {
	tx.Destroys()
	return removeListed(ctx, tx, "event_persons", organization, events)
}

// perRemoval is how many rows one statement deletes at most: few texts, which the
// database keeps prepared.
const perRemoval = 64

func removeListed(ctx context.Context, tx *store.Tx, table, organization string, events []string) error {
	for some := range slices.Chunk(events, perRemoval) {
		args := []any{organization}
		marks := make([]string, len(some))
		for i, id := range some {
			args = append(args, id)
			marks[i] = "$" + strconv.Itoa(len(args))
		}
		if _, err := tx.Exec(ctx, `DELETE FROM `+table+` WHERE organization = $1 AND event_id IN (`+strings.Join(marks, ", ")+`)`, args...); err != nil {
			return err
		}
	}
	return nil
}

func removeTerms(ctx context.Context, tx *store.Tx, organization string, terms []term) error {
	for some := range slices.Chunk(terms, perRemoval) {
		args := []any{organization}
		rows := make([]string, len(some))
		for i, t := range some {
			n := len(args)
			args = append(args, t.text, t.at, t.event)
			rows[i] = "(term = $" + strconv.Itoa(n+1) + " AND occurred_at = $" + strconv.Itoa(n+2) + " AND event_id = $" + strconv.Itoa(n+3) + ")"
		}
		if _, err := tx.Exec(ctx, `DELETE FROM event_terms WHERE organization = $1 AND (`+strings.Join(rows, " OR ")+`)`, args...); err != nil {
			return err
		}
	}
	return nil
}

// Read gives the event that canonical bytes say, with its personal data where that
// is given: for events that stand elsewhere than in the trail.
func Read(canonical, personal []byte) (Event, error) { return decode(canonical, personal) }

// PersonPlace is how far [EventsOfPerson] has come; the zero value is its beginning.
type PersonPlace struct {
	targets bool
	place
}

// EventOfPerson is an event that names somebody.
type EventOfPerson struct {
	ID, Class string
	Canonical []byte
	Personal  bool // it has personal data
}

// EventsOfPerson gives the next events of an organization whose actor or target is
// this person, of at most limit that it looks at, and whether there may be more.
func EventsOfPerson(ctx context.Context, tx *store.Tx, organization, person string, from PersonPlace, limit int) (events []EventOfPerson, next PersonPlace, more bool, err error) {
	kind := byte(actorTerm)
	if from.targets {
		kind = targetTerm
	}
	next = from
	looked := 0
	err = tx.Each(ctx, func(scan func(...any) error) error {
		e, side := EventOfPerson{}, (*string)(nil)
		if err := scan(&next.at, &next.id, &e.Class, &e.Canonical, &side); err != nil {
			return err
		}
		looked++
		if e.ID, e.Personal = next.id, side != nil; namesPerson(e.Canonical, person) {
			events = append(events, e)
		}
		return nil
	}, `SELECT t.occurred_at, t.event_id, e.class, e.canonical, p.event_id FROM event_terms t
		JOIN events e ON e.organization = t.organization AND e.id = t.event_id
		LEFT JOIN event_persons p ON p.organization = t.organization AND p.event_id = t.event_id
		WHERE t.organization = $1 AND t.term = $2 AND (t.occurred_at, t.event_id) > ($3, $4)
		ORDER BY t.occurred_at, t.event_id LIMIT `+strconv.Itoa(limit), organization, append([]byte{kind}, person...), from.micros(), from.id)
	if looked == limit {
		return events, next, true, err
	}
	return events, PersonPlace{targets: true}, !from.targets, err
}

// micros gives the place's time as the database compares it, also that of none.
func (p *place) micros() int64 {
	if p.at.IsZero() {
		return -1 << 62
	}
	return p.at.UnixMicro()
}
