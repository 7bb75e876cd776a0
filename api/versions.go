package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
)

// CredentialVersion is what is told of one version of a credential: who made it,
// when and why, and what became of it; never its values.
type CredentialVersion struct {
	Tagged
	Version     int64       `json:"version"`
	State       string      `json:"state" enum:"staged,active,retiring,retired" doc:"retiring: replaced and in grace until graceUntil; retired: destroyed, only this line is left"`
	Fields      []string    `json:"fields" nullable:"false" doc:"The names of the fields it holds, or held"`
	Fingerprint string      `json:"fingerprint" doc:"Alike for alike values inside one organization; keyed, so it gives nothing away"`
	Reason      string      `json:"reason,omitempty" doc:"Why it was made"`
	CreatedAt   *Time       `json:"createdAt"`
	CreatedBy   string      `json:"createdBy"`
	ActivatedAt *Time       `json:"activatedAt,omitempty" doc:"The last time that it became active"`
	ActivatedBy string      `json:"activatedBy,omitempty"`
	RetiredAt   *Time       `json:"retiredAt,omitempty" doc:"When another version took its place"`
	RetiredBy   string      `json:"retiredBy,omitempty"`
	GraceUntil  *Time       `json:"graceUntil,omitempty" doc:"When its grace ends and it is destroyed"`
	DestroyedAt *Time       `json:"destroyedAt,omitempty"`
	DestroyedBy string      `json:"destroyedBy,omitempty" doc:"Left out where the end of its grace did it"`
	LastTest    *TestResult `json:"lastTest,omitempty"`
}

// CredentialVersionList is one page of a credential's history, the highest number
// first.
type CredentialVersionList struct {
	Versions   []CredentialVersion `json:"versions" nullable:"false"`
	NextCursor string              `json:"nextCursor,omitempty"`
}

// CredentialStage asks for a version that is not in use yet.
type CredentialStage struct {
	Credentials map[string]string `json:"credentials" doc:"The new values; a field that is absent stays as in the active version"`
	Reason      string            `json:"reason,omitempty" doc:"Why; in the history and the trail"`
}

// CredentialActivate asks for a staged version to become the active one.
type CredentialActivate struct {
	GraceSeconds int64  `json:"graceSeconds,omitempty" doc:"How long the version that is replaced can still be used, at most 2592000; 0: it is destroyed at once"`
	Force        bool   `json:"force,omitempty" doc:"Also where the provider did not accept it at its last test"`
	Reason       string `json:"reason,omitempty" doc:"Why; in the trail"`
}

// CredentialRollback asks for a version in grace to become the active one again.
type CredentialRollback struct {
	Version      int64  `json:"version,omitempty" doc:"One that is in grace; the one that was replaced last when left out"`
	GraceSeconds *int64 `json:"graceSeconds,omitempty" doc:"How long the version that is left can still be used; what was left of the other's grace when left out, 0: it is destroyed at once"`
	Reason       string `json:"reason,omitempty" doc:"Why; in the trail"`
}

func versionsPath(id string) string {
	return "/api/api-credentials/" + url.PathEscape(id) + "/versions"
}

func versionPath(id string, version int64) string {
	return versionsPath(id) + "/" + strconv.FormatInt(version, 10)
}

// ListCredentialVersions gives a page of a credential's history. query may hold
// limit and cursor; nil is the first page.
func (c *Client) ListCredentialVersions(ctx context.Context, id string, query url.Values) (CredentialVersionList, error) {
	return call[CredentialVersionList](ctx, c, http.MethodGet, versionsPath(id), query, nil)
}

// StageCredentialVersion seals new values that are not in use yet.
func (c *Client) StageCredentialVersion(ctx context.Context, id string, in CredentialStage, match ...Condition) (CredentialVersion, error) {
	return call[CredentialVersion](ctx, c, http.MethodPost, versionsPath(id), nil, in, match...)
}

// TestCredentialVersion asks the provider whether one version works.
func (c *Client) TestCredentialVersion(ctx context.Context, id string, version int64) (TestResult, error) {
	return call[TestResult](ctx, c, http.MethodPost, versionPath(id, version)+"/test", nil, nil)
}

// ActivateCredentialVersion makes a staged version the active one.
func (c *Client) ActivateCredentialVersion(ctx context.Context, id string, version int64, in CredentialActivate, match ...Condition) (Credential, error) {
	return call[Credential](ctx, c, http.MethodPost, versionPath(id, version)+"/activate", nil, in, match...)
}

// RollBackCredential makes a version in grace the active one again.
func (c *Client) RollBackCredential(ctx context.Context, id string, in CredentialRollback, match ...Condition) (Credential, error) {
	return call[Credential](ctx, c, http.MethodPost, "/api/api-credentials/"+url.PathEscape(id)+"/rollback", nil, in, match...)
}

// DestroyCredentialVersion destroys a staged version, or one in grace, now.
func (c *Client) DestroyCredentialVersion(ctx context.Context, id string, version int64, match ...Condition) error {
	_, err := call[struct{}](ctx, c, http.MethodDelete, versionPath(id, version), nil, nil, match...)
	return err
}
