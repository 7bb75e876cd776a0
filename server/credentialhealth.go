package server

import (
	"context"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/vault"
)

type credentialHealthIn struct {
	Finding string `query:"finding" doc:"Only credentials with a finding of this kind"`
	Limit   int    `query:"limit" doc:"1 to 200; 50 when left out or 0"`
	Cursor  string `query:"cursor" doc:"nextCursor of the page before"`
}

type credentialHealthOut struct{ Body api.CredentialHealthReport }

func (s *Server) credentialHealth(ctx context.Context, caller access.Caller, in *credentialHealthIn) (*credentialHealthOut, error) {
	h, err := s.cfg.Checker.Health(ctx, caller, vault.HealthFilter{Kind: vault.FindingKind(in.Finding), Limit: in.Limit, Cursor: in.Cursor})
	if err != nil {
		return nil, err
	}
	out := &credentialHealthOut{Body: api.CredentialHealthReport{
		Summary: api.CredentialHealthSummary{
			Credentials: h.Credentials, Healthy: h.Healthy, Disabled: h.Disabled, Unchecked: h.Unchecked,
			Findings: make(map[string]int64, len(h.Findings)),
		},
		Credentials: make([]api.CredentialHealth, len(h.Items)), NextCursor: h.NextCursor,
	}}
	for kind, n := range h.Findings {
		out.Body.Summary.Findings[string(kind)] = n
	}
	for i, item := range h.Items {
		c := wireCredential(item.Credential)
		w := api.CredentialHealth{
			ID: c.ID, Service: c.Service, Name: c.Name, Status: c.Status, Version: c.Version,
			ExpiresAt: c.ExpiresAt, LastUsedAt: c.LastUsedAt, LastTest: c.LastTest, Findings: make([]api.CredentialFinding, len(item.Findings)),
		}
		for j, f := range item.Findings {
			w.Findings[j] = api.CredentialFinding{Kind: string(f.Kind), Since: api.At(f.Since), Within: f.Within, Result: f.Result, Detail: f.Detail}
		}
		out.Body.Credentials[i] = w
	}
	return out, nil
}
