package audit

import (
	"context"
	"strings"

	"github.com/gatehouse-io/gatehouse/store"
)

// begun is what there was of a trail when an export of it began. An event belongs to
// that by its place: either it was sealed, or it waited to be. No time says so: an
// instance whose clock is ahead records events that seem to be still to come.
//
// The events that waited are not kept, however many: one counts as one of them if its
// id is no later than the latest of theirs. That leaves none out. What another instance
// records meanwhile, under a clock that is behind, may come in with them.
type begun struct {
	end     Positions
	waiting [len(Positions{})]string // the latest id that waited to be sealed, in the order of [Classes]

	late map[string]bool // events of the page just read that came later
}

// begin notes what there is of the organization's trail.
func (l *Log) begin(ctx context.Context, organization string) (b *begun, err error) {
	err = l.db.View(ctx, organization, func(tx *store.Tx) error {
		b = &begun{late: make(map[string]bool)}
		named := ""
		if tx.TakesAnyType() {
			named = " AND typeof(id) = 'text'"
		}
		for i, class := range Classes() { // before the end: what is sealed in between was there, too
			err := tx.Row(ctx, `SELECT coalesce(max(id), '') FROM events WHERE organization = $1 AND class = $2 AND log_index IS NULL`+named,
				organization, string(class)).Scan(&b.waiting[i])
			if err != nil {
				return err
			}
		}
		b.end, err = EndOf(ctx, tx, organization)
		return err
	})
	return b, err
}

// late gives a column that is 1 for an event that came after the beginning of the
// export. What somebody altered so that nothing can be said of it counts as there.
func (q *streams) late(tx *store.Tx) string {
	var ends, waiting strings.Builder
	for i, class := range Classes() {
		when := " WHEN " + q.arg(string(class)) + " THEN "
		ends.WriteString(when + "CAST(" + q.arg(q.begun.end[i]) + " AS BIGINT)")
		waiting.WriteString(when + "CAST(" + q.arg(q.begun.waiting[i]) + " AS TEXT)")
	}
	id, place := "e.id", "e.log_index"
	if tx.TakesAnyType() {
		id = "CASE WHEN typeof(e.id) = 'text' THEN e.id END"
		place = "CASE WHEN typeof(e.log_index) IN ('integer', 'null') THEN e.log_index ELSE -1 END"
	}
	return "CASE WHEN " + id + " > CASE e.class" + waiting.String() + " END AND coalesce(" + place + " >= CASE e.class" + ends.String() +
		" END, e.log_index IS NULL) THEN 1 ELSE 0 END"
}
