package server

import (
	"context"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/org"
)

type roleListOut struct{ Body api.RoleList }

func (s *Server) listRoles(ctx context.Context, caller access.Caller, _ *noInput) (*roleListOut, error) {
	all, err := s.cfg.Orgs.Roles(ctx, caller)
	if err != nil {
		return nil, err
	}
	out := &roleListOut{Body: api.RoleList{Roles: make([]api.Role, len(all))}}
	for i, r := range all {
		out.Body.Roles[i] = wireRole(r)
	}
	return out, nil
}

type createRoleIn struct{ Body api.RoleCreate }

type roleOut struct{ Body api.Role }

func (s *Server) createRole(ctx context.Context, caller access.Caller, in *createRoleIn) (*roleOut, error) {
	r, err := s.cfg.Orgs.CreateRole(ctx, caller, in.Body.Name, org.RoleInput(in.Body.RoleInput))
	if err != nil {
		return nil, err
	}
	return &roleOut{wireRole(r)}, nil
}

type updateRoleIn struct {
	Role string `path:"role" doc:"Its name"`
	Body api.RoleInput
}

func (s *Server) updateRole(ctx context.Context, caller access.Caller, in *updateRoleIn) (*roleOut, error) {
	r, err := s.cfg.Orgs.UpdateRole(ctx, caller, in.Role, org.RoleInput(in.Body))
	if err != nil {
		return nil, err
	}
	return &roleOut{wireRole(r)}, nil
}

type roleIn struct {
	Role string `path:"role" doc:"Its name"`
}

func (s *Server) deleteRole(ctx context.Context, caller access.Caller, in *roleIn) (*nothingOut, error) {
	return &nothingOut{}, s.cfg.Orgs.DeleteRole(ctx, caller, in.Role)
}

func wireRole(r org.Role) api.Role {
	return api.Role{
		Name: string(r.Name), Description: r.Description, Permissions: r.Permissions.Names(), BuiltIn: r.BuiltIn,
		CreatedAt: api.At(r.CreatedAt), CreatedBy: r.CreatedBy, UpdatedAt: api.At(r.UpdatedAt), UpdatedBy: r.UpdatedBy,
	}
}

type checkAccessIn struct{ Body api.AccessCheck }

type accessDecisionOut struct{ Body api.AccessDecision }

func (s *Server) checkAccess(ctx context.Context, caller access.Caller, in *checkAccessIn) (*accessDecisionOut, error) {
	e, err := s.cfg.Orgs.Explain(ctx, caller, org.Question(in.Body))
	if err != nil {
		return nil, err
	}
	if e.Allowed && e.Permission == access.CredentialReveal && !s.cfg.Vault.Reveals() {
		e.Allowed, e.Reason = false, org.ReasonOff
	}
	out := &accessDecisionOut{Body: api.AccessDecision{
		Permission: e.Permission.String(), Organization: e.Organization, Member: e.Member, Allowed: e.Allowed, Reason: e.Reason,
		Roles: make([]api.AccessRole, len(e.Roles)),
	}}
	for i, r := range e.Roles {
		out.Body.Roles[i] = api.AccessRole{Name: string(r.Name), Known: r.Known, Source: "token", Grants: r.Grants}
		if r.Stored {
			out.Body.Roles[i].Source = "member"
		}
	}
	return out, nil
}
