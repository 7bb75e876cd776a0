// Package vault keeps organizations' credentials: it creates, lists, changes,
// rotates, reveals and opens them.
//
// A credential is one organization's fields for one service of the catalogue,
// under a name. Its values are sealed (package seal) into a version; what is
// listed (field names, masks, a keyed fingerprint) is kept beside it, so that
// listing opens nothing.
//
// Each method takes the caller, checks its permission, does the work and
// writes the audit event; a change and its event commit in one transaction. An
// id of another organization is [ErrNotFound], like one that does not exist.
//
// # Versions
//
// Of a credential's versions exactly one is active. New values can be staged,
// tested and then activated ([Vault.Stage], [Vault.TestVersion],
// [Vault.Activate]), or become active at once ([Vault.Rotate], [Vault.Update]).
// The version that is replaced is destroyed in the same transaction, or kept for
// a grace of at most [MaxGrace]. In grace it can be brought back
// ([Vault.RollBack]), and it serves a request whose provider refuses the active
// one ([Vault.OpenPrevious]), which is an event and a mark on the credential.
//
// The end of a grace is an instant in the database: [Vault.Run] destroys what is
// due, on whatever instance is first, and no version is used past its instant
// even where no instance ran. To destroy is to delete the row with the sealed
// bytes; a line of history stays ([Vault.Versions]) that says who, when and why,
// never what. SQLite overwrites deleted bytes; PostgreSQL keeps them until it has
// vacuumed the table and used their room again.
//
// # Opening for use
//
// [Vault.OpenForUse] is what the gateway calls for each request. An opened
// credential is kept in memory for [Fresh] without a look at the database, and
// for Options.StaleMax while the database is away. Changes by this instance
// hold at once, changes by others within [Fresh].
//
// # Scope
//
// [Bounds] say what a credential may be used for: methods, paths, models, and
// who. They are the gateway's to hold; [Opened] carries them, and the values are
// opened by [Opened.Open] only after they were looked at. A change of them is an
// update like any other, and its event says the new scope.
//
// # Looking after what is stored
//
// A [Checker] opens and tests stored credentials on a schedule, and tells of
// those that expire, are not used, get old, do not open, or are not accepted by
// their provider: once each, as an event and to the organization's webhooks
// (package webhook). [Checker.Health] is the list of what holds at the moment.
//
// # Tests and expiry
//
// [Vault.Test] and [Vault.TestStored] ask the provider. Those of one
// organization that ask the same at the same time share one question; each is
// an event of its own. The expiry of a credential is the earlier of what a
// person set and what the provider last said; the provider's is replaced by its
// next word, goes with the values it was said of, and never takes the place of
// an earlier one that a person set.
//
// # Sealed columns
//
// [SealedColumns] describes the columns of this package that hold sealed values,
// for package masterkey. Whatever writes one calls masterkey.Admit in the same
// transaction.
package vault

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"time"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/internal/recheck"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
)

// Fresh is how long an opened credential is used without a look at the database.
const Fresh = 3 * time.Second

// ExpiringWithin is how long before its expiry a credential's status is expiring.
const ExpiringWithin = 30 * 24 * time.Hour

// DefaultName is the name of a credential that was given none.
const DefaultName = "Default"

// Status is what a credential is good for at a moment.
type Status string

// The statuses. The first that holds, in this order, is the status.
const (
	Disabled Status = "disabled" // switched off; never injected
	Expired  Status = "expired"  // past its expiry; never injected
	Expiring Status = "expiring" // within [ExpiringWithin] of its expiry
	Active   Status = "active"
)

// Credential is what may be told of a credential: everything but its values.
type Credential struct {
	ID          string
	Service     string
	Name        string
	Status      Status
	Version     int64             // the active sealed version, from 1
	Revision    int64             // grows with every change; the ETag
	Fields      []string          // names, sorted
	Hints       map[string]string // masks by field
	Fingerprint string            // hex; alike for alike secrets inside one organization
	ExpiresAt   time.Time         // zero: never
	LastUsedAt  time.Time         // zero: never
	LastTest    json.RawMessage   // as the tester stored it, nil when never tested
	FallbackAt  time.Time         // when the provider last refused the active version and the one in grace served; zero: never since it is active
	CreatedAt   time.Time
	CreatedBy   string
	UpdatedAt   time.Time

	Bounds

	disabled bool
}

// statusAt works out the status of a moment.
func (c *Credential) statusAt(now time.Time) Status {
	switch {
	case c.disabled:
		return Disabled
	case !c.ExpiresAt.IsZero() && !now.Before(c.ExpiresAt):
		return Expired
	case !c.ExpiresAt.IsZero() && !now.Add(ExpiringWithin).Before(c.ExpiresAt):
		return Expiring
	}
	return Active
}

// The errors that callers meet, each safe to show.
var (
	ErrNotFound   = fault.New(fault.NotFound, "credential_not_found", "There is no such credential.")
	ErrExists     = fault.New(fault.Conflict, "credential_exists", "A credential of this service and name exists already; change or rotate that one, or choose another name.")
	ErrStale      = fault.New(fault.Stale, "credential_changed", "The credential was changed meanwhile; read it again and repeat the change.")
	ErrRevealOff  = fault.New(fault.Denied, "reveal_disabled", "Revealing is switched off on this instance (CREDENTIAL_REVEAL=true switches it on).")
	ErrNone       = fault.New(fault.NoCredential, "credential_missing", "The organization has no credential for this service; store one with POST /api/api-credentials.")
	ErrNoneNamed  = fault.New(fault.NoCredential, "credential_missing", "The organization has no credential of that name for this service.")
	ErrAmbiguous  = fault.New(fault.NoCredential, "credential_ambiguous", "The organization has several credentials for this service and none is named Default; name one with the header Gatehouse-Credential.")
	ErrExpired    = fault.New(fault.NoCredential, "credential_expired", "The organization's credential for this service has expired; rotate it or move its expiresAt.")
	ErrDisabled   = fault.New(fault.NoCredential, "credential_disabled", "The organization's credential for this service is disabled.")
	ErrOutOfScope = fault.New(fault.Denied, "credential_out_of_scope", "This token may not use this credential; it was made for others.")
	ErrUnreadable = fault.New(fault.Internal, "credential_unreadable", "The stored credential does not open: its row was altered or belongs elsewhere. Store it again, or restore the database.")
	ErrNoService  = fault.New(fault.Invalid, "service_gone", "The service of this credential is not in the catalogue of this instance any more.")
	errBusy       = fault.New(fault.Unavailable, "vault_busy", "Too many keys are being derived at the moment; try again shortly.").After(time.Second)
)

// Options sets up a [Vault].
type Options struct {
	Environment string           // bound into every seal
	Reveal      bool             // whether Reveal is allowed at all
	StaleMax    time.Duration    // how old an opened credential may be while the database is away; 60 s when 0
	Probe       Probe            // asks a provider; without it the tests say indeterminate
	TestReuse   time.Duration    // how long Test gives an answer again without asking; 0 is not at all
	Now         func() time.Time // time.Now when nil
	Logger      *slog.Logger     // nothing is logged when nil
}

// Vault keeps credentials in a database. [Vault.Run] must be running for last
// uses to be recorded and for versions to be destroyed when their grace ends.
type Vault struct {
	db       *store.DB
	server   store.ServerClock
	log      *audit.Log
	services *catalog.Catalog
	ring     *seal.Keyring
	opts     Options
	opened   *recheck.Cache[useKey, *opened]
	encoded  *recheck.Cache[useKey, *opened] // under names that came encoded: one credential may have many
	previous *recheck.Cache[versionKey, *opened]
	uses     store.LastUses
	refused  fallbacks
	lanes    lanes
	tests    *tests
}

// New gives the vault kept in db.
func New(db *store.DB, log *audit.Log, services *catalog.Catalog, ring *seal.Keyring, opts Options) *Vault {
	if opts.StaleMax == 0 {
		opts.StaleMax = time.Minute
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Probe == nil {
		opts.Probe = func(context.Context, *catalog.Service, map[string]string) (catalog.Outcome, time.Duration, error) {
			return catalog.Outcome{Result: catalog.Indeterminate, Detail: "This process does not test credentials."}, 0, nil
		}
	}
	v := &Vault{db: db, server: db.Now, log: log, services: services, ring: ring, opts: opts, tests: newTests(opts.TestReuse, opts.Now)}
	v.refused.last = make(map[versionKey]time.Time)
	cached := recheck.Options{Size: 10_000, Fresh: Fresh, StaleMax: opts.StaleMax, Now: opts.Now, Stale: databaseAway}
	v.opened, v.encoded, v.previous = recheck.New[useKey, *opened](cached), recheck.New[useKey, *opened](cached), recheck.New[versionKey, *opened](cached)
	v.lanes.freed = make(chan struct{}, 1)
	v.opts.Probe = v.lanes.watching(opts.Probe, opts.Now)
	return v
}

func databaseAway(err error) bool {
	return errors.Is(err, store.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)
}

// public gives err in the form that callers may meet: what the database or the
// keyring says becomes one of this package's errors, the original its cause.
func public(err error) error {
	if _, known := fault.As(err); err == nil || known {
		return err
	}
	var unknown seal.UnknownKeyError
	switch {
	case errors.Is(err, store.ErrNotFound):
		return ErrNotFound
	case errors.Is(err, store.ErrExists):
		return ErrExists.Because(err)
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		return fault.DatabaseAway.Because(err)
	case errors.Is(err, seal.ErrBusy):
		return errBusy.Because(err)
	case errors.Is(err, seal.ErrNotOpened), errors.Is(err, seal.ErrMalformed), errors.Is(err, seal.ErrUnsupported),
		errors.Is(err, seal.ErrContext), errors.Is(err, seal.ErrIterations), errors.Is(err, seal.ErrSalt), errors.As(err, &unknown):
		return ErrUnreadable.Because(err)
	}
	return err
}
