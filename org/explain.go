package org

import (
	"context"
	"errors"
	"slices"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/store"
)

// Question asks for a decision without anything being done.
type Question struct {
	Permission   string
	Member       string   // about this member instead of the caller
	Roles        []string // with a token that names these roles; nil: the caller's own, or none for another member
	Organization string   // on this one; the caller's when empty
}

// Reasons of an [Explanation].
const (
	ReasonGranted   = "granted"            // by the roles in GrantedBy
	ReasonMissing   = "permission_missing" // no role grants it
	ReasonDisabled  = "member_disabled"    // whatever the roles grant
	ReasonElsewhere = "other_organization" // it is granted, but not on that organization
	ReasonScope     = "token_scope"        // a role grants it; the token, or its maker, does not
	ReasonOff       = "switched_off"       // it is granted, and the instance's configuration lets nobody use it
)

// Explanation is a decision and why it falls so.
type Explanation struct {
	Permission   access.Permission
	Organization string
	Member       string
	Allowed      bool
	Reason       string
	Roles        []RoleGrant // those that were looked at
}

// RoleGrant is what one role does for a decision.
type RoleGrant struct {
	Name   access.Role
	Known  bool // a built-in role or one of the organization's
	Stored bool // the member has it here; otherwise a token names it
	Grants bool // it grants the permission that is asked about
}

// Explain decides as a route would, and says which roles grant the permission.
// Anybody may ask about itself; about another member, or about roles, needs
// member:read and role:read. It is decided by what the database says now.
func (d *Directory) Explain(ctx context.Context, caller access.Caller, q Question) (Explanation, error) {
	p, known := access.ParsePermission(q.Permission)
	var wrong []fault.Field
	if !known {
		wrong = append(wrong, fault.Field{Name: "permission", Message: "is no permission; GET /api/roles shows those that there are"})
	}
	if q.Member != "" && !ValidMember(q.Member) {
		wrong = append(wrong, fault.Field{Name: "member", Message: "must be the subject of a member's token"})
	}
	if len(q.Roles) > maxMemberRoles {
		wrong = append(wrong, fault.Field{Name: "roles", Message: "must hold at most 32 roles"})
	}
	if q.Organization != "" && q.Organization != access.InstanceOrganization && !access.ValidOrganization(q.Organization) {
		wrong = append(wrong, fault.Field{Name: "organization", Message: "must be an organization's id"})
	}
	if len(wrong) > 0 {
		return Explanation{}, fault.InvalidFields(wrong...)
	}
	self := q.Member == "" && q.Roles == nil
	if !self {
		for _, needed := range []access.Permission{access.MemberRead, access.RoleRead} {
			if err := access.Allow(caller, needed, caller.Organization); err != nil {
				return Explanation{}, err
			}
		}
	}
	return d.explain(ctx, caller, q, p, self)
}

func (d *Directory) explain(ctx context.Context, caller access.Caller, q Question, p access.Permission, self bool) (Explanation, error) {
	subject, said := caller, caller.Said()
	if !self {
		said = roleNames(q.Roles)
		subject = access.NewCaller(caller.Organization, access.User, q.Member, said...)
	}
	k, err := d.kept(ctx, caller.Organization, subject.ID)
	if err != nil {
		return Explanation{}, err
	}
	if !self {
		var granted access.Set
		for _, r := range append(slices.Clone(k.stored), said...) {
			granted |= r.Grants() | k.own[r]
		}
		subject = subject.With(k.stored, granted)
	}
	e := Explanation{Permission: p, Organization: q.Organization, Member: subject.ID}
	if e.Organization == "" {
		e.Organization = caller.Organization
	}
	for _, r := range subject.Roles {
		e.Roles = append(e.Roles, k.grant(r, said, p, e.Organization))
	}
	e.Allowed, e.Reason = e.decide(subject, k.disabled)
	return e, nil
}

// keptOfMember is what the database says of a member, and of its organization's roles.
type keptOfMember struct {
	own      map[access.Role]access.Set
	stored   []access.Role // of the member
	disabled bool
}

// kept looks that up; without a member, of the roles only.
func (d *Directory) kept(ctx context.Context, organization, member string) (k keptOfMember, err error) {
	err = d.db.View(ctx, organization, func(tx *store.Tx) (err error) {
		k = keptOfMember{}
		if k.own, err = ownRoles(ctx, tx, organization); err != nil || member == "" {
			return err
		}
		if k.stored, err = rolesOfMember(ctx, tx, organization, member); err != nil {
			return err
		}
		var at store.Time
		err = tx.Row(ctx, `SELECT disabled_at FROM members WHERE organization = $1 AND id = $2`, organization, member).Scan(&at)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		k.disabled = !at.IsZero()
		return err
	})
	return k, err
}

// grant says what one role does for the decision about p on organization; said are the
// roles that the member's token names.
func (k *keptOfMember) grant(r access.Role, said []access.Role, p access.Permission, organization string) RoleGrant {
	set, ofOwn := k.own[r]
	g := RoleGrant{Name: r, Known: ofOwn || r.Known(), Stored: slices.Contains(k.stored, r) && !slices.Contains(said, r), Grants: (set | r.Grants()).Has(p)}
	// What an operator holds on the reserved organization is granted by its role too.
	g.Grants = g.Grants || r == access.Operator && access.Allow(access.NewCaller("", access.User, "", r), p, organization) == nil
	return g
}

// decide gives the decision about subject and its reason, from the grants of the roles.
func (e *Explanation) decide(subject access.Caller, disabled bool) (allowed bool, reason string) {
	switch {
	case disabled:
		return false, ReasonDisabled
	case access.Allow(subject, e.Permission, e.Organization) == nil:
		return true, ReasonGranted
	case e.Organization != subject.Organization && subject.Can(e.Permission):
		return false, ReasonElsewhere
	case slices.ContainsFunc(e.Roles, func(g RoleGrant) bool { return g.Grants }):
		return false, ReasonScope
	}
	return false, ReasonMissing
}

func roleNames(names []string) []access.Role {
	roles := make([]access.Role, len(names))
	for i, name := range names {
		roles[i] = access.Role(name)
	}
	return roles
}
