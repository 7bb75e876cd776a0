package audit

import (
	"time"
)

// Class decides how an event is written; see the package comment.
type Class string

// The classes of events.
const (
	Control  Class = "control"  // changes: in the change's transaction, or the change fails
	Access   Class = "access"   // visits and reads: grouped, on disk within a second
	Security Class = "security" // denials: the first at once, repeats coalesced with exact counts
	System   Class = "system"   // what Gatehouse tells of itself: events that could not be recorded
)

// Classes lists every class, in the order of the table in docs/audit.md.
func Classes() []Class { return []Class{Control, Access, Security, System} }

// Severity says how soon somebody should look, in the words of RFC 5424.
type Severity string

// The severities.
const (
	Info     Severity = "info"     // everyday: a visit, a read
	Notice   Severity = "notice"   // a change
	Warning  Severity = "warning"  // refused, failed or broken off
	Critical Severity = "critical" // worth a look by itself: secrets shown, keys, the trail, whole tenants
)

// severityOf gives the severity of an event that names none.
func severityOf(e *Event) Severity {
	switch e.Action {
	case CredentialReveal, KeyStage, KeyRotate, KeyRetire, OrgDelete, BackupCreate, BackupRestore, AuditExport, AuditErase, AuditLose:
		return Critical
	}
	switch {
	case e.Outcome != Success:
		return Warning
	case e.Class == Control:
		return Notice
	}
	return Info
}

// Outcome is how what the event tells of ended.
type Outcome string

// The outcomes of events.
const (
	Success Outcome = "success" // done
	Denied  Outcome = "denied"  // refused by a rule: a permission, a limit, a bad token
	Failure Outcome = "failure" // tried and failed
	Partial Outcome = "partial" // begun and not finished: a stream that broke or was left
)

// Action names what happened, noun.verb, from the closed list below.
type Action string

// The actions.
const (
	CredentialList   Action = "credential.list"
	CredentialRead   Action = "credential.read"
	CredentialCreate Action = "credential.create"
	CredentialUpdate Action = "credential.update"
	CredentialDelete Action = "credential.delete"
	CredentialTest   Action = "credential.test"
	CredentialUse    Action = "credential.use" // a request on /api/proxy, or a sealed version that would not open
	CredentialRotate Action = "credential.rotate"
	CredentialReveal Action = "credential.reveal"
	CredentialExpire Action = "credential.expire"
	CredentialImport Action = "credential.import"
	// What becomes of a version of a credential, beside credential.rotate.
	CredentialStage    Action = "credential.stage"
	CredentialActivate Action = "credential.activate"
	CredentialRollback Action = "credential.rollback"
	CredentialDestroy  Action = "credential.destroy"
	CredentialFallback Action = "credential.fallback" // the provider refused the active version, and the one in grace served

	ChatRequest   Action = "chat.request" // a request on /api/chat
	LimitExceed   Action = "limit.exceed"
	LimitReset    Action = "limit.reset"
	LimitDegrade  Action = "limit.degrade"
	LimitRecover  Action = "limit.recover"
	LimitObserve  Action = "limit.observe" // an observed policy would have refused it
	PolicyCreate  Action = "policy.create"
	PolicyUpdate  Action = "policy.update"
	PolicyDelete  Action = "policy.delete"
	AccessDeny    Action = "access.deny"
	TokenCreate   Action = "token.create"
	MemberDisable Action = "member.disable"
	MemberEnable  Action = "member.enable"
	KeyCreate     Action = "key.create"
	KeyStage      Action = "key.stage"
	KeyRotate     Action = "key.rotate"
	KeyRetire     Action = "key.retire"
	OrgCreate     Action = "org.create"
	OrgDelete     Action = "org.delete"

	// A database taken out whole, and brought back.
	BackupCreate  Action = "backup.create"
	BackupRestore Action = "backup.restore"

	CredentialWarn Action = "credential.warn" // something about a credential needs somebody's attention; the reason says what
	WebhookCreate  Action = "webhook.create"
	WebhookUpdate  Action = "webhook.update"
	WebhookDelete  Action = "webhook.delete"
	WebhookRotate  Action = "webhook.rotate" // a new signing secret
	WebhookDisable Action = "webhook.disable"
	WebhookTest    Action = "webhook.test"
	WebhookReplay  Action = "webhook.replay"
	WebhookFail    Action = "webhook.fail" // a delivery was given up

	// Who may do what.
	MemberUpdate Action = "member.update"
	MemberDelete Action = "member.delete"
	RoleCreate   Action = "role.create"
	RoleUpdate   Action = "role.update"
	RoleDelete   Action = "role.delete"
	TokenRevoke  Action = "token.revoke"

	// The trail itself.
	AuditExport Action = "audit.export"
	AuditErase  Action = "audit.erase" // a person's data was taken off the events
	AuditLose   Action = "audit.lose"  // so many events (count) could not be recorded

	// How long data is kept.
	RetentionUpdate  Action = "retention.update"  // a policy
	RetentionBound   Action = "retention.bound"   // the operator's floors and ceilings
	RetentionHold    Action = "retention.hold"    // a legal hold was placed
	RetentionRelease Action = "retention.release" // and ended
	RetentionSweep   Action = "retention.sweep"   // what was past its time was removed

	RetentionAcceptClock Action = "retention.accept-clock" // an operator vouched for a clock that came far forward
)

// Actions lists every action, for validating a filter.
func Actions() []Action {
	return []Action{
		CredentialList, CredentialRead, CredentialCreate, CredentialUpdate, CredentialDelete, CredentialTest,
		CredentialUse, CredentialRotate, CredentialReveal, CredentialExpire, CredentialImport,
		CredentialStage, CredentialActivate, CredentialRollback, CredentialDestroy, CredentialFallback, ChatRequest,
		LimitExceed, LimitReset, LimitDegrade, LimitRecover, LimitObserve, PolicyCreate, PolicyUpdate, PolicyDelete, AccessDeny, TokenCreate, MemberDisable, MemberEnable,
		KeyCreate, KeyStage, KeyRotate, KeyRetire, OrgCreate, OrgDelete, BackupCreate, BackupRestore,
		CredentialWarn, WebhookCreate, WebhookUpdate, WebhookDelete, WebhookRotate, WebhookDisable, WebhookTest, WebhookReplay, WebhookFail,
		RetentionUpdate, RetentionBound, RetentionHold, RetentionRelease, RetentionSweep, RetentionAcceptClock,
		MemberUpdate, MemberDelete, RoleCreate, RoleUpdate, RoleDelete, TokenRevoke,
		AuditExport, AuditErase, AuditLose,
	}
}

// Actor is who did it. ID is the token's subject, the organization's own
// pseudonym for a person.
type Actor struct {
	Type    string   `json:"type"` // user, service, system or anonymous
	ID      string   `json:"id"`
	TokenID string   `json:"tokenId,omitempty"`
	Roles   []string `json:"roles,omitempty"`
}

// Target is what it was done to. Name is for people and counts as personal
// data: it stands on the erasable side row.
type Target struct {
	Type string `json:"type"`
	ID   string `json:"id"`
	Name string `json:"name,omitempty"`
}

// Request is the HTTP request behind an event, if there was one. IP and
// UserAgent are personal data.
type Request struct {
	ID        string `json:"id,omitempty"`
	Method    string `json:"method,omitempty"`
	Route     string `json:"route,omitempty"` // the route's template, never the raw path
	IP        string `json:"ip,omitempty"`
	UserAgent string `json:"userAgent,omitempty"`
	Status    int    `json:"status,omitempty"`
}

// Event is one line of the trail. Organization, Action, Outcome and Actor are
// required; the rest is filled where it is known. ID and OccurredAt are made
// by the log when they are empty. Nothing in it may be a secret: of a
// credential only its id, name, field names and keyed fingerprint.
type Event struct {
	ID           string
	OccurredAt   time.Time
	RecordedAt   time.Time // when it was handed to the database; made by the log
	Organization string
	Class        Class
	Action       Action
	Outcome      Outcome
	Reason       string   // a stable snake_case word, such as credential_expired
	Severity     Severity // made of class, action and outcome where it is empty
	Actor        Actor
	Targets      []Target
	Permission   string
	Request      Request
	Count        int64             // how many alike this event stands for; 0 and 1 mean one
	Metadata     map[string]any    // small and free of personal data: strings, numbers, booleans
	Personal     map[string]string // further personal data, such as the limited IP address

	// TargetAsked says, of a denial, that its target is what somebody asked for and need not
	// exist: such are told apart up to a bound. It is not recorded.
	TargetAsked bool

	// Damaged says, of an event that was read, that its row was altered. Its other
	// fields are what the row still says.
	Damaged bool
}
