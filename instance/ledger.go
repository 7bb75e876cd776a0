package instance

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/ledger"
	"github.com/gatehouse-io/gatehouse/masterkey"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/vault"
)

// newLedger gives what seals the trail, with its counters.
func (in *Instance) newLedger(ctx context.Context, c Config, log *slog.Logger) *ledger.Ledger {
	l := ledger.New(in.DB, in.Audit, in.Vault.SigningKeys(), ledger.Options{Environment: c.Environment, Logger: log})
	if err := l.Prepare(ctx); err != nil { // requests go on; the trail waits for it
		log.ErrorContext(ctx, "the key that signs the trail cannot be used; events are kept, and not sealed", "error", err)
	}
	health := cached[ledger.Health]{every: 5 * time.Second, read: func(ctx context.Context) (ledger.Health, error) { return ledger.ReadHealth(ctx, in.DB, time.Now()) }}
	in.metrics.Gauge("gatehouse_audit_sealing_lag_seconds", "How long the oldest event of this instance's last run of the sealer had waited.",
		func() float64 { return l.Lag().Seconds() })
	in.metrics.Gauge("gatehouse_audit_unsealed", "Events in the database that wait to be sealed, counted up to 100,000.",
		func() float64 { return float64(health.get().Unsealed) })
	in.metrics.Gauge("gatehouse_audit_unsealed_seconds", "Age of the oldest event that waits to be sealed.", func() float64 {
		if oldest := health.get().Oldest; !oldest.IsZero() {
			return time.Since(oldest).Seconds()
		}
		return 0
	})
	in.metrics.Gauge("gatehouse_audit_sealing_failing", "1 while the last run of the sealer, of any instance, failed.", func() float64 {
		if l.Failing() || health.get().LastError != "" {
			return 1
		}
		return 0
	})
	return l
}

// export gives where checkpoints go; nil: nowhere. post sends one to the operator's
// sink.
func (c *Config) export(post ledger.Post) (*ledger.Export, error) {
	if c.AuditCheckpoints == "" {
		return nil, nil
	}
	if c.AuditSinkURL == "" {
		post = nil
	}
	return ledger.NewExport(c.AuditCheckpoints, c.AuditCheckpointEvery, os.Stdout, post)
}

// postNowhere stands for the sink where only the configuration is checked.
func postNowhere(context.Context, string) error { return nil }

// newExport gives where checkpoints go, with its gauges; nil: nowhere.
func (in *Instance) newExport(c Config) (*ledger.Export, error) {
	to, err := c.export(in.webhooks.PostCheckpoint)
	if err != nil || to == nil {
		return nil, err
	}
	in.metrics.Gauge("gatehouse_audit_checkpoint_exported_timestamp_seconds", "When this instance last exported a checkpoint; 0 before the first.", func() float64 {
		if at := in.Ledger.Exported().At; !at.IsZero() {
			return float64(at.Unix())
		}
		return 0
	})
	in.metrics.Gauge("gatehouse_audit_checkpoint_failing", "1 while this instance's last try to export a checkpoint failed.", func() float64 {
		if in.Ledger.Exported().Failed != nil {
			return 1
		}
		return 0
	})
	return to, nil
}

// OfflineLedger is the trail's ledger as a command of the command line works with
// it, beside running servers or without any. Close it when it is done with.
type OfflineLedger struct {
	*ledger.Ledger
	db  *store.DB
	log *slog.Logger
}

// OpenLedger checks the configuration and opens the database and the keys of its
// ledger. Warnings go to w. A database that is not there, or that no server has
// started on, is an error.
func OpenLedger(ctx context.Context, c Config, w io.Writer) (*OfflineLedger, error) {
	db, log, err := openForCommand(ctx, c, w)
	if err != nil {
		return nil, err
	}
	l, err := c.offlineLedger(ctx, db, log)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &OfflineLedger{l, db, log}, nil
}

func (c *Config) offlineLedger(ctx context.Context, db *store.DB, log *slog.Logger) (*ledger.Ledger, error) {
	if err := wantMasterKey(ctx, db); err != nil {
		return nil, err
	}
	trail := audit.New(db, audit.Options{Logger: log})
	keys, err := masterkey.Open(ctx, db, trail, c.keyOptions(log))
	if err != nil {
		return nil, err
	}
	services, err := c.services()
	if err != nil {
		return nil, err
	}
	v := vault.New(db, trail, services, keys.Ring(), vault.Options{Environment: c.Environment, Logger: log})
	return ledger.New(db, trail, v.SigningKeys(), ledger.Options{Environment: c.Environment, Logger: log}), nil
}

// Close closes the database.
func (o *OfflineLedger) Close() error { return o.db.Close() }
