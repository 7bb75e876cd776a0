package server

import (
	"context"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/retention"
)

type retentionIn struct {
	Organization string `query:"organization" doc:"For operators: _instance, the events that belong to no tenant"`
}

type retentionOut struct {
	ETag string `header:"ETag"`
	Body api.RetentionPolicy
}

func (s *Server) getRetention(ctx context.Context, caller access.Caller, in *retentionIn) (*retentionOut, error) {
	return wireRetention(s.cfg.Retention.Policy(ctx, caller, in.Organization))
}

type putRetentionIn struct {
	Organization string `query:"organization" doc:"For operators: _instance, the events that belong to no tenant"`
	IfMatch      string `header:"If-Match" doc:"The ETag of the state that the change is meant for"`
	Body         api.RetentionInput
}

func (s *Server) putRetention(ctx context.Context, caller access.Caller, in *putRetentionIn) (*retentionOut, error) {
	return wireRetention(s.cfg.Retention.Put(ctx, caller, in.Organization, matchOf(in.IfMatch), retention.Draft{Preset: in.Body.Preset, Keep: in.Body.Keep}))
}

func wireRetention(p retention.Policy, err error) (*retentionOut, error) {
	if err != nil {
		return nil, err
	}
	w := api.RetentionPolicy{
		Organization: p.Organization, RetentionInput: api.RetentionInput{Preset: p.Preset, Keep: wireLengths(p.Keep)}, Revision: p.Revision,
		Classes: make([]api.RetentionLength, len(p.Classes)), UpdatedAt: api.At(p.UpdatedAt), UpdatedBy: p.UpdatedBy,
	}
	for i, l := range p.Classes {
		w.Classes[i] = wireLength(l)
	}
	return &retentionOut{revisionTag(p.Revision), w}, nil
}

func wireLength(l retention.Length) api.RetentionLength {
	return api.RetentionLength{Class: string(l.Class), Keep: l.Keep.String(), Because: string(l.Because)}
}

func wireLengths(all retention.Lengths) map[string]string {
	w := make(map[string]string, len(all))
	for c, k := range all {
		w[string(c)] = k.String()
	}
	return w
}

type boundsOut struct {
	ETag string `header:"ETag"`
	Body api.RetentionBounds
}

func (s *Server) getRetentionBounds(ctx context.Context, caller access.Caller, _ *noInput) (*boundsOut, error) {
	return wireBounds(s.cfg.Retention.Bounds(ctx, caller))
}

type putBoundsIn struct {
	IfMatch string `header:"If-Match" doc:"The ETag of the state that the change is meant for"`
	Body    api.RetentionBoundsInput
}

func (s *Server) putRetentionBounds(ctx context.Context, caller access.Caller, in *putBoundsIn) (*boundsOut, error) {
	return wireBounds(s.cfg.Retention.PutBounds(ctx, caller, matchOf(in.IfMatch), in.Body.Floors, in.Body.Ceilings))
}

func wireBounds(b retention.Bounds, err error) (*boundsOut, error) {
	if err != nil {
		return nil, err
	}
	return &boundsOut{revisionTag(b.Revision), api.RetentionBounds{
		RetentionBoundsInput: api.RetentionBoundsInput{Floors: wireLengths(b.Floors), Ceilings: wireLengths(b.Ceilings)},
		Revision:             b.Revision, UpdatedAt: api.At(b.UpdatedAt), UpdatedBy: b.UpdatedBy,
	}}, nil
}

type presetsOut struct{ Body api.RetentionPresets }

func (s *Server) retentionPresets(context.Context, access.Caller, *struct{}) (*presetsOut, error) {
	out := &presetsOut{}
	for _, p := range retention.Presets() {
		out.Body.Presets = append(out.Body.Presets, api.RetentionPreset{Name: p.Name, Title: p.Title, Source: p.Source, Says: p.Says, Keep: wireLengths(p.Lengths)})
	}
	return out, nil
}

type previewRetentionIn struct {
	Organization string              `query:"organization" doc:"For operators: _instance, the events that belong to no tenant"`
	Body         *api.RetentionInput // optional
}

type previewOut struct{ Body api.RetentionPreview }

func (s *Server) previewRetention(ctx context.Context, caller access.Caller, in *previewRetentionIn) (*previewOut, error) {
	var draft *retention.Draft
	if body := orNothing(in.Body); body.Preset != "" || len(body.Keep) > 0 {
		draft = &retention.Draft{Preset: body.Preset, Keep: body.Keep}
	}
	all, err := s.cfg.Retention.Preview(ctx, caller, in.Organization, draft)
	if err != nil {
		return nil, err
	}
	return &previewOut{WireRetentionPreview(all)}, nil
}

// WireRetentionPreview gives the answer of POST /api/retention/preview, for the
// command line too.
func WireRetentionPreview(all []retention.ClassPreview) api.RetentionPreview {
	w := api.RetentionPreview{Classes: make([]api.RetentionClassPreview, len(all))}
	for i, p := range all {
		w.Classes[i] = api.RetentionClassPreview{
			RetentionLength: wireLength(p.Length), Before: api.At(p.Before), Due: p.Due, Held: p.Held, Capped: p.Capped, Stopped: p.Stopped,
			Oldest: api.At(p.Oldest), Newest: api.At(p.Newest),
		}
	}
	return w
}

type listHoldsIn struct {
	Ended bool `query:"ended" doc:"Those that ended too, up to 500 in all"`
}

type holdListOut struct{ Body api.RetentionHolds }

func (s *Server) listHolds(ctx context.Context, caller access.Caller, in *listHoldsIn) (*holdListOut, error) {
	all, err := s.cfg.Retention.Holds(ctx, caller, in.Ended)
	if err != nil {
		return nil, err
	}
	out := &holdListOut{Body: api.RetentionHolds{Holds: make([]api.RetentionHold, len(all))}}
	for i, h := range all {
		out.Body.Holds[i] = s.wireHold(h)
	}
	return out, nil
}

type placeHoldIn struct{ Body api.RetentionHoldInput }

type holdOut struct{ Body api.RetentionHold }

func (s *Server) placeHold(ctx context.Context, caller access.Caller, in *placeHoldIn) (*holdOut, error) {
	w := in.Body.Scope
	scope := retention.Scope{Class: retention.Class(w.Class), Actor: w.Actor, Target: w.Target, Action: w.Action, From: timeOf(w.From), To: timeOf(w.To), Everything: w.Everything}
	h, err := s.cfg.Retention.Hold(ctx, caller, in.Body.Reason, scope, timeOf(in.Body.ExpiresAt))
	if err != nil {
		return nil, err
	}
	return &holdOut{s.wireHold(h)}, nil
}

func timeOf(t *api.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	if time.Time(*t).IsZero() { // said, so not the same as left out
		return time.Time{}.Add(time.Microsecond)
	}
	return time.Time(*t)
}

type releaseHoldIn struct {
	ID string `path:"id"`
}

func (s *Server) releaseHold(ctx context.Context, caller access.Caller, in *releaseHoldIn) (*nothingOut, error) {
	return &nothingOut{}, s.cfg.Retention.Release(ctx, caller, in.ID)
}

func (s *Server) wireHold(h retention.Hold) api.RetentionHold {
	return api.RetentionHold{
		ID: h.ID, Active: h.Active(s.now()), CreatedAt: api.At(h.CreatedAt), CreatedBy: h.CreatedBy, ReleasedAt: api.At(h.ReleasedAt), ReleasedBy: h.ReleasedBy,
		RetentionHoldInput: api.RetentionHoldInput{Reason: h.Reason, ExpiresAt: api.At(h.ExpiresAt), Scope: api.RetentionScope{
			Class: string(h.Scope.Class), Actor: h.Scope.Actor, Target: h.Scope.Target, Action: h.Scope.Action,
			From: api.At(h.Scope.From), To: api.At(h.Scope.To), Everything: h.Scope.Everything,
		}},
	}
}

type pageIn struct {
	Limit  int    `query:"limit" doc:"1 to 500; 50 when left out or 0"`
	Cursor string `query:"cursor" doc:"nextCursor of the page before"`
}

type heldOut struct{ Body api.HeldEvents }

func (s *Server) heldEvents(ctx context.Context, caller access.Caller, in *pageIn) (*heldOut, error) {
	all, next, err := s.cfg.Retention.HeldEvents(ctx, caller, in.Limit, in.Cursor)
	if err != nil {
		return nil, err
	}
	out := &heldOut{Body: api.HeldEvents{Events: make([]api.HeldEvent, len(all)), NextCursor: next}}
	for i := range all {
		h := &all[i]
		w := &out.Body.Events[i]
		w.Proof = wireProof(h.Proof)
		e, err := audit.Read(h.Canonical, h.Personal)
		if err != nil { // shown as it is: one altered row hides no other
			e = audit.Event{ID: h.EventID, Organization: h.Organization, Class: audit.Class(h.Class)}
		}
		w.Event, w.Damaged = wireEvent(e), err != nil || h.Altered != ""
	}
	return out, nil
}

type certificatesIn struct {
	Organization string `query:"organization" doc:"For operators: _instance, the events that belong to no tenant"`
	Limit        int    `query:"limit" doc:"1 to 500; 50 when left out or 0"`
	Cursor       string `query:"cursor" doc:"nextCursor of the page before"`
}

type certificatesOut struct{ Body api.RetentionCertificates }

func (s *Server) retentionCertificates(ctx context.Context, caller access.Caller, in *certificatesIn) (*certificatesOut, error) {
	all, next, err := s.cfg.Retention.Certificates(ctx, caller, in.Organization, in.Limit, in.Cursor)
	if err != nil {
		return nil, err
	}
	out := &certificatesOut{Body: api.RetentionCertificates{Certificates: make([]api.RetentionCertificate, len(all)), NextCursor: next}}
	for i, c := range all {
		out.Body.Certificates[i] = api.RetentionCertificate{
			Sweep: c.Sweep, Class: string(c.Class), PolicyRevision: c.PolicyRevision, Kept: c.Kept, Before: api.At(c.Before), First: c.First, To: c.To, Root: c.Root,
			Removed: c.Removed, Held: c.Held, Released: c.Released, Oldest: api.At(c.Oldest), Newest: api.At(c.Newest), Record: c.Record, Damaged: c.Contradicts(), Finished: c.Finished, UpdatedAt: api.At(c.UpdatedAt),
		}
	}
	return out, nil
}
