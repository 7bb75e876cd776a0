package server

import (
	"context"
	"encoding/json"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/internal/fault"
)

// EventPick is what events are picked by, on every route that gives some. It is
// exported for huma, which passes over what is not.
type EventPick struct {
	Class        string `query:"class" doc:"control, access, security or system"`
	Action       string `query:"action" doc:"One action, or how it begins and *" example:"credential.*"`
	Actor        string `query:"actor" doc:"One actor's id, or how it begins and *" example:"usr_*"`
	Target       string `query:"target" doc:"The id of something it was done to, or how it begins and *"`
	Outcome      string `query:"outcome" doc:"success, denied, failure or partial"`
	From         string `query:"from" doc:"At or after this time (RFC 3339)"`
	To           string `query:"to" doc:"Before this time (RFC 3339)"`
	Organization string `query:"organization" doc:"For operators: _instance, the events that belong to no tenant"`
}

func (p *EventPick) filter() (audit.Filter, error) {
	from, wrong := queryTime("from", p.From)
	to, wrongTo := queryTime("to", p.To)
	if wrong = append(wrong, wrongTo...); len(wrong) > 0 {
		return audit.Filter{}, fault.InvalidFields(wrong...)
	}
	return audit.Filter{
		Organization: p.Organization, Class: p.Class, Action: p.Action, Actor: p.Actor, Target: p.Target, Outcome: p.Outcome, From: from, To: to,
	}, nil
}

type listEventsIn struct {
	EventPick
	Limit  int    `query:"limit" doc:"1 to 500; 50 when left out or 0"`
	Cursor string `query:"cursor" doc:"nextCursor of the page before, with the same filter"`
	Count  bool   `query:"count" doc:"Count what the filter picks, up to 10000"`
}

type eventListOut struct{ Body api.EventList }

func (s *Server) listEvents(ctx context.Context, caller access.Caller, in *listEventsIn) (*eventListOut, error) {
	f, err := in.filter()
	if err != nil {
		return nil, err
	}
	f.Limit, f.Cursor, f.Count = in.Limit, in.Cursor, in.Count
	page, err := s.cfg.Audit.Events(ctx, caller, f)
	if err != nil {
		return nil, err
	}
	out := &eventListOut{Body: api.EventList{Events: make([]api.Event, len(page.Events)), NextCursor: page.NextCursor, CountCapped: page.CountCapped}}
	for i, e := range page.Events {
		out.Body.Events[i] = wireEvent(e)
	}
	if in.Count {
		out.Body.Count = &page.Count
	}
	return out, nil
}

type eventSchemaOut struct{ Body json.RawMessage }

func (s *Server) eventSchema(context.Context, access.Caller, *struct{}) (*eventSchemaOut, error) {
	schema, err := audit.Schema()
	return &eventSchemaOut{Body: schema}, err
}

type erasePersonIn struct {
	Person string `path:"person" doc:"The id of the person, as events have it"`
}

type erasedOut struct{ Body api.ErasedPerson }

func (s *Server) erasePerson(ctx context.Context, caller access.Caller, in *erasePersonIn) (*erasedOut, error) {
	n, err := s.cfg.Audit.ErasePerson(ctx, caller, in.Person)
	return &erasedOut{Body: api.ErasedPerson{Events: n}}, err
}

type listSinksIn struct {
	Organization string `query:"organization" doc:"For operators: _instance"`
}

type sinkListOut struct{ Body api.SinkList }

func (s *Server) listSinks(ctx context.Context, caller access.Caller, in *listSinksIn) (*sinkListOut, error) {
	all, err := s.cfg.Webhooks.Sinks(ctx, caller, in.Organization)
	if err != nil {
		return nil, err
	}
	out := &sinkListOut{Body: api.SinkList{Sinks: make([]api.Sink, len(all))}}
	for i, k := range all {
		w := api.Sink{
			WebhookID: k.Webhook, Origin: k.Origin, Disabled: k.Disabled, Next: make(map[string]int64), LagEvents: k.LagEvents, Delivered: k.Delivered,
			DeliveredAt: api.At(k.DeliveredAt), Attempts: k.Attempts, LastAttemptAt: api.At(k.LastAttemptAt), NextAttemptAt: api.At(k.NextAttemptAt),
			LastStatus: k.LastStatus, LastError: string(k.LastError),
		}
		for i, class := range audit.Classes() {
			w.Next[string(class)] = k.Positions[i]
		}
		if !k.LagSince.IsZero() {
			w.LagSeconds = max(0, s.now().Sub(k.LagSince).Seconds())
		}
		out.Body.Sinks[i] = w
	}
	return out, nil
}

func queryTime(name, value string) (time.Time, []fault.Field) {
	if value == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, value)
	if err != nil {
		return t, []fault.Field{{Name: name, Message: "must be a time such as 2026-11-23T08:41:00.000Z"}}
	}
	if t.IsZero() { // asked for, so not the same as left out
		t = t.Add(time.Microsecond) // the least that the database tells apart
	}
	return t, nil
}

func wireEvent(e audit.Event) api.Event {
	w := api.Event{
		ID: e.ID, OccurredAt: api.At(e.OccurredAt), RecordedAt: api.At(e.RecordedAt), Severity: string(e.Severity), Damaged: e.Damaged, Organization: e.Organization, Class: string(e.Class),
		Action: string(e.Action), Outcome: string(e.Outcome), Reason: e.Reason,
		Actor:   api.EventActor{Type: e.Actor.Type, ID: e.Actor.ID, TokenID: e.Actor.TokenID, Roles: e.Actor.Roles},
		Targets: make([]api.EventTarget, len(e.Targets)), Permission: e.Permission, Count: e.Count, Metadata: e.AllMetadata(),
	}
	for i, t := range e.Targets {
		w.Targets[i] = api.EventTarget{Type: t.Type, ID: t.ID, Name: t.Name}
	}
	if q := e.Request; q != (audit.Request{}) {
		w.Request = &api.EventRequest{ID: q.ID, Method: q.Method, Route: q.Route, IP: q.IP, UserAgent: q.UserAgent, Status: q.Status}
	}
	return w
}
