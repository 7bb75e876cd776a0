package api

import (
	"context"
	"net/http"
	"net/url"
)

// LimitStatus is where one subject stands.
type LimitStatus struct {
	Type          string  `json:"type" enum:"ip,org"`
	Key           string  `json:"key"`
	Limit         int     `json:"limit"`
	Used          int     `json:"used"`
	Remaining     int     `json:"remaining"`
	WindowSeconds float64 `json:"windowSeconds"`
	ResetAt       *Time   `json:"resetAt" doc:"When full: the first instant at which it admits again; otherwise when its oldest counted request comes free"`
}

// LimitOverview is where the caller's own address and organization stand.
type LimitOverview struct {
	IP           LimitStatus `json:"ip"`
	Organization LimitStatus `json:"organization"`
	Store        string      `json:"store" enum:"memory,redis"`
	Degraded     bool        `json:"degraded" doc:"Decisions come from this instance's memory because Redis is away"`
}

// LimitReset asks for a subject's counts to be dropped.
type LimitReset struct {
	Type string `json:"type" doc:"ip or org (organization is accepted too)" example:"ip"`
	Key  string `json:"key" doc:"An address, or an organization's id" example:"203.0.113.7"`
}

// GetRateLimit tells where the caller's address and organization stand.
func (c *Client) GetRateLimit(ctx context.Context) (LimitOverview, error) {
	return call[LimitOverview](ctx, c, http.MethodGet, "/api/rate-limit/status", nil, nil)
}

// GetSubjectRateLimit tells where any subject stands; typ is "ip" or "org".
func (c *Client) GetSubjectRateLimit(ctx context.Context, typ, key string) (LimitStatus, error) {
	return call[LimitStatus](ctx, c, http.MethodGet, "/api/rate-limit/admin/status/"+url.PathEscape(typ)+"/"+url.PathEscape(key), nil, nil)
}

// ResetRateLimit forgets what was counted for a subject.
func (c *Client) ResetRateLimit(ctx context.Context, typ, key string) (LimitStatus, error) {
	return call[LimitStatus](ctx, c, http.MethodPost, "/api/rate-limit/reset", nil, LimitReset{typ, key})
}

// CheckRateLimit asks for the decision on a request that does not go through
// Gatehouse.
func (c *Client) CheckRateLimit(ctx context.Context, in LimitCheck) (LimitDecision, error) {
	return call[LimitDecision](ctx, c, http.MethodPost, "/api/rate-limit/check", nil, in)
}

// CheckRateLimits asks for several such decisions, taken one after the other.
func (c *Client) CheckRateLimits(ctx context.Context, in LimitCheckBatch) (LimitDecisions, error) {
	return call[LimitDecisions](ctx, c, http.MethodPost, "/api/rate-limit/check/batch", nil, in)
}

// ListLimitOffenders gives whom the instance that answers refused most within the
// last hour.
func (c *Client) ListLimitOffenders(ctx context.Context) (LimitOffenders, error) {
	return call[LimitOffenders](ctx, c, http.MethodGet, "/api/rate-limit/top", nil, nil)
}
