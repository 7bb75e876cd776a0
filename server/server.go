// Package server is the HTTP edge: one route table, the middleware every
// request passes, and one file of operations per noun.
//
// A request passes, in this order: a request id and the client's address
// (clientip.go), a log line at its end, the route; then, on every route that
// names a permission, the budget of failed authentications, the token, and the
// permission (caller.go); only then is a body read. Domain packages check the
// permission again, on the organization that is asked for. Chat and proxy
// routes (gateway.go) go past the mux, whose path cleaning would change them.
//
// Errors leave through one door (problem.go): what a domain package made to be
// shown becomes an RFC 9457 problem, everything else "internal error" with the
// request id.
//
// # Adding a route
//
// A route is a line in the table of routes.go: method, path, permission, cap of
// the body, status, id, summary, operation. An operation takes the caller and a
// struct whose tags are its parameters, calls one domain package, and turns what
// it gives into a type of package api; it has no other rule in it. The API
// document, and the tests that walk all routes as every role and with planted
// secrets, find a new line by themselves.
//
// # Answers of others
//
// On chat and proxy routes everything but our own errors is the provider's. Ours
// hold the error object that SDKs read and the header Gatehouse-Error, and all
// of them the limit's headers (limitheaders.go), those of failed authentications
// excepted: there is no organization then to tell of.
package server

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"path"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/auth"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/gateway"
	"github.com/gatehouse-io/gatehouse/internal/bearer"
	"github.com/gatehouse-io/gatehouse/internal/telemetry"
	"github.com/gatehouse-io/gatehouse/ledger"
	"github.com/gatehouse-io/gatehouse/masterkey"
	"github.com/gatehouse-io/gatehouse/org"
	"github.com/gatehouse-io/gatehouse/policy"
	"github.com/gatehouse-io/gatehouse/ratelimit"
	"github.com/gatehouse-io/gatehouse/retention"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/usage"
	"github.com/gatehouse-io/gatehouse/vault"
	"github.com/gatehouse-io/gatehouse/webhook"
)

// Config is what the edge stands on. What says nothing of its zero value is required.
type Config struct {
	DB        *store.DB
	Audit     *audit.Log
	Ledger    *ledger.Ledger
	Retention *retention.Retention // keeps and removes data
	Orgs      *org.Directory
	Tokens    *auth.Tokens
	Auth      *auth.Authenticator
	Catalog   *catalog.Catalog
	Vault     *vault.Vault
	Keys      *masterkey.Keys
	Limits    *policy.Limits
	Usage     *usage.Meter

	Checker  *vault.Checker
	Webhooks *webhook.Webhooks

	LimitsDegraded func() bool // whether memory decides because Redis is away; nil: never

	// Gateway makes the gateway over the server's way of writing problems.
	Gateway func(problem func(w http.ResponseWriter, r *http.Request, err error) int) (*gateway.Gateway, error)

	Metrics        *telemetry.Metrics // nil: nothing is counted
	OTel           *telemetry.OTel    // nil: nothing is traced
	AuthFailures   ratelimit.Limit    // failed authentications of one address before it is shut out
	TrustedProxies []netip.Prefix     // whose X-Forwarded-For is believed; none: nobody's
	Domain         string             // {service}.Domain serves that service at its root; "" for none
	PublicOrigin   string             // of links to this instance in answers; "": the host that was asked
	Version        string             // of the program

	Now    func() time.Time // nil: time.Now
	Logger *slog.Logger     // nil: nothing is logged
}

// Server is an http.Handler. Make one with [New].
type Server struct {
	cfg      Config
	log      *slog.Logger
	now      func() time.Time
	mux      *http.ServeMux
	api      huma.API
	gateway  *gateway.Gateway
	failures *ratelimit.Memory // failed authentications by address
	draining atomic.Bool
	stopping atomic.Bool
	running  atomic.Int64 // requests that are served

	fieldNames map[string]bool // names that may stand in an error, see problem.go
	requests   sync.Pool       // of *policy.Request
	linger     linger
}

// New gives the server over cfg.
func New(cfg Config) (*Server, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		cfg: cfg, log: cfg.Logger, now: cfg.Now, mux: http.NewServeMux(),
		failures: ratelimit.NewMemory(ratelimit.MemoryOptions{MaxKeys: 100_000}),
		requests: sync.Pool{New: func() any { return new(policy.Request) }},
		linger:   newLinger(),
	}
	var err error
	if s.gateway, err = cfg.Gateway(s.writeProblem); err != nil {
		return nil, err
	}
	useProblems()
	s.register()
	return s, nil
}

// Drain makes the server report itself not ready, and serve on: a load balancer
// is given time to send its requests elsewhere before Stop.
func (s *Server) Drain() { s.draining.Store(true) }

// Stop makes the server refuse new requests with 503 and report itself not
// ready. Requests that run go on.
func (s *Server) Stop() { s.stopping.Store(true) }

// Running gives how many requests are being served. Each is recorded before it counts no more.
func (s *Server) Running() int64 { return s.running.Load() }

// Wait waits until no request is served, for d at most.
func (s *Server) Wait(d time.Duration) {
	for end := time.Now().Add(d); s.Running() > 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond) // as net/http waits in a Shutdown
	}
}

// exchange is what the edge knows of one request.
type exchange struct {
	server  *Server
	id      string
	start   time.Time
	ip      netip.Addr
	accept  string // the header, on routes that answer in more than one form
	route   string // the template, for logs and events
	gateway bool   // a chat or proxy route
	caller  access.Caller
	request audit.Request // what events carry
	code    string        // of the problem that was answered with
	visit   visitNote     // what became of a chat or proxy request
}

type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

// RequestID gives the id of the request that ctx belongs to, for log lines; ""
// outside of one.
func RequestID(ctx context.Context) string {
	if x := exchangeOf(ctx); x != nil {
		return x.id
	}
	return ""
}

// slowClient is how long a client may take to send a body or read an answer on
// routes other than the gateway's.
const slowClient = time.Minute

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if name, ok := serviceOfHost(r.Host, s.cfg.Domain); ok {
		s.serveAtRoot(w, r, name, byName)
		return
	}
	s.serve(w, r)
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.running.Add(1)
	defer s.running.Add(-1)
	x := &exchange{server: s, start: s.now(), ip: clientIP(r, s.cfg.TrustedProxies), route: "unmatched"}
	x.id = requestID(r)
	x.request = audit.Request{ID: x.id, Method: methodOf(r), IP: x.ip.String(), UserAgent: bearer.Without(r.UserAgent(), r.Header)}
	ctx, span := s.trace(r, x)
	ctx = context.WithValue(ctx, exchangeKey{}, x)
	ctx = audit.WithRequest(ctx, &x.request)
	r = r.WithContext(ctx)
	if isLong(r) && r.Header["Expect"] != nil {
		r.Body = &invited{ReadCloser: r.Body}
	}

	sw := &statusWriter{ResponseWriter: w}
	h := w.Header()
	h.Set("X-Request-Id", x.id)
	h.Set("X-Content-Type-Options", "nosniff")
	if r.ProtoMajor == 1 && (len(r.TransferEncoding) > 0 || r.ProtoMinor == 0) {
		// A Content-Length beside it may have been what a proxy before us went by, and
		// net/http has removed it: what follows on the connection is nobody's (RFC 9112, 6.1).
		// Of HTTP/1.0 it removes a Transfer-Encoding, too, and does not go by it.
		h.Set("Connection", "close")
	}
	defer s.finish(sw, r, x, span)
	s.dispatch(sw, r, x)
}

// dispatch hands the request to what serves its route.
func (s *Server) dispatch(sw *statusWriter, r *http.Request, x *exchange) {
	// A body that is refused unread, or a client that does not read, must not
	// hold the connection. The gateway sets deadlines of its own, by progress.
	control := http.NewResponseController(sw.ResponseWriter)
	if r.ContentLength != 0 {
		_ = control.SetReadDeadline(x.start.Add(slowClient)) // not every writer has deadlines
	}
	if !isGateway(r) {
		_ = control.SetWriteDeadline(x.start.Add(slowClient))
	}

	switch {
	case s.stopping.Load() && (isGateway(r) || r.URL.Path != "/healthz" && r.URL.Path != "/readyz"):
		sw.Header().Set("Connection", "close")
		x.gateway = isGateway(r)
		s.writeProblem(sw, r, errStopping)
	case isGateway(r):
		s.serveGateway(sw, r, x)
	default:
		sw.Header().Set("Cache-Control", "no-store")
		if !cleanPath(r.URL.EscapedPath()) {
			s.writeProblem(sw, r, errNoRoute)
			return
		}
		if isLong(r) {
			r.Body = unclosed{r.Body}
			whole := &refusals{ResponseWriter: sw}
			s.mux.ServeHTTP(whole, r)
			whole.end()
			return
		}
		s.mux.ServeHTTP(sw, r)
	}
}

// finish is deferred by serve: it answers after a panic, counts, traces and logs the
// request, and cuts the connection where half an answer must not look whole.
func (s *Server) finish(sw *statusWriter, r *http.Request, x *exchange, span *telemetry.ServerSpan) {
	ctx := r.Context()
	broken := recover()
	abort := isAbort(broken)
	if broken != nil && !abort {
		s.log.ErrorContext(ctx, "panic", "panic", panicKind(broken), "stack", string(debug.Stack()))
		if sw.status == 0 {
			s.writeProblem(sw, r, errPanic)
		} else {
			abort = true // half an answer must not look whole
		}
	}
	took := s.now().Sub(x.start)
	s.cfg.Metrics.Request(x.route, sw.status, took)
	s.endTrace(span, x, sw.status, abort, took)
	s.logRequest(ctx, x, sw, took, span.TraceID())
	if abort {
		cut(sw.ResponseWriter, r)
		panic(http.ErrAbortHandler)
	}
	s.linger.after(sw.ResponseWriter, r, sw.status)
}

// cleanPath reports whether the mux takes p as it is. It would answer any other
// by a redirect that says the path again.
func cleanPath(p string) bool {
	clean := path.Clean(p)
	return p == clean || p == clean+"/"
}

func isGateway(r *http.Request) bool {
	return strings.HasPrefix(r.RequestURI, "/api/chat/") || strings.HasPrefix(r.RequestURI, "/api/proxy/")
}

// methodOf gives the method for logs and events; what is no method of HTTP is
// the client's own writing and stays out of them.
func methodOf(r *http.Request) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
		http.MethodConnect, http.MethodOptions, http.MethodTrace:
		return r.Method
	}
	return "unknown"
}

// requestID takes the caller's id over where it is harmless, so that its logs
// and ours meet.
func requestID(r *http.Request) string {
	if given := r.Header.Get("X-Request-Id"); given != "" && len(given) <= 128 && strings.Trim(given,
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == "" && bearer.Without(given, r.Header) == given {
		return given
	}
	return "req_" + uuid.Must(uuid.NewV7()).String()
}

// isAbort reports whether a recovered value is net/http's own way to cut an answer.
func isAbort(v any) bool {
	err, ok := v.(error)
	return ok && errors.Is(err, http.ErrAbortHandler)
}

// panicKind tells of a panic without its value's text, which could hold a
// secret; the stack says where.
func panicKind(v any) string {
	if err, ok := v.(interface{ RuntimeError() }); ok {
		return err.(error).Error() // the runtime's own words: index out of range, nil pointer
	}
	return "value withheld"
}

// statusWriter notes what is sent.
type statusWriter struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

// FlushError serves [http.ResponseController]: a Flush without an error would hide that the
// caller is gone.
func (w *statusWriter) FlushError() error {
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap serves [http.ResponseController].
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
