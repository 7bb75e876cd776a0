package vault

import (
	"context"
	"errors"
	"slices"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
)

// ImportOptions says what to import.
type ImportOptions struct {
	Variables map[string]string // values by variable name; those of no service are not looked at
	Only      string            // the one service to import; all when empty
	DryRun    bool              // work out the report and store nothing
	Test      bool              // ask the provider first, and do not store what it does not know
	Progress  func(done, total int)
}

// ImportResult is what became of one service's variables.
type ImportResult string

// The results. With [ImportOptions.DryRun], ImportDone is what would be.
const (
	ImportDone       ImportResult = "imported"   // stored, read back, opened and found equal
	ImportSame       ImportResult = "same"       // a credential is stored already and holds every value found
	ImportDifferent  ImportResult = "different"  // a credential is stored already and holds something else; it stays
	ImportIncomplete ImportResult = "incomplete" // some required fields were found and others not
	ImportInvalid    ImportResult = "invalid"    // a value is not what the service's field must be
	ImportRefused    ImportResult = "refused"    // the provider does not accept it, see Test; it is not stored
	ImportFailed     ImportResult = "failed"     // Err says why; nothing of it is stored unless Err says so
	ImportSkipped    ImportResult = "skipped"    // no required field was found: placeholders, or OPENAI_MODEL alone
	ImportAbsent     ImportResult = "absent"     // no variable of the service is set
)

// ServiceImport is what became of one service's variables. It names variables
// and never holds a value.
type ServiceImport struct {
	Service      string
	Result       ImportResult
	Fields       []string        // found, in the catalogue's order
	Variables    []string        // that the fields were read from, or that hold the same values
	Missing      []string        // variables of required fields that are not set or hold a placeholder
	Placeholders []string        // variables that hold a placeholder
	References   []string        // of these, the ones that say where the secret is kept instead
	Unread       []string        // second names of a field, set to something else than the first, which was read
	Problems     []ImportProblem // with ImportInvalid
	Warnings     []ImportProblem // values without the provider's usual form; they were imported
	ID           string          // of the stored credential, where there is one
	Status       Status          // of the stored credential; one that is disabled or expired is not injected
	Unexpanded   []string        // variables whose value holds ${NAME} or $(...), which was taken as it stands
	Test         *TestResult     // what the provider said, with [ImportOptions.Test]
	Err          error           // with ImportFailed
}

// ImportProblem says what is wrong with a value, never the value.
type ImportProblem struct {
	Variable string
	Field    string
	Message  string // such as "must not hold spaces"
}

// ImportReport says what became of every service, by name.
type ImportReport struct{ Services []ServiceImport }

// Count gives how many services ended in one of the results.
func (r ImportReport) Count(results ...ImportResult) int {
	n := 0
	for _, s := range r.Services {
		if slices.Contains(results, s.Result) {
			n++
		}
	}
	return n
}

// The errors of an import.
var (
	ErrUnknownOrganization = fault.New(fault.Denied, "unknown_organization", "This organization is not known here. Make it with `gatehouse org create`.")
	errNotEqual            = fault.New(fault.Internal, "import_not_verified", "What was stored did not open to the same values, so it was deleted again. Look at the database before another try.")
	errNotUndone           = fault.New(fault.Internal, "import_not_verified", "It was stored, but could not be read back or deleted again. Import once more to see whether the stored values are the same.")
	errChanged             = fault.New(fault.Conflict, "credential_changed", "It was stored, and somebody changed it before it was read back. Import once more to see whether the stored values are the same.")
	errNotTried            = fault.New(fault.Unavailable, "import_stopped", "It was not tried after the failure before it. Import once more.")
)

// Import stores a credential named [DefaultName] for each service that
// variables are given for, by the names in [catalog.Field.Env]. It needs
// credential:create.
//
// A credential that is there already stays as it is, so that a second run
// changes nothing; the report says whether it holds the same values.
// Placeholders such as "your_api_key_here" are taken for not set. Each
// credential is written in one transaction with its event, then read back,
// opened and compared; where that fails it is deleted again.
//
// With opts.Test, which needs credential:test, the provider is asked about each
// that would be stored: what is invalid is not, everything else is, with what
// the provider said kept as its last test. Each test is an event, in a dry run
// too: the key has been out.
//
// What becomes of one service is in the report, and a failure leaves what was
// done before it. An error means that nothing was done: the caller lacks the
// permission, [ErrUnknownOrganization], or Invalid for Only.
func (v *Vault) Import(ctx context.Context, caller access.Caller, opts ImportOptions) (ImportReport, error) {
	if err := access.Allow(caller, access.CredentialCreate, caller.Organization); err != nil {
		return ImportReport{}, err
	}
	if opts.Test {
		if err := access.Allow(caller, access.CredentialTest, caller.Organization); err != nil {
			return ImportReport{}, err
		}
	}
	services := slices.DeleteFunc(v.services.Services(), func(s *catalog.Service) bool {
		return !s.NeedsCredential() || opts.Only != "" && s.Name != opts.Only
	})
	if len(services) == 0 {
		return ImportReport{}, fault.InvalidFields(fault.Field{Name: "only", Message: "must be one of " + v.serviceNames()})
	}
	if err := v.checkOrganization(ctx, caller.Organization); err != nil {
		return ImportReport{}, public(err)
	}
	var report ImportReport
	stopped := false
	for i, service := range services {
		r, fields := gather(service, opts.Variables)
		switch {
		case r.Result != "":
		case stopped:
			r.fail(errNotTried)
		default:
			v.importService(ctx, caller, service, fields, opts, &r)
			stopped = ctx.Err() != nil || r.Err != nil && databaseAway(r.Err)
		}
		report.Services = append(report.Services, r)
		if opts.Progress != nil {
			opts.Progress(i+1, len(services))
		}
	}
	return report, nil
}

func (r *ServiceImport) fail(err error) { r.Result, r.Err = ImportFailed, public(err) }

func (v *Vault) checkOrganization(ctx context.Context, organization string) error {
	var deleted store.Time
	err := v.db.View(ctx, organization, func(tx *store.Tx) error {
		return tx.Row(ctx, `SELECT deleted_at FROM organizations WHERE id = $1`, organization).Scan(&deleted)
	})
	if errors.Is(err, store.ErrNotFound) || err == nil && !deleted.IsZero() {
		return ErrUnknownOrganization
	}
	return err
}

// importService takes fields, which hold at least one, into the vault and
// completes r.
func (v *Vault) importService(ctx context.Context, caller access.Caller, service *catalog.Service, fields map[string]string, opts ImportOptions, r *ServiceImport) {
	if stored, err := v.compareStored(ctx, caller, fields, r); stored || err != nil {
		if err != nil {
			r.fail(err)
		}
		return
	}
	if r.missRequired(service, fields) {
		return
	}
	problems, warnings := service.Check(fields)
	r.Problems, r.Warnings = r.byVariable(service, problems), r.byVariable(service, warnings)
	if len(problems) > 0 {
		r.Result = ImportInvalid
		return
	}
	r.Result = ImportDone
	if opts.Test && !v.testImport(ctx, caller, service, fields, r) || opts.DryRun {
		return
	}
	c, _, err := v.create(ctx, caller, NewCredential{Service: service.Name, Fields: fields}, audit.CredentialImport)
	if errors.Is(err, ErrExists) { // somebody was faster
		switch stored, again := v.compareStored(ctx, caller, fields, r); {
		case again != nil:
			r.fail(again)
		case !stored: // and has taken it away again
			r.fail(err)
		}
		return
	}
	if err != nil {
		r.fail(err)
		return
	}
	r.ID, r.Status = c.ID, c.Status
	// Also an import that is stopped leaves nothing unverified.
	verify, cancel := context.WithTimeout(context.WithoutCancel(ctx), verifyTimeout)
	defer cancel()
	if err := v.verifyImport(verify, caller, c, fields); err != nil {
		r.fail(err)
		return
	}
	if r.Test != nil {
		v.keepImportTest(verify, caller, c, r)
	}
}

// compareStored looks for the service's credential and, where there is one,
// puts into r whether it holds fields.
func (v *Vault) compareStored(ctx context.Context, caller access.Caller, fields map[string]string, r *ServiceImport) (stored bool, err error) {
	id, err := v.find(ctx, useKey{caller.Organization, r.Service, DefaultName, ""})
	if errors.Is(err, ErrNoneNamed) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	key := rowKey{caller.Organization, id}
	c, sealed, err := v.read(ctx, key)
	if err != nil {
		return false, err
	}
	opened, err := v.open(ctx, caller, key, c, sealed)
	if err != nil {
		return false, err
	}
	defer opened.Wipe()
	r.ID, r.Status, r.Result = c.ID, c.Status, ImportSame
	if !holds(opened, fields) {
		r.Result = ImportDifferent
	}
	return true, nil
}

// holds reports whether every one of fields is in opened with the same value.
func holds(opened seal.Fields, fields map[string]string) bool {
	for name, value := range fields {
		stored, ok := opened[name]
		if !ok || !stored.Equal(seal.NewSecret(value)) {
			return false
		}
	}
	return true
}
