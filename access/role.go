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
	readMembers = SetOf(MemberRead, RoleRead, TokenRead)

	viewerSet    = readMembers | SetOf(CredentialList, LimitRead)
	developerSet = viewerSet | SetOf(CredentialCreate, CredentialUpdate, CredentialTest, CredentialRotate, CredentialUse, UsageOwn)
	auditorSet   = viewerSet | SetOf(AuditRead, AuditExport, AuditVerify, RetentionRead, UsageRead, UsageOwn)
	adminSet     = developerSet | auditorSet | SetOf(CredentialDelete, LimitUpdate, MemberManage, RoleManage, TokenManage,
		WebhookRead, WebhookManage)
	ownerSet   = adminSet | SetOf(CredentialReveal, RetentionManage, HoldManage)
	serviceSet = SetOf(CredentialUse, LimitRead, UsageOwn)

	// operatorEverywhere holds on every organization.
	operatorEverywhere = SetOf(LimitRead, LimitUpdate, LimitReset, UsageRead, UsageOwn, KeyRead, KeyRotate, OrgManage)
	// operatorInstance holds on the reserved organization only.
	operatorInstance = SetOf(AuditRead, AuditExport, AuditVerify, RetentionRead, RetentionManage)
)

// Grants gives what the role allows inside the caller's own organization;
// nothing for a role that is not built in.
func (r Role) Grants() Set {
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
