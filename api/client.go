package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Client calls a Gatehouse. Its methods are the API's calls; an answer that is
// a problem comes back as a [*CallError].
type Client struct {
	BaseURL string       // such as http://127.0.0.1:8080
	Token   string       // the caller's
	HTTP    *http.Client // http.DefaultClient when nil
}

const policiesPath = "/api/rate-limit/policies"

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 16 << 20

// CallError is an answer that was a problem.
type CallError struct {
	Problem
	RetryAfter time.Duration // how long the server asks to wait; 0 where it does not
}

// Error implements error: the detail, the code and the request id.
func (e *CallError) Error() string {
	return fmt.Sprintf("%s (%d %s, request %s)", e.Detail, e.Status, e.Code, e.RequestID)
}

// ListCredentials gives a page of credentials. query may hold service, status,
// limit and cursor; nil is the first page of all.
func (c *Client) ListCredentials(ctx context.Context, query url.Values) (CredentialList, error) {
	return call[CredentialList](ctx, c, http.MethodGet, "/api/api-credentials", query, nil)
}

// CreateCredential stores a credential.
func (c *Client) CreateCredential(ctx context.Context, in CredentialCreate) (Credential, error) {
	return call[Credential](ctx, c, http.MethodPost, "/api/api-credentials", nil, in)
}

// GetCredential gives the metadata of one credential.
func (c *Client) GetCredential(ctx context.Context, id string) (Credential, error) {
	return call[Credential](ctx, c, http.MethodGet, "/api/api-credentials/"+url.PathEscape(id), nil, nil)
}

// UpdateCredential changes a credential.
func (c *Client) UpdateCredential(ctx context.Context, id string, in CredentialUpdate) (Credential, error) {
	return call[Credential](ctx, c, http.MethodPut, "/api/api-credentials/"+url.PathEscape(id), nil, in)
}

// DeleteCredential destroys a credential.
func (c *Client) DeleteCredential(ctx context.Context, id string) error {
	_, err := call[struct{}](ctx, c, http.MethodDelete, "/api/api-credentials/"+url.PathEscape(id), nil, nil)
	return err
}

// RotateCredential puts new values in place of the old.
func (c *Client) RotateCredential(ctx context.Context, id string, in CredentialRotate) (Credential, error) {
	return call[Credential](ctx, c, http.MethodPost, "/api/api-credentials/"+url.PathEscape(id)+"/rotate", nil, in)
}

// RevealCredential gives the values in the clear.
func (c *Client) RevealCredential(ctx context.Context, id, reason string) (RevealedCredential, error) {
	return call[RevealedCredential](ctx, c, http.MethodPost, "/api/api-credentials/"+url.PathEscape(id)+"/reveal", nil, CredentialReveal{reason})
}

// TestCredential asks the provider whether values work.
func (c *Client) TestCredential(ctx context.Context, in CredentialTest) (TestResult, error) {
	return call[TestResult](ctx, c, http.MethodPost, "/api/api-credentials/test", nil, in)
}

// TestStoredCredential asks the provider whether a stored credential works.
func (c *Client) TestStoredCredential(ctx context.Context, id string) (TestResult, error) {
	return call[TestResult](ctx, c, http.MethodPost, "/api/api-credentials/"+url.PathEscape(id)+"/test", nil, nil)
}

// OwnLimits tells where the caller's address and organization stand.
func (c *Client) OwnLimits(ctx context.Context) (LimitOverview, error) {
	return call[LimitOverview](ctx, c, http.MethodGet, "/api/rate-limit/status", nil, nil)
}

// SubjectLimit tells where any subject stands; typ is "ip" or "org".
func (c *Client) SubjectLimit(ctx context.Context, typ, key string) (LimitStatus, error) {
	return call[LimitStatus](ctx, c, http.MethodGet, "/api/rate-limit/admin/status/"+url.PathEscape(typ)+"/"+url.PathEscape(key), nil, nil)
}

// ResetLimit forgets what was counted for a subject.
func (c *Client) ResetLimit(ctx context.Context, typ, key string) (LimitStatus, error) {
	return call[LimitStatus](ctx, c, http.MethodPost, "/api/rate-limit/reset", nil, LimitReset{typ, key})
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
func (c *Client) UpdateLimitPolicy(ctx context.Context, id string, in LimitPolicyInput) (LimitPolicy, error) {
	return call[LimitPolicy](ctx, c, http.MethodPut, policiesPath+"/"+url.PathEscape(id), nil, in)
}

// DeleteLimitPolicy removes a rate limit policy.
func (c *Client) DeleteLimitPolicy(ctx context.Context, id string) error {
	_, err := call[struct{}](ctx, c, http.MethodDelete, policiesPath+"/"+url.PathEscape(id), nil, nil)
	return err
}

// RollBackLimitPolicy brings a rate limit policy back to what it said at a
// revision.
func (c *Client) RollBackLimitPolicy(ctx context.Context, id string, revision int64) (LimitPolicy, error) {
	return call[LimitPolicy](ctx, c, http.MethodPost, policiesPath+"/"+url.PathEscape(id)+"/rollback", nil, LimitPolicyRollback{revision})
}

// CheckLimit asks for the decision on a request that does not go through
// Gatehouse.
func (c *Client) CheckLimit(ctx context.Context, in LimitCheck) (LimitDecision, error) {
	return call[LimitDecision](ctx, c, http.MethodPost, "/api/rate-limit/check", nil, in)
}

// ListEvents gives a page of the trail. query may hold class, action, actor, target,
// outcome, from, to, limit, cursor, count and organization.
func (c *Client) ListEvents(ctx context.Context, query url.Values) (EventList, error) {
	return call[EventList](ctx, c, http.MethodGet, "/api/audit/events", query, nil)
}

// Usage gives a page of usage. query may hold from, to, groupBy, service, model,
// credential, member, organization, limit and cursor; nil is the sum over the
// last 24 hours.
func (c *Client) Usage(ctx context.Context, query url.Values) (UsageReport, error) {
	return call[UsageReport](ctx, c, http.MethodGet, "/api/usage", query, nil)
}

// CreateOrganization makes an organization.
func (c *Client) CreateOrganization(ctx context.Context, in OrganizationCreate) (Organization, error) {
	return call[Organization](ctx, c, http.MethodPost, "/api/organizations", nil, in)
}

// DeleteOrganization destroys everything sealed for an organization. Its id
// stays dead.
func (c *Client) DeleteOrganization(ctx context.Context, id string) error {
	_, err := call[struct{}](ctx, c, http.MethodDelete, "/api/organizations/"+url.PathEscape(id), url.Values{"confirm": {id}}, nil)
	return err
}

// Keys tells of the master keys, what hangs on each and who holds them.
func (c *Client) Keys(ctx context.Context) (KeyStatus, error) {
	return call[KeyStatus](ctx, c, http.MethodGet, "/api/keys", nil, nil)
}

// StageKey makes the instance's new ENCRYPTION_KEY known as a key.
func (c *Client) StageKey(ctx context.Context, in KeyStage) (MasterKey, error) {
	return call[MasterKey](ctx, c, http.MethodPost, "/api/keys/stage", nil, in)
}

// RotateKeys starts moving everything to another master key.
func (c *Client) RotateKeys(ctx context.Context, in KeyRotate) (KeyRotation, error) {
	return call[KeyRotation](ctx, c, http.MethodPost, "/api/keys/rotate", nil, in)
}

// StopKeyRotation stops the running rotation.
func (c *Client) StopKeyRotation(ctx context.Context) (KeyRotation, error) {
	return call[KeyRotation](ctx, c, http.MethodPost, "/api/keys/stop", nil, nil)
}

// VerifyKeys opens sealed values and names those that do not open.
func (c *Client) VerifyKeys(ctx context.Context, in KeyVerify) (KeyVerification, error) {
	return call[KeyVerification](ctx, c, http.MethodPost, "/api/keys/verify", nil, in)
}

// RetireKey ends a master key that nothing hangs on.
func (c *Client) RetireKey(ctx context.Context, id string, in KeyRetire) (MasterKey, error) {
	return call[MasterKey](ctx, c, http.MethodPost, "/api/keys/"+url.PathEscape(id)+"/retire", nil, in)
}

func call[Out any](ctx context.Context, c *Client, method, path string, query url.Values, in any) (Out, error) {
	var out Out
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return out, err
		}
		body = bytes.NewReader(b)
	}
	address := strings.TrimSuffix(c.BaseURL, "/") + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return out, err
	}
	r.Header.Set("Authorization", "Bearer "+c.Token)
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	client := c.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	answer, err := client.Do(r)
	if err != nil {
		return out, err
	}
	defer func() { _ = answer.Body.Close() }() // all of it has been read
	b, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	switch {
	case err != nil:
		return out, err
	case answer.StatusCode >= http.StatusBadRequest:
		e := &CallError{Problem{Status: answer.StatusCode, Detail: "the answer is no problem of Gatehouse's", Code: "unknown"}, retryAfter(answer.Header)}
		_ = json.Unmarshal(b, &e.Problem) // what cannot be read stays unknown
		e.Status = answer.StatusCode      // a proxy between may say anything in its body
		return out, e
	case answer.StatusCode == http.StatusNoContent:
		return out, nil
	}
	return out, json.Unmarshal(b, &out)
}

func retryAfter(h http.Header) time.Duration {
	d, err := time.ParseDuration(h.Get("Retry-After") + "s")
	if err != nil {
		return 0
	}
	return d
}
