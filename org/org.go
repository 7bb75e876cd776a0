// Package org keeps organizations, the tenants, and what is known of their
// members.
//
// An organization's id is the host application's own string. It is made by
// [Directory.Create], or, where the operator allows it, by the first valid
// token that names it. [Directory.Delete] destroys what is sealed for it; its id
// stays dead.
//
// Members need not be registered: whoever brings a valid token is one. What is
// kept of one is whether it is disabled, a name and an address for people, and
// roles that it has here on top of those its token names. [Directory.Resolve]
// gives a caller with all that it holds, and refuses a disabled one whatever its
// token says. Its answers are at most [Fresh] old.
//
// An organization's own roles are sets of permissions out of the closed list of
// package access. Two rules hold for every change: nobody gives a permission
// that it does not hold, and nobody changes a member or a role that is above
// itself.
package org

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/internal/recheck"
	"github.com/gatehouse-io/gatehouse/store"
)

// Fresh is how long an instance trusts what it read of an organization or a
// member before it looks again.
const Fresh = 3 * time.Second

// The bounds of an organization's name, in characters.
const maxName = 200

// Organization is a tenant.
type Organization struct {
	ID        string
	Name      string
	CreatedAt time.Time
}

// The errors of this package that callers meet.
var (
	ErrUnknown  = fault.New(fault.Denied, "unknown_organization", "This organization is not known here. Make it with `gatehouse org create`.")
	ErrDeleted  = fault.New(fault.Denied, "organization_deleted", "This organization was deleted.")
	ErrDisabled = fault.New(fault.Denied, "member_disabled", "This member is disabled in the organization.")
	errExists   = fault.New(fault.Conflict, "organization_exists", "An organization with this id exists, or existed, already.")
)

// Options sets up a [Directory].
type Options struct {
	FromTokens bool             // make unknown organizations that a valid token names
	StaleMax   time.Duration    // how old an answer may be while the database is away; 60 s when 0
	Now        func() time.Time // time.Now when nil

	// Destroy deletes what other rooms hold of an organization and must not
	// outlive it, in the transaction that deletes it, and gives how many rows
	// that were. nil: nothing.
	Destroy func(ctx context.Context, tx *store.Tx, organization string) (rows int64, err error)
	// Forget drops what other rooms have in memory of a deleted organization.
	// nil: nothing.
	Forget func(organization string)
	// MemberDeleted ends what a member that is deleted made, in the transaction
	// that deletes it. nil: nothing.
	MemberDeleted func(ctx context.Context, tx *store.Tx, by access.Caller, organization, member string) error
	Logger        *slog.Logger // nothing is logged when nil
}

// Directory is the list of organizations.
type Directory struct {
	db    *store.DB
	log   *audit.Log
	opts  Options
	known *recheck.Cache[memberKey, standing]
	roles *recheck.Cache[string, map[access.Role]access.Set] // own roles by organization
}

// New gives the directory kept in db.
func New(db *store.DB, log *audit.Log, opts Options) *Directory {
	if opts.StaleMax == 0 {
		opts.StaleMax = time.Minute
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	cached := recheck.Options{
		Size: 50_000, Fresh: Fresh, StaleMax: opts.StaleMax, Now: opts.Now,
		Stale: func(err error) bool {
			return errors.Is(err, store.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)
		},
	}
	return &Directory{
		db: db, log: log, opts: opts,
		known: recheck.New[memberKey, standing](cached), roles: recheck.New[string, map[access.Role]access.Set](cached),
	}
}

// Create makes an organization. It needs org:manage, which operators have.
// An empty name becomes the id.
func (d *Directory) Create(ctx context.Context, caller access.Caller, id, name string) (Organization, error) {
	if err := access.Allow(caller, access.OrgManage, id); err != nil {
		return Organization{}, err
	}
	if name == "" {
		name = id
	}
	if err := check(id, name); err != nil {
		return Organization{}, err
	}
	return d.create(ctx, caller, id, name)
}

func check(id, name string) error {
	var wrong []fault.Field
	if !access.ValidOrganization(id) {
		wrong = append(wrong, fault.Field{Name: "id", Message: "must be 1 to 64 letters, digits, '.', '_' or '-', starting with a letter or a digit"})
	}
	if !utf8.ValidString(name) || utf8.RuneCountInString(name) > maxName || strings.ContainsFunc(name, control) {
		wrong = append(wrong, fault.Field{Name: "name", Message: fmt.Sprintf("must be at most %d characters without control characters", maxName)})
	}
	if len(wrong) > 0 {
		return fault.InvalidFields(wrong...)
	}
	return nil
}

// control reports characters that move a cursor or colour a terminal, those of
// ISO 6429 beyond ASCII (C1) among them.
func control(r rune) bool { return unicode.IsControl(r) }

func (d *Directory) create(ctx context.Context, caller access.Caller, id, name string) (Organization, error) {
	o := Organization{ID: id, Name: name, CreatedAt: store.At(d.opts.Now()).Time}
	err := d.db.Update(ctx, id, func(tx *store.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO organizations (id, name, created_at) VALUES ($1, $2, $3)`, o.ID, o.Name, store.At(o.CreatedAt))
		if err != nil {
			return err
		}
		return d.log.Append(ctx, tx, caller, audit.Event{
			Organization: id, Action: audit.OrgCreate, Outcome: audit.Success, Permission: access.OrgManage.String(),
			Targets: []audit.Target{{Type: "organization", ID: id, Name: name}},
		})
	})
	if errors.Is(err, store.ErrExists) {
		return Organization{}, errExists
	}
	if err != nil {
		return Organization{}, err
	}
	return o, nil
}

// List gives at most limit organizations after the id after, by id. It needs
// org:manage.
func (d *Directory) List(ctx context.Context, caller access.Caller, after string, limit int) ([]Organization, error) {
	if err := access.Allow(caller, access.OrgManage, access.InstanceOrganization); err != nil {
		return nil, err
	}
	var all []Organization
	err := d.db.ViewAcross(ctx, func(tx *store.Tx) error {
		all = nil
		return tx.Each(ctx, func(scan func(...any) error) error {
			var o Organization
			var created store.Time
			if err := scan(&o.ID, &o.Name, &created); err != nil {
				return err
			}
			o.CreatedAt = created.Time
			all = append(all, o)
			return nil
		}, `SELECT id, name, created_at FROM organizations WHERE deleted_at IS NULL AND id > $1 AND id <> $3 ORDER BY id LIMIT $2`,
			after, limit, access.InstanceOrganization)
	})
	return all, err
}
