package instance

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/internal/telemetry"
	"github.com/gatehouse-io/gatehouse/retention"
	"github.com/gatehouse-io/gatehouse/store"
)

// newRetention gives what keeps and removes data, with its counters.
func (in *Instance) newRetention(log *slog.Logger) *retention.Retention {
	r := retention.New(in.DB, in.Audit, in.Ledger, retention.Options{Swept: in.metrics.Removed, Logger: log})
	health := retentionCache{db: in.DB}
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

// retentionCache reads the sweepers' health at most once in a minute, whoever asks
// for metrics.
type retentionCache struct {
	db *store.DB

	mu   sync.Mutex
	at   time.Time
	last retention.Health
}

func (h *retentionCache) get() retention.Health {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Since(h.at) > time.Minute {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if health, err := retention.ReadHealth(ctx, h.db); err == nil {
			h.last = health
		}
		h.at = time.Now()
	}
	return h.last
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
	level, err := c.logLevel()
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	log, _ := telemetry.NewLogger(w, max(level, slog.LevelWarn), func(context.Context) string { return "" })
	trail := audit.New(l.db, audit.Options{Logger: log}) // control events alone: nothing waits in it
	return &OfflineRetention{retention.New(l.db, trail, l.Ledger, retention.Options{Logger: log}), l.db}, nil
}

// Close closes the database.
func (o *OfflineRetention) Close() error { return o.DB.Close() }
