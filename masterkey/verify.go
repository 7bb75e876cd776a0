package masterkey

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
)

// Finding names a sealed value.
type Finding struct {
	Column string // table.column
	Row    string // its primary key, such as acme/cred_.../3
	Key    string // the id of the key that it names, "" where it is malformed
	Reason string // why it does not open, one of the reasons below
}

// The reasons why a value does not open.
const (
	NotOpened   = "not_opened"  // altered, or not the row that it was sealed for
	Malformed   = "malformed"   // not the bytes of a sealed value
	KeyMissing  = "key_missing" // no secret here opens the key that it names
	SaltMissing = "no_salt"     // its organization was deleted
)

func (r *sealedRow) finding(reason string) Finding {
	f := Finding{Column: r.column.String(), Row: r.name(), Reason: reason}
	if id := seal.Sealed(r.sealed).KeyID(); !id.IsZero() {
		f.Key = id.String()
	}
	return f
}

// reasonOf gives why a value does not open, "" where err says nothing of it.
func reasonOf(err error) string {
	var unknown seal.UnknownKeyError
	switch {
	case err == nil:
		return ""
	case errors.Is(err, errNoSalt), errors.Is(err, seal.ErrSalt):
		return SaltMissing
	case errors.As(err, &unknown):
		return KeyMissing
	case errors.Is(err, seal.ErrMalformed), errors.Is(err, seal.ErrUnsupported), errors.Is(err, seal.ErrIterations):
		return Malformed
	case errors.Is(err, seal.ErrNotOpened), errors.Is(err, seal.ErrContext):
		return NotOpened
	}
	return ""
}

// VerifyOptions says how much to verify.
type VerifyOptions struct {
	Sample   int                        // how many values, spread over all; 0: every one
	Progress func(checked, total int64) // told every now and then; may be nil
}

// VerifyReport is what a verification found.
type VerifyReport struct {
	Total      int64 // sealed values there are: those that were met, where it is complete
	Checked    int64
	Unreadable int64
	Findings   []Finding // those that do not open, the first 1,000
	Complete   bool      // false: ctx ended before all that was asked for was checked
}

const maxFindings = 1000

// Verify opens sealed values and names those that do not open. It keeps no
// plaintext. It needs key:read. When the deadline of ctx passes, what was found
// so far is given, without Complete.
func (k *Keys) Verify(ctx context.Context, caller access.Caller, o VerifyOptions) (VerifyReport, error) {
	if err := access.Allow(caller, access.KeyRead, access.InstanceOrganization); err != nil {
		return VerifyReport{}, err
	}
	if o.Sample < 0 {
		return VerifyReport{}, fault.InvalidFields(fault.Field{Name: "sample", Message: "must be 0, which is every value, or more"})
	}
	if err := k.refresh(ctx); err != nil {
		return VerifyReport{}, err
	}
	var report VerifyReport
	total, err := k.countElse(ctx, seal.KeyID{}) // which nothing is under
	if err != nil {
		return VerifyReport{}, err
	}
	report.Total = total
	v := verifier{k: k, o: o, report: &report, every: 1, want: total}
	if o.Sample > 0 && int64(o.Sample) < total {
		v.want = int64(o.Sample)
		v.every = (total + v.want - 1) / v.want
	}
	for i := range k.opts.Columns {
		if err := v.column(ctx, &k.opts.Columns[i]); err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				return report, nil
			}
			return report, err
		}
	}
	report.Total = v.seen // what came and went meanwhile is neither missing nor too many
	report.Complete = true
	return report, nil
}

type verifier struct {
	k      *Keys
	o      VerifyOptions
	report *VerifyReport
	every  int64 // one value of this many is opened
	want   int64
	seen   int64
	told   time.Time
}

func (v *verifier) column(ctx context.Context, c *Column) error {
	var after []any
	for {
		var rows []sealedRow
		err := v.k.db.ViewAcross(ctx, func(tx *store.Tx) (err error) {
			rows, err = c.page(ctx, tx, anyKey, seal.KeyID{}, after, batchRows)
			return err
		})
		if err != nil || len(rows) == 0 {
			return err
		}
		after = slices.Clone(rows[len(rows)-1].key())
		for i := range rows {
			v.seen++
			if v.seen%v.every != 0 {
				continue
			}
			err := v.check(ctx, &rows[i])
			reason := reasonOf(err)
			if err != nil && reason == "" {
				return err
			}
			v.note(&rows[i], reason)
		}
	}
}

func (v *verifier) check(ctx context.Context, r *sealedRow) error {
	c, salt, err := r.prepare(v.k.opts.Environment)
	if err != nil {
		return err
	}
	for {
		err := v.k.ring.Check(ctx, c, salt, r.sealed)
		if !errors.Is(err, seal.ErrBusy) {
			return err
		}
		if err := store.Wait(ctx, 50*time.Millisecond); err != nil { // requests go first
			return err
		}
	}
}

func (v *verifier) note(r *sealedRow, reason string) {
	v.report.Checked++
	if reason != "" {
		v.report.Unreadable++
		if len(v.report.Findings) < maxFindings {
			v.report.Findings = append(v.report.Findings, r.finding(reason))
		}
	}
	if now := time.Now(); v.o.Progress != nil && now.Sub(v.told) > 200*time.Millisecond {
		v.told = now
		v.o.Progress(v.report.Checked, v.want)
	}
}
