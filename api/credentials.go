package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
)

// Credential is what is told of a credential: everything but its values.
type Credential struct {
	Tagged
	ID          string            `json:"id" example:"cred_01936f3e-7c5a-7b0e-9d52-3b1f6a3c9e10"`
	Service     string            `json:"service" example:"openai"`
	Name        string            `json:"name" example:"Default"`
	Status      string            `json:"status" enum:"active,expiring,expired,disabled" doc:"expiring: within 30 days"`
	Version     int64             `json:"version" doc:"The active sealed version, from 1"`
	Fields      []string          `json:"fields" nullable:"false" doc:"The names of the fields it holds"`
	Hint        map[string]string `json:"hint" doc:"A mask for each field that gives away at most 4 characters"`
	Fingerprint string            `json:"fingerprint" doc:"Alike for alike values inside one organization; keyed, so it gives nothing away"`
	Scope       *Scope            `json:"scope,omitempty" doc:"What it may be used for; left out: the service's defaultScope"`
	Failover    []string          `json:"failover,omitempty" nullable:"false" doc:"Credentials of the same service that step in, in this order, where the provider answers 401, 402 or 429"`
	ExpiresAt   *Time             `json:"expiresAt,omitempty"`
	LastUsedAt  *Time             `json:"lastUsedAt,omitempty"`
	LastTest    *TestResult       `json:"lastTest,omitempty"`
	FallbackAt  *Time             `json:"fallbackAt,omitempty" doc:"The provider refused the active version at this time, and the one in grace served instead: the active one needs a look"`
	CreatedAt   *Time             `json:"createdAt"`
	CreatedBy   string            `json:"createdBy"`
	UpdatedAt   *Time             `json:"updatedAt"`
}

// CredentialList is one page of credentials, newest first.
type CredentialList struct {
	Credentials []Credential `json:"credentials" nullable:"false"`
	NextCursor  string       `json:"nextCursor,omitempty"`
}

// CredentialCreate asks for a new credential.
type CredentialCreate struct {
	Service     string            `json:"service" doc:"A service of the catalogue" example:"openai"`
	Name        string            `json:"name,omitempty" doc:"Default when left out" example:"Default"`
	Credentials map[string]string `json:"credentials" doc:"The service's fields" example:"{\"apiKey\":\"sk-...\"}"`
	ExpiresAt   *Time             `json:"expiresAt,omitempty" doc:"After this time it is never used"`
	Scope       *Scope            `json:"scope,omitempty" doc:"What it may be used for; left out: the service's defaultScope"`
	Failover    []string          `json:"failover,omitempty" nullable:"false" doc:"Names of at most 4 credentials of the same service that step in, in this order, where the provider answers 401, 402 or 429"`
}

// CredentialUpdate asks for a change; what is absent stays.
type CredentialUpdate struct {
	Name        Optional[string]   `json:"name,omitzero"`
	Credentials map[string]*string `json:"credentials,omitempty" doc:"A field that is absent stays, null removes it; a change of values makes a new version"`
	ExpiresAt   Optional[Time]     `json:"expiresAt,omitzero" doc:"null takes the expiry away"`
	Disabled    Optional[bool]     `json:"disabled,omitzero"`
	Scope       Optional[Scope]    `json:"scope,omitzero" doc:"Takes the place of the whole scope; null is the service's defaultScope"`
	Failover    Optional[[]string] `json:"failover,omitzero" doc:"Takes the place of the whole list; null or an empty list: none"`

	// CredentialsNull says that credentials was null where it was read, which is
	// refused: it could mean that nothing or that everything is to go.
	CredentialsNull bool `json:"-"`
}

// UnmarshalJSON implements [json.Unmarshaler].
func (u *CredentialUpdate) UnmarshalJSON(data []byte) error {
	type plain CredentialUpdate
	var null struct {
		Credentials Optional[json.RawMessage] `json:"credentials"`
	}
	if err := errors.Join(json.Unmarshal(data, (*plain)(u)), json.Unmarshal(data, &null)); err != nil {
		return err
	}
	u.CredentialsNull = null.Credentials.Null
	return nil
}

// CredentialRotate asks for a new version that is active at once.
type CredentialRotate struct {
	Credentials  map[string]string `json:"credentials" doc:"The new values; a field that is absent stays"`
	GraceSeconds int64             `json:"graceSeconds,omitempty" doc:"How long the old version can still be used, at most 2592000; 0: it is destroyed at once"`
	Reason       string            `json:"reason,omitempty" doc:"Why; in the history and the trail"`
}

// CredentialReveal asks for the values in the clear.
type CredentialReveal struct {
	Reason string `json:"reason" doc:"Why; it stands in the audit trail" example:"moving the key to the new billing account"`
}

// RevealedCredential holds values in the clear.
type RevealedCredential struct {
	Tagged
	ID          string            `json:"id"`
	Version     int64             `json:"version"`
	Credentials map[string]string `json:"credentials"`
}

// CredentialTest asks the provider whether values work; nothing is stored.
type CredentialTest struct {
	Service     string            `json:"service" example:"openai"`
	Credentials map[string]string `json:"credentials"`
}

// TestResult is what the provider said of a credential.
type TestResult struct {
	Result    string   `json:"result" enum:"valid,restricted,misconfigured,invalid,indeterminate"`
	Service   string   `json:"service"`
	LatencyMs int64    `json:"latencyMs"`
	Detail    string   `json:"detail,omitempty"`
	Code      string   `json:"code,omitempty" doc:"The provider's own error code"`
	RequestID string   `json:"requestId,omitempty" doc:"The provider's id of the test, for its support"`
	Account   string   `json:"account,omitempty"`
	Scopes    []string `json:"scopes,omitempty"`
	ExpiresAt *Time    `json:"expiresAt,omitempty"`
	TestedAt  *Time    `json:"testedAt,omitempty"`
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
func (c *Client) UpdateCredential(ctx context.Context, id string, in CredentialUpdate, match ...Condition) (Credential, error) {
	return call[Credential](ctx, c, http.MethodPut, "/api/api-credentials/"+url.PathEscape(id), nil, in, match...)
}

// DeleteCredential destroys a credential.
func (c *Client) DeleteCredential(ctx context.Context, id string, match ...Condition) error {
	_, err := call[struct{}](ctx, c, http.MethodDelete, "/api/api-credentials/"+url.PathEscape(id), nil, nil, match...)
	return err
}

// RotateCredential puts new values in place of the old.
func (c *Client) RotateCredential(ctx context.Context, id string, in CredentialRotate, match ...Condition) (Credential, error) {
	return call[Credential](ctx, c, http.MethodPost, "/api/api-credentials/"+url.PathEscape(id)+"/rotate", nil, in, match...)
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
