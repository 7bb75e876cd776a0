package api

import (
	"context"
	"net/http"
	"net/url"
)

// AuditLog is what was verified of one log of the trail.
type AuditLog struct {
	Organization string `json:"organization"`
	Class        string `json:"class" doc:"A class of events, or ledger: the instance's own log, whose leaves are the blocks of all others"`
	Size         int64  `json:"size" doc:"Events that the log has"`
	Blocks       int64  `json:"blocks"`
	Verified     int64  `json:"verified" doc:"Events that were hashed"`
	Removed      int64  `json:"removed" doc:"Events that retention removed, behind a signed record"`
	Erased       int64  `json:"erased" doc:"Events whose personal data was erased"`
}

// AuditFinding is something that was tampered with.
type AuditFinding struct {
	Kind         string `json:"kind" example:"event_altered" doc:"docs/audit-proofs.md lists them"`
	Organization string `json:"organization"`
	Class        string `json:"class"`
	Index        *int64 `json:"index,omitempty" doc:"The event's place in its log"`
	Event        string `json:"event,omitempty" doc:"Its id, where it is known"`
	Block        *int64 `json:"block,omitempty"`
	Detail       string `json:"detail"`
}

// AuditVerification is what verification of the trail found.
type AuditVerification struct {
	Clean        bool           `json:"clean" doc:"Everything was looked at, and nothing found"`
	Complete     bool           `json:"complete" doc:"False: the time was over first; give since, or run gatehouse audit verify"`
	Events       int64          `json:"events" doc:"Events that were hashed"`
	Unsealed     int64          `json:"unsealed" doc:"Events that are too new for anything to vouch for them"`
	Logs         []AuditLog     `json:"logs" nullable:"false"`
	Findings     []AuditFinding `json:"findings" nullable:"false" doc:"At most 100"`
	MoreFindings int64          `json:"moreFindings,omitempty"`
	TookMs       int64          `json:"tookMs"`
}

// AuditCheckpoints are the latest signed notes of an organization's logs.
type AuditCheckpoints struct {
	Checkpoints []string `json:"checkpoints" nullable:"false" doc:"Signed notes (C2SP tlog-checkpoint)"`
}

// AuditProof is all that it takes to check offline that an event is in its log.
type AuditProof struct {
	Organization string   `json:"organization"`
	Class        string   `json:"class"`
	EventID      string   `json:"eventId"`
	Event        []byte   `json:"event" doc:"Base64 of the bytes that are hashed"`
	Index        int64    `json:"index" doc:"Its place in the log, from 0"`
	Size         int64    `json:"size" doc:"Events of the log at the checkpoint"`
	Hashes       []string `json:"hashes" nullable:"false" doc:"The inclusion proof (RFC 6962, 2.1.1), base64, lowest first"`
	Checkpoint   string   `json:"checkpoint" doc:"The signed note with the root"`
	Key          string   `json:"key" doc:"The key that signed it: name, hash and base64 (C2SP signed-note)"`
}

// AuditKey is a public key that checkpoints are signed with, or were.
type AuditKey struct {
	ID        string `json:"id"`
	PublicKey []byte `json:"publicKey" doc:"Ed25519, base64"`
	CreatedAt *Time  `json:"createdAt"`
	RetiredAt *Time  `json:"retiredAt,omitempty" doc:"Nothing: it signs"`
}

// AuditKeys are the public keys, oldest first.
type AuditKeys struct {
	Keys []AuditKey `json:"keys" nullable:"false"`
}

// VerifyAudit verifies the trail. query may hold since and organization.
func (c *Client) VerifyAudit(ctx context.Context, query url.Values) (AuditVerification, error) {
	return call[AuditVerification](ctx, c, http.MethodGet, "/api/audit/verify", query, nil)
}

// GetAuditCheckpoint gives the latest signed notes. query may hold organization.
func (c *Client) GetAuditCheckpoint(ctx context.Context, query url.Values) (AuditCheckpoints, error) {
	return call[AuditCheckpoints](ctx, c, http.MethodGet, "/api/audit/checkpoint", query, nil)
}

// ProveEvent proves an event. query may hold organization.
func (c *Client) ProveEvent(ctx context.Context, event string, query url.Values) (AuditProof, error) {
	return call[AuditProof](ctx, c, http.MethodGet, "/api/audit/events/"+url.PathEscape(event)+"/proof", query, nil)
}

// ListAuditKeys gives the public keys that checkpoints are signed with.
func (c *Client) ListAuditKeys(ctx context.Context) (AuditKeys, error) {
	return call[AuditKeys](ctx, c, http.MethodGet, "/api/audit/keys", nil, nil)
}

// RotateAuditKey makes a new key to sign checkpoints with.
func (c *Client) RotateAuditKey(ctx context.Context) (AuditKey, error) {
	return call[AuditKey](ctx, c, http.MethodPost, "/api/audit/keys/rotate", nil, nil)
}
