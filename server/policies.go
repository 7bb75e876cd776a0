package server

import (
	"context"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/policy"
)

type listPoliciesIn struct {
	Owner  string `query:"owner" doc:"For operators: only the policies of this organization, or _instance for the operator's"`
	Limit  int    `query:"limit" doc:"1 to 200; 50 when left out or 0"`
	Cursor string `query:"cursor" doc:"nextCursor of the page before"`
}

type policyListOut struct{ Body api.LimitPolicyList }

func (s *Server) listPolicies(ctx context.Context, caller access.Caller, in *listPoliciesIn) (*policyListOut, error) {
	page, err := s.cfg.Limits.Policies(ctx, caller, policy.Filter{Owner: in.Owner, Limit: in.Limit, Cursor: in.Cursor})
	if err != nil {
		return nil, err
	}
	out := &policyListOut{Body: api.LimitPolicyList{Policies: make([]api.LimitPolicy, len(page.Policies)), NextCursor: page.NextCursor}}
	for i, p := range page.Policies {
		out.Body.Policies[i] = wirePolicy(p)
	}
	return out, nil
}

type createPolicyIn struct{ Body api.LimitPolicyInput }

type policyOut struct {
	ETag string `header:"ETag"`
	Body api.LimitPolicy
}

func (s *Server) createPolicy(ctx context.Context, caller access.Caller, in *createPolicyIn) (*policyOut, error) {
	p, err := s.cfg.Limits.CreatePolicy(ctx, caller, draftOf(in.Body))
	return wirePolicyOut(p, err)
}

type policyIn struct {
	ID string `path:"id"`
}

func (s *Server) getPolicy(ctx context.Context, caller access.Caller, in *policyIn) (*policyOut, error) {
	p, err := s.cfg.Limits.Policy(ctx, caller, in.ID)
	return wirePolicyOut(p, err)
}

type updatePolicyIn struct {
	ID      string `path:"id"`
	IfMatch string `header:"If-Match" doc:"The ETag of the state that the change is meant for"`
	Body    api.LimitPolicyInput
}

func (s *Server) updatePolicy(ctx context.Context, caller access.Caller, in *updatePolicyIn) (*policyOut, error) {
	p, err := s.cfg.Limits.UpdatePolicy(ctx, caller, in.ID, matchOf(in.IfMatch), draftOf(in.Body))
	return wirePolicyOut(p, err)
}

type deletePolicyIn struct {
	ID      string `path:"id"`
	IfMatch string `header:"If-Match" doc:"The ETag of the state that is meant"`
}

func (s *Server) deletePolicy(ctx context.Context, caller access.Caller, in *deletePolicyIn) (*nothingOut, error) {
	return &nothingOut{}, s.cfg.Limits.DeletePolicy(ctx, caller, in.ID, matchOf(in.IfMatch))
}

type rollBackPolicyIn struct {
	ID      string `path:"id"`
	IfMatch string `header:"If-Match" doc:"The ETag of the state that is meant"`
	Body    api.LimitPolicyRollback
}

func (s *Server) rollBackPolicy(ctx context.Context, caller access.Caller, in *rollBackPolicyIn) (*policyOut, error) {
	if in.Body.Revision < 1 {
		return nil, fault.InvalidFields(fault.Field{Name: "revision", Message: "must be 1 or more"})
	}
	p, err := s.cfg.Limits.RollBack(ctx, caller, in.ID, matchOf(in.IfMatch), in.Body.Revision)
	return wirePolicyOut(p, err)
}

type revisionsOut struct{ Body api.LimitPolicyRevisions }

func (s *Server) policyRevisions(ctx context.Context, caller access.Caller, in *policyIn) (*revisionsOut, error) {
	all, err := s.cfg.Limits.Revisions(ctx, caller, in.ID)
	if err != nil {
		return nil, err
	}
	out := &revisionsOut{Body: api.LimitPolicyRevisions{Revisions: make([]api.LimitPolicyRevision, len(all))}}
	for i, r := range all {
		w := api.LimitPolicyRevision{Revision: r.Revision, Deleted: r.Content == nil, ChangedAt: api.At(r.ChangedAt), ChangedBy: r.ChangedBy}
		if r.Content != nil {
			c := wireContent(*r.Content)
			w.Policy = &c
		}
		out.Body.Revisions[i] = w
	}
	return out, nil
}

type offendersOut struct{ Body api.LimitOffenders }

func (s *Server) topOffenders(ctx context.Context, caller access.Caller, _ *noInput) (*offendersOut, error) {
	top, err := s.cfg.Limits.Top(ctx, caller)
	if err != nil {
		return nil, err
	}
	out := &offendersOut{Body: api.LimitOffenders{WindowSeconds: int(time.Hour.Seconds()), Offenders: make([]api.LimitOffender, len(top))}}
	for i, o := range top {
		out.Body.Offenders[i] = api.LimitOffender{Type: o.Type, Key: o.Key, Denied: o.Denied, Error: o.Over, LastAt: api.At(o.Last)}
	}
	return out, nil
}

func draftOf(in api.LimitPolicyInput) policy.Draft {
	return policy.Draft{
		Effect: in.Effect, Mode: in.Mode, Subject: in.Subject, Organization: in.Organization, CIDR: in.CIDR,
		Service: in.Service, Path: in.Path, Limits: in.Limits, Reason: in.Reason, ExpiresAt: (*time.Time)(in.ExpiresAt),
	}
}

func wirePolicyOut(p policy.Policy, err error) (*policyOut, error) {
	if err != nil {
		return nil, err
	}
	return &policyOut{ETag: revisionTag(p.Revision), Body: wirePolicy(p)}, nil
}

func wirePolicy(p policy.Policy) api.LimitPolicy {
	return api.LimitPolicy{
		ID: p.ID, Owner: p.Owner, LimitPolicyInput: wireContent(p.Content), Revision: p.Revision,
		CreatedAt: api.At(p.CreatedAt), CreatedBy: p.CreatedBy, UpdatedAt: api.At(p.UpdatedAt), UpdatedBy: p.UpdatedBy,
	}
}

func wireContent(c policy.Content) api.LimitPolicyInput {
	w := api.LimitPolicyInput{
		Effect: string(c.Effect), Mode: string(c.Mode), Subject: c.Subject, Organization: c.Organization,
		Service: c.Service, Path: c.Path, Reason: c.Reason, ExpiresAt: api.At(c.ExpiresAt),
	}
	if c.CIDR.IsValid() {
		w.CIDR = c.CIDR.String()
	}
	for _, l := range c.Limits {
		w.Limits = append(w.Limits, l.String())
	}
	return w
}
