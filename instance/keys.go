package instance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/auth"
	"github.com/gatehouse-io/gatehouse/masterkey"
	"github.com/gatehouse-io/gatehouse/policy"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/vault"
	"github.com/gatehouse-io/gatehouse/webhook"
)

// SealedColumns gives every column of the database that holds sealed values, of
// all rooms. A test compares it with the tables.
func SealedColumns() []masterkey.Column {
	return slices.Concat(
		vault.SealedColumns(),
	)
}

// Destroy deletes everything that is sealed for an organization, its salt among
// it, and what the rooms keep beside that.
func Destroy(ctx context.Context, tx *store.Tx, organization string) (rows int64, err error) {
	rows, err = masterkey.Destroy(ctx, tx, SealedColumns(), organization)
	if err != nil {
		return 0, err
	}
	for _, destroy := range []func(context.Context, *store.Tx, string) (int64, error){
		vault.Destroy, webhook.Destroy, auth.DestroyTokens, policy.Destroy,
	} {
		n, err := destroy(ctx, tx, organization)
		if err != nil {
			return 0, err
		}
		rows += n
	}
	return rows, nil
}

// forget drops from memory what was opened of an organization that is deleted.
func (in *Instance) forget(organization string) { in.Vault.Forget(organization) }

// keyOptions says with which secrets the database is opened. JWT_SECRET may
// always open, so that moving off it is a rotation like any other.
func (c *Config) keyOptions(log *slog.Logger) masterkey.Options {
	o := masterkey.Options{
		Environment: c.Environment, Secret: seal.NewSecret(c.EncryptionKey), Fallback: seal.NewSecret(c.JWTSecret),
		Columns: SealedColumns(), Logger: log,
	}
	o.Old, o.Readings = c.oldSecrets()
	return o
}

// processName names this process for people: its machine and its number there.
func processName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s:%d", host, os.Getpid())
}

// OfflineKeys are the master keys as a command of the command line works with
// them, beside running servers or without any. Close it when it is done with.
type OfflineKeys struct {
	*masterkey.Keys
	db *store.DB
}

// OpenKeys checks the configuration and opens the database and its master keys,
// also where a secret is missing: the command tells of it. Warnings go to w. A
// database that is not there, or has no keys yet, is an error.
func OpenKeys(ctx context.Context, c Config, w io.Writer) (*OfflineKeys, error) {
	db, log, err := openForCommand(ctx, c, w)
	if err != nil {
		return nil, err
	}
	if err := wantMasterKey(ctx, db); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	opts := c.keyOptions(log)
	opts.Incomplete = true
	keys, err := masterkey.Open(ctx, db, audit.New(db, audit.Options{Logger: log}), opts)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &OfflineKeys{keys, db}, nil
}

// Close closes the database.
func (o *OfflineKeys) Close() error { return o.db.Close() }
