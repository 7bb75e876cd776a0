package server

import (
	"context"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/internal/fault"
)

type listEventsIn struct {
	Action       string `query:"action" doc:"One action" example:"credential.create"`
	Actor        string `query:"actor" doc:"One actor's id"`
	Outcome      string `query:"outcome" doc:"success, denied, failure or partial"`
	From         string `query:"from" doc:"At or after this time (RFC 3339)"`
	To           string `query:"to" doc:"Before this time (RFC 3339)"`
	Limit        int    `query:"limit" doc:"1 to 500; 50 when left out"`
	Cursor       string `query:"cursor" doc:"nextCursor of the page before"`
	Organization string `query:"organization" doc:"For operators: _instance, the events that belong to no tenant"`
}

type eventListOut struct{ Body api.EventList }

func (s *Server) listEvents(ctx context.Context, caller access.Caller, in *listEventsIn) (*eventListOut, error) {
	from, wrongFrom := queryTime("from", in.From)
	to, wrongTo := queryTime("to", in.To)
	if wrong := append(wrongFrom, wrongTo...); len(wrong) > 0 {
		return nil, fault.InvalidFields(wrong...)
	}
	page, err := s.cfg.Audit.Events(ctx, caller, audit.Filter{
		Organization: in.Organization, Action: in.Action, Actor: in.Actor, Outcome: in.Outcome,
		From: from, To: to, Limit: in.Limit, Cursor: in.Cursor,
	})
	if err != nil {
		return nil, err
	}
	out := &eventListOut{Body: api.EventList{Events: make([]api.Event, len(page.Events)), NextCursor: page.NextCursor}}
	for i, e := range page.Events {
		out.Body.Events[i] = wireEvent(e)
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
		t = t.Add(time.Nanosecond)
	}
	return t, nil
}

func wireEvent(e audit.Event) api.Event {
	w := api.Event{
		ID: e.ID, OccurredAt: api.At(e.OccurredAt), Organization: e.Organization, Class: string(e.Class),
		Action: string(e.Action), Outcome: string(e.Outcome), Reason: e.Reason,
		Actor:   api.EventActor{Type: e.Actor.Type, ID: e.Actor.ID, TokenID: e.Actor.TokenID, Roles: e.Actor.Roles},
		Targets: make([]api.EventTarget, len(e.Targets)), Permission: e.Permission, Count: e.Count, Metadata: e.Metadata,
	}
	for i, t := range e.Targets {
		w.Targets[i] = api.EventTarget{Type: t.Type, ID: t.ID, Name: t.Name}
	}
	if q := e.Request; q != (audit.Request{}) {
		w.Request = &api.EventRequest{ID: q.ID, Method: q.Method, Route: q.Route, IP: q.IP, UserAgent: q.UserAgent, Status: q.Status}
	}
	if len(e.Personal) > 0 && w.Metadata == nil {
		w.Metadata = make(map[string]any, len(e.Personal))
	}
	for name, value := range e.Personal {
		w.Metadata[name] = value
	}
	return w
}
