package org

import (
	"context"
	"errors"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/store"
)

type memberKey struct{ organization, member string }

// standing is what the database says of an organization and a member.
type standing struct {
	exists, deleted, disabled bool
	roles                     []access.Role // that the member has here
}

// Admit says whether the member may act in the organization, as [Directory.Resolve]
// does.
func (d *Directory) Admit(ctx context.Context, caller access.Caller) error {
	_, err := d.Resolve(ctx, caller)
	return err
}

// Resolve gives the caller with everything it holds: what the roles of its
// token grant, the organization's own roles among them, and what the roles
// grant that are stored for it here. It gives [ErrUnknown], [ErrDeleted] or
// [ErrDisabled] when the member may not act in the organization. With
// [Options.FromTokens] an unknown organization is made.
func (d *Directory) Resolve(ctx context.Context, caller access.Caller) (access.Caller, error) {
	if caller.Organization == access.InstanceOrganization { // nobody's: it has no members
		return caller, ErrUnknown
	}
	key := memberKey{caller.Organization, caller.ID}
	s, err := d.known.Get(ctx, key, func(ctx context.Context) (standing, error) { return d.look(ctx, key) })
	if err != nil {
		return caller, fault.DatabaseAway.Because(err)
	}
	if !s.exists && d.opts.FromTokens {
		_, err := d.create(ctx, access.SystemCaller(caller.Organization), caller.Organization, caller.Organization)
		if err != nil && !errors.Is(err, errExists) {
			return caller, fault.DatabaseAway.Because(err)
		}
		d.known.Forget(key)
		s.exists = true
	}
	switch {
	case s.deleted:
		return caller, ErrDeleted
	case !s.exists:
		return caller, ErrUnknown
	case s.disabled:
		return caller, ErrDisabled
	}
	return d.granted(ctx, caller, s.roles)
}

func (d *Directory) look(ctx context.Context, key memberKey) (s standing, err error) {
	err = d.db.View(ctx, key.organization, func(tx *store.Tx) error {
		s = standing{}
		return tx.Each(ctx, func(scan func(...any) error) error {
			var deleted, disabled store.Time
			var role *string
			if err := scan(&deleted, &disabled, &role); err != nil {
				return err
			}
			s.exists, s.deleted, s.disabled = true, !deleted.IsZero(), !disabled.IsZero()
			if role != nil {
				s.roles = append(s.roles, access.Role(*role))
			}
			return nil
		}, `SELECT o.deleted_at, m.disabled_at, r.role FROM organizations o
			LEFT JOIN members m ON m.organization = o.id AND m.id = $2
			LEFT JOIN member_roles r ON r.organization = o.id AND r.member = $2
			WHERE o.id = $1 ORDER BY r.role`, key.organization, key.member)
	})
	return s, err
}

// granted gives the caller with its stored roles, and with what the
// organization's own roles among all of them grant.
func (d *Directory) granted(ctx context.Context, caller access.Caller, stored []access.Role) (access.Caller, error) {
	if len(stored) == 0 && allBuiltIn(caller.Roles) {
		return caller, nil
	}
	granted, err := d.Grants(ctx, caller.Organization, append(stored[:len(stored):len(stored)], caller.Roles...))
	if err != nil {
		return caller, err
	}
	return caller.With(stored, granted), nil
}

// Grants gives what roles grant in the organization now, built-in ones and its
// own together; a name that is neither grants nothing. It asks for no
// permission: it is for the door, not for a route. Its answer is at most
// [Fresh] old.
func (d *Directory) Grants(ctx context.Context, organization string, roles []access.Role) (access.Set, error) {
	var granted access.Set
	var own map[access.Role]access.Set
	for _, r := range roles {
		if r.Known() {
			granted |= r.Grants()
			continue
		}
		if own == nil {
			var err error
			own, err = d.roles.Get(ctx, organization, func(ctx context.Context) (map[access.Role]access.Set, error) { return d.lookRoles(ctx, organization) })
			if err != nil {
				return 0, fault.DatabaseAway.Because(err)
			}
		}
		granted |= own[r]
	}
	return granted, nil
}

func allBuiltIn(roles []access.Role) bool {
	for _, r := range roles {
		if !r.Known() {
			return false
		}
	}
	return true
}

func (d *Directory) lookRoles(ctx context.Context, organization string) (roles map[access.Role]access.Set, err error) {
	err = d.db.View(ctx, organization, func(tx *store.Tx) error {
		roles, err = ownRoles(ctx, tx, organization)
		return err
	})
	return roles, err
}

// ownRoles reads what each of an organization's own roles grants.
func ownRoles(ctx context.Context, tx *store.Tx, organization string) (map[access.Role]access.Set, error) {
	roles := make(map[access.Role]access.Set)
	err := tx.Each(ctx, func(scan func(...any) error) error {
		var name, permissions string
		if err := scan(&name, &permissions); err != nil {
			return err
		}
		roles[access.Role(name)] = readSet(permissions)
		return nil
	}, `SELECT name, permissions FROM roles WHERE organization = $1`, organization)
	return roles, err
}
