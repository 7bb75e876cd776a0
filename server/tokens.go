package server

import (
	"context"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/auth"
)

type listTokensIn struct {
	Status string `query:"status" doc:"Only this status: active, expired or revoked"`
	Limit  int    `query:"limit" doc:"1 to 200; 50 when left out or 0"`
	Cursor string `query:"cursor" doc:"nextCursor of the page before"`
}

type tokenListOut struct{ Body api.ServiceTokenList }

func (s *Server) listTokens(ctx context.Context, caller access.Caller, in *listTokensIn) (*tokenListOut, error) {
	page, err := s.cfg.Tokens.List(ctx, caller, auth.TokenFilter{Status: in.Status, Limit: in.Limit, Cursor: in.Cursor})
	if err != nil {
		return nil, err
	}
	out := &tokenListOut{Body: api.ServiceTokenList{Tokens: make([]api.ServiceToken, len(page.Tokens)), NextCursor: page.NextCursor}}
	for i, t := range page.Tokens {
		out.Body.Tokens[i] = s.wireToken(t)
	}
	return out, nil
}

type createTokenIn struct{ Body api.ServiceTokenCreate }

type tokenCreatedOut struct{ Body api.ServiceTokenCreated }

func (s *Server) createToken(ctx context.Context, caller access.Caller, in *createTokenIn) (*tokenCreatedOut, error) {
	input := auth.TokenInput{Name: in.Body.Name, Permissions: in.Body.Permissions, Roles: in.Body.Roles, Credentials: in.Body.Credentials}
	if in.Body.ExpiresAt != nil {
		input.ExpiresAt = time.Time(*in.Body.ExpiresAt)
	}
	t, token, err := s.cfg.Tokens.Create(ctx, caller, input)
	if err != nil {
		return nil, err
	}
	return &tokenCreatedOut{api.ServiceTokenCreated{ServiceToken: s.wireToken(t), Token: token}}, nil
}

type tokenIn struct {
	Token string `path:"token" doc:"Its id"`
}

type tokenOut struct{ Body api.ServiceToken }

func (s *Server) getToken(ctx context.Context, caller access.Caller, in *tokenIn) (*tokenOut, error) {
	t, err := s.cfg.Tokens.Get(ctx, caller, in.Token)
	if err != nil {
		return nil, err
	}
	return &tokenOut{s.wireToken(t)}, nil
}

func (s *Server) revokeToken(ctx context.Context, caller access.Caller, in *tokenIn) (*nothingOut, error) {
	return &nothingOut{}, s.cfg.Tokens.Revoke(ctx, caller, in.Token)
}

func (s *Server) wireToken(t auth.Token) api.ServiceToken {
	w := api.ServiceToken{
		ID: t.ID, Name: t.Name, Status: t.Status(s.now()), Permissions: t.Permissions.Names(), Credentials: t.Credentials,
		CreatedAt: api.At(t.CreatedAt), CreatedBy: t.CreatedBy, ExpiresAt: api.At(t.ExpiresAt),
		RevokedAt: api.At(t.RevokedAt), RevokedBy: t.RevokedBy, LastUsedAt: api.At(t.LastUsedAt),
	}
	if len(t.Roles) > 0 {
		w.Roles = texts(t.Roles)
	}
	return w
}
