package server

import (
	"context"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/policy"
)

type ownLimitsOut struct{ Body api.LimitOverview }

func (s *Server) ownLimits(ctx context.Context, caller access.Caller, _ *noInput) (*ownLimitsOut, error) {
	ip, organization, d, err := s.cfg.Limits.Own(ctx, caller, exchangeOf(ctx).ip)
	if err != nil {
		return nil, err
	}
	return &ownLimitsOut{Body: api.LimitOverview{
		IP: wireStatus(ip), Organization: wireStatus(organization), Store: d.Store, Degraded: d.Degraded,
	}}, nil
}

type resetLimitIn struct{ Body api.LimitReset }

type limitStatusOut struct{ Body api.LimitStatus }

func (s *Server) resetLimit(ctx context.Context, caller access.Caller, in *resetLimitIn) (*limitStatusOut, error) {
	status, err := s.cfg.Limits.Reset(ctx, caller, in.Body.Type, in.Body.Key)
	if err != nil {
		return nil, err
	}
	return &limitStatusOut{Body: wireStatus(status)}, nil
}

type subjectLimitIn struct {
	Type string `path:"type" doc:"ip or org"`
	Key  string `path:"key" doc:"A bare IPv4 or IPv6 address, or an organization's id"`
}

func (s *Server) subjectLimit(ctx context.Context, caller access.Caller, in *subjectLimitIn) (*limitStatusOut, error) {
	status, err := s.cfg.Limits.Status(ctx, caller, in.Type, in.Key)
	if err != nil {
		return nil, err
	}
	return &limitStatusOut{Body: wireStatus(status)}, nil
}

func wireStatus(s policy.Subject) api.LimitStatus {
	return api.LimitStatus{
		Type: s.Type, Key: s.Key, Limit: s.Limit.Requests, Used: s.Used, Remaining: s.Remaining,
		WindowSeconds: s.Limit.Window.Seconds(), ResetAt: api.At(s.Reset),
	}
}
