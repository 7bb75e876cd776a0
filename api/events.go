package api

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
)

// Event is one line of the audit trail.
type Event struct {
	ID           string         `json:"id"`
	OccurredAt   *Time          `json:"occurredAt"`
	RecordedAt   *Time          `json:"recordedAt,omitempty"`
	Organization string         `json:"organization"`
	Class        string         `json:"class" enum:"control,access,security,system"`
	Action       string         `json:"action" example:"credential.create"`
	Outcome      string         `json:"outcome" enum:"success,denied,failure,partial"`
	Reason       string         `json:"reason,omitempty"`
	Severity     string         `json:"severity" enum:"info,notice,warning,critical"`
	Actor        EventActor     `json:"actor"`
	Targets      []EventTarget  `json:"targets" nullable:"false"`
	Permission   string         `json:"permission,omitempty"`
	Request      *EventRequest  `json:"request,omitempty"`
	Count        int64          `json:"count,omitempty" doc:"How many alike this line stands for, when more than one"`
	Metadata     map[string]any `json:"metadata,omitempty"`
	Damaged      bool           `json:"damaged,omitempty" doc:"The stored row was altered; what stands here is what it still says"`
}

// EventActor is who did it.
type EventActor struct {
	Type    string   `json:"type" enum:"user,service,system,anonymous"`
	ID      string   `json:"id"`
	TokenID string   `json:"tokenId,omitempty"`
	Roles   []string `json:"roles,omitempty"`
}

// EventTarget is what it was done to.
type EventTarget struct {
	Type string `json:"type"`
	ID   string `json:"id"`
	Name string `json:"name,omitempty"`
}

// EventRequest is the HTTP request behind an event.
type EventRequest struct {
	ID        string `json:"id,omitempty"`
	Method    string `json:"method,omitempty"`
	Route     string `json:"route,omitempty"`
	IP        string `json:"ip,omitempty"`
	UserAgent string `json:"userAgent,omitempty"`
	Status    int    `json:"status,omitempty"`
}

// EventList is one page of events, newest first. There is another page where there
// is a NextCursor, however few events this one holds.
type EventList struct {
	Events      []Event `json:"events" nullable:"false"`
	NextCursor  string  `json:"nextCursor,omitempty"`
	Count       *int64  `json:"count,omitempty" doc:"With count=true: how many events the filter picks, on all pages"`
	CountCapped bool    `json:"countCapped,omitempty" doc:"There are at least as many as count"`
}

// ErasedPerson says what an erasure did.
type ErasedPerson struct {
	Events int64 `json:"events" doc:"How many events held personal data of this person; they hold none any more"`
}

// Sink is how far the delivery of the trail to a webhook has come.
type Sink struct {
	WebhookID     string           `json:"webhookId"`
	Origin        string           `json:"origin" doc:"Of the webhook's URL, without its path"`
	Disabled      bool             `json:"disabled"`
	Next          map[string]int64 `json:"next" doc:"For each class the index in its log that is delivered next"`
	LagEvents     int64            `json:"lagEvents" doc:"Events that are sealed and not delivered"`
	LagSeconds    float64          `json:"lagSeconds" doc:"The age of the oldest of them"`
	Delivered     int64            `json:"delivered" doc:"Events, since it was made"`
	DeliveredAt   *Time            `json:"deliveredAt,omitempty"`
	Attempts      int64            `json:"attempts" doc:"That failed since the last delivery"`
	LastAttemptAt *Time            `json:"lastAttemptAt,omitempty"`
	NextAttemptAt *Time            `json:"nextAttemptAt,omitempty"`
	LastStatus    int64            `json:"lastStatus,omitempty"`
	LastError     string           `json:"lastError,omitempty" enum:"status,timeout,not_public,connection,certificate,secret"`
}

// SinkList is every sink of an organization.
type SinkList struct {
	Sinks []Sink `json:"sinks" nullable:"false"`
}

// GetEventSchema gives the JSON Schema of an event, with every action there is.
func (c *Client) GetEventSchema(ctx context.Context) (json.RawMessage, error) {
	return call[json.RawMessage](ctx, c, http.MethodGet, "/api/audit/schema", nil, nil)
}

// ListAuditSinks tells how far the delivery of the trail has come.
func (c *Client) ListAuditSinks(ctx context.Context) (SinkList, error) {
	return call[SinkList](ctx, c, http.MethodGet, "/api/audit/sinks", nil, nil)
}

// ErasePerson takes a person's data off all events.
func (c *Client) ErasePerson(ctx context.Context, id string) (ErasedPerson, error) {
	return call[ErasedPerson](ctx, c, http.MethodDelete, "/api/audit/persons/"+url.PathEscape(id), nil, nil)
}

// ExportEvents gives an export as it streams. query may hold format, class, action,
// actor, target, outcome, from and to. Close it when it is done with; one that does
// not end with its manifest was cut off.
func (c *Client) ExportEvents(ctx context.Context, query url.Values) (io.ReadCloser, error) {
	return c.stream(ctx, "/api/audit/export", query, nil)
}

// TailEvents follows the trail live, as server-sent events (WHATWG HTML, 9.2).
// lastEventID goes on from there. Close it when it is done with.
func (c *Client) TailEvents(ctx context.Context, query url.Values, lastEventID string) (io.ReadCloser, error) {
	header := make(http.Header)
	if lastEventID != "" {
		header.Set("Last-Event-ID", lastEventID)
	}
	return c.stream(ctx, "/api/audit/tail", query, header)
}

// ListEvents gives a page of the trail. query may hold class, action, actor, target,
// outcome, from, to, limit, cursor, count and organization.
func (c *Client) ListEvents(ctx context.Context, query url.Values) (EventList, error) {
	return call[EventList](ctx, c, http.MethodGet, "/api/audit/events", query, nil)
}
