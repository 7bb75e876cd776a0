package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/store"
)

// Kind says what is wrong, from a closed list, for programs.
type Kind string

// What verification finds.
const (
	EventAltered     Kind = "event_altered"     // an event's bytes are not those that were sealed
	EventMissing     Kind = "event_missing"     // an event was deleted, and no record of retention covers it
	EventAdded       Kind = "event_added"       // an event claims a place that is not its own
	ColumnAltered    Kind = "column_altered"    // a column says something else than the event's bytes
	PersonAltered    Kind = "person_altered"    // personal data is not what the event is bound to
	BlockAltered     Kind = "block_altered"     // a block is not what was sealed, or out of order
	BlockMissing     Kind = "block_missing"     // a block was deleted
	LogMissing       Kind = "log_missing"       // a whole log was deleted, or what says that it exists
	LogAltered       Kind = "log_altered"       // a log's head is not that of its last block
	TreeAltered      Kind = "tree_altered"      // the stored hashes of a tree are not those of its events
	EntryAltered     Kind = "entry_altered"     // the instance's own list of blocks was altered
	SignatureInvalid Kind = "signature_invalid" // a checkpoint is not signed by a key of this instance
	KeyAltered       Kind = "key_altered"       // a signing key is not what its seal says
	RecordInvalid    Kind = "record_invalid"    // a record of retention is not signed, or is of another log
	RolledBack       Kind = "rolled_back"       // a saved checkpoint knows more than the database: it is older, or was cut
	Rewritten        Kind = "rewritten"         // a saved checkpoint knows another past
)

// Finding is something that was tampered with.
type Finding struct {
	Kind         Kind
	Organization string
	Class        string
	Index        int64  // the event's place in the log, or -1
	Event        string // its id, where it is known
	Block        int64  // or -1
	Detail       string // for people; holds nothing of what an event says
}

// LogReport says what was verified of one log.
type LogReport struct {
	Organization, Class string
	Size                int64 // events that the log has
	Verified            int64 // events that were hashed
	Removed             int64 // events that retention removed
	Erased              int64 // events whose personal data was erased
	Blocks              int64
}

// Report is what verification found.
type Report struct {
	Logs     []LogReport
	Events   int64 // that were hashed
	Unsealed int64 // that nothing vouches for yet
	Findings []Finding
	More     int64 // findings that are not listed
	Complete bool  // false: the time was over first
	Took     time.Duration
}

// Clean reports whether everything was looked at and nothing found.
func (r *Report) Clean() bool { return r.Complete && len(r.Findings) == 0 }

// maxFindings bounds the list; the first are the ones that say most.
const maxFindings = 100

// VerifyOptions say what is verified.
type VerifyOptions struct {
	Organization string    // the caller's own where it is empty
	All          bool      // every organization, and the instance's own log; for the command line
	Since        time.Time // only events that were sealed since; what lies before is taken as it was signed
	Checkpoints  []string  // signed notes that were kept elsewhere

	// Progress is called now and then with how many events were hashed, and of
	// how many. nil: not.
	Progress func(done, total int64)
}

// ErrForeign says that a saved checkpoint is none of this instance's.
var ErrForeign = errors.New("a checkpoint of the file is not one of this instance and environment")

// Verify checks an organization's logs: every row, hash, block and signature, that
// nothing is missing, and that the past is that of the saved checkpoints. It needs
// audit:verify. It also checks the instance's own log, without which nobody would
// miss a log's end, or a whole organization; with [access.InstanceOrganization] also
// that every block of every organization is there.
//
// It finds what was changed after it was sealed. An event that somebody with the
// database's password inserts is sealed like any other.
//
// What is found is in the report; an error says that it could not be looked at.
// Where ctx ends first, the report says how far it came, and is not complete.
func (l *Ledger) Verify(ctx context.Context, caller access.Caller, o VerifyOptions) (Report, error) {
	if o.Organization == "" {
		o.Organization = caller.Organization
	}
	if o.All && caller.Type != access.System {
		return Report{}, access.Denied(access.AuditVerify)
	}
	if o.All {
		o.Organization = access.InstanceOrganization
	}
	if err := access.Allow(caller, access.AuditVerify, o.Organization); err != nil {
		return Report{}, err
	}
	v := &verification{ledger: l, options: o, began: time.Now(), badKeys: make(map[string]bool),
		named: caller.Type == access.System || access.Allow(caller, access.AuditVerify, access.InstanceOrganization) == nil}
	err := v.run(ctx)
	if err == nil {
		err = v.broken
	}
	if errors.Is(err, store.ErrDamaged) {
		err = v.damaged(ctx, instanceLog(), err)
	}
	v.report.Took = time.Since(v.began)
	v.report.Complete = err == nil && !v.unread
	if errors.Is(err, context.DeadlineExceeded) && len(v.report.Logs) > 0 {
		err = nil
	}
	return v.report, err
}

// verification is one run of [Ledger.Verify].
type verification struct {
	ledger  *Ledger
	options VerifyOptions
	named   bool // the caller may know which organizations there are
	began   time.Time
	keys    keyring
	badKeys map[string]bool // that were told of
	reread  string          // the note for which keys were read again
	broken  error           // keys could not be read
	saved   []savedCheckpoint
	report  Report
	total   int64
	told    int64

	listTold bool // that the instance's list of blocks was altered
	unread   bool // something could not be read, which was told of
}

func (v *verification) find(f Finding) {
	if len(v.report.Findings) == maxFindings {
		v.report.More++
		return
	}
	v.report.Findings = append(v.report.Findings, f)
}

// ofLog finds something about a log as a whole.
func (v *verification) ofLog(kind Kind, id logID, block int64, format string, args ...any) {
	v.find(Finding{Kind: kind, Organization: id.organization, Class: id.class, Index: -1, Block: block, Detail: fmt.Sprintf(format, args...)})
}

func (v *verification) progress(events int64) {
	v.report.Events += events
	if v.options.Progress != nil && (v.report.Events-v.told >= 10_000 || events == 0) {
		v.told = v.report.Events
		v.options.Progress(v.report.Events, max(v.total, v.report.Events))
	}
}

func (v *verification) run(ctx context.Context) error {
	if err := v.openKeys(ctx); err != nil {
		return err
	}
	if err := v.readSaved(ctx); err != nil {
		return err
	}
	logs, err := v.listLogs(ctx)
	if err != nil {
		return err
	}
	if err := v.count(ctx); err != nil {
		return err
	}
	ofInstance := v.options.Organization == access.InstanceOrganization
	readable := func(id logID, err error) error { // or told of, and the next one is looked at
		if errors.Is(err, store.ErrDamaged) {
			err = v.damaged(ctx, id, err)
		}
		return err
	}
	if ofInstance {
		if err := readable(instanceLog(), v.instance(ctx)); err != nil {
			return err
		}
	}
	for _, id := range logs {
		if err := readable(id, v.log(ctx, id)); err != nil {
			return err
		}
	}
	if !ofInstance { // what is wrong with the organization's own logs comes first
		if err := readable(instanceLog(), v.instance(ctx)); err != nil {
			return err
		}
	}
	if err := v.compareSaved(ctx); err != nil {
		return err
	}
	v.progress(0)
	return nil
}

// openKeys reads the signing keys, and believes only those that their seals
// vouch for.
func (v *verification) openKeys(ctx context.Context) error {
	stored, err := v.ledger.readKeys(ctx)
	if err != nil {
		return err
	}
	v.keys = nil
	for _, k := range stored {
		switch _, err := v.ledger.check(ctx, k); {
		case errors.Is(err, errKey):
			if !v.badKeys[k.ID] {
				v.badKeys[k.ID] = true
				v.ofLog(KeyAltered, instanceLog(), -1, "the signing key %.16q %s", k.ID, errKey)
			}
		case err != nil:
			return err
		default:
			v.keys = append(v.keys, k.Key)
		}
	}
	return nil
}

// open reads a signed note. The key may be one that was made since they were read.
func (v *verification) open(ctx context.Context, signed string) (Checkpoint, error) {
	c, err := v.keys.open(signed)
	var unknown *note.UnverifiedNoteError
	if !errors.As(err, &unknown) || v.reread == signed {
		return c, err
	}
	v.reread = signed
	if err := v.openKeys(ctx); err != nil {
		v.broken = err // which is no finding
		return Checkpoint{}, err
	}
	return v.keys.open(signed)
}

// only gives the one organization that is looked at, or "".
func (v *verification) only() string {
	if v.options.All {
		return ""
	}
	return v.options.Organization
}

// listLogs gives every log that anything names: the list of logs, the instance's
// list of blocks, blocks, or events that are sealed.
func (v *verification) listLogs(ctx context.Context) ([]logID, error) {
	var logs []logID
	each := func(next func(after logID) (logID, bool, error)) error {
		at := logID{}
		for {
			id, found, err := next(at)
			if err != nil || !found {
				return err
			}
			logs, at = append(logs, id), id
		}
	}
	err := v.view(ctx, func(tx *store.Tx) error {
		logs = nil
		for _, table := range []struct{ name, condition string }{{"events", isSealed}, {"ledger_logs", "class <> 'ledger'"}, {"ledger_blocks", "1 = 1"}, {"ledger_held", "1 = 1"}} {
			err := each(func(at logID) (logID, bool, error) {
				return nextLog(ctx, tx, table.name, table.condition, v.only(), at)
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	before := len(logs)
	err = v.ledger.db.View(ctx, access.InstanceOrganization, func(tx *store.Tx) error {
		logs = logs[:before]
		return each(func(at logID) (id logID, found bool, err error) {
			where, args := `(log_organization, log_class) > ($2, $3)`, []any{access.InstanceOrganization, at.organization, at.class}
			if only := v.only(); only != "" {
				where, args = where+` AND log_organization = $4`, append(args, only)
			}
			err = tx.Row(ctx, `SELECT log_organization, log_class FROM ledger_entries WHERE organization = $1 AND `+where+`
				ORDER BY log_organization, log_class LIMIT 1`, args...).Scan(&id.organization, &id.class)
			if errors.Is(err, store.ErrNotFound) {
				return logID{}, false, nil
			}
			if err == nil && id == at { // as in nextLog
				err = fmt.Errorf("%w: the list of blocks names a log by what is no text", store.ErrDamaged)
			}
			return id, err == nil, err
		})
	})
	slices.SortFunc(logs, func(a, b logID) int {
		return cmp.Or(cmp.Compare(a.organization, b.organization), cmp.Compare(a.class, b.class))
	})
	return slices.Compact(logs), err
}

// view runs fn with the sight of what is verified.
func (v *verification) view(ctx context.Context, fn func(*store.Tx) error) error {
	if v.options.All {
		return v.ledger.db.ViewAcross(ctx, fn)
	}
	return v.ledger.db.View(ctx, v.options.Organization, fn)
}

// count gives how much there is to do, and what is not sealed yet.
func (v *verification) count(ctx context.Context) error {
	where, args := "1 = 1", []any{}
	if only := v.only(); only != "" {
		where, args = "organization = $1", []any{only}
	}
	return v.view(ctx, func(tx *store.Tx) error {
		err := tx.Row(ctx, `SELECT CAST(coalesce(sum(size), 0) AS BIGINT) FROM ledger_logs WHERE class <> 'ledger' AND `+where, args...).Scan(&v.total)
		if err != nil {
			return err
		}
		return tx.Row(ctx, `SELECT count(*) FROM events WHERE log_index IS NULL AND `+where, args...).Scan(&v.report.Unsealed)
	})
}
