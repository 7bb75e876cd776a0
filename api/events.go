package api

// Event is one line of the audit trail.
type Event struct {
	ID           string         `json:"id"`
	OccurredAt   *Time          `json:"occurredAt"`
	Organization string         `json:"organization"`
	Class        string         `json:"class" enum:"control,access,security"`
	Action       string         `json:"action" example:"credential.create"`
	Outcome      string         `json:"outcome" enum:"success,denied,failure,partial"`
	Reason       string         `json:"reason,omitempty"`
	Actor        EventActor     `json:"actor"`
	Targets      []EventTarget  `json:"targets" nullable:"false"`
	Permission   string         `json:"permission,omitempty"`
	Request      *EventRequest  `json:"request,omitempty"`
	Count        int64          `json:"count,omitempty" doc:"How many alike this line stands for, when more than one"`
	Metadata     map[string]any `json:"metadata,omitempty"`
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

// EventList is one page of events, newest first.
type EventList struct {
	Events     []Event `json:"events" nullable:"false"`
	NextCursor string  `json:"nextCursor,omitempty"`
}
