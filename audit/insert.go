package audit

import (
	"context"
	"strconv"
	"strings"

	"github.com/gatehouse-io/gatehouse/store"
)

// Statements insert this many rows; they are prepared once, and few texts make
// few of them. 64 rows keep one under the 32,766 parameters that SQLite takes.
var rowsPerInsert = [...]int{64, 8, 4, 3, 2, 1}

func insert(ctx context.Context, tx *store.Tx, rows []row) error {
	var args []any
	persons, terms := make([]row, 0, len(rows)), make([]term, 0, 3*len(rows))
	for i := range rows {
		if rows[i].personal != nil {
			persons = append(persons, rows[i])
		}
		terms = appendTerms(terms, &rows[i].event)
	}
	err := inPieces(rows, func(n int, piece []row) error {
		args = args[:0]
		for _, r := range piece {
			e := &r.event
			args = append(args, e.Organization, e.ID, store.At(e.OccurredAt), store.At(e.RecordedAt),
				string(e.Class), string(e.Action), string(e.Outcome), e.Actor.ID, r.canonical)
		}
		return tx.ExecLater(ctx, insertEvents[n], args...)
	})
	if err != nil {
		return err
	}
	err = inPieces(persons, func(n int, piece []row) error {
		args = args[:0]
		for _, r := range piece {
			args = append(args, r.event.Organization, r.event.ID, r.salt, string(r.personal))
		}
		return tx.ExecLater(ctx, insertPersons[n], args...)
	})
	if err != nil {
		return err
	}
	return insertTerms(ctx, tx, terms)
}

func insertTerms(ctx context.Context, tx *store.Tx, terms []term) error {
	var args []any
	return inPieces(terms, func(n int, piece []term) error {
		args = args[:0]
		for _, t := range piece {
			args = append(args, t.organization, t.text, t.at, t.event)
		}
		return tx.ExecLater(ctx, insertEventTerms[n], args...)
	})
}

// inPieces calls fn with pieces of rows that a statement inserts at once, and
// which of the statements that is.
func inPieces[T any](rows []T, fn func(n int, piece []T) error) error {
	for n, size := range rowsPerInsert {
		for len(rows) >= size {
			if err := fn(n, rows[:size]); err != nil {
				return err
			}
			rows = rows[size:]
		}
	}
	return nil
}

var (
	insertEvents = inserts(`INSERT INTO events (organization, id, occurred_at, recorded_at, class, action, outcome,
		actor_id, canonical) VALUES `, 9)
	insertPersons    = inserts(`INSERT INTO event_persons (organization, event_id, salt, data) VALUES `, 4)
	insertEventTerms = inserts(`INSERT INTO event_terms (organization, term, occurred_at, event_id) VALUES `, 4)
)

// inserts gives a statement for each of rowsPerInsert.
func inserts(head string, columns int) (all [len(rowsPerInsert)]string) {
	for n, size := range rowsPerInsert {
		all[n] = head + placeholders(size, columns)
	}
	return all
}

// placeholders gives "($1, $2), ($3, $4)" for two rows of two columns.
func placeholders(rows, columns int) string {
	var b strings.Builder
	for i := range rows * columns {
		switch {
		case i == 0:
			b.WriteString("(")
		case i%columns == 0:
			b.WriteString("), (")
		default:
			b.WriteString(", ")
		}
		b.WriteString("$")
		b.WriteString(strconv.Itoa(i + 1))
	}
	b.WriteString(")")
	return b.String()
}
