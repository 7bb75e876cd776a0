package gatehousetest

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// awaitTimeout is how long Await waits before it fails the test.
const awaitTimeout = 10 * time.Second

// maxBody bounds what a fake reads of one request's body.
const maxBody = 64 << 20

// A Provider is a fake third party that listens on 127.0.0.1 until the test ends. Its methods may be called from any
// goroutine.
type Provider struct {
	URL  string // its origin, without a path: "http://127.0.0.1:PORT", or https with the option TLS
	Addr string // its host:port

	t       testing.TB
	dialect dialect
	mux     *http.ServeMux
	config  config
	closing chan struct{} // closed when the test ends, so that no handler outlives it

	mu       sync.Mutex
	keys     map[string][]string // key to its scopes; nil is every scope
	next     []Behaviour
	always   Behaviour
	requests []*Request
	changed  chan struct{} // closed and made anew with each request that finishes
}

// A Request is one request that a fake saw, as it came over the wire.
type Request struct {
	Method     string
	RequestURI string // the target as the client wrote it: escaped path and query
	URL        *url.URL
	Host       string
	Proto      string      // "HTTP/1.1" or "HTTP/2.0"
	Header     http.Header // without Host, as in net/http
	Body       []byte

	Status   int  // of the answer; 0 while there is none
	Finished bool // the fake is done with it
	Aborted  bool // the client left before the fake was done
}

// Form reads the body as application/x-www-form-urlencoded; what cannot be read is left out.
func (r Request) Form() url.Values {
	v, _ := url.ParseQuery(string(r.Body))
	return v
}

// An Option says how a fake differs from the default.
type Option func(*config)

type config struct {
	keys       []string
	restricted map[string][]string
	user       string
	region     string
	reply      string
	items      int
	ca         *CA
	names      []string
}

// Key names the keys that the fake accepts, all of them with every scope. Without it the fake makes up one, which
// [Provider.Key] gives. For Zendesk it is the API token (or an OAuth access token), for SMTP the password.
func Key(keys ...string) Option { return func(c *config) { c.keys = append(c.keys, keys...) } }

// Restricted adds a key that is real but has these scopes only, in the provider's own words: "model.request" and
// "api.model.read" at OpenAI, "rak_charge_read" at Stripe.
func Restricted(key string, scopes ...string) Option {
	return func(c *config) { c.restricted[key] = append([]string{}, scopes...) }
}

// User is who logs in: the email address at Zendesk, the user name at SMTP. "agent@example.com" unless said.
func User(user string) Option { return func(c *config) { c.user = user } }

// Region is where an Intercom workspace lives: "US" (unless said), "EU" or "AU".
func Region(region string) Option { return func(c *config) { c.region = region } }

// Reply is what a model answers to every prompt. Unless said, it repeats the last message.
func Reply(text string) Option { return func(c *config) { c.reply = text } }

// Items is how many models, customers, users or contacts there are to begin with; 25 unless said.
func Items(n int) Option { return func(c *config) { c.items = n } }

// TLS has the fake speak TLS (HTTP/2 and HTTP/1.1) under a certificate by ca for 127.0.0.1, localhost and names, such
// as "api.openai.com". For SMTP it offers STARTTLS.
func TLS(ca *CA, names ...string) Option {
	return func(c *config) { c.ca, c.names = ca, names }
}

func newConfig(opts []Option) config {
	c := config{restricted: map[string][]string{}, user: "agent@example.com", region: "US", items: 25}
	for _, opt := range opts {
		opt(&c)
	}
	return c
}

// A dialect is the part of a fake that one provider's documentation describes.
type dialect struct {
	prefix     string                     // of a made-up key
	credential func(*http.Request) string // the key that a request presents; "" for none
	header     func(http.Header)          // what every answer carries
	refuse     func(http.ResponseWriter, *http.Request, refusal)
	routes     []route
}

// A route is one operation of a provider.
type route struct {
	pattern string // of http.ServeMux
	scope   string // what a key needs for it; "" for nothing
	open    bool   // answers without a key as well
	serve   http.HandlerFunc
}

// startProvider listens and serves d until the test ends.
func startProvider(t testing.TB, d dialect, c config) *Provider {
	t.Helper()
	p := &Provider{t: t, dialect: d, config: c, mux: http.NewServeMux(), closing: make(chan struct{}), changed: make(chan struct{})}
	if len(c.keys) == 0 {
		c.keys = []string{d.prefix + rand.Text()}
	}
	p.config.keys = c.keys
	p.SetKeys(c.keys...)
	for key, scopes := range c.restricted {
		p.keys[key] = scopes
	}
	p.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { d.refuse(w, r, refusal{kind: notFound}) })
	for _, route := range d.routes {
		p.mux.HandleFunc(route.pattern, p.guarded(route))
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(p.serve))
	server.Config.ErrorLog = quiet()
	if c.ca != nil {
		server.EnableHTTP2 = true
		server.TLS = &tls.Config{Certificates: []tls.Certificate{c.ca.Certificate(append([]string{"127.0.0.1", "localhost"}, c.names...)...)}}
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(func() {
		close(p.closing)
		server.CloseClientConnections()
		server.Close()
	})
	p.URL, p.Addr = server.URL, server.Listener.Addr().String()
	return p
}

// Key is the first key that the fake was started with.
func (p *Provider) Key() string { return p.config.keys[0] }

// SetKeys replaces every key that the fake accepts, restricted ones too: from now on the others are revoked.
func (p *Provider) SetKeys(keys ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = map[string][]string{}
	for _, key := range keys {
		p.keys[key] = nil
	}
}

// Next has the coming requests, in the order of their arrival, answered by these behaviours, one each. The ones after
// them are served as usual (or as [Provider.Always] says).
func (p *Provider) Next(behaviours ...Behaviour) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next = append(p.next, behaviours...)
}

// Always has every request for which Next has nothing answered by b; nil goes back to serving.
func (p *Provider) Always(b Behaviour) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.always = b
}

// Requests gives what the fake saw so far, in the order of arrival, requests under way included. The caller may keep and change it.
func (p *Provider) Requests() []Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := make([]Request, len(p.requests))
	for i, r := range p.requests {
		seen[i] = *r
		seen[i].Header = r.Header.Clone()
		seen[i].Body = bytes.Clone(r.Body)
	}
	return seen
}

// Await waits until the fake has seen n requests and is done with all that it saw, and gives them. It fails the test after ten seconds.
func (p *Provider) Await(n int) []Request {
	p.t.Helper()
	timeout := time.After(awaitTimeout)
	for {
		p.mu.Lock()
		changed := p.changed
		p.mu.Unlock()
		seen := p.Requests()
		if len(seen) >= n && !slices.ContainsFunc(seen, func(r Request) bool { return !r.Finished }) {
			return seen
		}
		select {
		case <-changed:
		case <-timeout:
			p.t.Fatalf("gatehousetest: waited for %d finished requests, saw %d, not all of them finished", n, len(seen))
		}
	}
}

func (p *Provider) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, maxBody)) // what came before a client left is what is recorded
	r.Body = io.NopCloser(bytes.NewReader(body))
	u := *r.URL
	seen := &Request{Method: r.Method, RequestURI: r.RequestURI, URL: &u, Host: r.Host, Proto: r.Proto,
		Header: r.Header.Clone(), Body: body}
	p.mu.Lock()
	p.requests = append(p.requests, seen)
	behave := p.always
	if len(p.next) > 0 {
		behave, p.next = p.next[0], p.next[1:]
	}
	p.mu.Unlock()
	a := &answer{ResponseWriter: w, request: r, provider: p, cut: -1}
	defer func() { // also runs when the handler cuts the connection by a panic
		p.mu.Lock()
		defer p.mu.Unlock()
		seen.Status, seen.Finished, seen.Aborted = a.status, true, r.Context().Err() != nil
		close(p.changed)
		p.changed = make(chan struct{})
	}()
	if p.dialect.header != nil {
		p.dialect.header(w.Header())
	}
	if behave == nil {
		behave = serveAsUsual
	}
	behave(a)
}

// guarded checks the key before it lets route serve.
func (p *Provider) guarded(route route) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		key := p.dialect.credential(r)
		p.mu.Lock()
		scopes, known := p.keys[key]
		p.mu.Unlock()
		switch {
		case route.open:
			route.serve(w, r)
		case key == "":
			p.dialect.refuse(w, r, refusal{kind: noKey})
		case !known:
			p.dialect.refuse(w, r, refusal{kind: wrongKey, key: key})
		case scopes != nil && route.scope != "" && !slices.Contains(scopes, route.scope):
			p.dialect.refuse(w, r, refusal{kind: missingScope, scope: route.scope, key: key})
		default:
			route.serve(w, r)
		}
	}
}

// accepts tells whether the request carries a key that the fake knows; it is for open routes.
func (p *Provider) accepts(r *http.Request) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, known := p.keys[p.dialect.credential(r)]
	return known
}

// newID gives a fresh identifier in the style of a provider.
func newID(prefix string) string { return prefix + strings.ToLower(rand.Text()) }

// object is a JSON object.
type object = map[string]any

// writeJSON answers with v and a Content-Length.
func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // a fake's own values always marshal
	}
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/json")
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(status)
	_, _ = w.Write(b)
}

// bearer is the token of an Authorization header of that scheme; "" for none.
func bearer(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// number reads a query parameter, or gives fallback; what is out of range is moved into it.
func number(r *http.Request, name string, fallback, low, high int) int {
	n, err := strconv.Atoi(r.URL.Query().Get(name))
	if err != nil {
		n = fallback
	}
	return min(max(n, low), high)
}
