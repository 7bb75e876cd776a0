// Package netguard makes connections to third parties that an attacker may
// steer: a tester of credentials, a webhook, a key set by URL.
//
// Two things bound where they go. A request is https on port 443, and every
// address its host resolves to is public ([Forbidden] is false); the connection
// is then made to an address that was checked, so that a name that resolves
// differently a moment later (DNS rebinding) gains nothing. The operator's
// [Options.AllowedOrigins] are exempt from both: those may be plain http, on any
// port, on a private network.
//
// A client follows no redirect, asks no proxy (HTTPS_PROXY would take the check
// of addresses elsewhere), does not decompress, and is bounded in time and in
// the bytes it reads.
//
// Error texts hold no address: whether an internal name exists is not for the
// caller to learn.
package netguard

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// Defaults and limits.
const (
	DefaultTimeout = 10 * time.Second // for a whole exchange, dialling and body included
	DefaultMaxBody = 64 << 10         // bytes of a response body
	maxHeader      = 64 << 10         // bytes of a response header
	maxAddresses   = 4                // dialled in turn; all that resolve are checked
)

// Errors that a refused connection gives, to be tested with [errors.Is].
var (
	ErrForbiddenOrigin  = errors.New("netguard: only https on port 443 may be called")
	ErrForbiddenPort    = errors.New("netguard: the port may not be called")
	ErrForbiddenAddress = errors.New("netguard: the host is not on the public internet")
)

// Resolver looks up the addresses of a host; network is "ip". A [net.Resolver]
// is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Options says what a client or dialer may do. The zero value is the strictest.
type Options struct {
	// AllowedOrigins are scheme://host[:port], without a path, that the operator
	// named. Calls to exactly these are not checked.
	AllowedOrigins []string
	// Loopback lets a client call http and https on this machine (localhost or a
	// loopback address in the URL), any port: for development. A Dialer ignores it.
	Loopback bool
	// Ports that a Dialer may call; {443} when empty. A client calls 443 whatever
	// stands here.
	Ports []uint16
	// Resolver looks up hosts that are not allowed origins; net.DefaultResolver
	// when nil.
	Resolver Resolver
	// Timeout bounds a whole exchange of a client, and the dialling of a Dialer;
	// DefaultTimeout when 0.
	Timeout time.Duration
	// MaxBody is how many bytes of a response body can be read before the error
	// *http.MaxBytesError; DefaultMaxBody when 0.
	MaxBody int64
	// RootCAs verify TLS; the system's when nil.
	RootCAs *x509.CertPool

	dial dialFunc // tests watch and redirect the last step
}

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// NewClient gives a guarded HTTP client. It fails when an allowed origin is not
// of the form scheme://host[:port]. The caller closes response bodies as usual.
func NewClient(o Options) (*http.Client, error) {
	allowed := make(map[string]bool)
	for _, raw := range o.AllowedOrigins {
		u, err := parseAllowed(raw)
		if err != nil {
			return nil, err
		}
		allowed[Origin(u)] = true
	}
	// The checked pool knows no exception; allowed origins never get there.
	o.AllowedOrigins, o.Ports = nil, []uint16{443}
	d, err := NewDialer(o)
	if err != nil {
		return nil, err
	}
	g := &guard{
		allowed:  allowed,
		loopback: o.Loopback,
		checked:  newTransport(d.DialContext, o.RootCAs),
		direct:   newTransport((&net.Dialer{Timeout: d.timeout}).DialContext, o.RootCAs),
		maxBody:  o.MaxBody,
	}
	if g.maxBody == 0 {
		g.maxBody = DefaultMaxBody
	}
	return &http.Client{
		Transport:     g,
		Timeout:       d.timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

func newTransport(dial dialFunc, roots *x509.CertPool) *http.Transport {
	return &http.Transport{
		Proxy:                  nil,
		DialContext:            dial,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeader,
		MaxIdleConns:           16,
		MaxIdleConnsPerHost:    2,
		IdleConnTimeout:        30 * time.Second,
	}
}

// guard sends a request through the checked transport unless its origin is
// allowed. The two pools never share a connection.
type guard struct {
	allowed  map[string]bool
	loopback bool
	checked  *http.Transport
	direct   *http.Transport
	maxBody  int64
}

// RoundTrip refuses what may not be called and bounds the body of what may.
func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	via := g.direct
	if exempt := g.allowed[Origin(r.URL)] || g.loopback && IsLoopback(r.URL); !exempt {
		via = g.checked
		if r.URL.Scheme != "https" || portOf(r.URL) != "443" || r.URL.User != nil {
			closeBody(r)
			return nil, ErrForbiddenOrigin
		}
	}
	response, err := via.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	response.Body = http.MaxBytesReader(nil, response.Body, g.maxBody)
	return response, nil
}

// CloseIdleConnections lets http.Client close what both pools keep.
func (g *guard) CloseIdleConnections() {
	g.checked.CloseIdleConnections()
	g.direct.CloseIdleConnections()
}

func closeBody(r *http.Request) {
	if r.Body != nil {
		_ = r.Body.Close()
	}
}

// IsLoopback reports whether u says that it is on this machine: localhost or a
// loopback address, by http or https.
func IsLoopback(u *url.URL) bool {
	if u.Scheme != "http" && u.Scheme != "https" || u.User != nil {
		return false
	}
	a, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && a.Unmap().IsLoopback()
}

// Origin gives scheme://host:port of u in the one spelling that allowed origins
// are compared in.
func Origin(u *url.URL) string {
	return strings.ToLower(u.Scheme) + "://" + net.JoinHostPort(strings.ToLower(u.Hostname()), portOf(u))
}

func portOf(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	switch strings.ToLower(u.Scheme) {
	case "https":
		return "443"
	case "http":
		return "80"
	}
	return ""
}

func parseAllowed(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || portOf(u) == "" {
		return nil, errors.New("netguard: an allowed origin is not of the form scheme://host[:port]")
	}
	return u, nil
}
