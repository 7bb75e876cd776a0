package probe_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/internal/netguard"
	"github.com/gatehouse-io/gatehouse/internal/probe"
)

const key = "sk_live_aaaabbbbccccdddd"

// stripeAt gives the service stripe at an origin, a client that may call it, and
// a credential.
func stripeAt(t *testing.T, origin string, o netguard.Options) (*http.Client, *catalog.Service, *catalog.Injection) {
	t.Helper()
	c, err := catalog.New(catalog.Options{ServiceHosts: map[string]string{"stripe": origin}})
	if err != nil {
		t.Fatal(err)
	}
	o.AllowedOrigins = c.OperatorOrigins()
	client, err := netguard.NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdleConnections)
	s, _ := c.Service("stripe")
	in, err := s.Prepare(map[string]string{"secretKey": key})
	if err != nil {
		t.Fatal(err)
	}
	return client, s, in
}

func TestHTTP(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer http.HandlerFunc
		want   catalog.Result
		failed bool // a cause for the log is given
	}{
		{"works", func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet || r.URL.RequestURI() != "/v1/charges?limit=1" || r.Header.Get("Authorization") != "Bearer "+key {
				t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
			}
			_, _ = io.WriteString(w, `{"object":"list","data":[]}`)
		}, catalog.Valid, false},
		{"long list", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"object":"list","data":[{"x":"`+strings.Repeat("x", 2*catalog.MaxProbeBody)+`"}]}`)
		}, catalog.Valid, false},
		{"wrong key", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) }, catalog.Invalid, false},
		{"restricted", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) }, catalog.Restricted, false},
		{"redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}, catalog.Indeterminate, false},
		{"down", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, catalog.Indeterminate, false},
		{"garbage", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }, catalog.Indeterminate, false},
		{"broken off", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, catalog.Indeterminate, true},
		{"half a body", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, `{"data":[`)
		}, catalog.Indeterminate, true},
		{"silent", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, catalog.Indeterminate, true},
		{"no HTTP, and the key back", func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 "+r.Header.Get("Authorization")+"\r\n\r\n")
			_ = conn.Close()
		}, catalog.Indeterminate, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := httptest.NewServer(test.answer)
			defer server.Close()
			o := netguard.Options{}
			if test.name == "silent" {
				o.Timeout = 50 * time.Millisecond
			}
			client, s, in := stripeAt(t, server.URL, o)
			outcome, latency, err := probe.HTTP(t.Context(), client, s, in)
			if outcome.Result != test.want || outcome.Detail == "" || latency <= 0 || (err != nil) != test.failed {
				t.Errorf("%+v after %v: %v", outcome, latency, err)
			}
			if err != nil && strings.Contains(err.Error(), key) || strings.Contains(outcome.Detail, key) {
				t.Errorf("the key came back: %+v %v", outcome, err)
			}
		})
	}
}

func TestHTTPWithoutAHost(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := "http://" + listener.Addr().String()
	_ = listener.Close()
	client, s, in := stripeAt(t, closed, netguard.Options{})
	if outcome, _, err := probe.HTTP(t.Context(), client, s, in); outcome.Result != catalog.Indeterminate || err == nil {
		t.Errorf("nobody listens: %+v %v", outcome, err)
	}

	left, leave := context.WithCancel(t.Context())
	leave()
	if outcome, _, err := probe.HTTP(left, client, s, in); outcome.Result != catalog.Indeterminate || err == nil {
		t.Errorf("the caller left: %+v %v", outcome, err)
	}

	untrusted := httptest.NewTLSServer(http.NotFoundHandler())
	defer untrusted.Close()
	// No field of Stripe's says where it is: that it is not there, or somebody
	// else in its place, says nothing of the key. An endpoint of Azure's is the
	// organization's own to get right.
	_, s, in = stripeAt(t, untrusted.URL, netguard.Options{})
	azure, azureIn := serviceAt(t, "azure-openai", untrusted.URL, azureFields())
	gitHub, gitHubIn := serviceAt(t, "github", untrusted.URL, map[string]string{"token": key})
	for _, c := range []struct {
		service *catalog.Service
		in      *catalog.Injection
		fields  map[string]string
		want    catalog.Result
	}{
		{s, in, map[string]string{"secretKey": key}, catalog.Indeterminate},
		{azure, azureIn, azureFields(), catalog.Misconfigured},
		{gitHub, gitHubIn, map[string]string{"token": key}, catalog.Indeterminate}, // without a baseUrl
	} {
		trusting, err := netguard.NewClient(netguard.Options{AllowedOrigins: []string{untrusted.URL}})
		if err != nil {
			t.Fatal(err)
		}
		if outcome, _, err := probe.HTTP(t.Context(), trusting, c.service, c.in); outcome.Result != c.want || err == nil {
			t.Errorf("%s, unknown authority: %+v %v", c.service.Name, outcome, err)
		}
		// Not the operator's: refused before anything is resolved.
		strict, err := netguard.NewClient(netguard.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if outcome, _, err := probe.HTTP(t.Context(), strict, c.service, c.in); outcome.Result != c.want || err == nil {
			t.Errorf("%s, not allowed: %+v %v", c.service.Name, outcome, err)
		}
		unknown, err := netguard.NewClient(netguard.Options{Resolver: noNames{}})
		if err != nil {
			t.Fatal(err)
		}
		real, err := catalog.New(catalog.Options{})
		if err != nil {
			t.Fatal(err)
		}
		there, _ := real.Service(c.service.Name)
		thereIn, err := there.Prepare(c.fields)
		if err != nil {
			t.Fatal(err)
		}
		if outcome, _, err := probe.HTTP(t.Context(), unknown, there, thereIn); outcome.Result != c.want || err == nil {
			t.Errorf("%s, a name that is not known: %+v %v", c.service.Name, outcome, err)
		}
	}
}

// noNames is a resolver that knows no name, as many are that are inside.
type noNames struct{}

func (noNames) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

// serviceAt gives a service at an origin, and a credential.
func serviceAt(t *testing.T, name, origin string, fields map[string]string) (*catalog.Service, *catalog.Injection) {
	t.Helper()
	c, err := catalog.New(catalog.Options{ServiceHosts: map[string]string{name: origin}})
	if err != nil {
		t.Fatal(err)
	}
	s, _ := c.Service(name)
	in, err := s.Prepare(fields)
	if err != nil {
		t.Fatal(err)
	}
	return s, in
}

func azureFields() map[string]string {
	return map[string]string{"apiKey": key, "endpoint": "https://acme.openai.azure.com"}
}
