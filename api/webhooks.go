package api

import (
	"context"
	"net/http"
	"net/url"
)

const webhooksPath = "/api/webhooks"

// WebhookInput is what people decide of a webhook. A PUT replaces the whole of it.
type WebhookInput struct {
	URL         string   `json:"url" doc:"https on port 443 and a public host" example:"https://hooks.example.com/gatehouse"`
	Events      []string `json:"events,omitempty" doc:"The types of messages wanted; all when left out" example:"[\"credential.expiring\"]"`
	Description string   `json:"description,omitempty" doc:"For people" example:"Pages the platform team"`
	Disabled    bool     `json:"disabled,omitempty" doc:"Nothing is sent; what waits is given up"`
}

// Webhook is where an organization wants messages sent.
type Webhook struct {
	Tagged
	ID string `json:"id"`
	WebhookInput
	DisabledReason string `json:"disabledReason,omitempty" doc:"gone: its receiver answered 410"`
	CreatedAt      *Time  `json:"createdAt"`
	CreatedBy      string `json:"createdBy"`
	UpdatedAt      *Time  `json:"updatedAt"`
}

// WebhookWithSecret is a webhook with its signing secret, which is shown this
// once.
type WebhookWithSecret struct {
	Webhook
	Secret string `json:"secret" doc:"Verifies signatures (Standard Webhooks); shown this once" example:"whsec_..."`
}

// WebhookList is every webhook of an organization, newest first.
type WebhookList struct {
	Webhooks []Webhook `json:"webhooks" nullable:"false"`
}

// WebhookRotate asks for a new signing secret.
type WebhookRotate struct {
	OverlapSeconds *int64 `json:"overlapSeconds,omitempty" doc:"How long messages are signed under the old secret too, up to a week; a day when left out"`
}

// WebhookDelivery is one message on its way to one webhook.
type WebhookDelivery struct {
	ID            string `json:"id"`
	WebhookID     string `json:"webhookId"`
	MessageID     string `json:"messageId" doc:"The header webhook-id"`
	Type          string `json:"type" example:"credential.expiring"`
	Status        string `json:"status" enum:"pending,delivered,failed"`
	Attempts      int64  `json:"attempts"`
	NextAttemptAt *Time  `json:"nextAttemptAt,omitempty"`
	LastAttemptAt *Time  `json:"lastAttemptAt,omitempty"`
	LastStatus    int64  `json:"lastStatus,omitempty" doc:"The HTTP status of the last answer"`
	LastError     string `json:"lastError,omitempty" doc:"Why the last attempt failed: status, timeout, not_public, connection, certificate, secret or disabled"`
	CreatedAt     *Time  `json:"createdAt"`
}

// WebhookDeliveryList is one page of deliveries, newest first.
type WebhookDeliveryList struct {
	Deliveries []WebhookDelivery `json:"deliveries" nullable:"false"`
	NextCursor string            `json:"nextCursor,omitempty"`
}

// ListWebhooks gives every webhook of the caller's organization.
func (c *Client) ListWebhooks(ctx context.Context) (WebhookList, error) {
	return call[WebhookList](ctx, c, http.MethodGet, webhooksPath, nil, nil)
}

// CreateWebhook makes a webhook; the answer holds its signing secret, once.
func (c *Client) CreateWebhook(ctx context.Context, in WebhookInput) (WebhookWithSecret, error) {
	return call[WebhookWithSecret](ctx, c, http.MethodPost, webhooksPath, nil, in)
}

// GetWebhook gives one webhook.
func (c *Client) GetWebhook(ctx context.Context, id string) (Webhook, error) {
	return call[Webhook](ctx, c, http.MethodGet, webhooksPath+"/"+url.PathEscape(id), nil, nil)
}

// UpdateWebhook replaces all that a webhook says.
func (c *Client) UpdateWebhook(ctx context.Context, id string, in WebhookInput, match ...Condition) (Webhook, error) {
	return call[Webhook](ctx, c, http.MethodPut, webhooksPath+"/"+url.PathEscape(id), nil, in, match...)
}

// DeleteWebhook removes a webhook with its deliveries.
func (c *Client) DeleteWebhook(ctx context.Context, id string, match ...Condition) error {
	_, err := call[struct{}](ctx, c, http.MethodDelete, webhooksPath+"/"+url.PathEscape(id), nil, nil, match...)
	return err
}

// RotateWebhookSecret makes a new signing secret; the answer holds it, once.
func (c *Client) RotateWebhookSecret(ctx context.Context, id string, in WebhookRotate) (WebhookWithSecret, error) {
	return call[WebhookWithSecret](ctx, c, http.MethodPost, webhooksPath+"/"+url.PathEscape(id)+"/rotate", nil, in)
}

// TestWebhook sends a test message.
func (c *Client) TestWebhook(ctx context.Context, id string) (WebhookDelivery, error) {
	return call[WebhookDelivery](ctx, c, http.MethodPost, webhooksPath+"/"+url.PathEscape(id)+"/test", nil, nil)
}

// ListWebhookDeliveries gives a page of what was sent. query may hold status,
// limit and cursor; nil is the first page of all.
func (c *Client) ListWebhookDeliveries(ctx context.Context, id string, query url.Values) (WebhookDeliveryList, error) {
	return call[WebhookDeliveryList](ctx, c, http.MethodGet, webhooksPath+"/"+url.PathEscape(id)+"/deliveries", query, nil)
}

// ReplayWebhookDelivery sends a message again.
func (c *Client) ReplayWebhookDelivery(ctx context.Context, id, delivery string) (WebhookDelivery, error) {
	return call[WebhookDelivery](ctx, c, http.MethodPost, webhooksPath+"/"+url.PathEscape(id)+"/deliveries/"+url.PathEscape(delivery)+"/replay", nil, nil)
}
