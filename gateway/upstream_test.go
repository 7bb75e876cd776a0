package gateway_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gateway"
)

func TestAnUpstreamThatCannotBeReached(t *testing.T) {
	away := httptest.NewServer(nil)
	away.Close()
	secure := httptest.NewTLSServer(http.NotFoundHandler()) // its certificate is nobody's
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(secure.Close)
	plain, _ := recorder(t, nil)
	for name, test := range map[string]struct {
		upstream string
		code     string
	}{
		"nobody listens":    {away.URL, "upstream_unreachable"},
		"no such name":      {"http://name.invalid", "upstream_unreachable"},
		"a bad certificate": {secure.URL, "upstream_unreachable"},
		"TLS to plain http": {strings.Replace(plain, "http:", "https:", 1), "upstream_unreachable"},
		"closes at once":    {scripted(t, func(net.Conn) {}), "upstream_interrupted"},
		"no HTTP":           {scripted(t, func(c net.Conn) { _, _ = io.WriteString(c, "220 mail\r\n") }), "upstream_invalid"},
		"a header too large": {
			rawUpstream(t, "HTTP/1.1 200 OK\r\nX-Large: "+strings.Repeat("x", 80<<10)+"\r\n\r\n"), "upstream_invalid",
		},
		"101 unasked":        {rawUpstream(t, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"), "upstream_invalid"},
		"a status of no use": {rawUpstream(t, "HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n"), "upstream_invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			f := serve(t, test.upstream)
			answer, text := f.call(t, "POST", "/api/chat/up/v1", "{}")
			if answer.StatusCode != 502 || answer.Header.Get("Gatehouse-Error") != test.code {
				t.Errorf("%d %s", answer.StatusCode, text)
			}
			for _, detail := range []string{"127.0.0.1", "lookup", "x509", "tls", "dial", "header"} {
				if strings.Contains(text, detail) {
					t.Errorf("the answer tells %q: %s", detail, text)
				}
			}
			if r := f.result(t); r.Reason != test.code || r.Outcome != audit.Failure || r.Abort {
				t.Errorf("%+v", r)
			}
		})
	}
}

// net/http quotes what it cannot read, and an upstream may put anything there.
func TestWhatAnUpstreamSentIsNotLogged(t *testing.T) {
	const secret = "said-by-the-upstream"
	spelled := url.QueryEscape(injectedKey[:8]) + "%2D" + secret
	for name, answer := range map[string]string{
		"a status line":      "HTTP/1.1 2x0 " + spelled + "\r\n\r\n",
		"no HTTP":            spelled + "\r\n",
		"a header line":      "HTTP/1.1 200 OK\r\n" + spelled + "\r\n\r\n",
		"a continued line":   "HTTP/1.1 200 OK\r\n " + spelled + "\r\n\r\n",
		"a name":             "HTTP/1.1 200 OK\r\n" + spelled + " x: 1\r\n\r\n",
		"a length":           "HTTP/1.1 200 OK\r\nContent-Length: " + spelled + "\r\n\r\n",
		"two lengths":        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: " + spelled + "\r\n\r\n",
		"a coding":           "HTTP/1.1 200 OK\r\nTransfer-Encoding: " + spelled + "\r\n\r\n",
		"a chunk":            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + spelled + "\r\n\r\n",
		"a trailer":          "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n" + spelled + "\r\n\r\n",
		"a trailer's name":   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: " + spelled + ",Host\r\n\r\n0\r\n\r\n",
		"a switch":           "HTTP/1.1 101 " + spelled + "\r\nUpgrade: " + spelled + "\r\n\r\n",
		"a stream's trailer": eventStream + "9\r\ndata: x\n\n\r\n0\r\n" + spelled + "\r\n\r\n",
	} {
		var logged gatehousetest.Buffer
		f := serve(t, rawUpstream(t, answer), func(o *gateway.Options) {
			o.Logger = slog.New(slog.NewJSONHandler(&logged, nil))
			o.Problem = func(w http.ResponseWriter, r *http.Request, err error) int {
				o.Logger.Error("request failed", "error", errors.Unwrap(err)) // as the server does
				return writeProblem(w, r, err)
			}
		})
		answer, err := http.Post(f.URL+"/api/chat/up/v1", "application/json", strings.NewReader("{}"))
		if err == nil {
			_, _ = io.Copy(io.Discard, answer.Body)
			_ = answer.Body.Close()
		}
		r := f.result(t)
		if text := logged.String() + fmt.Sprint(r); strings.Contains(text, secret) || strings.Contains(text, "%2D") {
			t.Errorf("%s: %s", name, text)
		}
	}
}

func TestNoProxyOfTheEnvironmentSeesARequest(t *testing.T) {
	asked := make(chan struct{}, 1)
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked <- struct{}{} }))
	t.Cleanup(proxy.Close)
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"} {
		t.Setenv(name, proxy.URL)
	}
	f := serve(t, "http://name.invalid") // loopback would be exempt
	if answer, _ := f.call(t, "POST", "/api/chat/up/v1", "{}"); answer.StatusCode != 502 {
		t.Error(answer.StatusCode)
	}
	if len(asked) != 0 {
		t.Error("the proxy was asked")
	}
}

func TestHTTP2Upstream(t *testing.T) {
	protocols := make(chan string, 8)
	upstream := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		protocols <- r.Proto + " " + r.RequestURI + " " + r.Header.Get("Authorization")
		body, _ := io.ReadAll(r.Body)
		if strings.HasSuffix(r.URL.Path, "/stream") {
			w.Header().Set("Content-Type", "text/event-stream")
			for i := range 3 {
				_, _ = fmt.Fprintf(w, "data: %d\n\n", i)
				_ = http.NewResponseController(w).Flush()
			}
			panic(http.ErrAbortHandler)
		}
		_, _ = w.Write(body)
	}))
	upstream.EnableHTTP2 = true
	upstream.StartTLS()
	t.Cleanup(upstream.Close)
	pool := x509.NewCertPool()
	pool.AddCert(upstream.Certificate())
	f := serve(t, upstream.URL, func(o *gateway.Options) { o.TLS = &tls.Config{RootCAs: pool} })

	if answer, text := f.call(t, "POST", "/api/chat/up/a%20b?x=1", "hello"); answer.StatusCode != 200 || text != "hello" {
		t.Errorf("%d %q", answer.StatusCode, text)
	}
	if got, want := <-protocols, "HTTP/2.0 /a%20b?x=1 Bearer "+injectedKey; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, text := f.call(t, "POST", "/api/chat/up/stream", "hello"); text != "data: 0\n\ndata: 1\n\ndata: 2\n\n"+interruptedEvent {
		t.Errorf("%q", text)
	}
}

func TestHTTP2Caller(t *testing.T) {
	upstream, got := recorder(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/dies") {
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: 1\n\n")
	})
	f := serve(t, upstream)
	secure := httptest.NewUnstartedServer(f.Config.Handler)
	secure.Config.ErrorLog = f.Config.ErrorLog
	secure.EnableHTTP2 = true
	secure.StartTLS()
	t.Cleanup(secure.Close)
	for _, path := range []string{"v1", "dies", "v1"} {
		answer, err := secure.Client().Post(secure.URL+"/api/chat/up/"+path, "application/json", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if (path == "dies") != (err != nil) || path == "v1" && string(text) != "data: 1\n\n" {
			t.Errorf("%s: %q %v", path, text, err)
		}
		if r := <-got; answer.ProtoMajor != 2 || r.Body != "{}" {
			t.Errorf("%s: %s, the upstream saw %+v", path, answer.Proto, r)
		}
	}
}

func TestRedirectsAreHandedOn(t *testing.T) {
	elsewhere, asked := recorder(t, nil)
	var upstream string
	targets := make(chan string, 1)
	upstream, got := recorder(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", <-targets)
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
	f := serve(t, upstream)
	for location, want := range map[string]string{
		elsewhere + "/x":              "",
		"//evil.example/x":            "",
		"http://evil.example":         "",
		"javascript:alert(1)":         "",
		"http://u:p@127.0.0.1/base/x": "",
		"/outside":                    "",
		"/basement":                   "",
		"/base/%2e%2e/x":              "",
		"/base/v2/x?a=b&c=%20#f":      "/api/proxy/stripe/v2/x?a=b&c=%20#f",
		"/base":                       "/api/proxy/stripe/",
		upstream + "/base/v2/a%20b":   "/api/proxy/stripe/v2/a%20b",
		"y":                           "/api/proxy/stripe/v1/y",
		"?page=2":                     "/api/proxy/stripe/v1/x?page=2",
		strings.ToUpper("http") + upstream[4:] + "/base/x": "/api/proxy/stripe/x",
		// The service was moved, and what answers there may be a proxy before the provider.
		"https://api.stripe.com/v1/y?a=b":     "/api/proxy/stripe/v1/y?a=b",
		"//api.stripe.com/v1/y":               "/api/proxy/stripe/v1/y",
		"http://api.stripe.com/v1/y":          "",
		"https://api.stripe.com:444/v1/y":     "",
		"https://api.stripe.com/../v1/%2e%2e": "",
		"https://files.stripe.com/v1/y":       "",
	} {
		targets <- location
		answer, _ := f.call(t, "GET", "/api/proxy/stripe/v1/x", "")
		<-got
		if v, ok := answer.Header["Location"]; answer.StatusCode != 307 || answer.Header.Get("Location") != want || ok != (want != "") {
			t.Errorf("%q became %d %q, want %q", location, answer.StatusCode, v, want)
		}
	}
	if len(asked) != 0 || len(got) != 0 {
		t.Error("a redirect was followed")
	}
}

func TestDialContextIsUsed(t *testing.T) {
	upstream, got := recorder(t, nil)
	dialled := make(chan string, 1)
	f := serve(t, "http://api.example:8080", func(o *gateway.Options) {
		o.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			dialled <- address
			return (&net.Dialer{}).DialContext(ctx, network, strings.TrimPrefix(upstream, "http://"))
		}
	})
	if answer, _ := f.call(t, "POST", "/api/chat/up/v1", "{}", "Host", "evil.example"); answer.StatusCode != 200 {
		t.Fatal(answer.StatusCode)
	}
	if a := <-dialled; a != "api.example:8080" {
		t.Errorf("dialled %s", a)
	}
	if r := <-got; r.Host != "api.example:8080" {
		t.Errorf("Host %s", r.Host)
	}
}

// What an upstream sends back of the key stays out of the log too.
func TestTheKeyStaysOutOfTheLog(t *testing.T) {
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nno header with " + injectedKey + "\r\n\r\n",
		"NONSENSE " + injectedKey + "\r\n\r\n",
	} {
		var text strings.Builder
		f := serve(t, rawUpstream(t, answer), func(o *gateway.Options) {
			o.Logger = slog.New(slog.NewTextHandler(&text, nil))
			o.Problem = func(w http.ResponseWriter, r *http.Request, err error) int {
				if cause := errors.Unwrap(err); cause == nil || strings.Contains(cause.Error(), injectedKey) {
					t.Errorf("the cause is %v", cause)
				}
				return writeProblem(w, r, err)
			}
		})
		f.call(t, "POST", "/api/chat/up/v1", "{}")
		f.Close()
		if !strings.Contains(text.String(), "no answer") || strings.Contains(text.String(), injectedKey) {
			t.Error(text.String())
		}
	}
}
