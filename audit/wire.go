package audit

import (
	"encoding/json"
	"maps"

	"github.com/gatehouse-io/gatehouse/internal/wiretime"
)

// wireEvent is an event as the API, exports and sinks give it.
type wireEvent struct {
	ID           string         `json:"id"`
	OccurredAt   string         `json:"occurredAt"`
	RecordedAt   string         `json:"recordedAt,omitempty"`
	Organization string         `json:"organization"`
	Class        Class          `json:"class"`
	Action       Action         `json:"action"`
	Outcome      Outcome        `json:"outcome"`
	Reason       string         `json:"reason,omitempty"`
	Severity     Severity       `json:"severity"`
	Actor        Actor          `json:"actor"`
	Targets      []Target       `json:"targets"`
	Permission   string         `json:"permission,omitempty"`
	Request      *Request       `json:"request,omitempty"`
	Count        int64          `json:"count,omitempty"`
	Metadata     map[string]any `json:"metadata,omitempty"`
	Damaged      bool           `json:"damaged,omitempty"`
}

// MarshalJSON gives the event as the API answers it, and as the JSON Schema at
// /api/audit/schema describes it. These are not the bytes that are hashed.
func (e Event) MarshalJSON() ([]byte, error) {
	w := wireEvent{
		ID: e.ID, OccurredAt: wiretime.Text(e.OccurredAt), Organization: e.Organization, Class: e.Class, Action: e.Action, Outcome: e.Outcome,
		Reason: e.Reason, Severity: e.Severity, Actor: e.Actor, Targets: e.Targets, Permission: e.Permission, Count: e.Count, Metadata: e.AllMetadata(),
		Damaged: e.Damaged,
	}
	if !e.RecordedAt.IsZero() {
		w.RecordedAt = wiretime.Text(e.RecordedAt)
	}
	if w.Targets == nil {
		w.Targets = []Target{}
	}
	if e.Request != (Request{}) {
		w.Request = &e.Request
	}
	return json.Marshal(w)
}

// AllMetadata gives the metadata with the further personal data among it, as it is
// shown.
func (e Event) AllMetadata() map[string]any {
	if len(e.Personal) == 0 {
		return e.Metadata
	}
	all := make(map[string]any, len(e.Metadata)+len(e.Personal))
	maps.Copy(all, e.Metadata)
	for name, value := range e.Personal {
		all[name] = value
	}
	return all
}

// MarshalJSON gives the event, not its place.
func (s Sealed) MarshalJSON() ([]byte, error) { return s.Event.MarshalJSON() }
