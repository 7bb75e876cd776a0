package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/gateway"
	"github.com/gatehouse-io/gatehouse/internal/fault"
)

const (
	injectedKey = "sk-injected-0123456789abcdefghijklmnop"
	callerToken = "caller.token.0123456789abcdefghijklmnop"
	appKey      = "an app key of at least 32 bytes, for tests"
)

// anyPath lets a test use whatever path it likes.
var anyPath = catalog.Scope{Paths: []string{"/**"}}

// keys opens the same key for every service, as a vault would.
type keys struct {
	err error // instead
}

func (k keys) OpenForUse(_ context.Context, caller access.Caller, service *catalog.Service, name string, _ bool) (gateway.Credential, error) {
	if k.err != nil {
		return gateway.Credential{}, k.err
	}
	fields := map[string]string{"apiKey": injectedKey}
	if service.Name == "stripe" {
		fields = map[string]string{"secretKey": injectedKey}
	}
	if service.Name == "github" {
		fields = map[string]string{"token": injectedKey}
	}
	in, err := service.Prepare(fields)
	if name == "" {
		name = "Default"
	}
	return gateway.Credential{ID: "cred_1", Name: name, Version: 3, Injection: in, Scope: &anyPath}, err
}

// basicKeys opens a user and a password for the service custom.
type basicKeys struct{ user, password string }

func (k basicKeys) OpenForUse(_ context.Context, _ access.Caller, service *catalog.Service, _ string, _ bool) (gateway.Credential, error) {
	in, err := service.Prepare(map[string]string{"user": k.user, "password": k.password})
	return gateway.Credential{ID: "cred_2", Name: "Default", Version: 1, Injection: in}, err
}

// front is a server in front of a gateway, as small as one can be.
type front struct {
	*httptest.Server
	Gateway *gateway.Gateway
	results chan gateway.Result
}

// serve starts a gateway whose chat service "up", and whose stripe, github,
// anthropic and app, are the given upstream, after change has had its way with the options.
func serve(t testing.TB, upstream string, change ...func(*gateway.Options)) *front {
	t.Helper()
	services, err := catalog.New(catalog.Options{
		Echo:      true,
		ChatHosts: map[string]string{"up": upstream},
		Custom: []byte(`{"services":[{"name":"custom","title":"Custom","chat":true,"origin":"` + upstream + `","private":true,"paths":["/**"],
			"fields":[{"name":"user","required":true},{"name":"password","format":"text","secret":true,"required":true}],
			"headers":[{"name":"Authorization","scheme":"Basic","value":"{user}:{password}"}],"probe":{"path":"/me"}}]}`),
		// Headers that tests look for.
		ForwardHeaders: map[string][]string{"up": {"X-Answer", "X-Reflected", "X-Several", "X-Sum*", "X-Trailer*", "X-Key"}},
		ServiceHosts:   map[string]string{"stripe": upstream + "/base", "github": upstream + "/base", "anthropic": upstream},
	})
	if err != nil {
		t.Fatal(err)
	}
	app, err := url.Parse(upstream)
	if err != nil {
		t.Fatal(err)
	}
	o := gateway.Options{
		Catalog: services, Opener: keys{}, Problem: writeProblem, AppUpstream: app, AppKey: []byte(appKey),
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	for _, c := range change {
		c(&o)
	}
	g, err := gateway.New(o)
	if err != nil {
		t.Fatal(err)
	}
	f := &front{Gateway: g, results: make(chan gateway.Result, 1024)}
	f.Server = httptest.NewUnstartedServer(http.HandlerFunc(f.handle))
	f.Config.ErrorLog = slog.NewLogLogger(o.Logger.Handler(), slog.LevelWarn)
	f.Start()
	t.Cleanup(func() {
		f.Close()
		g.Close()
	})
	return f
}

func (f *front) handle(w http.ResponseWriter, r *http.Request) {
	w.Header()["X-Ratelimit-Limit"] = []string{"100"} // the server's own
	route := gateway.Chat
	service, path, ok := gateway.SplitPath(r, route)
	if !ok {
		route = gateway.Proxy
		service, path, ok = gateway.SplitPath(r, route)
	}
	if !ok {
		http.Error(w, "no such route", http.StatusTeapot)
		return
	}
	result := f.Gateway.Serve(w, r, gateway.Visit{
		Route: route, Caller: access.NewCaller("acme", access.User, "u_1", access.Owner, "odd, role"), RequestID: "req_1",
		Service: service, Path: path, Credential: r.Header.Get("Gatehouse-Credential"), ClientIP: "203.0.113.9",
	})
	f.results <- result
	if result.Abort {
		panic(http.ErrAbortHandler)
	}
	if rc := http.NewResponseController(w); result.Status > http.StatusBadRequest && (r.ContentLength < 0 || r.ContentLength >= 256<<10) && r.ProtoMajor == 1 && r.Header["Expect"] == nil &&
		rc.Flush() == nil && rc.SetReadDeadline(time.Now().Add(time.Second)) == nil {
		_, _ = io.Copy(io.Discard, r.Body) // as package server does
	}
}

// result waits for the result of one visit.
func (f *front) result(t testing.TB) gateway.Result {
	t.Helper()
	select {
	case r := <-f.results:
		return r
	case <-time.After(10 * time.Second):
		t.Fatal("Serve has not returned")
		return gateway.Result{}
	}
}

func writeProblem(w http.ResponseWriter, _ *http.Request, err error) int {
	status, code, message := http.StatusInternalServerError, "internal_error", "internal error"
	if f, ok := fault.As(err); ok {
		code, message = f.Code, f.Message
		status = map[fault.Kind]int{
			fault.Malformed: 400, fault.Denied: 403, fault.Limited: 429, fault.NotFound: 404, fault.TooLarge: 413, fault.NoCredential: 424,
			fault.BadUpstream: 502, fault.Unavailable: 503, fault.SlowUpstream: 504,
		}[f.Kind]
	}
	var denied *access.DeniedError
	if errors.As(err, &denied) {
		status, code = 403, "permission_denied"
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Gatehouse-Error", code)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"code": code, "detail": message})
	return status
}

// call sends a request with the caller's token and gives the answer with its body.
func (f *front) call(t testing.TB, method, path, body string, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, f.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+callerToken)
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	answer, err := noRedirect().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatalf("reading the answer: %v", err)
	}
	return answer, string(text)
}

func noRedirect() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// seen is what an upstream received.
type seen struct {
	Method, URI, Host, Body string
	Length                  int64
	Header                  http.Header
}

// recorder is an upstream that keeps what it received and answers with answer.
func recorder(t testing.TB, answer http.HandlerFunc) (string, <-chan seen) {
	t.Helper()
	got := make(chan seen, 64)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- seen{r.Method, r.RequestURI, r.Host, string(body), r.ContentLength, r.Header.Clone()}
		if answer != nil {
			answer(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL, got
}

func TestPassesARequestAndItsAnswerOn(t *testing.T) {
	const body = `{"model":"m","messages":[]}`
	upstream, got := recorder(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Request-Id", "provider-1")
		w.Header().Set("Server", "provider")
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"ok":true}`)
	})
	f := serve(t, upstream)
	answer, text := f.call(t, "POST", "/api/proxy/stripe/v1/charges(x)!?limit=1&a=%20b;c", body, "Content-Type", "application/json", "Gatehouse-Credential", "EU")

	if answer.StatusCode != 201 || text != `{"ok":true}` {
		t.Errorf("got %d %q", answer.StatusCode, text)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/json", "X-Request-Id": "provider-1", "Content-Length": "11", "X-Ratelimit-Limit": "100",
	} {
		if v := answer.Header.Get(name); v != want {
			t.Errorf("%s is %q, want %q", name, v, want)
		}
	}
	r := <-got
	if r.Method != "POST" || r.URI != "/base/v1/charges(x)!?limit=1&a=%20b;c" || r.Body != body || r.Length != int64(len(body)) {
		t.Errorf("the upstream saw %+v", r)
	}
	if r.Host != strings.TrimPrefix(upstream, "http://") {
		t.Errorf("Host is %q", r.Host)
	}
	if v := r.Header.Get("Authorization"); v != "Bearer "+injectedKey {
		t.Errorf("Authorization is %q", v)
	}

	result := f.result(t)
	if result.Duration <= 0 || result.FirstByte <= 0 {
		t.Errorf("times are missing: %+v", result)
	}
	result.Duration, result.FirstByte = 0, 0
	want := gateway.Result{
		Status: 201, Outcome: audit.Success, CredentialID: "cred_1", CredentialName: "EU", CredentialVersion: 3,
		BytesIn: int64(len(body)), BytesOut: 11,
	}
	if diff := cmp.Diff(want, result); diff != "" {
		t.Error(diff)
	}
}

func TestMethodsAndStatuses(t *testing.T) {
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
		for _, status := range []int{200, 204, 304, 401, 404, 429, 500, 529} {
			upstream, got := recorder(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", "7")
				w.WriteHeader(status)
				if status != 204 && status != 304 {
					_, _ = io.WriteString(w, "text")
				}
			})
			f := serve(t, upstream)
			answer, text := f.call(t, method, "/api/chat/up/v1/x", "")
			want := "text"
			if method == "HEAD" || status == 204 || status == 304 {
				want = ""
			}
			if answer.StatusCode != status || text != want || answer.Header.Get("Retry-After") != "7" {
				t.Errorf("%s %d: got %d %q %v", method, status, answer.StatusCode, text, answer.Header)
			}
			if answer.Header.Get("Gatehouse-Error") != "" {
				t.Errorf("%s %d: the provider's answer bears our mark", method, status)
			}
			if r := <-got; r.Method != method {
				t.Errorf("the upstream saw %s, want %s", r.Method, method)
			}
			wantOutcome, wantReason := audit.Success, ""
			if status >= 400 {
				wantOutcome, wantReason = audit.Failure, "upstream_status"
			}
			if r := f.result(t); r.Status != status || r.Outcome != wantOutcome || r.Reason != wantReason || r.Abort {
				t.Errorf("%s %d: result %+v", method, status, r)
			}
		}
	}
}

func TestNewRefusesMistakes(t *testing.T) {
	ok := func() gateway.Options {
		services, err := catalog.New(catalog.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return gateway.Options{Catalog: services, Opener: keys{}, Problem: writeProblem}
	}
	if _, err := gateway.New(ok()); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*gateway.Options){
		"no catalogue": func(o *gateway.Options) { o.Catalog = nil },
		"no opener":    func(o *gateway.Options) { o.Opener = nil },
		"no problem":   func(o *gateway.Options) { o.Problem = nil },
		"short key": func(o *gateway.Options) {
			o.AppUpstream, o.AppKey = &url.URL{Scheme: "http", Host: "h"}, []byte("short")
		},
		"app without a host": func(o *gateway.Options) { o.AppUpstream, o.AppKey = &url.URL{Scheme: "http"}, []byte(appKey) },
		"app with a query": func(o *gateway.Options) {
			o.AppUpstream, o.AppKey = &url.URL{Scheme: "http", Host: "h", RawQuery: "q"}, []byte(appKey)
		},
		"app of another scheme": func(o *gateway.Options) { o.AppUpstream, o.AppKey = &url.URL{Scheme: "ftp", Host: "h"}, []byte(appKey) },
	} {
		o := ok()
		change(&o)
		if _, err := gateway.New(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
