package gateway_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/gateway"
	"github.com/gatehouse-io/gatehouse/internal/fault"
)

func TestPaths(t *testing.T) {
	upstream, got := recorder(t, nil)
	f := serve(t, upstream)
	tests := []struct {
		path string // after the service, as on the request line
		want string // at the upstream; "" is refused
	}{
		{"/v1/chat/completions", "/base/v1/chat/completions"},
		{"", "/base/"},
		{"/", "/base/"},
		{"/v1/", "/base/v1/"},
		{"/v1//x", "/base/v1//x"},
		{"/v1/models/gemini-pro:generateContent", "/base/v1/models/gemini-pro:generateContent"},
		{"/v1/a%20b", "/base/v1/a%20b"},
		{"/v1/%c3%a9", "/base/v1/%c3%a9"},
		{"/v1/100%25", "/base/v1/100%25"},
		{"/v1/...", "/base/v1/..."},
		{"/v1/.well-known/..x", "/base/v1/.well-known/..x"},
		{"/v1/%2ehidden", "/base/v1/%2ehidden"},
		{"/v1/~!$&'()*+,;=:@-._", "/base/v1/~!$&'()*+,;=:@-._"},
		{"/v1?next=../../x", "/base/v1?next=../../x"},
		{"/v1?", "/base/v1?"},

		{"/..", ""},
		{"/.", ""},
		{"/v1/../x", ""},
		{"/v1/./x", ""},
		{"/v1/x/..", ""},
		{"/%2e%2e/x", ""},
		{"/.%2E/x", ""},
		{"/%2e", ""},
		{"/%252e%252e/x", ""},
		{"/%25252e%25252e/x", ""},
		{"/%2525252525252e", ""},
		{"/..;/x", ""},
		{"/..;a=b/x", ""},
		{"/%2e%2e%3b/x", ""},
		{"/..%20/x", ""},
		{"/..%2fx", ""},
		{"/a%2Fb", ""},
		{"/a%252Fb", ""},
		{`/a\b`, ""},
		{"/a%5cb", ""},
		{"/a%255cb", ""},
		{"/a%00", ""},
		{"/a%0d%0aX:y", ""},
		{"/a%7f", ""},
		{"/%c0%ae%c0%ae/x", ""}, // overlong UTF-8
		{"/%ff", ""},
		{"/%25zz/%252e%252e", ""},
		{"//evil.example/x", ""},
		{"/http://evil.example/x", ""},
		{"/https:/evil.example/x", ""},
		{"/a#b", ""},
		{"/a|b", ""},
		{"/é", ""},
		{"/" + strings.Repeat("a", 9<<10), ""},
	}
	for _, test := range tests {
		status := rawGet(t, f, "/api/proxy/stripe"+test.path)
		f.result(t)
		sent := ""
		select {
		case r := <-got:
			sent = r.URI
		default:
		}
		if sent != test.want || (status == 200) != (test.want != "") || (status == 400) != (test.want == "") {
			t.Errorf("%.40q: status %d, the upstream saw %q, want %q", test.path, status, sent, test.want)
		}
	}
}

// rawGet sends a request line as it is, which net/http's client would not.
func rawGet(t *testing.T, f *front, target string) int {
	t.Helper()
	conn, err := net.Dial("tcp", f.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = io.WriteString(conn, "GET "+target+" HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
	head := make([]byte, 12)
	if _, err := io.ReadFull(conn, head); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, conn)
	return int(head[9]-'0')*100 + int(head[10]-'0')*10 + int(head[11]-'0')
}

func TestAbsoluteFormChoosesNoHost(t *testing.T) {
	upstream, got := recorder(t, nil)
	f := serve(t, upstream)
	if status := rawGet(t, f, "http://evil.example/api/chat/up/v1"); status == 200 {
		t.Errorf("status %d", status)
	}
	// The server's own router may have accepted it.
	r := httptest.NewRequest("GET", "http://evil.example/x", nil)
	w := httptest.NewRecorder()
	if result := f.Gateway.Serve(w, r, gateway.Visit{Route: gateway.Chat, Service: "up", Path: "v1"}); result.Status != 400 {
		t.Errorf("%+v", result)
	}
	select {
	case r := <-got:
		t.Errorf("the upstream saw %+v", r)
	default:
	}
}

func TestSplitPath(t *testing.T) {
	for uri, want := range map[string][2]string{
		"/api/chat/openai/v1/models?x=/y": {"openai", "v1/models"},
		"/api/chat/openai":                {"openai", ""},
		"/api/chat/openai/":               {"openai", ""},
		"/api/chat/openai//x":             {"openai", "/x"},
		"/api/chat/openai/%2e%2e":         {"openai", "%2e%2e"},
		"/api/chat/":                      {},
		"/api/chat":                       {},
		"/api/proxy/stripe/v1":            {},
		"http://h/api/chat/openai/v1":     {},
		"*":                               {},
	} {
		service, path, ok := gateway.SplitPath(&http.Request{RequestURI: uri}, gateway.Chat)
		if service != want[0] || path != want[1] || ok != (want[0] != "") {
			t.Errorf("%s: %q %q %v", uri, service, path, ok)
		}
	}
}

// FuzzPath holds every path that is let through against what other decoders
// would make of it.
func FuzzPath(f *testing.F) {
	for _, seed := range []string{"", "v1/chat", "..", "%2e%2e/x", "..;/", "a%5cb", "a%2fb", "%252e", "//", "http://h/", "a%00", "%c0%ae", "v1/%zz", "a b"} {
		f.Add(seed)
	}
	reason := reasonOf(f)
	f.Fuzz(func(t *testing.T, raw string) {
		switch got := reason(gateway.Chat, "openai", raw); got {
		case "invalid_path":
			return
		case "accepted":
		default:
			t.Fatalf("unexpected reason %s", got)
		}
		u, err := url.ParseRequestURI("/" + raw)
		if err != nil || u.Host != "" || strings.HasPrefix(raw, "/") {
			t.Fatalf("%q is no path: %v", raw, err)
		}
		staysPlain(t, raw, strings.Count(raw, "/"))
	})
}

// reasonOf gives a function that says why a gateway would not send a path, "accepted" where it would.
func reasonOf(t testing.TB) func(route gateway.Route, service, path string) string {
	services, err := catalog.New(catalog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	g, err := gateway.New(gateway.Options{
		Catalog: services, Problem: writeProblem,
		Opener: keys{err: fault.New(fault.NoCredential, "accepted", "")}, // the key is asked for once the path is accepted
	})
	if err != nil {
		t.Fatal(err)
	}
	return func(route gateway.Route, service, path string) string {
		r := httptest.NewRequest("GET", "/", nil)
		r.URL.Host = ""
		return g.Serve(httptest.NewRecorder(), r, gateway.Visit{Route: route, Service: service, Path: path}).Reason
	}
}

// staysPlain holds a path that is let through against what decoders would make of it, however
// often they decode: at most so many separators, no dot segment, no way out of a base.
func staysPlain(t *testing.T, raw string, separators int) {
	t.Helper()
	for decoded := raw; ; {
		for segment := range strings.SplitSeq(decoded, "/") {
			if name, _, _ := strings.Cut(segment, ";"); name == "." || name == ".." {
				t.Fatalf("%q holds a dot segment", raw)
			}
		}
		if n := strings.Count(decoded, "/"); n > separators || n < strings.Count(raw, "/") || strings.ContainsAny(decoded, "\\\x00\r\n") {
			t.Fatalf("%q decodes to %q", raw, decoded)
		}
		if clean := path.Clean("/base/" + decoded); !strings.HasPrefix(clean, "/base") {
			t.Fatalf("%q escapes its base", raw)
		}
		next, err := url.PathUnescape(decoded)
		if err != nil || next == decoded {
			return
		}
		decoded = next
	}
}
