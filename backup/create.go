package backup

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/masterkey"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
)

// Options sets up [Create].
type Options struct {
	Gatehouse  string           // the program's version, for the header
	Now        func() time.Time // time.Now when nil
	Progress   func(rows int64) // called now and then; may be nil
	Recipients []age.Recipient  // who can open the file; at least one
	Metadata   map[string]any   // of the event: to whom, in the operator's words

	// Secrets are the master keys at hand. The one that seals signs the backup, or the
	// first where nothing was ever sealed; without it the backup is [Unsigned].
	Secrets []seal.Secret

	// Columns are all that hold sealed values: the header names the master keys that
	// something in them is sealed under, and all that there are where there are none.
	Columns []masterkey.Column
}

// Report says what a backup holds.
type Report struct {
	Header Header
	Tables []TableRows // in the file's order
	Rows   int64
	SHA256 string // of the lines, in hex

	Signing Signing
}

// progressEvery is after how many rows progress is told.
const progressEvery = 1000

// Create writes the database into w, encrypted to the recipients. It needs
// org:manage. Its event is written first, and is in the backup: without the
// event nothing is written. Writers go on meanwhile. The caller makes sure that
// what was written is kept only where Create gave no error.
func Create(ctx context.Context, caller access.Caller, db *store.DB, log *audit.Log, w io.Writer, opts Options) (Report, error) {
	if err := access.Allow(caller, access.OrgManage, access.InstanceOrganization); err != nil {
		return Report{}, err
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	current, newest, err := db.Migration(ctx)
	if err != nil {
		return Report{}, err
	}
	if current > newest {
		return Report{}, errors.New("this database was written by a newer Gatehouse; back it up with that version")
	}
	h := Header{
		Format: formatName, Version: formatVersion, ID: store.NewID("bak"), Gatehouse: opts.Gatehouse,
		Database: db.Kind(),
	}
	err = db.Update(ctx, access.InstanceOrganization, func(tx *store.Tx) error {
		return log.Append(ctx, tx, caller, audit.Event{
			Action: audit.BackupCreate, Outcome: audit.Success, Permission: access.OrgManage.String(),
			Targets: []audit.Target{{Type: "backup", ID: h.ID}}, Metadata: opts.Metadata,
		})
	})
	if err != nil {
		return Report{}, fmt.Errorf("the backup could not be recorded, so none is made: %w", err)
	}
	sealed, err := age.Encrypt(w, opts.Recipients...)
	if err != nil {
		return Report{}, fmt.Errorf("the backup cannot be encrypted: %w", err)
	}
	packed, err := gzip.NewWriterLevel(sealed, gzip.BestSpeed)
	if err != nil {
		return Report{}, err
	}
	h.MadeAt = opts.Now().UTC().Truncate(time.Millisecond)
	report, err := dump(ctx, db, newWriter(packed), h, opts)
	if err != nil {
		return Report{}, err
	}
	return report, errors.Join(packed.Close(), sealed.Close())
}

// dump writes one state of the database as lines.
func dump(ctx context.Context, db *store.DB, w *writer, h Header, opts Options) (Report, error) {
	report := Report{Header: h}
	err := db.ViewAcross(ctx, func(tx *store.Tx) error {
		var err error
		if report.Header.Migration, err = tx.Migration(ctx); err != nil {
			return err
		}
		if err := readKeys(ctx, tx, &report.Header, opts.Columns); err != nil {
			return err
		}
		signers, iterations := report.Header.signers(opts.Secrets)
		report.Header.Signed = len(signers) > 0
		if err := w.object(report.Header); err != nil {
			return err
		}
		tables, err := tx.Tables(ctx)
		if err != nil {
			return err
		}
		for _, t := range tables {
			before := report.Rows
			if err := dumpTable(ctx, tx, w, t, &report, opts.Progress); err != nil {
				return fmt.Errorf("table %s: %w", t.Name, err)
			}
			report.Tables = append(report.Tables, TableRows{t.Name, report.Rows - before})
		}
		report.SHA256 = w.sum()
		end := endLine{End: endOfBackup, Rows: report.Rows, SHA256: report.SHA256}
		if report.Header.Signed {
			if end.Signature, err = sign(signers[0], iterations, report.SHA256); err != nil {
				return fmt.Errorf("the backup cannot be signed: %w", err)
			}
			report.Signing = Genuine
		}
		return w.object(end)
	})
	return report, err
}

// readKeys fills in what recognises the environment and its master keys: the one
// that seals, and those that something is sealed under.
func readKeys(ctx context.Context, tx *store.Tx, h *Header, columns []masterkey.Column) error {
	err := tx.Row(ctx, `SELECT environment, sealing_key FROM instance WHERE id = 1`).Scan(&h.Environment, &h.SealingKey)
	if errors.Is(err, store.ErrNotFound) {
		return nil // nothing was ever sealed
	}
	if err != nil {
		return err
	}
	used, err := masterkey.KeysInUse(ctx, tx, columns)
	if err != nil {
		return err
	}
	return tx.Each(ctx, func(scan func(...any) error) error {
		var k Key
		err := scan(&k.ID, &k.Salt, &k.Iterations, &k.Check)
		if columns == nil || used[k.ID] || k.ID.String() == h.SealingKey {
			h.Keys = append(h.Keys, k)
		}
		return err
	}, `SELECT id, salt, iterations, check_value FROM master_keys ORDER BY id`)
}

func dumpTable(ctx context.Context, tx *store.Tx, w *writer, t store.Table, report *Report, progress func(int64)) error {
	columns, err := columnsOf(t)
	if err != nil {
		return err
	}
	if err := w.object(tableLine{t.Name, columns}); err != nil {
		return err
	}
	names := make([]string, len(t.Columns))
	cells := make([]cell, len(t.Columns))
	dest := make([]any, len(t.Columns))
	for i, c := range t.Columns {
		names[i], cells[i].kind, dest[i] = quoted(c.Name), c.Type, &cells[i]
	}
	var rows int64
	err = tx.Each(ctx, func(scan func(...any) error) error {
		if err := scan(dest...); err != nil {
			return err
		}
		rows++
		if report.Rows++; progress != nil && report.Rows%progressEvery == 0 {
			progress(report.Rows)
		}
		return w.row(cells)
	}, `SELECT `+strings.Join(names, ", ")+` FROM `+quoted(t.Name))
	if err != nil {
		return err
	}
	return w.object(endLine{End: t.Name, Rows: rows})
}
