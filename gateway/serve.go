package gateway

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/internal/bearer"
	"github.com/gatehouse-io/gatehouse/internal/fault"
)

var (
	errPath = fault.New(fault.Malformed, "invalid_path",
		"The path after the service has characters or segments that servers read in different ways. Send it plain: no dot segments, backslashes, control characters or slashes that are encoded (%2F), but for services whose API has such; and at most 8 KiB of it.")
	errTokenInPath = fault.New(fault.Malformed, "token_in_path",
		"Your token stands in the path, from where it would go to the service. Send it in a header only.")
	errTokenInBody = fault.New(fault.Malformed, "token_in_body",
		"Your token stands in the body, from where it would go to the service. Send it in a header only.")
	errMethod = fault.New(fault.Malformed, "method_not_supported",
		"Use GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS.")
	errUpgrade = fault.New(fault.Malformed, "upgrade_not_supported",
		"WebSocket connections are not passed on. Use the service's HTTP API; streams work as server-sent events.")
	errService = fault.New(fault.NotFound, "unknown_service",
		"There is no service of this name. Names are as in the catalogue: openai, anthropic, stripe, zendesk and so on.")
	errNotHTTP = fault.New(fault.NotFound, "unknown_service",
		"This service takes no requests over HTTP; its credential is kept for your own use.")
	errNoApp = fault.New(fault.NotFound, "unknown_service",
		"There is no chat backend: CHAT_UPSTREAM is not set.")
	errStopped = fault.New(fault.Unavailable, "server_stopping",
		"The server is stopping. Send the request again.").After(time.Second)
)

// Serve answers one request that has been authenticated and admitted. The
// headers that the server put on w before stay as they are. It returns when the
// answer is complete, was given up, or the caller has left; the request's own
// context ends it early.
func (g *Gateway) Serve(w http.ResponseWriter, r *http.Request, v Visit) Result {
	start := time.Now()
	t := transfer{gateway: g, w: w, r: r, visit: &v, start: start, tokens: bearer.Held(r.Header)}
	t.serve()
	t.result.Duration = time.Since(start)
	return t.result
}

// transfer is one visit while it is served.
type transfer struct {
	gateway *Gateway
	w       http.ResponseWriter
	r       *http.Request
	visit   *Visit
	start   time.Time
	tokens  []string // the caller's own, which must go nowhere

	service  *catalog.Service // nil for app
	upstream upstream
	opened   Credential // none for app and echo
	bounds   Bounds     // of the service
	result   Result
	outgoing *outgoing // the last one; nil where nobody wants to know

	operation operation // zero where no model is asked
	watched   bool      // the answer's tokens are counted
	streaming bool      // the visit holds one of the organization's streams
	hiding    bool      // the request asks for usage, and the caller did not
	edited    bool      // the body is not to the byte what the caller sent
}

// upstream is where a request goes. Nothing in a request has a part in it.
type upstream struct {
	scheme, host string
	base         string             // escaped, without a slash at its end
	injection    *catalog.Injection // nil for app
}

func upstreamOf(origin *url.URL) upstream {
	return upstream{scheme: origin.Scheme, host: origin.Host, base: strings.TrimSuffix(origin.EscapedPath(), "/")}
}

func (t *transfer) serve() {
	if err := t.find(); err != nil {
		t.fail(err)
		return
	}
	if err := t.checkRequest(); err != nil {
		t.fail(err)
		return
	}
	t.bounds = t.gateway.boundsOf(t.visit.Service)
	body, err := t.readBody()
	defer body.settle()
	if err != nil {
		t.refuseBody(err)
		return
	}
	t.result.BytesIn = body.size
	if err := t.dropOwnToken(body); err != nil {
		t.fail(err)
		return
	}
	if err := t.account(body); err != nil {
		t.fail(err)
		return
	}
	if t.streaming {
		defer t.gateway.streams.leave(t.visit.Caller.Organization)
	}
	if t.service != nil && t.service.Name == catalog.EchoName {
		switch {
		case t.crowded(body):
			t.fail(errBusy)
			return
		case body.spooled():
			t.fail(fault.New(errBodyTooLarge.Kind, errBodyTooLarge.Code, "The service echo reads no more than "+sizeOf(t.gateway.limits.memory)+". Send less in one request."))
			return
		}
		t.echo(body.inMemory())
		return
	}
	// The key is opened after the body has come, so that a slow upload does not
	// carry a key that was revoked meanwhile.
	if err := t.open(body); err != nil {
		t.fail(err)
		return
	}
	t.forward(body)
}

// find picks the service, or the operator's own backend.
func (t *transfer) find() error {
	v := t.visit
	if v.Service == catalog.AppName {
		switch {
		case t.gateway.app == nil:
			return errNoApp
		case v.Route != Chat:
			return wrongRoute(v.Service, Chat)
		}
		return nil
	}
	service, ok := t.gateway.catalog.Service(v.Service)
	switch {
	case !ok:
		return errService
	case service.NeedsCredential() && !service.Injectable():
		return errNotHTTP
	case service.Chat && v.Route != Chat:
		return wrongRoute(service.Name, Chat)
	case !service.Chat && v.Route != Proxy:
		return wrongRoute(service.Name, Proxy)
	}
	t.service = service
	return nil
}

// wrongRoute names the right route; service is a name of the catalogue's, not
// the caller's.
func wrongRoute(service string, right Route) error {
	return fault.New(fault.NotFound, "wrong_route", "This service is at /api/"+string(right)+"/"+service+"/.")
}

func (t *transfer) checkRequest() error {
	r, path := t.r, t.visit.Path
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
	default:
		return errMethod // TRACE would send the injected key back, CONNECT would tunnel
	}
	if r.URL.Host != "" || !validPath(path, t.takesEncodedSlashes()) {
		return errPath
	}
	if holdsOwnToken(t.tokens, path) {
		return errTokenInPath
	}
	for _, protocol := range r.Header["Upgrade"] {
		// Other upgrades, such as h2c, are offers that a server may ignore.
		if strings.Contains(strings.ToLower(protocol), "websocket") {
			return errUpgrade
		}
	}
	return nil
}

// takesEncodedSlashes says whether a slash inside of a segment may go to the service.
func (t *transfer) takesEncodedSlashes() bool {
	return t.service != nil && t.service.EncodedSlashes
}

// ErrTakesNoCredential refuses what uses no credential, such as the operator's application, to a
// token that is for certain credentials.
var ErrTakesNoCredential = fault.New(fault.Denied, "credential_out_of_scope", "This token can use certain credentials only, and what it asks for uses none.")

// open finds where the request goes, with the credential where one is needed
// and its scope takes the request.
func (t *transfer) open(body *payload) error {
	if t.service == nil {
		if t.visit.Caller.Credentials != nil { // none of them is used there
			return ErrTakesNoCredential
		}
		t.upstream = t.gateway.app.upstream
		return nil
	}
	c, err := t.gateway.opener.OpenForUse(t.r.Context(), t.visit.Caller, t.service, t.visit.Credential, true)
	if err != nil {
		return err
	}
	t.result.CredentialID, t.result.CredentialName, t.result.CredentialVersion = c.ID, c.Name, c.Version
	if err := t.allowed(c, body); err != nil {
		return err
	}
	if err := c.ready(t.r.Context()); err != nil {
		return err
	}
	t.use(c)
	return nil
}

// use sends the request with c.
func (t *transfer) use(c Credential) {
	t.opened = c
	t.result.CredentialID, t.result.CredentialName, t.result.CredentialVersion = c.ID, c.Name, c.Version
	t.upstream = upstreamOf(c.Injection.OriginFor(t.r.Method, "/"+t.visit.Path))
	t.upstream.injection = c.Injection
	t.result.Usage.Model = t.harmless(t.result.Usage.Model) // which may be the credential, put in the wrong place
}

// fail answers with a problem of ours, if the caller is still there. Nothing may
// have been sent before.
func (t *transfer) fail(err error) {
	if t.r.Context().Err() != nil {
		if t.gateway.stop.Err() == nil {
			t.left()
			return
		}
		err = errStopped // a stop closes connections, too
	}
	t.answer(err)
}

func (t *transfer) answer(err error) {
	err = t.understood(err)
	t.result.Status = t.gateway.problem(t.w, t.r, err)
	t.result.Outcome, t.result.Reason = audit.Failure, "internal_error"
	var denied *access.DeniedError
	if f, ok := fault.As(err); ok {
		t.result.Reason = f.Code
		if f.Kind == fault.Denied || f.Kind == fault.Limited {
			t.result.Outcome = audit.Denied
		}
	} else if errors.As(err, &denied) {
		t.result.Outcome, t.result.Reason = audit.Denied, "permission_denied"
	}
}

// understood gives err as one that the service's SDK raises ([catalog.Service.No502]).
func (t *transfer) understood(err error) error {
	f, ok := fault.As(err)
	if !ok || t.service == nil || !t.service.No502 || f.Kind != fault.BadUpstream && f.Kind != fault.SlowUpstream {
		return err
	}
	unavailable := *f
	unavailable.Kind = fault.Unavailable
	return &unavailable
}

// left records that the caller went away before an answer began.
func (t *transfer) left() {
	t.result.Status, t.result.Outcome, t.result.Reason = StatusClientClosed, audit.Partial, "client_closed"
	t.result.Abort = true
}

// complete records an answer that was passed on whole.
func (t *transfer) complete(status int) {
	t.result.Status, t.result.Outcome = status, audit.Success
	if status >= http.StatusBadRequest {
		t.result.Outcome, t.result.Reason = audit.Failure, "upstream_status"
	}
}
