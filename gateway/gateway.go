package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/catalog"
)

// Opener hands out one credential for one request.
type Opener interface {
	// OpenForUse gives caller's credential of service under name, or the
	// organization's default where name is "". One that is asSent by the caller may be
	// percent-encoded; the names that a credential lists are not. Its errors are passed to
	// [Options.Problem] as they are: *fault.Error of kind NoCredential when there
	// is no usable one, Unavailable when it cannot be opened now.
	OpenForUse(ctx context.Context, caller access.Caller, service *catalog.Service, name string, asSent bool) (Credential, error)
}

// Credential is one credential that may be used.
type Credential struct {
	ID, Name string
	Version  int64

	// Scope is what it may be used for; nil: the service's default. It is looked
	// at before Open is called.
	Scope *catalog.Scope
	// Failover names the credentials of the same service that step in, in this
	// order, where the provider answers 401, 402 or 429.
	Failover []string

	Injection *catalog.Injection
	// Open gives the injection where that is nil.
	Open func(context.Context) (*catalog.Injection, error)

	// Previous opens the version before this one while that is in grace, for one
	// more try of a request whose provider refuses this one; nil: there is none.
	Previous func(context.Context) (Credential, error)
	// Fallback is told that the previous version served in place of this one.
	Fallback func(context.Context)
}

// Options configures a [Gateway]. Catalog, Opener and Problem are required; a
// zero limit or time takes the default that stands with it.
type Options struct {
	Catalog *catalog.Catalog
	Opener  Opener

	// Problem answers the request with err in the server's one error format and
	// gives the status it wrote. err is a *fault.Error, or what the Opener said.
	Problem func(w http.ResponseWriter, r *http.Request, err error) int

	// AppUpstream is the operator's own chat backend behind the service "app":
	// http or https, host, and a base path at most. Nil: there is no such service.
	AppUpstream *url.URL
	// AppKey signs the identity headers sent to AppUpstream; at least 32 bytes.
	AppKey []byte

	// Stop, when done, ends what is still running: event streams get an error
	// event with the code server_stopping, the rest a 503 or a cut connection.
	// Nil: never.
	Stop context.Context

	Logger *slog.Logger // nil: nothing is logged

	Bounds                     // of every service that Services does not name
	Services map[string]Bounds // by service; what is zero in one is as in Bounds

	MemoryBody   int64         // bytes of one request body that stay in memory; 10 MiB
	MaxBuffered  int64         // bytes of all request bodies in memory at once; 256 MiB, at least MemoryBody
	BodyTimeout  time.Duration // for a request body to arrive, and a second more for each 128 KiB of it; 60 s
	WriteTimeout time.Duration // for one write to the caller; 30 s

	// SpoolDir is the folder for request bodies that are larger than MemoryBody, or
	// find no room in memory; it is made, and emptied. "": such are refused.
	SpoolDir string
	MaxSpool int64 // bytes of all request bodies there at once; 4 GiB, at least the largest body

	// StreamsPerOrganization is how many streams an organization may have open at
	// once on this instance; further ones get 429. 0: any number.
	StreamsPerOrganization int
	// AskUsage names services of the operator's own, beside those that are known,
	// that take stream_options.include_usage: see [tokens.Request.AskUsage].
	AskUsage []string
	// TellClientIP names services, and app, that are told the caller's address
	// ([Visit.ClientIP]) in X-Forwarded-For. The others never are.
	TellClientIP []string

	// Retries is how often a request that may be sent again is, at most; 0: never. More than 16 are 16.
	Retries int
	// BreakerFailures is how many failed requests within ten seconds, if they are
	// at least half of all, stop requests of a credential to a host for a while;
	// 0: none do.
	BreakerFailures int
	// Observe is told what happens to requests, for metrics.
	Observe Observer

	// Attempted is told of each request to an upstream, for traces; nil: nobody is.
	Attempted Attempted

	// DialContext opens connections to upstreams; nil: a dialer with 5 s to
	// connect that reads no proxy from the environment. Give a guarded one to keep
	// catalogue services off private networks.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	// TLS is for connections to https upstreams; nil: the system's roots.
	TLS *tls.Config
}

// Bounds are what one request to a service may take. What is zero takes the
// default that stands with it.
type Bounds struct {
	MaxBody   int64         // bytes of the request's body, 413 above; 512 MiB, or MemoryBody without a spool
	FirstByte time.Duration // from sending the request to the answer's header; 5 min
	Idle      time.Duration // of an upstream's silence inside an answer; 5 min
	Total     time.Duration // from sending the request to the end of the answer; 1 h

	// Heartbeat is after how long a silence of the upstream's inside an event stream
	// the caller gets a comment (": "), which clients ignore and proxies on the way
	// take for life. 0: never; negative in Options.Services: never there.
	Heartbeat time.Duration
}

// or gives b with what is zero in it as in other.
func (b Bounds) or(other Bounds) Bounds {
	b.MaxBody, b.FirstByte = orDefault(b.MaxBody, other.MaxBody), orDefault(b.FirstByte, other.FirstByte)
	b.Idle, b.Total = orDefault(b.Idle, other.Idle), orDefault(b.Total, other.Total)
	if b.Heartbeat == 0 {
		b.Heartbeat = other.Heartbeat
	}
	return b
}

// boundsOf gives the bounds of a service, or of app.
func (g *Gateway) boundsOf(service string) Bounds {
	if b, ok := g.services[service]; ok {
		return b
	}
	return g.bounds
}

// Observer is told what happens, in functions that may be nil and must not block.
// A service is a name of the catalogue's, or app.
type Observer struct {
	Retried       func(service string)        // a request was sent once more
	FailedOver    func(service string)        // another credential served
	Scrubbed      func(service string, n int) // the credential stood in an answer n times and was cut out
	BreakerTurned func(to string)             // a breaker is closed, half-open or open now
}

// Route is one of the two families of routes.
type Route string

// The routes; the value is the path segment after /api/.
const (
	Chat  Route = "chat"  // services that chat, echo and app
	Proxy Route = "proxy" // all others
)

// Visit is what the server knows of a request.
type Visit struct {
	Route      Route
	Caller     access.Caller
	RequestID  string
	Service    string // the path segment that names the service
	Path       string // the rest as sent, still escaped, without the slash before it; see [SplitPath]
	ClientIP   string // the caller's address, see [Options.TellClientIP]
	Credential string // which of several, by name (the header Gatehouse-Credential); "" is the default

	// What links in answers are made of. AtRoot says that the host or port that was
	// asked serves this service alone, at its root; Secure that the caller came by
	// https; Origin is this instance's public origin, "" for the host that was asked.
	AtRoot bool
	Secure bool
	Origin string
}

// StatusClientClosed is [Result.Status] when the caller left before an answer
// began. Nobody ever receives it; the number is nginx's.
const StatusClientClosed = 499

// Result is how a visit ended, for the access event.
type Result struct {
	Status int // what was sent, or [StatusClientClosed]

	// Outcome is Success for an answer below 400 that was passed on whole, Failure
	// for any other whole answer or an error of ours, Denied where the Opener
	// denied, Partial for an answer that broke or was left.
	Outcome audit.Outcome
	// Reason is empty for Success and otherwise a stable word: the code of our
	// problem, or upstream_status, upstream_interrupted, upstream_idle,
	// upstream_error (told of inside of a stream), client_closed, client_slow, server_stopping.
	Reason string

	CredentialID      string // empty where none was found
	CredentialName    string
	CredentialVersion int64 // the one whose answer was passed on
	RefusedVersion    int64 // the active one, where the provider refused it and the one in grace served; otherwise 0

	Scope string // what the credential's scope denied the request for: caller, method, path, model or model_unreadable; empty: nothing

	Retries    int // how often the request was sent once more
	FailedOver FailedOver

	Scrubbed int // how many times the upstream said the credential again, and it was cut out

	Usage Usage // what was used, as far as the provider says

	BytesIn   int64         // of the request's body
	BytesOut  int64         // of the answer's body
	FirstByte time.Duration // from the first request to the upstream to the header of the answer passed on; 0 where none came
	Duration  time.Duration

	// Abort says that the answer is cut short in a way the protocol does not
	// show: the server must panic with http.ErrAbortHandler once the visit is
	// recorded, so that the connection breaks.
	Abort bool
}

// Gateway serves the chat and proxy routes. Make one with [New]. It is safe for
// concurrent use.
type Gateway struct {
	catalog   *catalog.Catalog
	opener    Opener
	problem   func(http.ResponseWriter, *http.Request, error) int
	log       *slog.Logger
	transport *http.Transport
	fresh     *http.Transport // keeps no connections
	app       *app            // nil without a backend of the operator's own
	limits    limits
	bounds    Bounds
	services  map[string]Bounds // of those that differ

	buffered   buffers         // large request bodies in memory
	spool      *spool          // larger ones on disk; nil: refused
	streams    streams         // that are open
	asks       map[string]bool // services that take stream_options, beside those of the catalogue that do
	tellsIP    map[string]bool // services that are told the caller's address
	workspaces sync.Pool       // of *workspace
	answers    sync.Pool       // of *[bufferSize]byte

	retries, breakerFailures int
	observe                  Observer
	attempted                Attempted // nil: nobody wants to know
	breakers                 bounded[breakerKey, *breaker]
	budgets                  bounded[budgetKey, *budget]

	running running
	stop    context.Context // done: what runs is to end
}

type limits struct {
	memory          int64 // bytes of one body
	bodyTime, write time.Duration
}

// New makes a gateway. Every mistake in o is in the error.
func New(o Options) (*Gateway, error) {
	var mistakes []error
	if o.Catalog == nil || o.Opener == nil || o.Problem == nil {
		mistakes = append(mistakes, errors.New("gateway: Catalog, Opener and Problem are required"))
	}
	g := &Gateway{
		catalog: o.Catalog, opener: o.Opener, problem: o.Problem, log: o.Logger,
		limits: limits{
			memory:   orDefault(o.MemoryBody, 10<<20),
			bodyTime: orDefault(o.BodyTimeout, time.Minute), write: orDefault(o.WriteTimeout, 30*time.Second),
		},
		transport: newTransport(o), fresh: newTransport(o), attempted: o.Attempted,
	}
	g.fresh.DisableKeepAlives, g.fresh.ForceAttemptHTTP2 = true, false
	g.streams.of, g.streams.max = make(map[string]int), max(o.StreamsPerOrganization, 0)
	g.asks = make(map[string]bool, len(o.AskUsage))
	for _, name := range o.AskUsage {
		g.asks[name] = true
	}
	if err := g.bound(o); err != nil {
		mistakes = append(mistakes, err)
	}
	g.retries, g.breakerFailures, g.observe = min(max(o.Retries, 0), maxRetries), max(o.BreakerFailures, 0), o.Observe
	g.breakers.max, g.breakers.new = maxBreakers, g.newBreaker
	g.breakers.idle = func(b *breaker) bool { return !b.open() }
	g.budgets.max, g.budgets.new = maxBudgets, newBudget
	g.tellsIP = make(map[string]bool, len(o.TellClientIP))
	for _, name := range o.TellClientIP {
		g.tellsIP[name] = true
	}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	if o.AppUpstream != nil {
		a, err := newApp(o.AppUpstream, o.AppKey)
		if err != nil {
			mistakes = append(mistakes, err)
		}
		g.app = a
	}
	if len(mistakes) > 0 {
		return nil, errors.Join(mistakes...)
	}
	g.workspaces.New = func() any { return new(workspace) }
	g.answers.New = func() any { return new([bufferSize]byte) }
	if g.stop = o.Stop; g.stop == nil {
		g.stop = context.Background()
	}
	context.AfterFunc(g.stop, g.running.stop)
	return g, nil
}

// bound sets what bodies and answers may take.
func (g *Gateway) bound(o Options) error {
	usual := o.Bounds
	g.bounds = usual.or(Bounds{MaxBody: 512 << 20, FirstByte: 5 * time.Minute, Idle: 5 * time.Minute, Total: time.Hour})
	if o.SpoolDir == "" {
		g.bounds.MaxBody = orDefault(o.MaxBody, g.limits.memory)
	}
	largest := g.bounds.MaxBody
	g.services = make(map[string]Bounds, len(o.Services))
	for name, b := range o.Services {
		g.services[name] = b.or(g.bounds)
		largest = max(largest, g.services[name].MaxBody)
	}
	g.limits.memory = min(g.limits.memory, largest)
	g.buffered.init(orDefault(o.MaxBuffered, 256<<20), g.limits.memory)
	if o.SpoolDir == "" {
		return nil
	}
	var err error
	g.spool, err = newSpool(o.SpoolDir, orDefault(o.MaxSpool, 4<<30), largest)
	return err
}

// Buffered gives how many bytes of request bodies are in memory and in the spool at
// the moment; small bodies, up to 64 KiB, do not count.
func (g *Gateway) Buffered() (memory, spooled int64) {
	if g.spool != nil {
		spooled = g.spool.room.taken()
	}
	return g.buffered.taken(), spooled
}

// Close closes idle connections to upstreams. What is running goes on.
func (g *Gateway) Close() { g.transport.CloseIdleConnections() }

func orDefault[N int64 | time.Duration](n, otherwise N) N {
	if n <= 0 {
		return otherwise
	}
	return n
}

// maxAhead is how much of an answer over HTTP/2 may have come before its caller has
// read what came earlier, in bytes. By itself net/http takes 4 MiB of each.
const maxAhead = 256 << 10

func newTransport(o Options) *http.Transport {
	dial := o.DialContext
	if dial == nil {
		dial = (&net.Dialer{Timeout: 5 * time.Second}).DialContext
	}
	return &http.Transport{
		// Proxy stays nil: a variable of the environment must not see the keys.
		DialContext:            wired(dial),
		TLSClientConfig:        o.TLS,
		ForceAttemptHTTP2:      true,
		TLSHandshakeTimeout:    10 * time.Second,
		MaxIdleConns:           1024,
		MaxIdleConnsPerHost:    256,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true, // a transparent gunzip would buffer streams
		WriteBufferSize:        8 << 10,
		ReadBufferSize:         16 << 10, // events that wait are read, and passed on, together
		// An HTTP/2 connection that died silently is found before a caller waits on it.
		HTTP2: &http.HTTP2Config{
			SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second,
			MaxReceiveBufferPerStream: maxAhead,
		},
	}
}
