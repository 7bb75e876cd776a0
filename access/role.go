package access

import "slices"

// Role names a set of permissions.
type Role string

// The built-in roles. The table of what each grants is in [Role.Permissions]
// and in docs/access.md; a test holds the two together.
const (
	Owner       Role = "owner"
	Admin       Role = "admin"
	Developer   Role = "developer"
	Auditor     Role = "auditor"
	Viewer      Role = "viewer"
	ServiceRole Role = "service"
	Operator    Role = "operator"
)

// Roles lists the built-in roles, the most powerful of a tenant first.
func Roles() []Role {
	return []Role{Owner, Admin, Developer, Auditor, Viewer, ServiceRole, Operator}
}

// Known reports whether r is a built-in role.
func (r Role) Known() bool { return slices.Contains(Roles(), r) }

var (
	readMembers = setOf(MemberRead, RoleRead, TokenRead)

	viewerSet    = readMembers | setOf(CredentialList, LimitRead)
	developerSet = viewerSet | setOf(CredentialCreate, CredentialUpdate, CredentialTest, CredentialRotate, CredentialUse, UsageOwn)
	auditorSet   = viewerSet | setOf(AuditRead, AuditExport, AuditVerify, RetentionRead, UsageRead, UsageOwn)
	adminSet     = developerSet | auditorSet | setOf(CredentialDelete, LimitUpdate, MemberManage, RoleManage, TokenManage,
		WebhookRead, WebhookManage)
	ownerSet   = adminSet | setOf(CredentialReveal, RetentionManage, HoldManage)
	serviceSet = setOf(CredentialUse, LimitRead, UsageOwn)

	// operatorEverywhere holds on every organization.
	operatorEverywhere = setOf(LimitRead, LimitUpdate, LimitReset, UsageRead, UsageOwn, KeyRead, KeyRotate, OrgManage)
	// operatorInstance holds on the reserved organization only.
	operatorInstance = setOf(AuditRead, AuditExport, AuditVerify, RetentionRead, RetentionManage)
)

// grants gives what the role allows inside the caller's own organization.
func (r Role) grants() set {
	switch r {
	case Owner:
		return ownerSet
	case Admin:
		return adminSet
	case Developer:
		return developerSet
	case Auditor:
		return auditorSet
	case Viewer:
		return viewerSet
	case ServiceRole:
		return serviceSet
	case Operator:
		return operatorEverywhere
	default:
		return 0
	}
}

// Permissions lists what the role grants inside the caller's own
// organization; an unknown role grants nothing.
func (r Role) Permissions() []Permission {
	var granted []Permission
	for _, p := range Permissions() {
		if r.grants().has(p) {
			granted = append(granted, p)
		}
	}
	return granted
}
