package instance

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/internal/telemetry"
	"github.com/gatehouse-io/gatehouse/masterkey"
	"github.com/gatehouse-io/gatehouse/org"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/vault"
)

// Offline is the part of an instance that a command of the command line works
// with. It serves nothing, reaches a provider only to test a credential, and
// works beside running servers. Close it when it is done with.
type Offline struct {
	DB    *store.DB
	Audit *audit.Log
	Vault *vault.Vault

	stop context.CancelFunc
	runs sync.WaitGroup
}

// OpenOffline checks the configuration and opens the database, the trail, the
// master keys and the vault, for work on one organization. Warnings go to w. A
// SQLite file that is not there is an error, not a new database: the command was
// started in the wrong place. An unknown organization is an error of package org.
//
// Only a command that gets this far makes the first master key of a database
// that has none, and none does with readOnly: what is refused or changes
// nothing must not settle which secret the server has to start with. In a vault
// without a key there is nothing to open, and nothing can be sealed.
func OpenOffline(ctx context.Context, c Config, w io.Writer, organization string, readOnly bool) (*Offline, error) {
	db, log, err := openForCommand(ctx, c, w)
	if err != nil {
		return nil, err
	}
	o, err := c.offline(ctx, db, log, organization, readOnly)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	o.stop = stop
	o.runs.Go(func() { o.Audit.Run(running) })
	return o, nil
}

func (c *Config) offline(ctx context.Context, db *store.DB, log *slog.Logger, organization string, readOnly bool) (*Offline, error) {
	services, err := c.services()
	if err != nil {
		return nil, err
	}
	out, err := newOutside(services, nil)
	if err != nil {
		return nil, err
	}
	trail := audit.New(db, audit.Options{Logger: log})
	err = org.New(db, trail, org.Options{StaleMax: c.staleMax()}).Admit(ctx, access.NewCaller(organization, access.System, "command line"))
	if err != nil {
		return nil, err
	}
	ring, err := c.offlineKeyring(ctx, db, trail, log, readOnly)
	if err != nil {
		return nil, err
	}
	return &Offline{DB: db, Audit: trail, Vault: vault.New(db, trail, services, ring, c.vaultOptions(out, log))}, nil
}

// openForCommand checks the configuration and opens its database, which has to be
// there, with a logger of warnings to w.
func openForCommand(ctx context.Context, c Config, w io.Writer) (*store.DB, *slog.Logger, error) {
	if err := c.Check(); err != nil {
		return nil, nil, err
	}
	level, err := c.logLevel()
	if err != nil {
		return nil, nil, err
	}
	log, _ := telemetry.NewLogger(w, max(level, slog.LevelWarn), func(context.Context) string { return "" })
	if err := c.CheckDatabaseFile(); err != nil {
		return nil, nil, err
	}
	db, err := store.Open(ctx, c.Database(), log)
	return db, log, err
}

// wantMasterKey says where a database has none: no server has started on it.
func wantMasterKey(ctx context.Context, db *store.DB) error {
	exist, err := masterkey.Exist(ctx, db)
	if err == nil && !exist {
		err = errors.New("this database has no master key yet; the server makes the first when it starts")
	}
	return err
}

func (c *Config) offlineKeyring(ctx context.Context, db *store.DB, trail *audit.Log, log *slog.Logger, readOnly bool) (*seal.Keyring, error) {
	if readOnly {
		if has, err := masterkey.Exist(ctx, db); err != nil {
			return nil, err
		} else if !has {
			return seal.NewKeyring(seal.Options{})
		}
	}
	keys, err := masterkey.Open(ctx, db, trail, c.keyOptions(log))
	if err != nil {
		return nil, err
	}
	return keys.Ring(), nil
}

// CheckDatabaseFile says where a SQLite file was expected and is not.
func (c *Config) CheckDatabaseFile() error {
	if err := store.CheckURL(c.Database()); err != nil { // whose value is not told as a path
		return err
	}
	if !c.NewDatabase() {
		return nil
	}
	path, _ := store.FilePath(c.Database())
	return fault.Mistakef("set GATEHOUSE_DATA or DATABASE_URL as the server has it, or start the server once", "there is no database at %s", path)
}

// Close writes what is left of the trail and closes the database.
func (o *Offline) Close() error {
	o.stop()
	o.runs.Wait()
	return o.DB.Close()
}
