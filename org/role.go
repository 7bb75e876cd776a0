package org

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/store"
)

// Role is a named set of permissions: a built-in one, or an organization's own.
type Role struct {
	Name        access.Role
	Description string
	Permissions access.Set // inside the organization
	BuiltIn     bool
	CreatedAt   time.Time // zero for a built-in one, as what follows
	CreatedBy   string
	UpdatedAt   time.Time
	UpdatedBy   string
}

// RoleInput is what people decide of a role.
type RoleInput struct {
	Description string   // at most 200 characters
	Permissions []string // names out of the closed list, at least one
}

// The bounds of an organization's own roles.
const (
	maxRoles       = 100 // of one organization
	maxDescription = 200 // characters
)

// The errors of roles that callers meet.
var (
	errRoleNotFound = fault.New(fault.NotFound, "role_not_found", "There is no such role.")
	errRoleExists   = fault.New(fault.Conflict, "role_exists", "The organization has a role of this name.")
	errRoleBuiltIn  = fault.New(fault.Conflict, "role_built_in", "Built-in roles cannot be changed; make a role of your own under another name.")
	errTooManyRoles = fault.New(fault.Conflict, "too_many_roles", fmt.Sprintf("An organization may have %d roles of its own; delete one first.", maxRoles))
)

var roleForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._-]{0,63}$`)

// likeBuiltIn reports whether name could be taken for a built-in role's.
func likeBuiltIn(name string) bool {
	return slices.ContainsFunc(access.Roles(), func(r access.Role) bool { return strings.EqualFold(string(r), name) })
}

// Roles lists the built-in roles and the caller's organization's own, by name
// within each. It needs role:read.
func (d *Directory) Roles(ctx context.Context, caller access.Caller) ([]Role, error) {
	if err := access.Allow(caller, access.RoleRead, caller.Organization); err != nil {
		return nil, err
	}
	var own []Role
	err := d.db.View(ctx, caller.Organization, func(tx *store.Tx) error {
		own = nil
		return tx.Each(ctx, func(scan func(...any) error) error {
			var r Role
			var permissions string
			var created, updated store.Time
			if err := scan(&r.Name, &r.Description, &permissions, &created, &r.CreatedBy, &updated, &r.UpdatedBy); err != nil {
				return err
			}
			r.Permissions, r.CreatedAt, r.UpdatedAt = readSet(permissions), created.Time, updated.Time
			own = append(own, r)
			return nil
		}, `SELECT name, description, permissions, created_at, created_by, updated_at, updated_by FROM roles WHERE organization = $1 ORDER BY name`, caller.Organization)
	})
	if err != nil {
		return nil, err
	}
	var all []Role
	for _, r := range access.Roles() {
		all = append(all, Role{Name: r, Permissions: r.Grants(), BuiltIn: true})
	}
	return append(all, own...), nil
}

// CreateRole makes a role of the caller's organization: 1 to 64 letters,
// digits, '.', '_' or '-' beginning with a letter, and not a built-in name in
// any case of letters. It needs role:manage, and every permission that the role
// is to grant. It holds on this instance at once, on others within [Fresh].
func (d *Directory) CreateRole(ctx context.Context, caller access.Caller, name string, in RoleInput) (Role, error) {
	if err := access.Allow(caller, access.RoleManage, caller.Organization); err != nil {
		return Role{}, err
	}
	granted, wrong := checkRole(in)
	switch {
	case likeBuiltIn(name):
		return Role{}, errRoleBuiltIn
	case !roleForm.MatchString(name):
		wrong = append(wrong, fault.Field{Name: "name", Message: "must be 1 to 64 letters, digits, '.', '_' or '-', starting with a letter"})
	}
	if len(wrong) > 0 {
		return Role{}, fault.InvalidFields(wrong...)
	}
	if err := caller.MayGive(granted); err != nil {
		return Role{}, err
	}
	now := store.At(d.opts.Now())
	r := Role{Name: access.Role(name), Description: in.Description, Permissions: granted, CreatedAt: now.Time, CreatedBy: caller.ID, UpdatedAt: now.Time, UpdatedBy: caller.ID}
	err := d.changeRoles(ctx, caller, audit.RoleCreate, name, granted, func(tx *store.Tx) (before access.Set, err error) {
		var n int64
		if err := tx.Row(ctx, `SELECT count(*) FROM roles WHERE organization = $1`, caller.Organization).Scan(&n); err != nil {
			return 0, err
		}
		if n >= maxRoles {
			return 0, errTooManyRoles
		}
		_, err = tx.Exec(ctx, `INSERT INTO roles (organization, name, description, permissions, revision, created_at, created_by, updated_at, updated_by)
			VALUES ($1, $2, $3, $4, 1, $5, $6, $5, $6)`, caller.Organization, name, in.Description, writeSet(granted), now, caller.ID)
		return 0, err
	})
	if errors.Is(err, store.ErrExists) {
		return Role{}, errRoleExists
	}
	return r, err
}

// UpdateRole replaces what a role of the caller's organization says. It needs
// role:manage, and every permission that the role grants before and after.
// Those who have the role have the new permissions within [Fresh].
func (d *Directory) UpdateRole(ctx context.Context, caller access.Caller, name string, in RoleInput) (Role, error) {
	if err := d.mayChangeRole(caller, name); err != nil {
		return Role{}, err
	}
	granted, wrong := checkRole(in)
	if len(wrong) > 0 {
		return Role{}, fault.InvalidFields(wrong...)
	}
	if err := caller.MayGive(granted); err != nil {
		return Role{}, err
	}
	now := store.At(d.opts.Now())
	r := Role{Name: access.Role(name), Description: in.Description, Permissions: granted, UpdatedAt: now.Time, UpdatedBy: caller.ID}
	err := d.changeRoles(ctx, caller, audit.RoleUpdate, name, granted, func(tx *store.Tx) (before access.Set, err error) {
		if before, err = roleNotAbove(ctx, tx, caller, name); err != nil {
			return before, err
		}
		_, err = tx.Exec(ctx, `UPDATE roles SET description = $1, permissions = $2, revision = revision + 1, updated_at = $3, updated_by = $4
			WHERE organization = $5 AND name = $6`, in.Description, writeSet(granted), now, caller.ID, caller.Organization, name)
		if err != nil {
			return before, err
		}
		var created store.Time
		err = tx.Row(ctx, `SELECT created_at, created_by FROM roles WHERE organization = $1 AND name = $2`, caller.Organization, name).Scan(&created, &r.CreatedBy)
		r.CreatedAt = created.Time
		return before, err
	})
	return r, err
}

// DeleteRole deletes a role of the caller's organization, and takes it from the
// members that have it here. It needs role:manage, and every permission that
// the role grants. A token that still names it gets nothing by it, within
// [Fresh].
func (d *Directory) DeleteRole(ctx context.Context, caller access.Caller, name string) error {
	if err := d.mayChangeRole(caller, name); err != nil {
		return err
	}
	err := d.changeRoles(ctx, caller, audit.RoleDelete, name, 0, func(tx *store.Tx) (before access.Set, err error) {
		if before, err = roleNotAbove(ctx, tx, caller, name); err != nil {
			return before, err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM member_roles WHERE organization = $1 AND role = $2`, caller.Organization, name); err != nil {
			return before, err
		}
		_, err = tx.Exec(ctx, `DELETE FROM roles WHERE organization = $1 AND name = $2`, caller.Organization, name)
		return before, err
	})
	if err == nil {
		d.known.ForgetWhere(func(key memberKey) bool { return key.organization == caller.Organization })
	}
	return err
}

// mayChangeRole is what can be said of a change before the database is asked.
func (d *Directory) mayChangeRole(caller access.Caller, name string) error {
	if err := access.Allow(caller, access.RoleManage, caller.Organization); err != nil {
		return err
	}
	if access.Role(name).Known() {
		return errRoleBuiltIn
	}
	if !roleForm.MatchString(name) {
		return errRoleNotFound
	}
	return nil
}

// roleNotAbove gives what a role grants, and refuses a change of one that grants what
// the caller does not hold.
func roleNotAbove(ctx context.Context, tx *store.Tx, caller access.Caller, name string) (access.Set, error) {
	var permissions string
	err := tx.Row(ctx, `SELECT permissions FROM roles WHERE organization = $1 AND name = $2`, caller.Organization, name).Scan(&permissions)
	if errors.Is(err, store.ErrNotFound) {
		return 0, errRoleNotFound
	}
	if err != nil {
		return 0, err
	}
	before := readSet(permissions)
	return before, caller.MayGive(before)
}

func (d *Directory) changeRoles(ctx context.Context, caller access.Caller, action audit.Action, name string, granted access.Set, change func(*store.Tx) (before access.Set, err error)) error {
	err := d.db.Update(ctx, caller.Organization, func(tx *store.Tx) error {
		before, err := change(tx)
		if err != nil {
			return err
		}
		e := audit.Event{
			Organization: caller.Organization, Action: action, Outcome: audit.Success, Permission: access.RoleManage.String(),
			Targets: []audit.Target{{Type: "role", ID: name}},
		}
		e.Metadata = make(map[string]any)
		if action != audit.RoleDelete {
			e.Metadata["permissions"] = strings.Join(granted.Names(), " ")
		}
		if action != audit.RoleCreate {
			e.Metadata["before.permissions"] = strings.Join(before.Names(), " ")
		}
		return d.log.Append(ctx, tx, caller, e)
	})
	d.roles.Forget(caller.Organization)
	return err
}

// checkRole reads what people decide of a role; a rejected name is not repeated.
func checkRole(in RoleInput) (access.Set, []fault.Field) {
	var wrong []fault.Field
	if !utf8.ValidString(in.Description) || utf8.RuneCountInString(in.Description) > maxDescription || strings.ContainsFunc(in.Description, control) {
		wrong = append(wrong, fault.Field{Name: "description", Message: fmt.Sprintf("must be at most %d characters without control characters", maxDescription)})
	}
	granted, mistakes := ParsePermissions(in.Permissions)
	return granted, append(wrong, mistakes...)
}

// ParsePermissions reads the names of permissions that are to be given inside
// an organization: at least one, each out of the closed list, none that is an
// operator's alone. Fields says what is wrong, by the place in permissions.
func ParsePermissions(names []string) (granted access.Set, wrong []fault.Field) {
	if len(names) == 0 || len(names) > len(access.Permissions()) {
		return 0, []fault.Field{{Name: "permissions", Message: "must hold at least one permission, each once"}}
	}
	for i, name := range names {
		field := fmt.Sprintf("permissions[%d]", i)
		p, known := access.ParsePermission(name)
		switch {
		case !known:
			wrong = append(wrong, fault.Field{Name: field, Message: "is no permission; GET /api/roles shows those that there are"})
		case !access.Tenant().Has(p):
			wrong = append(wrong, fault.Field{Name: field, Message: "is for those who operate the instance, and cannot be given inside an organization"})
		case granted.Has(p):
			wrong = append(wrong, fault.Field{Name: field, Message: "is named twice"})
		}
		granted |= access.SetOf(p)
	}
	return granted, wrong
}

// writeSet gives a set as the database keeps it, a JSON array of names.
func writeSet(s access.Set) string {
	b, _ := json.Marshal(s.Names()) // strings always marshal
	return string(b)
}

// readSet reads what writeSet wrote. A permission that is no more grants nothing.
func readSet(text string) (s access.Set) {
	var names []string
	if json.Unmarshal([]byte(text), &names) != nil {
		return 0
	}
	for _, name := range names {
		p, _ := access.ParsePermission(name)
		s |= access.SetOf(p)
	}
	return s & access.Tenant()
}
