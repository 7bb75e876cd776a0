package backup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/masterkey"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
)

// RestoreOptions says how [Reader.Restore] goes about it.
type RestoreOptions struct {
	Environment string                        // GATEHOUSE_ENV; the backup must be of the same
	Secrets     []seal.Secret                 // the master keys at hand
	Columns     []masterkey.Column            // that hold what is sealed
	SkipOpening bool                          // do not open what is sealed; no keys are needed then, and who made the backup is not asked
	Unsigned    bool                          // take a backup that is not signed, or not with one of Secrets
	Logger      *slog.Logger                  // may be nil
	Progress    func(what string, rows int64) // "restoring", then "opening"; may be nil
}

// Restored says what a restore has brought back.
type Restored struct {
	Report
	Seals *masterkey.SealReport // what opened; nil with SkipOpening
}

// The errors of [Reader.Restore], beside [ErrDamaged].
var (
	ErrNotEmpty    = errors.New("the database is not empty; restore into a new one")
	ErrOtherTables = errors.New("the database has tables of a later version than the backup's; restore into a database without tables, which are then made")
	ErrNewerBackup = ErrNewerFormat
)

// Restore puts the backup into the database at url, which is made where it is a
// SQLite file that does not exist yet, and has to be empty. It needs org:manage.
//
// The tables are made as they were when the backup was made, filled in one
// transaction, the signature at the backup's end is checked, every sealed value is
// opened with the given keys, and only then is the transaction committed: after an
// error the database is as empty as before. At last the tables are brought up to date,
// and the event is written, which is the one row that the restored trail has more.
func (r *Reader) Restore(ctx context.Context, caller access.Caller, url string, opts RestoreOptions) (Restored, error) {
	var done Restored
	if err := access.Allow(caller, access.OrgManage, access.InstanceOrganization); err != nil {
		return done, err
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Progress == nil {
		opts.Progress = func(string, int64) {}
	}
	h := r.Header
	if h.Environment != "" && h.Environment != opts.Environment {
		return done, fmt.Errorf("the backup is of the environment %q, and GATEHOUSE_ENV says %q; what is sealed opens in its own alone", h.Environment, opts.Environment)
	}
	var ring *seal.Keyring
	if !opts.SkipOpening {
		if !h.Signed && !opts.Unsigned {
			return done, ErrUnsigned
		}
		var err error
		if ring, err = h.keyring(opts.Secrets); err != nil { // before hours of work
			return done, err
		}
	}
	fresh, err := freshRows(ctx, h.Migration, opts.Logger)
	if err != nil {
		return done, err
	}
	if err := r.fill(ctx, url, fresh, ring, opts, &done); err != nil {
		return done, err
	}

	db, err := store.Open(ctx, url, opts.Logger) // up to date
	if err != nil {
		return done, fmt.Errorf("everything is restored, but: %w", err)
	}
	err = db.Update(ctx, access.InstanceOrganization, func(tx *store.Tx) error {
		return audit.New(db, audit.Options{}).Append(ctx, tx, caller, audit.Event{
			Action: audit.BackupRestore, Outcome: audit.Success, Permission: access.OrgManage.String(),
			Targets:  []audit.Target{{Type: "backup", ID: h.ID}},
			Metadata: map[string]any{"rows": done.Rows, "opened": !opts.SkipOpening, "signed": done.Signing == Genuine},
		})
	})
	if err != nil {
		err = fmt.Errorf("everything is restored, but the restore could not be recorded: %w", err)
	}
	return done, errors.Join(err, db.Close())
}

// keyring gives a keyring of the secrets that are the backup's keys. The one
// that seals has to be among them.
func (h *Header) keyring(secrets []seal.Secret) (*seal.Keyring, error) {
	ring, err := seal.NewKeyring(seal.Options{})
	if err != nil || h.SealingKey == "" {
		return ring, err
	}
	for _, k := range h.Keys {
		for _, secret := range secrets {
			key, err := seal.NewMasterKey(k.record(), secret)
			if errors.Is(err, seal.ErrWrongSecret) {
				continue
			}
			if err != nil {
				return nil, damaged("the record of key %s: %v", k.ID, err)
			}
			if err := ring.Add(key); err != nil {
				return nil, err
			}
			break
		}
	}
	sealing, err := seal.ParseKeyID(h.SealingKey)
	if err != nil {
		return nil, damaged("its header names no sealing key")
	}
	if ring.SetSealing(sealing) != nil {
		return nil, fmt.Errorf("the backup is sealed under key %s, which is neither ENCRYPTION_KEY nor among ENCRYPTION_KEYS_OLD; set ENCRYPTION_KEY to the secret that it was made of%s",
			sealing, h.near(sealing, secrets))
	}
	return ring, nil
}

// near gives a hint where one of the secrets would be that of the key in another form.
func (h *Header) near(id seal.KeyID, secrets []seal.Secret) string {
	for _, k := range h.Keys {
		for _, secret := range secrets {
			if k.ID != id {
				continue
			}
			if how := masterkey.Near(k.record(), secret); how != "" {
				return ": one that is set, " + how + ", is that secret"
			}
		}
	}
	return ""
}

// fill makes the tables and puts everything in, in one transaction.
func (r *Reader) fill(ctx context.Context, url string, fresh map[string]int64, ring *seal.Keyring, opts RestoreOptions, done *Restored) (err error) {
	db, err := store.OpenAt(ctx, url, r.Header.Migration, opts.Logger)
	if errors.Is(err, store.ErrOtherSchema) {
		return ErrOtherTables
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return db.Fill(ctx, func(tx *store.Tx) error {
		tables, err := emptied(ctx, tx, fresh)
		if err != nil {
			return err
		}
		in := &inserter{ctx: ctx, tx: tx, tables: tables}
		done.Report, err = r.each(ctx, sink{begin: in.begin, row: in.row, end: func(int64) error { return in.flush() }},
			opts.Secrets, func(rows int64) { opts.Progress("restoring", rows) })
		if err != nil {
			return err
		}
		if done.Signing == Signed && !opts.SkipOpening && !opts.Unsigned {
			return ErrOtherSigner
		}
		if len(done.Tables) != len(tables) {
			return damaged("it has %d tables, where its version of Gatehouse had %d", len(done.Tables), len(tables))
		}
		if opts.SkipOpening {
			return nil
		}
		seals, err := masterkey.OpenSeals(ctx, tx, opts.Columns, ring, r.Header.Environment, 0, func(n int64) { opts.Progress("opening", n) })
		if err != nil {
			return err
		}
		done.Seals = &seals
		if err := seals.Err(); err != nil {
			return fmt.Errorf("nothing was restored, since not all would open: %w", err)
		}
		return nil
	})
}

// freshRows gives how many rows each table of a new database has: some migrations
// put one in.
func freshRows(ctx context.Context, migration int64, log *slog.Logger) (rows map[string]int64, err error) {
	dir, err := os.MkdirTemp("", "gatehouse-restore-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	db, err := store.OpenAt(ctx, filepath.Join(dir, "fresh.db"), migration, log)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	current, newest, err := db.Migration(ctx)
	if err == nil && (current != migration || migration > newest) {
		err = ErrNewerBackup
	}
	if err != nil {
		return nil, err
	}
	rows = make(map[string]int64)
	err = db.ViewAcross(ctx, func(tx *store.Tx) error {
		tables, err := tx.Tables(ctx)
		if err != nil {
			return err
		}
		for _, t := range tables {
			var n int64
			if err := tx.Row(ctx, `SELECT count(*) FROM `+quoted(t.Name)).Scan(&n); err != nil {
				return err
			}
			rows[t.Name] = n
		}
		return nil
	})
	return rows, err
}

// emptied makes sure that the database holds no more than a new one does, takes
// that out, and gives its tables.
func emptied(ctx context.Context, tx *store.Tx, fresh map[string]int64) ([]store.Table, error) {
	tables, err := tx.Tables(ctx)
	if err != nil {
		return nil, err
	}
	for _, t := range tables {
		rows, known := fresh[t.Name]
		if !known {
			return nil, ErrNotEmpty // somebody else's table
		}
		var n int64
		err := tx.Row(ctx, `SELECT count(*) FROM (SELECT 1 FROM `+quoted(t.Name)+` LIMIT `+strconv.FormatInt(rows+1, 10)+`) AS found`).Scan(&n)
		if err != nil {
			return nil, err
		}
		if n != rows {
			return nil, ErrNotEmpty
		}
	}
	for _, t := range slices.Backward(tables) { // children before those they refer to
		if _, err := tx.Exec(ctx, `DELETE FROM `+quoted(t.Name)); err != nil {
			return nil, err
		}
	}
	return tables, nil
}

// inserter puts rows into one table after the other, several in a statement.
type inserter struct {
	ctx    context.Context
	tx     *store.Tx
	tables []store.Table

	table  table
	args   []any
	rows   int // waiting
	bytes  int // of them
	prefix string
}

// The bounds of one INSERT. SQLite takes 32,766 parameters.
const (
	insertRows  = 100
	insertBytes = 4 << 20
)

func (in *inserter) begin(t table) error {
	i := slices.IndexFunc(in.tables, func(known store.Table) bool { return known.Name == t.name })
	if i < 0 {
		return damaged("it has a table %s, which its version of Gatehouse had not", t.name)
	}
	known, err := columnsOf(in.tables[i])
	if err != nil {
		return err
	}
	var columns, names []string
	for i, name := range t.columns {
		columns, names = append(columns, name+" "+t.kinds[i]), append(names, quoted(name))
	}
	slices.Sort(known)
	slices.Sort(columns)
	if !slices.Equal(known, columns) {
		return damaged("the columns of its table %s are not those that its version of Gatehouse had", t.name)
	}
	in.table, in.prefix = t, `INSERT INTO `+quoted(t.name)+` (`+strings.Join(names, ", ")+`) VALUES `
	return nil
}

func (in *inserter) row(cells []cell) error {
	for i := range cells {
		in.args = append(in.args, cells[i].value())
		in.bytes += len(cells[i].text) + len(cells[i].b) + 8
	}
	if in.rows++; in.rows < insertRows && in.bytes < insertBytes && len(in.args)+len(cells) < 32_000 {
		return nil
	}
	return in.flush()
}

func (in *inserter) flush() error {
	if in.rows == 0 {
		return nil
	}
	var b strings.Builder
	b.WriteString(in.prefix)
	for i := range in.args {
		switch {
		case i == 0:
			b.WriteString("(")
		case i%len(in.table.columns) == 0:
			b.WriteString("), (")
		default:
			b.WriteString(", ")
		}
		b.WriteString("$" + strconv.Itoa(i+1))
	}
	b.WriteString(")")
	_, err := in.tx.Exec(in.ctx, b.String(), in.args...)
	if err != nil {
		return fmt.Errorf("rows of the table %s could not be put in: %w", in.table.name, withoutValues(err))
	}
	clear(in.args)
	in.args, in.rows, in.bytes = in.args[:0], 0, 0
	return nil
}

// withoutValues gives the kind of a database's refusal: its own words can repeat
// a row.
func withoutValues(err error) error {
	for _, known := range []error{store.ErrRefused, store.ErrExists, store.ErrUnavailable, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, known) {
			return known
		}
	}
	return errors.New("the database does not take them")
}
