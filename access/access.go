// Package access says who is asking and what they may do.
//
// A [Caller] is a user or a service token, always inside one organization. It
// carries [Role] names that somebody trusted gave it (the host application's
// token, a service token's row); each role grants a fixed set of
// [Permission] values, and everything not granted is denied. A role name that
// is not known grants nothing. An organization's own roles and service tokens
// are [Set] values of the same closed list; [Caller.With] and [Caller.Within]
// put them on a caller.
//
// Domain methods start with [Allow]:
//
//	if err := access.Allow(caller, access.CredentialCreate, caller.Organization); err != nil {
//		return err
//	}
//
// The package holds no state and does no I/O; a decision is a bit test.
package access

import (
	"math/bits"
	"slices"
)

// InstanceOrganization is the reserved organization of events that belong to
// no tenant: master keys, the limiter, failed logins. No tenant can have this
// id, since organization ids start with a letter or a digit.
const InstanceOrganization = "_instance"

// ValidOrganization reports whether id can be a tenant's: 1 to 64 letters, digits,
// '.', '_' or '-', the first of them a letter or a digit.
func ValidOrganization(id string) bool {
	if id == "" || len(id) > 64 {
		return false
	}
	for i := range len(id) {
		c := id[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && (i == 0 || c != '.' && c != '_' && c != '-') {
			return false
		}
	}
	return true
}

// Permission is one thing a caller may do, written noun:verb.
type Permission uint8

// The closed list of permissions. The zero value is no permission at all and
// is never granted.
const (
	None Permission = iota
	CredentialList
	CredentialCreate
	CredentialUpdate
	CredentialTest
	CredentialRotate
	CredentialDelete
	CredentialUse
	CredentialReveal
	LimitRead
	LimitUpdate
	LimitReset
	UsageRead // of the whole organization
	UsageOwn  // of the caller itself
	AuditRead
	AuditExport
	AuditVerify
	MemberRead
	MemberManage
	RoleRead
	RoleManage
	TokenRead
	TokenManage
	RetentionRead
	RetentionManage
	HoldManage
	KeyRead
	KeyRotate
	OrgManage
	WebhookRead
	WebhookManage
	permissionCount
)

var permissionNames = [permissionCount]string{
	None:             "none",
	CredentialList:   "credential:list",
	CredentialCreate: "credential:create",
	CredentialUpdate: "credential:update",
	CredentialTest:   "credential:test",
	CredentialRotate: "credential:rotate",
	CredentialDelete: "credential:delete",
	CredentialUse:    "credential:use",
	CredentialReveal: "credential:reveal",
	LimitRead:        "limit:read",
	LimitUpdate:      "limit:update",
	LimitReset:       "limit:reset",
	UsageRead:        "usage:read",
	UsageOwn:         "usage:own",
	AuditRead:        "audit:read",
	AuditExport:      "audit:export",
	AuditVerify:      "audit:verify",
	MemberRead:       "member:read",
	MemberManage:     "member:manage",
	RoleRead:         "role:read",
	RoleManage:       "role:manage",
	TokenRead:        "token:read",
	TokenManage:      "token:manage",
	RetentionRead:    "retention:read",
	RetentionManage:  "retention:manage",
	HoldManage:       "hold:manage",
	KeyRead:          "key:read",
	KeyRotate:        "key:rotate",
	OrgManage:        "org:manage",
	WebhookRead:      "webhook:read",
	WebhookManage:    "webhook:manage",
}

// String gives the noun:verb form.
func (p Permission) String() string {
	if p >= permissionCount {
		return "none"
	}
	return permissionNames[p]
}

// Permissions lists every permission, in the order of the table in DESIGN.
func Permissions() []Permission {
	all := make([]Permission, 0, permissionCount-1)
	for p := None + 1; p < permissionCount; p++ {
		all = append(all, p)
	}
	return all
}

// CallerType says what kind of being a caller is.
type CallerType string

// The types of caller.
const (
	User    CallerType = "user"    // a person, by JWT
	Service CallerType = "service" // a machine, by service token or a JWT whose only role is service
	System  CallerType = "system"  // Gatehouse itself: the command line, timers
)

// Caller is who is asking. Make one with [NewCaller]; the zero value may do
// nothing.
type Caller struct {
	Organization string     // the one organization the caller acts in
	Type         CallerType // user, service or system
	ID           string     // the token's subject, unique inside the organization
	Roles        []Role     // as given, unknown names included
	TokenID      string     // the token's jti where it has one

	// Credentials are the ids of the only credentials that a service token may
	// use; nil: all of the organization.
	Credentials []string

	granted  Set
	said     int // how many of Roles its token named; the rest came by With
	operator bool
}

// NewCaller gives a caller with what its roles grant. Unknown roles are kept
// for the trail and grant nothing.
func NewCaller(organization string, typ CallerType, id string, roles ...Role) Caller {
	c := Caller{Organization: organization, Type: typ, ID: id, Roles: roles, said: len(roles)}
	for _, r := range roles {
		c.granted |= r.Grants()
		c.operator = c.operator || r == Operator
	}
	return c
}

// SystemCaller gives who does what Gatehouse does by itself.
func SystemCaller(organization string, roles ...Role) Caller {
	return NewCaller(organization, System, "gatehouse", roles...)
}

// With gives the caller with further roles and what they grant on top of what
// it holds. It makes nobody an operator, whatever the roles are called.
func (c Caller) With(roles []Role, granted Set) Caller {
	all := make([]Role, 0, len(c.Roles)+len(roles))
	all = append(all, c.Roles...)
	for _, r := range roles {
		if !slices.Contains(all, r) {
			all = append(all, r)
		}
	}
	c.Roles = all
	c.granted |= granted & Tenant()
	return c
}

// Within gives the caller with nothing beyond limit: what a service token may
// do while its maker holds limit. It is an operator no more.
func (c Caller) Within(limit Set) Caller {
	c.granted &= limit & Tenant()
	c.operator = false
	return c
}

// Said gives the roles that the caller's own token named, without those that
// [Caller.With] added.
func (c Caller) Said() []Role { return c.Roles[:min(c.said, len(c.Roles))] }

// Granted gives what the caller holds inside its own organization.
func (c Caller) Granted() Set { return c.granted }

// MayUse reports whether the caller's token lets it use the credential. It is
// no permission; whether it may use credentials at all is [CredentialUse].
func (c Caller) MayUse(credential string) bool {
	return c.Credentials == nil || slices.Contains(c.Credentials, credential)
}

// MayGive reports, as a [*DeniedError], the first permission of s that the caller
// does not hold itself: nobody gives what it does not have.
func (c Caller) MayGive(s Set) error {
	if beyond := s &^ c.granted; beyond != 0 {
		return Denied(Permission(bits.TrailingZeros64(uint64(beyond))))
	}
	return nil
}

// Can reports whether the caller holds p inside its own organization.
func (c Caller) Can(p Permission) bool { return c.granted.Has(p) }

// Holds reports whether the caller holds p on any organization at all, its own
// or, as an operator, the reserved one. It is the first look at a route's
// door; [Allow] decides on the organization that is asked for.
func (c Caller) Holds(p Permission) bool {
	return c.granted.Has(p) || c.operator && (operatorEverywhere.Has(p) || operatorInstance.Has(p))
}

// Operator reports whether the caller runs the instance itself and may act on
// every organization's limits and on the reserved organization.
func (c Caller) Operator() bool { return c.operator }

// RoleNames gives the roles as plain strings, for tokens and events.
func (c Caller) RoleNames() []string {
	names := make([]string, len(c.Roles))
	for i, r := range c.Roles {
		names[i] = string(r)
	}
	return names
}

// DeniedError says that a caller lacks a permission. It is safe to show, and
// shared: all denials of a permission are one value, which nobody changes.
type DeniedError struct {
	Permission Permission // none for a value that is no permission
}

// denials are made once, so that an attacker's refused request costs no memory.
var denials = func() (all [permissionCount]DeniedError) {
	for p := range all {
		all[p].Permission = Permission(p)
	}
	return all
}()

// Denied gives the [*DeniedError] of a permission without allocating.
func Denied(p Permission) error {
	if p >= permissionCount {
		p = None
	}
	return &denials[p]
}

func (e *DeniedError) Error() string {
	return "the permission " + e.Permission.String() + " is needed"
}

// Allow gives nil when caller holds p in organization, and a [*DeniedError]
// otherwise. Only an operator reaches past its own organization, and only
// with a permission that the operator role grants on every organization.
func Allow(c Caller, p Permission, organization string) error {
	if c.Organization != "" && c.Organization == organization && c.granted.Has(p) {
		return nil
	}
	if c.operator && operatorEverywhere.Has(p) {
		return nil
	}
	if c.operator && organization == InstanceOrganization && operatorInstance.Has(p) {
		return nil
	}
	return Denied(p)
}
