package api

import (
	"context"
	"net/http"
	"net/url"
)

// UsageReport is one page of usage, sorted by what it is grouped by.
type UsageReport struct {
	From       *Time      `json:"from" doc:"The beginning of the first hour"`
	To         *Time      `json:"to" doc:"The end of the last hour"`
	GroupBy    []string   `json:"groupBy" nullable:"false"`
	Rows       []UsageRow `json:"rows" nullable:"false"`
	NextCursor string     `json:"nextCursor,omitempty"`
}

// UsageRow is the usage of one group. Only what was grouped by is there. Tokens
// are sums over the counted requests, and null where there are none.
type UsageRow struct {
	Hour         *Time   `json:"hour,omitempty" doc:"When the hour begins"`
	Organization *string `json:"organization,omitempty"`
	Service      *string `json:"service,omitempty"`
	Model        *string `json:"model,omitempty" doc:"Empty where none was named; other for names past the bounds"`
	Credential   *string `json:"credential,omitempty" doc:"Its id; empty where none was used"`
	Member       *string `json:"member,omitempty"`

	Requests  int64 `json:"requests" doc:"Visits that passed the limits"`
	Failed    int64 `json:"failed" doc:"Of them, answered with an error, Gatehouse's or the provider's"`
	Partial   int64 `json:"partial" doc:"Of them, left or broken before the end of their answer"`
	Counted   int64 `json:"counted" doc:"Of them, with tokens that the provider said"`
	Uncounted int64 `json:"uncounted" doc:"Of them, with tokens that the provider should have said and did not"`

	InputTokens      *int64 `json:"inputTokens" nullable:"true" doc:"Of prompts, with those read from or written to a cache"`
	CacheReadTokens  *int64 `json:"cacheReadTokens" nullable:"true" doc:"Part of inputTokens"`
	CacheWriteTokens *int64 `json:"cacheWriteTokens" nullable:"true" doc:"Part of inputTokens"`
	OutputTokens     *int64 `json:"outputTokens" nullable:"true" doc:"Of answers, with reasoning"`
	ReasoningTokens  *int64 `json:"reasoningTokens" nullable:"true" doc:"Part of outputTokens"`

	BytesIn  int64 `json:"bytesIn" doc:"Of request bodies"`
	BytesOut int64 `json:"bytesOut" doc:"Of answers' bodies"`
}

// GetUsage gives a page of usage. query may hold from, to, groupBy, service, model,
// credential, member, organization, limit and cursor; nil is the sum over the
// last 24 hours.
func (c *Client) GetUsage(ctx context.Context, query url.Values) (UsageReport, error) {
	return call[UsageReport](ctx, c, http.MethodGet, "/api/usage", query, nil)
}
