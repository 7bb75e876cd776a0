package ledger

import (
	"context"
	"time"

	"github.com/gatehouse-io/gatehouse/store"
)

// SetServerClock has the ledger take that for the time of the database's server.
func (l *Ledger) SetServerClock(now func() time.Time) {
	l.server = func(context.Context) (time.Time, bool, error) { return now(), true, nil }
}

// Cover signs a record of a removal, without one.
func (l *Ledger) Cover(ctx context.Context, tx *store.Tx, organization, class string, size int64, notes ...string) (Prefix, error) {
	return l.cover(ctx, tx, organization, class, size, notes...)
}
