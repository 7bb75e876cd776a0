package ledger

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/gatehouse-io/gatehouse/store"
)

// perStatement are how many events one statement gives their places. SQLite compares each of
// them with all: twice as many events a second are sealed by 16 as by 128 at once.
var perStatement = [...]int{16, 4, 1}

// place gives the events the places from first on. ids must be in the order of the
// database, and each event without a place.
func place(ctx context.Context, tx *store.Tx, id logID, ids []string, first int64) error {
	for _, n := range perStatement {
		for ; len(ids) >= n; ids = ids[n:] {
			args := make([]any, 0, 2*n+4)
			for _, event := range ids[:n] {
				args = append(args, event, first)
				first++
			}
			args = append(args, id.organization, id.class, ids[0], ids[n-1]) // last: each argument in the order of the text
			changed, err := tx.ExecPrepared(ctx, placeStatement(n), args...)
			if err != nil {
				return err
			}
			if changed != int64(n) {
				return fmt.Errorf("%d of %d events took their places: others were sealed or deleted meanwhile", changed, n)
			}
		}
	}
	return nil
}

// placeStatement gives the statement for n events. Both databases call the columns
// of VALUES column1 and column2. The range of ids says nothing new: it keeps
// PostgreSQL, where it has no statistics yet, from reading all that is unsealed for
// each statement.
func placeStatement(n int) string {
	var b strings.Builder
	arg := 0
	next := func() string {
		arg++
		return "$" + strconv.Itoa(arg)
	}
	b.WriteString(`UPDATE events SET log_index = v.column2 FROM (VALUES `)
	for i := range n {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString("(" + next() + ", CAST(" + next() + " AS BIGINT))")
	}
	b.WriteString(`) AS v WHERE events.organization = ` + next() + ` AND events.class = ` + next() + ` AND events.id >= ` + next() +
		` AND events.id <= ` + next() + ` AND events.id = v.column1 AND events.log_index IS NULL`)
	return b.String()
}
