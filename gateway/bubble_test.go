package gateway_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/gateway"
	"github.com/gatehouse-io/gatehouse/internal/fault"
)

// bubble is a gateway and its upstream inside a bubble of testing/synctest: the
// connections are pipes in memory, so that time stands while both wait.
type bubble struct {
	t       testing.TB
	gateway *gateway.Gateway
	refuse  bool // connections
	answer  http.HandlerFunc
	mu      sync.Mutex // handlers of callers who left may overlap
	asked   []*http.Request
}

// errRefused is what a closed port gives.
var errRefused = &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}

func newBubble(t testing.TB, opener gateway.Opener, change ...func(*gateway.Options)) *bubble {
	b := &bubble{t: t}
	services, err := catalog.New(catalog.Options{ChatHosts: map[string]string{"up": "http://up.test", "down": "http://down.test"}, Echo: true})
	if err != nil {
		t.Fatal(err)
	}
	l := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	upstream := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		b.mu.Lock()
		b.asked = append(b.asked, r)
		b.mu.Unlock()
		b.answer(w, r)
	})}
	go func() { _ = upstream.Serve(l) }()
	o := gateway.Options{
		Catalog: services, Opener: opener, Problem: writeProblemAfter, Retries: 1, BreakerFailures: 3,
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			if b.refuse {
				return nil, errRefused
			}
			near, far := net.Pipe()
			select {
			case l.conns <- far:
				return near, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		},
	}
	for _, c := range change {
		c(&o)
	}
	b.gateway, err = gateway.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.gateway.Close()
		_ = upstream.Close()
	})
	return b
}

// writeProblemAfter is writeProblem with Retry-After.
func writeProblemAfter(w http.ResponseWriter, r *http.Request, err error) int {
	setRetryAfter(w.Header(), err)
	return writeProblem(w, r, err)
}

// visit makes one request as a member of organization.
func (b *bubble) visit(ctx context.Context, organization, credential, method string, header ...string) (*httptest.ResponseRecorder, gateway.Result) {
	return b.visitService(ctx, "up", organization, credential, method, header...)
}

func (b *bubble) visitService(ctx context.Context, service, organization, credential, method string, header ...string) (*httptest.ResponseRecorder, gateway.Result) {
	r := httptest.NewRequestWithContext(ctx, method, "/api/chat/"+service+"/v1/x", strings.NewReader(`{"model":"m"}`))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	return w, b.serve(w, r, service, organization, credential)
}

// visitWith makes a request whose answer goes to w.
func (b *bubble) visitWith(ctx context.Context, w http.ResponseWriter) gateway.Result {
	return b.serve(w, httptest.NewRequestWithContext(ctx, "POST", "/api/chat/up/v1/x", strings.NewReader(`{"model":"m"}`)), "up", "acme", "")
}

func (b *bubble) serve(w http.ResponseWriter, r *http.Request, service, organization, credential string) gateway.Result {
	return b.gateway.Serve(w, r, gateway.Visit{
		Route: gateway.Chat, Caller: access.NewCaller(organization, access.User, "u", access.Owner), RequestID: "req",
		Service: service, Path: "v1/x", Credential: credential,
	})
}

// says answers with a status.
func status(code int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
		_, _ = io.WriteString(w, `{"status":true}`)
	}
}

type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	select {
	case <-p.closed:
	default:
		close(p.closed)
	}
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// named opens a key of its own for each organization and name.
type named struct {
	failover map[string][]string
	scopes   map[string]*catalog.Scope
	missing  string
	broken   string // does not open
	opened   map[string]int
}

func (n *named) OpenForUse(_ context.Context, caller access.Caller, service *catalog.Service, name string, _ bool) (gateway.Credential, error) {
	if name == "" {
		name = "Default"
	}
	if name == n.missing {
		return gateway.Credential{}, errors.New("there is none of that name")
	}
	scope := n.scopes[name]
	if scope == nil {
		scope = &anyPath
	}
	return gateway.Credential{
		ID: "cred_" + caller.Organization + "_" + name, Name: name, Version: 1, Scope: scope, Failover: n.failover[name],
		Open: func(context.Context) (*catalog.Injection, error) {
			if n.opened != nil {
				n.opened[name]++
			}
			if name == n.broken {
				return nil, fault.New(fault.Unavailable, "key_unavailable", "Try again.").Because(errors.New("sealed under a key that is gone"))
			}
			return service.Prepare(map[string]string{"apiKey": "sk-of-" + caller.Organization + "-" + name + "-0123456789"})
		},
	}, nil
}

// elapsed gives how long do takes on the bubble's clock.
func elapsed(do func()) time.Duration {
	begin := time.Now()
	do()
	return time.Since(begin)
}
