package server

import (
	"context"
	"errors"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/policy"
	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// away is a limiter that does not answer.
type away struct{ ratelimit.Limiter }

func (away) Peek(context.Context, time.Time, []ratelimit.Subject, *ratelimit.Decision) error {
	return ratelimit.ErrUnavailable
}

// Who lacks the permission is refused for that, which is recorded, also while the
// limiter does not answer.
func TestALimiterThatIsAwayHidesNoDenial(t *testing.T) {
	one := []ratelimit.Limit{{Requests: 1, Window: time.Minute}}
	s := &Server{cfg: Config{Limits: policy.New(away{}, nil, nil, policy.Defaults{IP: one, Organization: one}, policy.Options{})}}
	x := &exchange{start: time.Now(), caller: access.NewCaller("acme", access.User, "u1", access.Viewer)}
	var limits policy.Request
	s.cfg.Limits.Prepare(&limits, x.caller, policy.Visit{Addr: netip.MustParseAddr("192.0.2.1")}, x.start)
	_, err := s.enter(httptest.NewRequest("POST", "/api/chat/openai/v1/chat/completions", nil), x, &limits)
	var denied *access.DeniedError
	if !errors.As(err, &denied) || denied.Permission != access.CredentialUse {
		t.Errorf("refused with %v", err)
	}
}
