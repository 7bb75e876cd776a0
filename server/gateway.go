package server

import (
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/gateway"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/policy"
)

// The templates of the gateway's routes, for logs, events and the API document.
const (
	chatRoute  = "/api/chat/{service}/{path...}"
	proxyRoute = "/api/proxy/{service}/{path...}"
)

var errTwoCredentials = fault.New(fault.Malformed, "ambiguous_request", "Send Gatehouse-Credential once.")

// serveGateway serves a chat or proxy route: caller, room in the trail, limits,
// and only then the gateway, which opens a key.
func (s *Server) serveGateway(w http.ResponseWriter, r *http.Request, x *exchange) {
	x.gateway, x.route = true, chatRoute
	family := gateway.Chat
	if strings.HasPrefix(r.RequestURI, "/api/proxy/") {
		x.route, family = proxyRoute, gateway.Proxy
	}
	x.request.Route = x.route
	if err := s.authenticate(r, x); err != nil {
		s.writeProblem(w, r, err)
		return
	}
	service, path, ok := gateway.SplitPath(r, family)
	limits := s.requests.Get().(*policy.Request)
	defer s.requests.Put(limits)
	s.cfg.Limits.Prepare(limits, x.caller, policy.Visit{Addr: x.ip, Service: service, Path: path}, x.start)

	slot, err := s.enter(r, x, limits)
	if err != nil {
		s.setLimitHeaders(w.Header(), limits)
		s.refuse(w, r, x, err)
		return
	}
	s.setLimitHeaders(w.Header(), limits)

	if !ok {
		slot.Release()
		s.writeProblem(w, r, fault.New(fault.NotFound, "unknown_service", "Name a service after "+string(family)+"/ in the path."))
		return
	}
	if len(r.Header["Gatehouse-Credential"]) > 1 { // the one that was meant may be either
		slot.Release()
		s.writeProblem(w, r, errTwoCredentials)
		return
	}
	recorded := false
	defer func() {
		if !recorded { // a panic: its slot must not be lost with it
			slot.Release()
		}
	}()
	at := servedAtRoot(r)
	result := s.gateway.Serve(w, r, gateway.Visit{
		Route: family, Caller: x.caller, RequestID: x.id, Service: service, Path: path,
		Credential: r.Header.Get("Gatehouse-Credential"), ClientIP: x.ip.String(),
		AtRoot: at != atNoRoot, Origin: s.cfg.PublicOrigin,
		// The names of services are behind the same proxy as ours; a port of its own is not.
		Secure: s.secure(r) || at == byName && strings.HasPrefix(s.cfg.PublicOrigin, "https://"),
	})
	x.request.Status = result.Status
	service = s.serviceName(service)
	if result.Scope != "" {
		s.cfg.Audit.Security(r.Context(), x.caller, scopeEvent(service, result))
		slot.Release()
	} else {
		slot.Record(r.Context(), x.caller, visitEvent(family, service, result))
	}
	recorded = true
	s.recordUsage(x, service, result)
	s.noteVisit(x, service, result)
	if result.Abort {
		panic(http.ErrAbortHandler)
	}
}

// enter decides whether the visit may go on. Who lacks the permission, or
// whose visit cannot be recorded, uses up nothing of a limit, and is told where
// both subjects stand if the limiter answers.
func (s *Server) enter(r *http.Request, x *exchange, limits *policy.Request) (audit.Slot, error) {
	ctx := r.Context()
	slot, err := s.admit(x)
	if err != nil {
		_ = s.cfg.Limits.Peek(ctx, x.start, limits) // a limiter that is away hides no refusal
		return audit.Slot{}, err
	}
	if err := s.decide(ctx, x, limits); err != nil {
		slot.Release()
		return audit.Slot{}, err
	}
	return slot, nil
}

// admit checks the permission first, and then that the visit can be recorded.
func (s *Server) admit(x *exchange) (audit.Slot, error) {
	if err := access.Allow(x.caller, access.CredentialUse, x.caller.Organization); err != nil {
		return audit.Slot{}, err
	}
	if err := s.cfg.Usage.Ready(); err != nil {
		return audit.Slot{}, err
	}
	return s.cfg.Audit.Reserve()
}

// serviceName gives the name for the trail; one that is not in the catalogue is
// the caller's own writing.
func (s *Server) serviceName(name string) string {
	if _, known := s.cfg.Catalog.Service(name); known || name == catalog.AppName {
		return name
	}
	return "unknown"
}

func limitMessage(limits *policy.Request) string {
	who := "this address"
	switch ip, organization := limits.Full(policy.IPIndex), limits.Full(policy.OrganizationIndex); {
	case ip && organization:
		who = "this address and this organization"
	case organization:
		who = "this organization"
	case !ip:
		return "Requests cannot be counted at the moment, and none is admitted; Retry-After says when to ask again."
	}
	return "The rate limit of " + who + " is used up; Retry-After says when the next request is admitted."
}

// visitEvent tells of a visit, once it has ended.
func visitEvent(family gateway.Route, service string, result gateway.Result) audit.Event {
	e := audit.Event{
		Action: audit.ChatRequest, Outcome: result.Outcome, Reason: result.Reason, Permission: access.CredentialUse.String(),
		Targets: []audit.Target{{Type: "service", ID: service}},
		Metadata: map[string]any{
			"bytesIn": result.BytesIn, "bytesOut": result.BytesOut, "durationMs": result.Duration.Milliseconds(),
		},
	}
	if family == gateway.Proxy {
		e.Action = audit.CredentialUse
	}
	noteUsage(&e, result.Usage)
	noteUpstream(&e, result)
	if result.CredentialID != "" {
		e.Targets = append(e.Targets, audit.Target{Type: "credential", ID: result.CredentialID, Name: result.CredentialName})
		e.Metadata["version"] = result.CredentialVersion
		if result.RefusedVersion != 0 {
			e.Metadata["refusedVersion"] = result.RefusedVersion
		}
	}
	return e
}

// describeGateway puts the gateway's routes into the API document; they are
// served beside the mux.
func (s *Server) describeGateway() {
	for _, d := range []struct{ route, id, what string }{
		{chatRoute, "chat", "A provider's own chat API, with the organization's credential put on"},
		{proxyRoute, "proxy", "A provider's own API, with the organization's credential put on"},
	} {
		item := &huma.PathItem{}
		for method, o := range map[string]**huma.Operation{
			http.MethodGet: &item.Get, http.MethodPost: &item.Post, http.MethodPut: &item.Put,
			http.MethodPatch: &item.Patch, http.MethodDelete: &item.Delete,
		} {
			*o = &huma.Operation{
				OperationID: d.id + "-" + strings.ToLower(method), Summary: d.what, Tags: []string{"gateway"},
				Security:   []map[string][]string{{"bearer": {}}},
				Extensions: map[string]any{"x-permission": access.CredentialUse.String()},
				Parameters: []*huma.Param{
					{Name: "service", In: "path", Required: true, Schema: &huma.Schema{Type: "string"}},
					{Name: "path", In: "path", Required: true, Schema: &huma.Schema{Type: "string"}, Description: "The rest of the provider's path"},
					{Name: "Gatehouse-Credential", In: "header", Schema: &huma.Schema{Type: "string"}, Description: "Which of several credentials, by name; one that is not ASCII may be percent-encoded UTF-8"},
				},
				Responses: map[string]*huma.Response{
					"default": {Description: "The provider's answer, unchanged; or a problem of ours, marked by the header Gatehouse-Error"},
				},
			}
		}
		s.api.OpenAPI().Paths[strings.Replace(d.route, "...}", "}", 1)] = item
	}
}
