package server

import (
	"context"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/org"
)

type listOrganizationsIn struct {
	Limit  int    `query:"limit" doc:"1 to 200; 50 when left out or 0"`
	Cursor string `query:"cursor" doc:"nextCursor of the page before"`
}

type organizationListOut struct{ Body api.OrganizationList }

func (s *Server) listOrganizations(ctx context.Context, caller access.Caller, in *listOrganizationsIn) (*organizationListOut, error) {
	if in.Limit == 0 {
		in.Limit = 50
	}
	var wrong []fault.Field
	if in.Limit < 1 || in.Limit > 200 {
		wrong = append(wrong, fault.Field{Name: "limit", Message: "must be from 1 to 200"})
	}
	if in.Cursor != "" && !access.ValidOrganization(in.Cursor) {
		wrong = append(wrong, fault.Field{Name: "cursor", Message: "must be the nextCursor of an earlier page"})
	}
	if len(wrong) > 0 {
		return nil, fault.InvalidFields(wrong...)
	}
	all, err := s.cfg.Orgs.List(ctx, caller, in.Cursor, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &organizationListOut{}
	if len(all) > in.Limit {
		all = all[:in.Limit]
		out.Body.NextCursor = all[in.Limit-1].ID
	}
	out.Body.Organizations = make([]api.Organization, len(all))
	for i, o := range all {
		out.Body.Organizations[i] = wireOrganization(o)
	}
	return out, nil
}

type createOrganizationIn struct{ Body api.OrganizationCreate }

type organizationOut struct{ Body api.Organization }

func (s *Server) createOrganization(ctx context.Context, caller access.Caller, in *createOrganizationIn) (*organizationOut, error) {
	o, err := s.cfg.Orgs.Create(ctx, caller, in.Body.ID, in.Body.Name)
	if err != nil {
		return nil, err
	}
	return &organizationOut{Body: wireOrganization(o)}, nil
}

type deleteOrganizationIn struct {
	ID      string `path:"id"`
	Confirm string `query:"confirm" doc:"The id once more: what is destroyed cannot be brought back"`
}

func (s *Server) deleteOrganization(ctx context.Context, caller access.Caller, in *deleteOrganizationIn) (*nothingOut, error) {
	return &nothingOut{}, s.cfg.Orgs.Delete(ctx, caller, in.ID, in.Confirm)
}

func wireOrganization(o org.Organization) api.Organization {
	return api.Organization{ID: o.ID, Name: o.Name, CreatedAt: api.At(o.CreatedAt)}
}
