package api

import (
	"context"
	"net/http"
	"net/url"
)

const policiesPath = "/api/rate-limit/policies"

// LimitPolicyInput is what a rate limit policy says. A PUT replaces the whole of it.
type LimitPolicyInput struct {
	Effect       string   `json:"effect" doc:"limit: its windows stand in place of less specific ones; exempt: nothing is counted; block: refused with 403" example:"limit"`
	Mode         string   `json:"mode,omitempty" doc:"enforce (when left out), or observe: count and report what would be refused, and refuse nothing" example:"enforce"`
	Subject      string   `json:"subject,omitempty" doc:"Of the effect limit: whose requests are counted, ip or org" example:"org"`
	Organization string   `json:"organization,omitempty" doc:"Only requests of this organization" example:"acme"`
	CIDR         string   `json:"cidr,omitempty" doc:"Only requests from this address or range" example:"203.0.113.0/24"`
	Service      string   `json:"service,omitempty" doc:"Only requests to this service" example:"openai"`
	Path         string   `json:"path,omitempty" doc:"Only this path of the service; * is any one segment, ** at the end any number" example:"v1/chat/completions"`
	Limits       []string `json:"limits,omitempty" doc:"Of the effect limit: 1 to 4 windows, all of which hold" example:"[\"20/1s\",\"1000/1h\"]"`
	Reason       string   `json:"reason" doc:"Why, for people" example:"Paid plan"`
	ExpiresAt    *Time    `json:"expiresAt,omitempty" doc:"From then on the policy does not hold any more"`
}

// LimitPolicy is a stored policy.
type LimitPolicy struct {
	Tagged
	ID    string `json:"id"`
	Owner string `json:"owner" doc:"The organization whose own policy it is; _instance: the operator's"`
	LimitPolicyInput
	Revision  int64  `json:"revision" doc:"Grows with each change; the ETag"`
	CreatedAt *Time  `json:"createdAt"`
	CreatedBy string `json:"createdBy"`
	UpdatedAt *Time  `json:"updatedAt"`
	UpdatedBy string `json:"updatedBy"`
}

// LimitPolicyList is one page of policies, newest first.
type LimitPolicyList struct {
	Policies   []LimitPolicy `json:"policies" nullable:"false"`
	NextCursor string        `json:"nextCursor,omitempty"`
}

// LimitPolicyRevision is one state that a policy had.
type LimitPolicyRevision struct {
	Revision  int64             `json:"revision"`
	Deleted   bool              `json:"deleted,omitempty"`
	Policy    *LimitPolicyInput `json:"policy,omitempty"`
	ChangedAt *Time             `json:"changedAt"`
	ChangedBy string            `json:"changedBy"`
}

// LimitPolicyRevisions are the states that a policy had, newest first.
type LimitPolicyRevisions struct {
	Revisions []LimitPolicyRevision `json:"revisions" nullable:"false"`
}

// LimitPolicyRollback names the state to go back to.
type LimitPolicyRollback struct {
	Revision int64 `json:"revision" doc:"One of the policy's revisions"`
}

// LimitOffender is a subject that was refused within the last hour.
type LimitOffender struct {
	Type   string `json:"type" enum:"ip,org"`
	Key    string `json:"key"`
	Denied int64  `json:"denied" doc:"Requests refused"`
	Error  int64  `json:"error" doc:"By how many denied may be too high; 0 where it is exact"`
	LastAt *Time  `json:"lastAt"`
}

// LimitOffenders are the subjects that this instance refused most.
type LimitOffenders struct {
	WindowSeconds int             `json:"windowSeconds"`
	Offenders     []LimitOffender `json:"offenders" nullable:"false"`
}

// LimitCheckSubject names whose limits to look at.
type LimitCheckSubject struct {
	Type string `json:"type" doc:"ip or org (organization is accepted too)" example:"ip"`
	Key  string `json:"key" doc:"An address, or an organization's id" example:"203.0.113.7"`
}

// LimitCheck asks for the decision on a request that does not go through Gatehouse.
type LimitCheck struct {
	Subjects []LimitCheckSubject `json:"subjects" nullable:"false" doc:"An address, an organization, or both: then both are counted or neither is"`
	Service  string              `json:"service,omitempty" doc:"For policies about a service" example:"openai"`
	Path     string              `json:"path,omitempty" doc:"For policies about a path of the service" example:"v1/chat/completions"`
	Consume  *bool               `json:"consume,omitempty" doc:"true (when left out): count the request where it is admitted; false: only look"`
}

// LimitCheckBatch asks for several decisions, taken one after the other.
type LimitCheckBatch struct {
	Checks []LimitCheck `json:"checks" nullable:"false" doc:"1 to 100"`
}

// LimitDecision is the answer to a check.
type LimitDecision struct {
	Admitted     bool          `json:"admitted" doc:"Whether the request may pass"`
	Outcome      string        `json:"outcome" enum:"admitted,denied,exempt,blocked"`
	RetryAfterMs int64         `json:"retryAfterMs" doc:"When denied: how long until the request can be admitted"`
	Subjects     []LimitStatus `json:"subjects" nullable:"false" doc:"Where each stands afterwards"`
	Store        string        `json:"store,omitempty" doc:"memory or redis; nothing where no count decided"`
	Degraded     bool          `json:"degraded"`
}

// LimitDecisions answers a batch, in its order.
type LimitDecisions struct {
	Decisions []LimitDecision `json:"decisions" nullable:"false"`
}

// ListLimitPolicies gives a page of rate limit policies. query may hold limit,
// cursor and, for operators, owner; nil is the first page of all.
func (c *Client) ListLimitPolicies(ctx context.Context, query url.Values) (LimitPolicyList, error) {
	return call[LimitPolicyList](ctx, c, http.MethodGet, policiesPath, query, nil)
}

// CreateLimitPolicy makes a rate limit policy.
func (c *Client) CreateLimitPolicy(ctx context.Context, in LimitPolicyInput) (LimitPolicy, error) {
	return call[LimitPolicy](ctx, c, http.MethodPost, policiesPath, nil, in)
}

// GetLimitPolicy gives a rate limit policy.
func (c *Client) GetLimitPolicy(ctx context.Context, id string) (LimitPolicy, error) {
	return call[LimitPolicy](ctx, c, http.MethodGet, policiesPath+"/"+url.PathEscape(id), nil, nil)
}

// UpdateLimitPolicy replaces all that a rate limit policy says.
func (c *Client) UpdateLimitPolicy(ctx context.Context, id string, in LimitPolicyInput, match ...Condition) (LimitPolicy, error) {
	return call[LimitPolicy](ctx, c, http.MethodPut, policiesPath+"/"+url.PathEscape(id), nil, in, match...)
}

// DeleteLimitPolicy removes a rate limit policy.
func (c *Client) DeleteLimitPolicy(ctx context.Context, id string, match ...Condition) error {
	_, err := call[struct{}](ctx, c, http.MethodDelete, policiesPath+"/"+url.PathEscape(id), nil, nil, match...)
	return err
}

// RollBackLimitPolicy brings a rate limit policy back to what it said at a
// revision.
func (c *Client) RollBackLimitPolicy(ctx context.Context, id string, revision int64, match ...Condition) (LimitPolicy, error) {
	return call[LimitPolicy](ctx, c, http.MethodPost, policiesPath+"/"+url.PathEscape(id)+"/rollback", nil, LimitPolicyRollback{revision}, match...)
}

// ListLimitPolicyRevisions gives what a rate limit policy said before, also one
// that was removed.
func (c *Client) ListLimitPolicyRevisions(ctx context.Context, id string) (LimitPolicyRevisions, error) {
	return call[LimitPolicyRevisions](ctx, c, http.MethodGet, policiesPath+"/"+url.PathEscape(id)+"/revisions", nil, nil)
}
