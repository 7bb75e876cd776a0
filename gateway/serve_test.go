package gateway_test

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gateway"
	"github.com/gatehouse-io/gatehouse/internal/fault"
)

func TestRefusals(t *testing.T) {
	upstream, got := recorder(t, nil)
	away := httptest.NewServer(nil)
	away.Close()
	tests := map[string]struct {
		method, path string
		header       []string
		opener       gateway.Opener
		status       int
		code         string
		outcome      audit.Outcome
	}{
		"unknown service":       {path: "/api/chat/nope/v1", status: 404, code: "unknown_service"},
		"not over HTTP":         {path: "/api/proxy/smtp/v1", status: 404, code: "unknown_service"},
		"chat asked as proxy":   {path: "/api/proxy/up/v1", status: 404, code: "wrong_route"},
		"proxy asked as chat":   {path: "/api/chat/stripe/v1", status: 404, code: "wrong_route"},
		"app asked as proxy":    {path: "/api/proxy/app/v1", status: 404, code: "wrong_route"},
		"TRACE":                 {method: "TRACE", path: "/api/chat/up/v1", status: 400, code: "method_not_supported"},
		"a method of their own": {method: "BREW", path: "/api/chat/up/v1", status: 400, code: "method_not_supported"},
		"WebSocket": {
			method: "GET", path: "/api/chat/up/v1", header: []string{"Connection", "Upgrade", "Upgrade", "websocket"},
			status: 400, code: "upgrade_not_supported",
		},
		"no credential": {
			path: "/api/chat/up/v1", opener: keys{err: fault.New(fault.NoCredential, "credential_expired", "It has expired.")},
			status: 424, code: "credential_expired",
		},
		"vault away": {
			path: "/api/chat/up/v1", opener: keys{err: fault.New(fault.Unavailable, "vault_unavailable", "Try again.")},
			status: 503, code: "vault_unavailable",
		},
		"denied": {
			path: "/api/chat/up/v1", opener: keys{err: &access.DeniedError{Permission: access.CredentialUse}},
			status: 403, code: "permission_denied", outcome: audit.Denied,
		},
		"another error": {
			path: "/api/chat/up/v1", opener: keys{err: errors.New("detail for the log only")},
			status: 500, code: "internal_error",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := serve(t, upstream, func(o *gateway.Options) {
				if test.opener != nil {
					o.Opener = test.opener
				}
			})
			if test.method == "" {
				test.method = "POST"
			}
			if test.outcome == "" {
				test.outcome = audit.Failure
			}
			answer, text := f.call(t, test.method, test.path, "", test.header...)
			if answer.StatusCode != test.status || answer.Header.Get("Gatehouse-Error") != test.code {
				t.Errorf("got %d %s, want %d %s: %s", answer.StatusCode, answer.Header.Get("Gatehouse-Error"), test.status, test.code, text)
			}
			if strings.Contains(text, "log only") {
				t.Error("the answer shows what is for the log")
			}
			if answer.Header.Get("X-Ratelimit-Limit") != "100" {
				t.Error("the server's headers are gone")
			}
			if r := f.result(t); r.Status != test.status || r.Reason != test.code || r.Outcome != test.outcome || r.Abort {
				t.Errorf("result %+v", r)
			}
			select {
			case r := <-got:
				t.Errorf("the upstream was asked: %+v", r)
			default:
			}
		})
	}
}

func TestWrongRouteNamesTheRightOne(t *testing.T) {
	upstream, _ := recorder(t, nil)
	f := serve(t, upstream)
	if _, text := f.call(t, "POST", "/api/chat/stripe/v1/charges", ""); !strings.Contains(text, "/api/proxy/stripe/") {
		t.Error(text)
	}
}

func TestAppNeedsAnUpstream(t *testing.T) {
	upstream, _ := recorder(t, nil)
	f := serve(t, upstream, func(o *gateway.Options) { o.AppUpstream = nil })
	if answer, _ := f.call(t, "POST", "/api/chat/app/", ""); answer.StatusCode != 404 {
		t.Error(answer.StatusCode)
	}
}

func TestOtherUpgradesAreIgnored(t *testing.T) {
	upstream, got := recorder(t, nil)
	f := serve(t, upstream)
	// Java's HTTP client offers h2c on every plain connection.
	answer, _ := f.call(t, "POST", "/api/chat/up/v1", "{}", "Connection", "Upgrade, HTTP2-Settings", "Upgrade", "h2c", "Http2-Settings", "AAMAAABkAARAAAAAAAIAAAAA")
	if answer.StatusCode != 200 {
		t.Fatal(answer.StatusCode)
	}
	r := <-got
	for _, name := range []string{"Connection", "Upgrade", "Http2-Settings"} {
		if v, ok := r.Header[name]; ok {
			t.Errorf("%s: %q went on", name, v)
		}
	}
}
