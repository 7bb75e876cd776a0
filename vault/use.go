package vault

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/internal/recheck"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
)

// Opened is a credential that may be used, and is open or can be opened.
type Opened struct {
	ID        string
	Name      string
	Version   int64
	Previous  int64              // the version in grace that [Vault.OpenPrevious] opens; 0: none
	Scope     *catalog.Scope     // never nil: with the paths of the service where it has none of its own
	Failover  []string           // see [Bounds]
	Injection *catalog.Injection // nil: it was not opened yet, see Open

	// Open opens it, once for all that use it, and gives its injection. Errors:
	// [ErrUnreadable], and Unavailable when too many keys are being derived. It is
	// called after Scope was looked at.
	Open func(context.Context) (*catalog.Injection, error)
}

// useKey is how the gateway asks for a credential; an empty name asks for the
// organization's default. decoded is a second name, for where there is none of the first;
// it follows from the first.
type useKey struct{ organization, service, name, decoded string }

type opened struct {
	Opened
	disabled  bool
	expiresAt time.Time
	until     time.Time // when the grace of Previous ends, or that of this version itself where it is in grace

	ready   atomic.Pointer[catalog.Injection]
	opening chan struct{} // holds one while it is being opened
	open    func(context.Context) (*catalog.Injection, error)
	used    func() // tells that it is being used
}

// inject gives the injection, which is made when it is first asked for. One that
// asks does it for all, to the end, also where it leaves.
func (o *opened) inject(ctx context.Context) (*catalog.Injection, error) {
	o.used()
	if in := o.ready.Load(); in != nil {
		return in, nil
	}
	select {
	case o.opening <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-o.opening }()
	if in := o.ready.Load(); in != nil {
		return in, nil
	}
	in, err := o.open(context.WithoutCancel(ctx))
	if err != nil {
		return nil, public(err)
	}
	o.ready.Store(in)
	return in, nil
}

// OpenForUse gives the caller's organization's credential for a service, to be
// put on a request by [Opened.Open]. It needs credential:use. An empty name means
// the one named Default, or the only one there is.
//
// Errors: [ErrNone], [ErrNoneNamed], [ErrAmbiguous], [ErrExpired],
// [ErrDisabled], [ErrOutOfScope], [ErrUnreadable], and Unavailable when the database is away
// for longer than Options.StaleMax or too many keys are being derived.
func (v *Vault) OpenForUse(ctx context.Context, caller access.Caller, service *catalog.Service, name string) (Opened, error) {
	return v.openKey(ctx, caller, service, v.opened, useKey{caller.Organization, service.Name, name, ""})
}

func (v *Vault) openKey(ctx context.Context, caller access.Caller, service *catalog.Service, kept *recheck.Cache[useKey, *opened], key useKey) (Opened, error) {
	if err := access.Allow(caller, access.CredentialUse, caller.Organization); err != nil {
		return Opened{}, err
	}
	if key.name != "" && key.decoded == "" && checkName(key.name) != nil { // no credential can have it, and the database may refuse it
		return Opened{}, ErrNoneNamed
	}
	o, err := kept.Get(ctx, key, func(ctx context.Context) (*opened, error) { return v.load(ctx, caller, service, key) })
	if err != nil {
		return Opened{}, public(err)
	}
	if !caller.MayUse(o.ID) {
		v.log.Security(ctx, caller, audit.Event{
			Action: audit.AccessDeny, Reason: ErrOutOfScope.Code, Permission: access.CredentialUse.String(),
			Targets: []audit.Target{{Type: "credential", ID: o.ID}},
		})
		return Opened{}, ErrOutOfScope
	}
	now := v.opts.Now()
	if o.disabled {
		return Opened{}, ErrDisabled
	}
	if o.open == nil || !o.expiresAt.IsZero() && !now.Before(o.expiresAt) {
		return Opened{}, ErrExpired // without a way to open it: it was expired when it was loaded
	}
	ready := o.Opened
	ready.Injection, ready.Open = o.ready.Load(), o.inject
	if !now.Before(o.until) {
		ready.Previous = 0
	}
	return ready, nil
}

// load finds what key asks for.
func (v *Vault) load(ctx context.Context, caller access.Caller, service *catalog.Service, key useKey) (*opened, error) {
	id, err := v.find(ctx, key)
	if err != nil {
		return nil, err
	}
	row := rowKey{key.organization, id}
	var previous int64
	var until time.Time
	c, sealed, err := v.readWith(ctx, row, func(tx *store.Tx, _ *Credential) (err error) {
		previous, until, err = inGrace(ctx, tx, row)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil, ErrNone // deleted between the two looks
	}
	if err != nil {
		return nil, err
	}
	o := &opened{
		Opened:   Opened{ID: c.ID, Name: c.Name, Version: c.Version, Previous: previous, Scope: service.Within(c.Scope), Failover: c.Failover},
		disabled: c.disabled, expiresAt: c.ExpiresAt, until: until, opening: make(chan struct{}, 1),
	}
	if c.disabled || c.Status == Expired {
		return o, nil // what may not be used is not opened
	}
	o.used = func() { v.uses.Note(row.organization, row.id, v.opts.Now()) }
	o.open = func(ctx context.Context) (*catalog.Injection, error) {
		return v.prepare(ctx, caller, row, c, sealed, service)
	}
	return o, nil
}

// prepare opens sealed as a version of c and makes it ready for the wire.
func (v *Vault) prepare(ctx context.Context, caller access.Caller, key rowKey, c Credential, sealed seal.Sealed, service *catalog.Service) (*catalog.Injection, error) {
	fields, err := v.open(ctx, caller, key, c, sealed)
	if err != nil {
		return nil, err
	}
	defer fields.Wipe()
	injection, err := service.Prepare(fields.ExposeSecrets())
	if err != nil {
		return nil, ErrUnreadable.Because(err)
	}
	return injection, nil
}

// find gives the id of the credential that key asks for.
func (v *Vault) find(ctx context.Context, key useKey) (string, error) {
	var found []string
	err := v.db.View(ctx, key.organization, func(tx *store.Tx) error {
		found = nil
		if key.name != "" {
			for _, name := range key.names() {
				err := v.collect(ctx, tx, &found, `SELECT id FROM credentials WHERE organization = $1 AND service = $2 AND name = $3`,
					key.organization, key.service, name)
				if err != nil || len(found) > 0 {
					return err
				}
			}
			return nil
		}
		err := v.collect(ctx, tx, &found, `SELECT id FROM credentials WHERE organization = $1 AND service = $2 AND name = $3`,
			key.organization, key.service, DefaultName)
		if err != nil || len(found) == 1 {
			return err
		}
		return v.collect(ctx, tx, &found, `SELECT id FROM credentials WHERE organization = $1 AND service = $2 LIMIT 2`,
			key.organization, key.service)
	})
	switch {
	case err != nil:
		return "", err
	case len(found) > 1:
		return "", ErrAmbiguous
	case len(found) == 1:
		return found[0], nil
	case key.name != "":
		return "", ErrNoneNamed
	}
	return "", ErrNone
}

func (v *Vault) collect(ctx context.Context, tx *store.Tx, ids *[]string, query string, args ...any) error {
	return tx.Each(ctx, func(scan func(...any) error) error {
		var id string
		if err := scan(&id); err != nil {
			return err
		}
		*ids = append(*ids, id)
		return nil
	}, query, args...)
}

// forget makes the next use of the credential look at the database.
func (v *Vault) forget(organization, service, name string) {
	v.opened.Forget(useKey{organization, service, name, ""})
	v.opened.Forget(useKey{organization, service, "", ""})
	v.encoded.ForgetWhere(func(key useKey) bool {
		return key.organization == organization && key.service == service && (key.name == name || key.decoded == name)
	})
}

// turn is how often [Vault.Run] does its work.
const turn = 2 * time.Second

// Run records last uses, and destroys versions whose grace is over, every two
// seconds until ctx ends. Uses are then recorded once more.
func (v *Vault) Run(ctx context.Context) {
	var timer sync.WaitGroup
	timer.Go(func() { v.runTimer(ctx) })
	defer timer.Wait()
	tick := time.NewTicker(turn)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			v.recordUses(ctx)
			v.recordFallbacks(ctx)
		case <-ctx.Done():
			ctx, cancel := afterwards(ctx)
			defer cancel()
			v.recordUses(ctx)
			v.recordFallbacks(ctx)
			return
		}
	}
}

func (v *Vault) recordUses(ctx context.Context) {
	v.uses.Record(ctx, v.db, "credentials", func(organization string, err error) {
		v.opts.Logger.WarnContext(ctx, "last uses could not be recorded", "organization", organization, "error", err)
	})
}
