package api

import (
	"context"
	"net/http"
	"net/url"
)

// CredentialHealthReport says which of an organization's credentials need
// attention, as they were found by the check that runs by itself.
type CredentialHealthReport struct {
	Summary     CredentialHealthSummary `json:"summary"`
	Credentials []CredentialHealth      `json:"credentials" nullable:"false" doc:"Those with findings, newest first"`
	NextCursor  string                  `json:"nextCursor,omitempty"`
}

// CredentialHealthSummary counts over all of an organization's credentials.
type CredentialHealthSummary struct {
	Credentials int64            `json:"credentials" doc:"All"`
	Healthy     int64            `json:"healthy" doc:"Opened by the check lately, and nothing found"`
	Disabled    int64            `json:"disabled"`
	Unchecked   int64            `json:"unchecked" doc:"In use and not opened by the check within two periods, or never: nothing can be said of these"`
	Findings    map[string]int64 `json:"findings" doc:"How many credentials have a finding of each kind"`
}

// CredentialHealth is a credential with what was found.
type CredentialHealth struct {
	ID         string              `json:"id"`
	Service    string              `json:"service" example:"openai"`
	Name       string              `json:"name" example:"Default"`
	Status     string              `json:"status" enum:"active,expiring,expired,disabled"`
	Version    int64               `json:"version"`
	ExpiresAt  *Time               `json:"expiresAt,omitempty"`
	LastUsedAt *Time               `json:"lastUsedAt,omitempty"`
	LastTest   *TestResult         `json:"lastTest,omitempty"`
	Findings   []CredentialFinding `json:"findings" nullable:"false"`
}

// CredentialFinding is something about a credential that needs attention.
type CredentialFinding struct {
	Kind   string `json:"kind" enum:"expiring,expired,unused,test_failed,rotation_due,unreadable,fallback,untestable"`
	Since  *Time  `json:"since" doc:"When the check found it"`
	Within string `json:"within,omitempty" doc:"Of expiring: the warning" example:"7d"`
	Result string `json:"result,omitempty" doc:"Of test_failed: invalid or misconfigured"`
	Detail string `json:"detail,omitempty" doc:"Of test_failed: what the provider's answer means"`
}

// GetCredentialHealth tells which credentials need attention. query may hold
// finding, limit and cursor; nil is the first page of all.
func (c *Client) GetCredentialHealth(ctx context.Context, query url.Values) (CredentialHealthReport, error) {
	return call[CredentialHealthReport](ctx, c, http.MethodGet, "/api/api-credentials/health", query, nil)
}
