package server

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/gateway"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/policy"
)

// maxChecks is how many decisions one batch may ask for.
const maxChecks = 100

type checkLimitIn struct{ Body api.LimitCheck }

type limitDecisionOut struct{ Body api.LimitDecision }

func (s *Server) checkLimit(ctx context.Context, caller access.Caller, in *checkLimitIn) (*limitDecisionOut, error) {
	c, wrong := s.checkOf(in.Body, "")
	if len(wrong) > 0 {
		return nil, fault.InvalidFields(wrong...)
	}
	x := exchangeOf(ctx)
	d, err := s.answerCheck(ctx, x, caller, c)
	if err != nil {
		return nil, err
	}
	return &limitDecisionOut{Body: d}, nil
}

type checkLimitsIn struct{ Body api.LimitCheckBatch }

type limitDecisionsOut struct{ Body api.LimitDecisions }

// checkLimits decides on a batch. All of it is looked at before any of it is
// counted; only a limiter that goes away in the middle leaves a part counted.
func (s *Server) checkLimits(ctx context.Context, caller access.Caller, in *checkLimitsIn) (*limitDecisionsOut, error) {
	if n := len(in.Body.Checks); n == 0 || n > maxChecks {
		return nil, fault.InvalidFields(fault.Field{Name: "checks", Message: fmt.Sprintf("must hold 1 to %d checks", maxChecks)})
	}
	x := exchangeOf(ctx)
	checks := make([]policy.Check, len(in.Body.Checks))
	var wrong []fault.Field
	for i := range in.Body.Checks {
		var mistakes []fault.Field
		checks[i], mistakes = s.checkOf(in.Body.Checks[i], fmt.Sprintf("checks[%d].", i))
		wrong = append(wrong, mistakes...)
	}
	if len(wrong) > 0 {
		return nil, fault.InvalidFields(wrong...)
	}
	for _, c := range checks {
		if err := s.cfg.Limits.MayCheck(caller, x.ip, c); err != nil {
			return nil, err
		}
	}
	out := &limitDecisionsOut{Body: api.LimitDecisions{Decisions: make([]api.LimitDecision, len(checks))}}
	for i, c := range checks {
		var err error
		if out.Body.Decisions[i], err = s.answerCheck(ctx, x, caller, c); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (s *Server) answerCheck(ctx context.Context, x *exchange, caller access.Caller, c policy.Check) (api.LimitDecision, error) {
	r := s.requests.Get().(*policy.Request)
	defer s.requests.Put(r)
	if err := s.cfg.Limits.Check(ctx, caller, x.ip, c, s.now(), r); err != nil {
		return api.LimitDecision{}, err
	}
	if c.Consume {
		s.cfg.Metrics.Decision(string(r.Outcome), r.Decision.Store)
	}
	d := api.LimitDecision{
		Admitted: r.Decision.Admitted, Outcome: string(r.Outcome), Subjects: []api.LimitStatus{},
		RetryAfterMs: r.Decision.RetryAfter.Milliseconds(), Store: r.Decision.Store, Degraded: r.Decision.Degraded,
	}
	if status := r.Standing(policy.IPIndex); status != nil {
		d.Subjects = append(d.Subjects, wireStatus(policy.Subject{Type: policy.IP, Key: s.cfg.Limits.IPKey(c.Addr), Status: *status}))
	}
	if status := r.Standing(policy.OrganizationIndex); status != nil {
		d.Subjects = append(d.Subjects, wireStatus(policy.Subject{Type: policy.Organization, Key: c.Organization, Status: *status}))
	}
	return d, nil
}

// checkOf reads a check; prefix is where it stands in the body.
func (s *Server) checkOf(in api.LimitCheck, prefix string) (c policy.Check, wrong []fault.Field) {
	bad := func(field, message string) {
		wrong = append(wrong, fault.Field{Name: prefix + field, Message: message})
	}
	c = policy.Check{Service: in.Service, Path: policy.PathOf(in.Path), Consume: in.Consume == nil || *in.Consume}
	if len(in.Subjects) == 0 || len(in.Subjects) > 2 {
		bad("subjects", "must name an address (ip), an organization (org), or one of each")
		return c, wrong
	}
	for i, subject := range in.Subjects {
		field := fmt.Sprintf("subjects[%d].", i)
		switch subject.Type {
		case policy.IP:
			addr, err := netip.ParseAddr(subject.Key)
			if err != nil {
				bad(field+"key", "must be an IPv4 or IPv6 address, without a prefix length")
			}
			if c.Addr.IsValid() {
				bad(field+"type", "is named twice")
			}
			c.Addr = addr
		case policy.Organization, "organization":
			if !access.ValidOrganization(subject.Key) {
				bad(field+"key", "must be an organization's id")
			}
			if c.Organization != "" {
				bad(field+"type", "is named twice")
			}
			c.Organization = subject.Key
		default:
			bad(field+"type", "must be ip or org")
		}
	}
	if in.Service != "" && !s.knowsService(in.Service) {
		bad("service", "must be the name of a service")
	}
	if in.Path != "" && in.Service == "" {
		bad("service", "is required where path is given")
	}
	return c, wrong
}

func (s *Server) knowsService(name string) bool {
	_, known := s.cfg.Catalog.Service(name)
	return known || name == catalog.AppName
}

// authRoute is asked by other gateways before they let a request pass.
const authRoute = "/api/rate-limit/auth"

// statusHeader says the status that is meant, where the gateway in front only
// understands 403.
const statusHeader = "Gatehouse-Status"

var (
	errOriginal  = fault.New(fault.Malformed, "ambiguous_request", "Send either X-Original-URI or X-Forwarded-Uri, once; let your gateway remove the other.")
	errAskedPath = fault.New(fault.Malformed, "ambiguous_request", "Which service the path is for depends on how a server reads the slashes that are encoded in it (%2F). Send them plain.")
	errService   = fault.New(fault.Malformed, "unknown_service", "The parameter service must be the name of a service.")

	errAuthQuery = fault.New(fault.Malformed, "invalid_parameter", "The parameters service and deny stand at most once each, and deny can be 403 only.")
)

// authRequest decides on the request that a gateway in front asks about (nginx
// auth_request, Traefik ForwardAuth, Caddy forward_auth), as if it had come
// through the chat routes: the caller by its token, the permission, the limits.
// It answers 204, or the problem. With ?deny=403 every refusal but 401 is a 403
// whose Gatehouse-Status says what is meant, since nginx takes no other.
func (s *Server) authRequest(w http.ResponseWriter, r *http.Request) {
	x := exchangeOf(r.Context())
	x.route, x.request.Route, x.request.Status = authRoute, authRoute, http.StatusNoContent
	query := r.URL.Query()
	if query.Get("deny") == "403" {
		w = &forbidder{w}
	}
	visit, err := s.askedVisit(r, x, query)
	if err != nil {
		s.refuse(w, r, x, err)
		return
	}
	limits := s.requests.Get().(*policy.Request)
	defer s.requests.Put(limits)
	s.cfg.Limits.Prepare(limits, x.caller, visit, x.start)
	err = s.decide(r.Context(), x, limits)
	s.setLimitHeaders(w.Header(), limits)
	if err != nil {
		s.refuse(w, r, x, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// askedVisit gives the visit that is asked about, where its caller may make it.
func (s *Server) askedVisit(r *http.Request, x *exchange, query url.Values) (v policy.Visit, err error) {
	if err := s.authenticate(r, x); err != nil {
		return v, err
	}
	if err := access.Allow(x.caller, access.CredentialUse, x.caller.Organization); err != nil {
		return v, err
	}
	if err := checkQuery(r.URL.RawQuery); err != nil {
		return v, err
	}
	if deny := query["deny"]; len(query["service"]) > 1 || len(deny) > 1 || len(deny) == 1 && deny[0] != "403" {
		return v, errAuthQuery
	}
	v, err = s.visitOf(r, query.Get("service"))
	v.Addr = x.ip
	if err == nil && x.caller.Credentials != nil && (v.Service == "" || v.Service == catalog.AppName) { // what is behind takes no credential of ours
		err = gateway.ErrTakesNoCredential
	}
	return v, err
}

// visitOf reads what the gateway in front says of the request. A client could
// send the header that its gateway does not set, so both together are refused.
func (s *Server) visitOf(r *http.Request, service string) (v policy.Visit, err error) {
	given := append(append([]string(nil), r.Header["X-Original-Uri"]...), r.Header["X-Forwarded-Uri"]...)
	if len(given) > 1 {
		return v, errOriginal
	}
	if service != "" && !s.knowsService(service) {
		return v, errService
	}
	v.Service = service
	if len(given) == 0 {
		return v, nil
	}
	target := policy.PathOf(given[0])
	if service != "" {
		v.Path = target
		return v, nil
	}
	return visitTo(target)
}

// visitTo says which service a path is for, and its path there, which stays as it was sent:
// slashes that are encoded in it are read both ways. Another spelling of a path is the same
// path, in what names the service too; where that depends on how a server reads an encoded
// slash, no reading of it is the right one.
func visitTo(target string) (policy.Visit, error) {
	readings := policy.Readings(target)
	v := policy.Visit{Path: target}
	rests, gateways := make([]string, len(readings)), 0
	for i, reading := range readings {
		name, rest, ofGateway := splitGatewayPath(reading)
		if ofGateway {
			gateways++
		}
		if rests[i] = rest; i > 0 && name != v.Service {
			return policy.Visit{}, errAskedPath
		}
		v.Service = name
	}
	if gateways == 0 {
		return v, nil
	}
	v.Path = policy.PathAfter(target, 3)
	if gateways < len(readings) || !slices.Equal(policy.Readings(v.Path), rests) {
		return policy.Visit{}, errAskedPath
	}
	return v, nil
}

// splitGatewayPath takes the service out of a plain path of the gateway's routes; other
// paths are those of the service app.
func splitGatewayPath(plain string) (service, rest string, ofGateway bool) {
	for _, family := range []gateway.Route{gateway.Chat, gateway.Proxy} {
		if rest, ok := strings.CutPrefix(plain, "api/"+string(family)+"/"); ok {
			service, rest, _ = strings.Cut(rest, "/")
			return service, rest, true
		}
	}
	return catalog.AppName, plain, false
}

// forbidder turns refusals into 403.
type forbidder struct{ http.ResponseWriter }

func (w *forbidder) WriteHeader(status int) {
	if status >= http.StatusBadRequest && status != http.StatusUnauthorized {
		w.Header().Set(statusHeader, fmt.Sprint(status))
		status = http.StatusForbidden
	}
	w.ResponseWriter.WriteHeader(status)
}

// describeAuthRequest puts the route into the API document.
func (s *Server) describeAuthRequest() {
	text := &huma.Schema{Type: "string"}
	s.api.OpenAPI().Paths[authRoute] = &huma.PathItem{Get: &huma.Operation{
		OperationID: "authorize-request", Tags: []string{"rate-limit"},
		Summary:    "Decide on a request for nginx auth_request, Traefik ForwardAuth or Caddy forward_auth",
		Security:   []map[string][]string{{"bearer": {}}},
		Extensions: map[string]any{"x-permission": access.CredentialUse.String()},
		Parameters: []*huma.Param{
			{Name: "service", In: "query", Schema: text, Description: "The service that the request is for; app, or the one in an /api/chat/ or /api/proxy/ path, when left out"},
			{Name: "deny", In: "query", Schema: text, Description: "403: answer every refusal but 401 with 403, and the status that is meant in Gatehouse-Status, for nginx"},
			{Name: "X-Original-URI", In: "header", Schema: text, Description: "The request's path and query (nginx)"},
			{Name: "X-Forwarded-Uri", In: "header", Schema: text, Description: "The same (Traefik, Caddy)"},
		},
		Responses: map[string]*huma.Response{
			"204": {Description: "The request may pass; it was counted"},
			"400": {Description: "A parameter or the path cannot be read", Content: map[string]*huma.MediaType{"application/problem+json": {}}},
			"401": {Description: "No caller could be made of the token", Content: map[string]*huma.MediaType{"application/problem+json": {}}},
			"403": {Description: "Not permitted, blocked, or any refusal with deny=403", Content: map[string]*huma.MediaType{"application/problem+json": {}}},
			"429": {Description: "Over a limit; Retry-After and retry-after-ms say how long to wait", Content: map[string]*huma.MediaType{"application/problem+json": {}}},
			"503": {Description: "Nothing can decide at the moment", Content: map[string]*huma.MediaType{"application/problem+json": {}}},
		},
	}}
}
