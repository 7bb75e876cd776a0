package audit

import (
	"bytes"
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/gatehouse-io/gatehouse/store"
)

// A term is what an event is found by: the id of its actor or of a target, after
// a byte that says which. Terms are bytes, which compare alike in both databases.
type term struct {
	organization string
	text         []byte
	at           store.Time
	event        string
}

const (
	actorTerm  = 'a'
	targetTerm = 't'
)

// appendTerms adds the terms of e, each once.
func appendTerms(all []term, e *Event) []term {
	first, at := len(all), store.At(e.OccurredAt)
	add := func(kind byte, id string) {
		text := append([]byte{kind}, id...)
		if !slices.ContainsFunc(all[first:], func(t term) bool { return bytes.Equal(t.text, text) }) {
			all = append(all, term{e.Organization, text, at, e.ID})
		}
	}
	add(actorTerm, e.Actor.ID)
	for i := range e.Targets {
		add(targetTerm, e.Targets[i].ID)
	}
	return all
}

// missingBatch is how many events from before there were terms get theirs in one
// transaction.
const missingBatch = 256

// addMissingTerms makes events of an older Gatehouse searchable by actor and
// target, until there are none left or ctx ends.
func (l *Log) addMissingTerms(ctx context.Context) {
	for {
		n, err := l.addTermsOfBatch(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			l.opts.Logger.WarnContext(ctx, "older events are not searchable yet by actor and target", "error", err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Minute):
			}
		case n < missingBatch:
			return
		}
	}
}

func (l *Log) addTermsOfBatch(ctx context.Context) (n int, err error) {
	batch := `SELECT organization, event_id FROM event_terms_missing ORDER BY organization, event_id LIMIT ` + strconv.Itoa(missingBatch)
	err = l.db.UpdateAcross(ctx, func(tx *store.Tx) error {
		var events []Event
		err := tx.Each(ctx, func(scan func(...any) error) error {
			var canonical []byte
			e, at := Event{}, store.Time{}
			if err := scan(&e.Organization, &e.ID, &at, &e.Actor.ID, &canonical); err != nil {
				return err
			}
			if read, err := decode(canonical, nil); err == nil { // a damaged one is found by its actor
				e.Targets = read.Targets
			}
			e.OccurredAt = at.Time
			events = append(events, e)
			return nil
		}, `SELECT e.organization, e.id, e.occurred_at, e.actor_id, e.canonical FROM (`+batch+`) m
			JOIN events e ON e.organization = m.organization AND e.id = m.event_id`)
		if err != nil {
			return err
		}
		var terms []term
		for i := range events {
			terms = appendTerms(terms, &events[i])
		}
		if err := insertTerms(ctx, tx, terms); err != nil {
			return err
		}
		removed, err := tx.Exec(ctx, `DELETE FROM event_terms_missing WHERE (organization, event_id) IN (`+batch+`)`)
		n = int(removed)
		return err
	})
	return n, err
}
