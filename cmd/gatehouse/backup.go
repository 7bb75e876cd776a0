package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"text/tabwriter"

	"filippo.io/age"

	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/backup"
	"github.com/gatehouse-io/gatehouse/instance"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
)

type backupCommand struct {
	Create backupCreateCommand `cmd:"" default:"withargs" help:"Write the whole database into an encrypted file; also beside a running server."`
	Verify backupVerifyCommand `cmd:"" help:"Read a backup to its end, and say what it holds."`
	Keygen backupKeygenCommand `cmd:"" help:"Make a key pair for backups."`
}

// Help is printed by --help.
func (backupCommand) Help() string { return backupCreateCommand{}.Help() }

type backupCreateCommand struct {
	File           string   `arg:"" name:"FILE" help:"The file to write, which must not exist yet; - writes to standard output."`
	Recipient      []string `placeholder:"age1..." help:"An age public key that can open the backup. May be repeated."`
	RecipientsFile []string `placeholder:"PATH" help:"A file of age public keys, one a line. May be repeated."`
	passphrase
}

// Help is printed by --help.
func (backupCreateCommand) Help() string {
	return `The backup is one state of the whole database, of either kind; requests are
served meanwhile. It is an age file (age-encryption.org): encrypted to public
keys, or with a passphrase from --passphrase-file, GATEHOUSE_BACKUP_PASSPHRASE
or a prompt. The master keys (ENCRYPTION_KEY) are not in it: keep them apart, or
nothing that is restored opens. The one that seals signs the backup, so set it here
too: a restore takes no file that somebody made who only knows the public key.

Examples:

  gatehouse backup keygen backup-key.txt         # once; keep the file off this machine
  gatehouse backup --recipient age1... gatehouse-monday.age
  gatehouse backup --recipient age1... - | aws s3 cp - s3://backups/gatehouse.age
  gatehouse backup verify gatehouse-monday.age --identity backup-key.txt
  gatehouse restore gatehouse-monday.age --identity backup-key.txt`
}

// Run makes the backup.
func (b backupCreateCommand) Run(ctx context.Context) error {
	recipients, to, err := b.recipients()
	if err != nil {
		return err
	}
	c, err := readConfig()
	if err != nil {
		return err
	}
	if err := c.CheckDatabaseFile(); err != nil {
		return err
	}
	db, err := openAsItIs(ctx, c)
	if err != nil {
		return err
	}
	var report backup.Report
	progress, done := showProgress("backing up", "rows")
	err = writeWhole(b.File, func(w io.Writer) error {
		report, err = backup.Create(ctx, commandLine(), db, audit.New(db, audit.Options{}), w, backup.Options{
			Gatehouse: instance.Version, Recipients: recipients, Metadata: to, Columns: instance.SealedColumns(),
			Secrets: secretsAtHand(), Progress: func(rows int64) { progress(rows, -1) },
		})
		return err
	})
	done()
	if err = errors.Join(err, db.Close()); err != nil {
		return describe(err)
	}
	if report.Signing == backup.Unsigned {
		fmt.Fprintln(os.Stderr, "gatehouse: the backup is not signed, since neither ENCRYPTION_KEY nor ENCRYPTION_KEYS_OLD is the master key that seals; a restore takes it with --unsigned only")
	}
	if b.File == "-" {
		return printReport(os.Stderr, report)
	}
	return printReport(os.Stdout, report)
}

// secretsAtHand gives the master keys that the environment holds, or dev mode's. There
// may be none: a backup is made, and verified, without them too.
func secretsAtHand() []seal.Secret {
	c, err := instance.FromEnvironment(environment())
	if err == nil {
		c, err = orDev(c)
	}
	if err != nil {
		return nil
	}
	return c.MasterSecrets()
}

// openAsItIs opens the database without a migration: a server of the version
// before may be running on it.
func openAsItIs(ctx context.Context, c instance.Config) (*store.DB, error) {
	db, err := store.Attach(ctx, c.Database())
	if err != nil {
		return nil, err
	}
	current, newest, err := db.Migration(ctx)
	if err == nil && current < newest {
		err = errors.New("this database is of an earlier Gatehouse; back it up with that version, or start this one on it first")
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// printReport writes what a backup holds.
func printReport(w io.Writer, r backup.Report) error {
	environment := r.Header.Environment
	if environment == "" {
		environment = "none: nothing was ever sealed"
	}
	fmt.Fprintf(w, "Backup %s of %s, by Gatehouse %s from %s.\nEnvironment: %s.\n", r.Header.ID, api.Time(r.Header.MadeAt), r.Header.Gatehouse, r.Header.Database, environment)
	for _, k := range r.Header.Keys {
		seals := ""
		if k.ID.String() == r.Header.SealingKey {
			seals = " (the one that seals)"
		}
		fmt.Fprintf(w, "Needs master key %s%s.\n", k.ID, seals)
	}
	switch r.Signing {
	case backup.Genuine:
		fmt.Fprintln(w, "Signed with the master key.")
	case backup.Signed:
		fmt.Fprintln(w, "Signed, and nobody looked by whom: its master key is not set here.")
	case backup.Unsigned:
		fmt.Fprintln(w, "Not signed: nothing says who made it.")
	}
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "\nROWS\t TABLE")
	for _, t := range r.Tables {
		fmt.Fprintf(table, "%d\t %s\n", t.Rows, t.Table)
	}
	fmt.Fprintf(table, "%d\t in all\n", r.Rows)
	return table.Flush()
}

type backupVerifyCommand struct {
	readBackup
}

// Help is printed by --help.
func (backupVerifyCommand) Help() string {
	return `Decrypts the backup, reads every row, and compares the counts and the hash at
its end, so that a file that was cut off or altered is found. It needs neither
a database nor the master keys. Where ENCRYPTION_KEY is set to the master key that
signed it, it says that too, and a file that somebody else made is refused. Whether
everything opens is what restoring into an empty database shows: do that too, now and
then.

Example:

  gatehouse backup verify gatehouse-monday.age --identity backup-key.txt`
}

// Run reads the backup.
func (v backupVerifyCommand) Run(ctx context.Context) error {
	return v.open(func(r *backup.Reader) error {
		progress, done := showProgress("reading", "rows")
		report, err := r.Check(ctx, secretsAtHand(), func(rows int64) { progress(rows, -1) })
		done()
		if err != nil {
			return err
		}
		fmt.Println("The backup is whole.")
		return printReport(os.Stdout, report)
	})
}

type backupKeygenCommand struct {
	File string `arg:"" name:"FILE" help:"Where to write the secret key; it must not exist yet."`
}

// Help is printed by --help.
func (backupKeygenCommand) Help() string {
	return `Writes a new age identity (X25519), as age-keygen does, and prints its public
key, the recipient. Whoever has the file reads the backups: keep it where the
backups and this server are not.

Example:

  gatehouse backup keygen backup-key.txt`
}

// Run makes the key pair.
func (k backupKeygenCommand) Run() error {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(k.File, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) { // a key that is overwritten opens no backup any more
		return usagef("%s exists already; keygen never replaces a file", k.File)
	}
	if err != nil {
		return fmt.Errorf("the key cannot be written: %w", err)
	}
	_, err = fmt.Fprintf(f, "# public key: %s\n%s\n", identity.Recipient(), identity)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	fmt.Println(identity.Recipient())
	return nil
}
