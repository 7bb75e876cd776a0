package retention

import (
	"context"
	"time"
)

// SetServerClock has the sweeper take that for the time of the database's server.
func (r *Retention) SetServerClock(now func() time.Time) {
	r.server = func(context.Context) (time.Time, bool, error) { return now(), true, nil }
}
