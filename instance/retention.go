package instance

import (
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/retention"
	"github.com/gatehouse-io/gatehouse/store"
)

// newRetention gives what keeps and removes data, with its counters.
func (in *Instance) newRetention(log *slog.Logger) *retention.Retention {
	r := retention.New(in.DB, in.Audit, in.Ledger, retention.Options{Swept: in.metrics.Removed, Logger: log})
	health := cached[retention.Health]{every: time.Minute, read: func(ctx context.Context) (retention.Health, error) { return retention.ReadHealth(ctx, in.DB) }}
	in.metrics.Gauge("gatehouse_retention_swept_timestamp_seconds", "When any instance last ended a sweep over all organizations, in Unix time; 0: never.", func() float64 {
		if at := health.get().SweptAt; !at.IsZero() {
			return float64(at.Unix())
		}
		return 0
	})
	in.metrics.Gauge("gatehouse_retention_failing", "1 while the last sweep, of any instance, failed.", func() float64 {
		if health.get().LastError != "" {
			return 1
		}
		return 0
	})
	return r
}

// OfflineRetention is retention as a command of the command line works with it,
// beside running servers or without any. Close it when it is done with.
type OfflineRetention struct {
	*retention.Retention
	DB *store.DB
}

// OpenRetention opens what [OpenLedger] opens, and the retention over it.
func OpenRetention(ctx context.Context, c Config, w io.Writer) (*OfflineRetention, error) {
	l, err := OpenLedger(ctx, c, w)
	if err != nil {
		return nil, err
	}
	trail := audit.New(l.db, audit.Options{Logger: l.log}) // control events alone: nothing waits in it
	return &OfflineRetention{retention.New(l.db, trail, l.Ledger, retention.Options{Logger: l.log}), l.db}, nil
}

// Close closes the database.
func (o *OfflineRetention) Close() error { return o.DB.Close() }
