// Package instance is one running Gatehouse: its configuration, the wiring of
// all rooms in one function ([Open]), and its life from start to stop ([Instance.Serve]).
//
// The command line and the tests start instances the same way:
//
//	config, err := instance.FromEnvironment(environ)
//	in, err := instance.Open(ctx, config, os.Stderr)
//	listeners, err := in.Listen()
//	err = in.Serve(ctx, listeners) // until ctx ends
//	err = in.Close()
//
// # Configuration
//
// [Config] is one struct; its tags are the variables, their defaults, and the
// help that `gatehouse serve --help` prints. [FromEnvironment] reads it and
// [Config.Check] finds what is wrong with it: every mistake at once, each with
// its variable and its mend, none with a value. [Config.ForDev] makes of it what
// `gatehouse dev` runs on.
//
// # From start to stop
//
// Open fails before anything is listened on: on a mistake, a database that
// cannot be opened, a wrong master key, another environment's database. wire.go
// is the order in which the rooms are made. Each step that takes something says
// there how it is given back: Close, and an Open that fails, do so in the reverse
// order. What runs in the background starts when nothing can fail any more, and
// Close waits for it, so that what was counted and recorded is on disk. Serve has the order of a stop: not ready, no new requests, a grace
// for those that run, and then streams are cut with an error event; what has no connection left is waited for.
//
// # Beside a running server
//
// Commands work on the database by [OpenOffline], [OpenKeys], [OpenLedger] and
// [OpenRetention], which make no database and no first key where there is none,
// and by [Diagnose], which changes nothing but a count in Redis that it takes away again.
package instance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/auth"
	"github.com/gatehouse-io/gatehouse/internal/telemetry"
	"github.com/gatehouse-io/gatehouse/ledger"
	"github.com/gatehouse-io/gatehouse/masterkey"
	"github.com/gatehouse-io/gatehouse/org"
	"github.com/gatehouse-io/gatehouse/policy"
	"github.com/gatehouse-io/gatehouse/ratelimit"
	"github.com/gatehouse-io/gatehouse/retention"
	"github.com/gatehouse-io/gatehouse/server"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/usage"
	"github.com/gatehouse-io/gatehouse/vault"
	"github.com/gatehouse-io/gatehouse/webhook"
)

// Version is the program's version; a release sets it when it is built.
var Version = "dev"

// Instance is an opened Gatehouse. Close it when it is done with.
type Instance struct {
	Config    Config // without the master keys
	Log       *slog.Logger
	DB        *store.DB
	Audit     *audit.Log
	Ledger    *ledger.Ledger
	Retention *retention.Retention
	Usage     *usage.Meter
	Orgs      *org.Directory
	Tokens    *auth.Tokens
	Vault     *vault.Vault
	Keys      *masterkey.Keys
	Server    *server.Server

	checker     *vault.Checker
	webhooks    *webhook.Webhooks
	issuers     *auth.Issuers
	checkpoints *ledger.Export // nil: they go nowhere

	metrics *telemetry.Metrics
	otel    *telemetry.OTel // nil: nothing is exported
	limiter ratelimit.Limiter
	limits  *policy.Limits
	redis   *ratelimit.Redis   // nil without REDIS_URL
	cut     context.CancelFunc // ends what still runs after the grace
	runs    sync.WaitGroup
	served  bool // Serve has returned, so that Close is the end of a stop

	closers []func() error // what gives back what was taken, the first first
}

// Open checks the configuration, opens the database and wires all rooms. Log
// lines go to w. It starts the background writers, and listens nowhere.
func Open(ctx context.Context, c Config, w io.Writer) (*Instance, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	level, err := c.logLevel()
	if err != nil {
		return nil, err
	}
	log, flushLog := telemetry.NewLogger(w, level, server.RequestID)
	c.warn(log)

	in := &Instance{Config: c, Log: log}
	in.onClose(func() error { flushLog(); return nil })
	if err := in.open(ctx, c, log); err != nil {
		return nil, errors.Join(err, in.Close())
	}
	// The keyring has its own copies now; those of the configuration go with the next collection.
	in.Config.EncryptionKey, in.Config.EncryptionKeysOld = "", ""
	return in, nil
}

// open opens the data folder and the database, and puts the rooms on them.
func (in *Instance) open(ctx context.Context, c Config, log *slog.Logger) error {
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return fmt.Errorf("GATEHOUSE_DATA cannot be made: %w", err)
	}
	warnFolder(c.Data, log)
	isNew := c.NewDatabase()
	var err error
	if in.DB, err = store.Open(ctx, c.Database(), log); err != nil {
		return err
	}
	in.onClose(in.DB.Close)
	c.tellFile(log, isNew)
	if err := warnBypass(ctx, in.DB, log); err != nil {
		return err
	}
	return in.wire(ctx, c, log)
}

// onClose has Close call giveBack, before all that was named earlier.
func (in *Instance) onClose(giveBack func() error) { in.closers = append(in.closers, giveBack) }

// Close ends what runs, writes what is left of the trail and of usage, and gives back
// all that was taken, the database last. What could not be written is an error.
func (in *Instance) Close() error {
	var errs []error
	for i, giveBack := range slices.Backward(in.closers) {
		if i == 0 && in.served { // the log itself is what is given back last
			in.tellStop(errors.Join(errs...))
		}
		errs = append(errs, giveBack())
	}
	in.closers = nil
	return errors.Join(errs...)
}

func (in *Instance) tellStop(err error) {
	if err != nil {
		in.Log.Error("stopped, and not all went well", "error", err)
		return
	}
	in.Log.Info("stopped")
}

// unwritten gives an error where the stop lost something: to be asked once all that ran has ended.
// late is how many requests had not ended before that.
func (in *Instance) unwritten(late int64) error {
	var errs []error
	if events, records := in.Audit.Unwritten(), in.Usage.Unwritten(); events != 0 || records != 0 {
		errs = append(errs, fmt.Errorf("the stop lost what could not be written: audit events: %d; records of usage: %d", events, records))
	}
	if late != 0 {
		errs = append(errs, fmt.Errorf("requests that did not end, whose events and usage are lost: %d", late))
	}
	return errors.Join(errs...)
}
