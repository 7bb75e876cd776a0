package org

import (
	"context"
	"errors"
	"fmt"
	"net/mail"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/store"
)

// Member is what is kept of somebody who acts in an organization.
type Member struct {
	ID        string // the subject of its tokens
	Name      string // personal data, as Email: both are erased with the member
	Email     string
	Roles     []access.Role // that it has here, on top of those its tokens name
	Disabled  bool
	CreatedAt time.Time
	UpdatedAt time.Time
}

// MemberChange says what is to change of a member; what is nil stays.
type MemberChange struct {
	Name     *string // at most 200 characters; "" takes it away
	Email    *string // at most 254 bytes; "" takes it away
	Roles    *[]string
	Disabled *bool
}

// maxMemberRoles bounds the roles that one member has here.
const maxMemberRoles = 32

var (
	errMemberNotFound = fault.New(fault.NotFound, "member_not_found", "Nothing is known of such a member. A PUT makes it known.")

	// Who has nothing but a signed token is still let in: an answer that says no more is read as "gone already".
	errNothingToForget = fault.New(fault.NotFound, "member_not_found",
		`Nothing is known of such a member, so nothing was deleted. Whoever has a valid token is let in all the same: PUT {"disabled": true} keeps this id out.`)
)

// ValidMember reports whether id can be a member's: 1 to 256 bytes of UTF-8
// without control characters.
func ValidMember(id string) bool {
	return id != "" && len(id) <= 256 && utf8.ValidString(id) && !strings.ContainsFunc(id, control)
}

// Members lists at most limit members of the caller's organization after the
// id after, by id. It needs member:read.
func (d *Directory) Members(ctx context.Context, caller access.Caller, after string, limit int) ([]Member, error) {
	if err := access.Allow(caller, access.MemberRead, caller.Organization); err != nil {
		return nil, err
	}
	var all []Member
	err := d.db.View(ctx, caller.Organization, func(tx *store.Tx) (err error) {
		all, err = readMembers(ctx, tx, `m.organization = $1 AND m.id > $2 AND m.deleted_at IS NULL ORDER BY m.id LIMIT $3`, caller.Organization, after, limit)
		if err != nil || len(all) == 0 {
			return err
		}
		return readMemberRoles(ctx, tx, caller.Organization, all)
	})
	return all, err
}

// Member gives what is known of one member. It needs member:read.
func (d *Directory) Member(ctx context.Context, caller access.Caller, id string) (m Member, err error) {
	if err := access.Allow(caller, access.MemberRead, caller.Organization); err != nil {
		return Member{}, err
	}
	if !ValidMember(id) {
		return Member{}, errMemberNotFound
	}
	err = d.db.View(ctx, caller.Organization, func(tx *store.Tx) error {
		m, err = readMember(ctx, tx, caller.Organization, id)
		return err
	})
	return m, err
}

// SetMember makes a member known, or changes what is known of it. It needs
// member:manage; every permission that the roles here grant which the member
// has or is to have must be the caller's own. The operator's role is not to be
// had here. A member that was deleted comes back with it, still disabled unless
// the change says otherwise. It holds on this instance at once, on others within
// [Fresh].
func (d *Directory) SetMember(ctx context.Context, caller access.Caller, id string, change MemberChange) (Member, error) {
	if err := access.Allow(caller, access.MemberManage, caller.Organization); err != nil {
		return Member{}, err
	}
	return d.setMember(ctx, caller, caller.Organization, id, change)
}

// SetDisabled disables a member, or lets it in again. It needs member:manage,
// and is otherwise as [Directory.SetMember].
func (d *Directory) SetDisabled(ctx context.Context, caller access.Caller, organization, member string, disabled bool) error {
	if err := access.Allow(caller, access.MemberManage, organization); err != nil {
		return err
	}
	_, err := d.setMember(ctx, caller, organization, member, MemberChange{Disabled: &disabled})
	return err
}

func (d *Directory) setMember(ctx context.Context, caller access.Caller, organization, id string, change MemberChange) (m Member, err error) {
	if wrong := checkMember(id, change); len(wrong) > 0 {
		return Member{}, fault.InvalidFields(wrong...)
	}
	now := store.At(d.opts.Now())
	err = d.db.Update(ctx, organization, func(tx *store.Tx) error {
		if err := d.living(ctx, tx, organization); err != nil {
			return err
		}
		own, err := ownRoles(ctx, tx, organization)
		if err != nil {
			return err
		}
		if err := memberNotAbove(ctx, tx, caller, organization, id, own); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO members (organization, id, revision, created_at, updated_at) VALUES ($1, $2, 1, $3, $3)
			ON CONFLICT (organization, id) DO UPDATE SET revision = members.revision + 1, updated_at = excluded.updated_at,
			created_at = CASE WHEN members.deleted_at IS NULL THEN coalesce(members.created_at, excluded.created_at) ELSE excluded.created_at END, deleted_at = NULL`,
			organization, id, now)
		if err != nil {
			return err
		}
		if err := d.applyChange(ctx, tx, caller, organization, id, change, own, now); err != nil {
			return err
		}
		m, err = readMember(ctx, tx, organization, id)
		return err
	})
	d.known.Forget(memberKey{organization, id})
	return m, err
}

// applyChange writes the parts of a change, each kind with its event.
func (d *Directory) applyChange(ctx context.Context, tx *store.Tx, caller access.Caller, organization, id string, change MemberChange,
	own map[access.Role]access.Set, now store.Time) error {
	event := audit.Event{
		Organization: organization, Outcome: audit.Success, Permission: access.MemberManage.String(), Targets: []audit.Target{{Type: "member", ID: id}},
	}
	if change.Disabled != nil {
		at := store.Time{}
		event.Action = audit.MemberEnable
		if *change.Disabled {
			at, event.Action = now, audit.MemberDisable
		}
		if _, err := tx.Exec(ctx, `UPDATE members SET disabled_at = $1 WHERE organization = $2 AND id = $3`, at, organization, id); err != nil {
			return err
		}
		if err := d.log.Append(ctx, tx, caller, event); err != nil {
			return err
		}
	}
	if change.Name == nil && change.Email == nil && change.Roles == nil && change.Disabled != nil {
		return nil
	}
	event.Action, event.Metadata = audit.MemberUpdate, map[string]any{"personal": change.Name != nil || change.Email != nil}
	if change.Roles != nil {
		before, err := rolesOfMember(ctx, tx, organization, id)
		if err != nil {
			return err
		}
		if err := setMemberRoles(ctx, tx, caller, organization, id, *change.Roles, own); err != nil {
			return err
		}
		event.Metadata["before.roles"], event.Metadata["roles"] = strings.Join(access.Caller{Roles: before}.RoleNames(), " "), strings.Join(*change.Roles, " ")
	}
	if change.Name != nil || change.Email != nil {
		if err := setPerson(ctx, tx, organization, id, change); err != nil {
			return err
		}
	}
	return d.log.Append(ctx, tx, caller, event)
}

// DeleteMember forgets a member: its name, its address and its roles here go,
// and what it made ([Options.MemberDeleted]) ends. What remains is its id, which
// is refused whatever its tokens say until somebody enables it again. It needs
// member:manage, and is otherwise as [Directory.SetMember].
func (d *Directory) DeleteMember(ctx context.Context, caller access.Caller, id string) error {
	if err := access.Allow(caller, access.MemberManage, caller.Organization); err != nil {
		return err
	}
	if !ValidMember(id) {
		return errMemberNotFound
	}
	organization, now := caller.Organization, store.At(d.opts.Now())
	err := d.db.Update(ctx, organization, func(tx *store.Tx) error {
		_, err := readMember(ctx, tx, organization, id)
		if errors.Is(err, errMemberNotFound) {
			return errNothingToForget
		}
		if err != nil {
			return err
		}
		own, err := ownRoles(ctx, tx, organization)
		if err != nil {
			return err
		}
		if err := memberNotAbove(ctx, tx, caller, organization, id, own); err != nil {
			return err
		}
		tx.Destroys()
		for _, statement := range []string{
			`DELETE FROM member_persons WHERE organization = $1 AND member = $2`,
			`DELETE FROM member_roles WHERE organization = $1 AND member = $2`,
		} {
			if _, err := tx.Exec(ctx, statement, organization, id); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, `UPDATE members SET deleted_at = $1, disabled_at = coalesce(disabled_at, $1), updated_at = $1, revision = revision + 1
			WHERE organization = $2 AND id = $3`, now, organization, id)
		if err != nil {
			return err
		}
		if d.opts.MemberDeleted != nil {
			if err := d.opts.MemberDeleted(ctx, tx, caller, organization, id); err != nil {
				return err
			}
		}
		return d.log.Append(ctx, tx, caller, audit.Event{
			Organization: organization, Action: audit.MemberDelete, Outcome: audit.Success, Permission: access.MemberManage.String(),
			Targets: []audit.Target{{Type: "member", ID: id}},
		})
	})
	d.known.Forget(memberKey{organization, id})
	return err
}

// living refuses a change in an organization that is not there any more.
func (d *Directory) living(ctx context.Context, tx *store.Tx, organization string) error {
	var id string
	err := tx.Row(ctx, `SELECT id FROM organizations WHERE id = $1 AND deleted_at IS NULL`, organization).Scan(&id)
	if errors.Is(err, store.ErrNotFound) {
		return ErrUnknown
	}
	return err
}

// memberNotAbove refuses a change of a member that has a role here which grants
// what the caller does not hold. What the member's tokens say is not known.
func memberNotAbove(ctx context.Context, tx *store.Tx, caller access.Caller, organization, id string, own map[access.Role]access.Set) error {
	roles, err := rolesOfMember(ctx, tx, organization, id)
	if err != nil {
		return err
	}
	var granted access.Set
	for _, r := range roles {
		granted |= r.Grants() | own[r]
	}
	return caller.MayGive(granted)
}

// setMemberRoles puts roles in place of those the member has here.
func setMemberRoles(ctx context.Context, tx *store.Tx, caller access.Caller, organization, id string, roles []string, own map[access.Role]access.Set) error {
	var granted access.Set
	var wrong []fault.Field
	for i, name := range roles {
		r := access.Role(name)
		set, known := own[r]
		switch {
		case r == access.Operator:
			wrong = append(wrong, fault.Field{Name: fmt.Sprintf("roles[%d]", i), Message: "is for those who operate the instance; only the signer of a token can give it"})
		case !known && !r.Known():
			wrong = append(wrong, fault.Field{Name: fmt.Sprintf("roles[%d]", i), Message: "is no role; GET /api/roles lists those that there are"})
		}
		granted |= set | r.Grants()
	}
	if len(wrong) > 0 {
		return fault.InvalidFields(wrong...)
	}
	if err := caller.MayGive(granted); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `DELETE FROM member_roles WHERE organization = $1 AND member = $2`, organization, id); err != nil {
		return err
	}
	for _, name := range roles {
		if _, err := tx.Exec(ctx, `INSERT INTO member_roles (organization, member, role) VALUES ($1, $2, $3)`, organization, id, name); err != nil {
			return err
		}
	}
	return nil
}

// setPerson writes a name, an address or both.
func setPerson(ctx context.Context, tx *store.Tx, organization, id string, change MemberChange) error {
	tx.Destroys() // what stood there
	_, err := tx.Exec(ctx, `INSERT INTO member_persons (organization, member, name, email) VALUES ($1, $2, '', '') ON CONFLICT (organization, member) DO NOTHING`, organization, id)
	if err == nil && change.Name != nil {
		_, err = tx.Exec(ctx, `UPDATE member_persons SET name = $1 WHERE organization = $2 AND member = $3`, *change.Name, organization, id)
	}
	if err == nil && change.Email != nil {
		_, err = tx.Exec(ctx, `UPDATE member_persons SET email = $1 WHERE organization = $2 AND member = $3`, *change.Email, organization, id)
	}
	return err
}

func checkMember(id string, c MemberChange) []fault.Field {
	var wrong []fault.Field
	if !ValidMember(id) {
		wrong = append(wrong, fault.Field{Name: "member", Message: "must be the subject of the member's token, 1 to 256 bytes without control characters"})
	}
	if c.Name != nil && (!utf8.ValidString(*c.Name) || utf8.RuneCountInString(*c.Name) > maxName || strings.ContainsFunc(*c.Name, control)) {
		wrong = append(wrong, fault.Field{Name: "name", Message: fmt.Sprintf("must be at most %d characters without control characters", maxName)})
	}
	if c.Email != nil && *c.Email != "" {
		if a, err := mail.ParseAddress(*c.Email); err != nil || a.Address != *c.Email || len(*c.Email) > 254 {
			wrong = append(wrong, fault.Field{Name: "email", Message: "must be a bare address such as ann@example.com"})
		}
	}
	if c.Roles != nil {
		seen := slices.Clone(*c.Roles)
		slices.Sort(seen)
		if len(seen) > maxMemberRoles || len(slices.Compact(seen)) != len(*c.Roles) {
			wrong = append(wrong, fault.Field{Name: "roles", Message: fmt.Sprintf("must hold at most %d roles, each once", maxMemberRoles)})
		}
	}
	return wrong
}

func readMember(ctx context.Context, tx *store.Tx, organization, id string) (Member, error) {
	all, err := readMembers(ctx, tx, `m.organization = $1 AND m.id = $2 AND m.deleted_at IS NULL`, organization, id)
	if err != nil {
		return Member{}, err
	}
	if len(all) == 0 {
		return Member{}, errMemberNotFound
	}
	all[0].Roles, err = rolesOfMember(ctx, tx, organization, id)
	return all[0], err
}

func readMembers(ctx context.Context, tx *store.Tx, where string, args ...any) ([]Member, error) {
	var all []Member
	err := tx.Each(ctx, func(scan func(...any) error) error {
		var m Member
		var disabled, created, updated store.Time
		if err := scan(&m.ID, &m.Name, &m.Email, &disabled, &created, &updated); err != nil {
			return err
		}
		m.Disabled, m.CreatedAt, m.UpdatedAt = !disabled.IsZero(), created.Time, updated.Time
		all = append(all, m)
		return nil
	}, `SELECT m.id, coalesce(p.name, ''), coalesce(p.email, ''), m.disabled_at, m.created_at, m.updated_at FROM members m
		LEFT JOIN member_persons p ON p.organization = m.organization AND p.member = m.id WHERE `+where, args...)
	return all, err
}

// readMemberRoles fills in the roles of members that are in the order of their ids.
func readMemberRoles(ctx context.Context, tx *store.Tx, organization string, members []Member) error {
	place := make(map[string]int, len(members))
	for i, m := range members {
		place[m.ID] = i
	}
	return tx.Each(ctx, func(scan func(...any) error) error {
		var member string
		var role access.Role
		if err := scan(&member, &role); err != nil {
			return err
		}
		if i, ok := place[member]; ok {
			members[i].Roles = append(members[i].Roles, role)
		}
		return nil
	}, `SELECT member, role FROM member_roles WHERE organization = $1 AND member >= $2 AND member <= $3 ORDER BY member, role`,
		organization, members[0].ID, members[len(members)-1].ID)
}

func rolesOfMember(ctx context.Context, tx *store.Tx, organization, id string) (roles []access.Role, err error) {
	err = tx.Each(ctx, func(scan func(...any) error) error {
		var role access.Role
		if err := scan(&role); err != nil {
			return err
		}
		roles = append(roles, role)
		return nil
	}, `SELECT role FROM member_roles WHERE organization = $1 AND member = $2 ORDER BY role`, organization, id)
	return roles, err
}
