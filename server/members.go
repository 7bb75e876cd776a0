package server

import (
	"context"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/org"
)

type listMembersIn struct {
	Limit  int    `query:"limit" doc:"1 to 200; 50 when left out or 0"`
	Cursor string `query:"cursor" doc:"nextCursor of the page before"`
}

type memberListOut struct{ Body api.MemberList }

func (s *Server) listMembers(ctx context.Context, caller access.Caller, in *listMembersIn) (*memberListOut, error) {
	if in.Limit == 0 {
		in.Limit = 50
	}
	if in.Limit < 1 || in.Limit > 200 {
		return nil, fault.InvalidFields(fault.Field{Name: "limit", Message: "must be from 1 to 200"})
	}
	if in.Cursor != "" && !org.ValidMember(in.Cursor) {
		return nil, fault.InvalidFields(fault.Field{Name: "cursor", Message: "must be the nextCursor of an earlier page"})
	}
	all, err := s.cfg.Orgs.Members(ctx, caller, in.Cursor, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &memberListOut{}
	if len(all) > in.Limit {
		all = all[:in.Limit]
		out.Body.NextCursor = all[in.Limit-1].ID
	}
	out.Body.Members = make([]api.Member, len(all))
	for i, m := range all {
		out.Body.Members[i] = wireMember(m)
	}
	return out, nil
}

type memberIn struct {
	Member string `path:"member" doc:"The subject of its tokens"`
}

type memberOut struct{ Body api.Member }

func (s *Server) getMember(ctx context.Context, caller access.Caller, in *memberIn) (*memberOut, error) {
	m, err := s.cfg.Orgs.Member(ctx, caller, in.Member)
	if err != nil {
		return nil, err
	}
	return &memberOut{wireMember(m)}, nil
}

type updateMemberIn struct {
	Member string `path:"member" doc:"The subject of its tokens"`
	Body   api.MemberUpdate
}

func (s *Server) updateMember(ctx context.Context, caller access.Caller, in *updateMemberIn) (*memberOut, error) {
	change := org.MemberChange{Disabled: in.Body.Disabled}
	if in.Body.Name.Set {
		change.Name = &in.Body.Name.Value
	}
	if in.Body.Email.Set {
		change.Email = &in.Body.Email.Value
	}
	if in.Body.Roles != nil {
		change.Roles = &in.Body.Roles
	}
	m, err := s.cfg.Orgs.SetMember(ctx, caller, in.Member, change)
	if err != nil {
		return nil, err
	}
	return &memberOut{wireMember(m)}, nil
}

func (s *Server) deleteMember(ctx context.Context, caller access.Caller, in *memberIn) (*nothingOut, error) {
	return &nothingOut{}, s.cfg.Orgs.DeleteMember(ctx, caller, in.Member)
}

func wireMember(m org.Member) api.Member {
	return api.Member{
		ID: m.ID, Name: m.Name, Email: m.Email, Roles: texts(m.Roles), Disabled: m.Disabled, CreatedAt: api.At(m.CreatedAt), UpdatedAt: api.At(m.UpdatedAt),
	}
}

// texts gives roles for the wire, never nil.
func texts(roles []access.Role) []string {
	names := make([]string, len(roles))
	for i, r := range roles {
		names[i] = string(r)
	}
	return names
}
