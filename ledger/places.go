package ledger

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/gatehouse-io/gatehouse/store"
)

// perStatement are how many events one statement gives their places.
var perStatement = [...]int{128, 16, 1}

// place gives the events the places from first on. ids must be in the order of the
// database, and each event without a place.
func place(ctx context.Context, tx *store.Tx, id logID, ids []string, first int64) error {
	for _, n := range perStatement {
		for ; len(ids) >= n; ids = ids[n:] {
			args := append(make([]any, 0, 2*n+4), id.organization, id.class, ids[0], ids[n-1])
			for _, event := range ids[:n] {
				args = append(args, event, first)
				first++
			}
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
	b.WriteString(`UPDATE events SET log_index = v.column2 FROM (VALUES `)
	for i := range n {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString("($" + strconv.Itoa(2*i+5) + ", CAST($" + strconv.Itoa(2*i+6) + " AS BIGINT))")
	}
	b.WriteString(`) AS v WHERE events.organization = $1 AND events.class = $2 AND events.id >= $3 AND events.id <= $4 AND events.id = v.column1
		AND events.log_index IS NULL`)
	return b.String()
}
