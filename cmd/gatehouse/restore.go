package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/gatehouse-io/gatehouse/backup"
	"github.com/gatehouse-io/gatehouse/instance"
)

type restoreCommand struct {
	readBackup
	SkipOpening bool `help:"Do not open what is sealed, nor ask who made the backup; for a restore without the master keys."`
	Unsigned    bool `help:"Take a backup that is not signed: of an earlier Gatehouse, or made where the master key was not set."`
}

// Help is printed by --help.
func (restoreCommand) Help() string {
	return `Restores a backup into the database that DATABASE_URL or GATEHOUSE_DATA names,
of either kind, which has to be empty or not there yet. The backup has to be signed
with one of ENCRYPTION_KEY and ENCRYPTION_KEYS_OLD, and every sealed value is opened
with them, before anything is kept: after an error the database is as empty as before.
Start no server on it meanwhile.

Examples:

  gatehouse restore gatehouse-monday.age --identity backup-key.txt
  DATABASE_URL=postgres://... gatehouse restore gatehouse-monday.age --identity backup-key.txt`
}

// Run restores and reports.
func (r restoreCommand) Run(ctx context.Context) error {
	c, err := loadConfig(orDev)
	if err != nil {
		return err
	}
	return r.open(func(b *backup.Reader) error {
		if err := os.MkdirAll(c.Data, 0o700); err != nil {
			return fmt.Errorf("GATEHOUSE_DATA cannot be made: %w", err)
		}
		progress, done := showProgress("restoring", "rows")
		restored, err := b.Restore(ctx, commandLine(), c.Database(), backup.RestoreOptions{
			Environment: c.Environment, Secrets: c.MasterSecrets(), Columns: instance.SealedColumns(), SkipOpening: r.SkipOpening, Unsigned: r.Unsigned,
			Progress: func(_ string, rows int64) { progress(rows, -1) },
		})
		done()
		if errors.Is(err, backup.ErrUnsigned) {
			return fmt.Errorf("%w; if it was kept where nobody else writes, restore it with --unsigned", err)
		}
		if err != nil {
			return describe(err)
		}
		if err := printReport(os.Stdout, restored.Report); err != nil {
			return err
		}
		return printSeals(c, restored)
	})
}

func printSeals(c instance.Config, restored backup.Restored) error {
	if restored.Seals == nil {
		fmt.Println("\nRestored. Nothing that is sealed was opened; `gatehouse doctor` opens one value for each key.")
		return nil
	}
	fmt.Printf("\nRestored, and all %d sealed values open.\n", restored.Seals.Total())
	for id, n := range restored.Seals.Lost {
		fmt.Printf("%d more were given up with the lost key %s and stay closed.\n", n, id)
	}
	if n := restored.Seals.Destroyed; n > 0 {
		fmt.Printf("%d more belong to deleted organizations and stay closed for good.\n", n)
	}
	if c.EncryptionKey == "" && restored.Header.SealingKey != "" {
		fmt.Println("They open with JWT_SECRET, since ENCRYPTION_KEY is not set: give them a key of their own.")
	}
	return nil
}
