package server

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/auth"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/org"
	"github.com/gatehouse-io/gatehouse/policy"
	"github.com/gatehouse-io/gatehouse/ratelimit"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/vault"
)

var (
	errPanic    = errors.New("panic, see the log line before")
	errStopping = fault.New(fault.Unavailable, "server_stopping", "This instance is stopping; try again.").After(time.Second)
	errShutOut  = fault.New(fault.Limited, "authentication_limited", "Too many failed authentications from this address; wait before the next try.")
)

// authenticate makes a caller of the request and notes it on x. An address
// that failed too often is answered before its token is looked at. Only tokens
// that were sent and refused count as failures.
func (s *Server) authenticate(r *http.Request, x *exchange) error {
	failures := []ratelimit.Subject{{Type: policy.IP, Key: s.cfg.Limits.IPKey(x.ip), Limits: []ratelimit.Limit{s.cfg.AuthFailures}}}
	var d ratelimit.Decision
	if err := s.failures.Peek(r.Context(), x.start, failures, &d); err == nil && d.Statuses[0].Full {
		err := errShutOut.After(d.RetryAfter)
		s.denied(r, x, err, access.None)
		return err
	}
	token, err := auth.TokenOf(r.Header)
	if err != nil {
		return err
	}
	caller, err := s.cfg.Auth.Caller(r.Context(), token)
	if f, ok := fault.As(err); ok {
		switch f.Kind {
		case fault.Unauthenticated:
			// The budget only grows: when it is full the next request is shut out.
			_ = s.failures.Take(r.Context(), x.start, failures, &d)
			if caller.Organization != "" { // a service token that has ended: its organization is told
				x.caller = access.Caller{Type: caller.Type, ID: caller.ID, TokenID: caller.TokenID, Organization: caller.Organization}
			}
			s.denied(r, x, f, access.None)
			s.logRefused(r.Context(), f)
		case fault.Denied:
			// A refused caller holds nothing; it is named for the trail only.
			x.caller = access.Caller{Type: caller.Type, ID: caller.ID, TokenID: caller.TokenID, Organization: access.InstanceOrganization}
			if errors.Is(err, org.ErrDisabled) {
				x.caller.Organization = caller.Organization
			}
			s.denied(r, x, f, access.None)
		}
	}
	if err != nil {
		return err
	}
	x.caller = caller
	return nil
}

// logRefused says why a token was refused, which its sender is not told. No cause holds
// anything of a token (package auth).
func (s *Server) logRefused(ctx context.Context, f *fault.Error) {
	if cause := f.Unwrap(); cause != nil && s.log.Enabled(ctx, slog.LevelDebug) {
		s.log.LogAttrs(ctx, slog.LevelDebug, "the token was refused", slog.String("code", f.Code), slog.String("why", cause.Error()))
	}
}

// permit checks the permission that the route names. What is denied here or in
// a domain package is recorded by denied.
func (s *Server) permit(r *http.Request, x *exchange, p access.Permission) error {
	if p == access.None || x.caller.Holds(p) {
		return nil
	}
	return access.Denied(p)
}

var errPermission = fault.New(fault.Denied, "permission_denied", "")

// denied records a refusal in the caller's own organization, or in the
// reserved one where no caller could be made.
func (s *Server) denied(r *http.Request, x *exchange, why *fault.Error, p access.Permission) {
	x.request.Status = statusOf(why.Kind)
	e := audit.Event{Action: audit.AccessDeny, Reason: why.Code}
	if p != access.None {
		e.Permission = p.String()
	}
	if t, ok := targetOf(r); ok {
		e.Targets, e.TargetAsked = []audit.Target{t}, true
	}
	s.cfg.Audit.Security(r.Context(), x.caller, e)
}

// targetOf gives what the path of a request names, where that has the form of an id
// of ours: anything else is text of the caller's, and may be a secret.
func targetOf(r *http.Request) (audit.Target, bool) {
	for _, t := range [...]struct{ parameter, prefix, name string }{
		{"id", "cred", "credential"}, {"id", "whk", "webhook"}, {"id", "pol", "policy"}, {"id", "hold", "hold"}, {"token", "tok", "token"},
	} {
		if id := r.PathValue(t.parameter); store.IsID(t.prefix, id) {
			return audit.Target{Type: t.name, ID: id}, true
		}
	}
	return audit.Target{}, false
}

// refuse answers with err, and records it where it is a lack of permission.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, x *exchange, err error) int {
	status := s.writeProblem(w, r, err)
	s.noteDenied(r, x, err)
	return status
}

// noteRefused is noteDenied for what an operation answers: a refusal for another reason than a
// lack of permission is a denial too, unless it was recorded where it was made.
func (s *Server) noteRefused(r *http.Request, x *exchange, err error) {
	s.noteDenied(r, x, err)
	if f, ok := fault.As(err); ok && f.Kind == fault.Denied && f.Code != policy.ErrBlocked.Code && f.Code != vault.ErrOutOfScope.Code {
		s.denied(r, x, f, access.None)
	}
}

func (s *Server) noteDenied(r *http.Request, x *exchange, err error) {
	var denied *access.DeniedError
	if errors.As(err, &denied) {
		s.denied(r, x, errPermission, denied.Permission)
	}
}
