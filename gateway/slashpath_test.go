package gateway_test

import (
	"context"
	"net/url"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/gateway"
)

// GitHub's API has slashes inside of segments. They go to it as they came, where no server could
// read more into them than a separator; no other service is sent any.
func TestEncodedSlashes(t *testing.T) {
	upstream, got := recorder(t, nil)
	f := serve(t, upstream)
	tests := map[string]bool{ // passes
		"/repos/o/r/branches/feature%2Fx":         true,
		"/repos/o/r/branches/feature%2fx%2Fy-1.2": true,
		"/repos/o/r/git/ref/heads%2Fx":            true,
		"/repos/o/r/contents/a%2Fb%20c?ref=x%2Fy": true,
		"/repos/o/r/branches/feature%2Fx/":        true,
		"/repos/o/r/branches/a%2F.b":              true,
		"/repos/o/r/branches/a%2F...":             true,
		"/repos/o/r/branches/a%2F%C3%A9":          true,

		"/a%2F..":                                false,
		"/a%2F../b":                              false,
		"/a%2F%2e%2E%2Fb":                        false,
		"/..%2Fa":                                false,
		"/%2e%2e%2Fa":                            false,
		"/a/.%2Fb":                               false,
		"/a%2F.%2Fb":                             false,
		"/a%2F..%20%2Fb":                         false,
		"/a%2F..;x/b":                            false,
		"/a%2F..%3Bx/b":                          false,
		"/a%2F;x/b":                              false,
		"/a%2Fb%3bx":                             false,
		"/%2Fa":                                  false,
		"/a%2F":                                  false,
		"/a%2F/b":                                false,
		"/a/%2Fb":                                false,
		"/a%2F%2fb":                              false,
		"/a//b%2Fc":                              false,
		"/a%2F?x":                                false,
		"/a%252Fb":                               false,
		"/a%252fb%2Fc":                           false,
		"/a%25252Fb":                             false,
		"/a%25%32%46b%2Fc":                       false,
		"/a%2%46b":                               false,
		"/a%%32Fb":                               false,
		"/a%2%2F46b":                             false,
		"/a%2F%252e%252e%2Fb":                    false,
		"/a%2F%5Cb":                              false,
		`/a%2Fb\c`:                               false,
		"/a%2Fb%00":                              false,
		"/a%2Fb%0d%0aX:y":                        false,
		"/a%2F%c0%ae%c0%ae%2Fb":                  false,
		"/a%c0%afb":                              false,
		"/a%e2%81":                               false,
		"/http:%2F%2Fevil.example/x":             false,
		"/https:%2Fevil.example/x":               false,
		"/%2F%2Fevil.example":                    false,
		"/a%2F%zz":                               false,
		"/a%2":                                   false,
		"/a%2F#b":                                false,
		"/" + strings.Repeat("a%2F", 2100) + "b": false,
	}
	for target, passes := range tests {
		for _, service := range []string{"github", "stripe"} {
			status := rawGet(t, f, "/api/proxy/"+service+target)
			result := gateway.Result{Reason: "invalid_path"}
			if _, err := url.ParseRequestURI(target); err == nil { // or net/http refuses it itself
				result = f.result(t)
			}
			sent, want := "", ""
			select {
			case r := <-got:
				sent = r.URI
			default:
			}
			if passes && service == "github" {
				want = "/base" + target
			}
			if sent != want || (status == 200) != (want != "") || want == "" && result.Reason != "invalid_path" {
				t.Errorf("%s %.60q: status %d %s, the upstream saw %q, want %q", service, target, status, result.Reason, sent, want)
			}
		}
	}
}

// A redirect to such a path leads through the gateway, as any other.
func TestEncodedSlashesInLinks(t *testing.T) {
	f := serve(t, rawUpstream(t, "HTTP/1.1 301 Moved\r\nLocation: /base/repos/o/r/branches/a%2Fb\r\nContent-Length: 0\r\n\r\n"))
	for service, want := range map[string]string{"github": "/api/proxy/github/repos/o/r/branches/a%2Fb", "stripe": ""} {
		if answer, _ := f.call(t, "GET", "/api/proxy/"+service+"/x", ""); answer.Header.Get("Location") != want {
			t.Errorf("%s: %q", service, answer.Header.Get("Location"))
		}
	}
}

// The scope of a credential holds for both readings, and a path with such a slash names no model.
func TestScopeOfEncodedSlashes(t *testing.T) {
	upstream, got := recorder(t, nil)
	scope := &catalog.Scope{}
	f := serve(t, upstream, func(o *gateway.Options) { o.Opener = scopedKeys{scope: scope} })
	for _, test := range []struct {
		scope  catalog.Scope
		path   string
		passes bool
	}{
		{catalog.Scope{Paths: []string{"/repos/o/r/**"}}, "/repos/o/r/branches/a%2Fb", true},
		{catalog.Scope{Paths: []string{"/repos/o/r/**"}}, "/repos/o/r%2Fbranches/a", false},
		{catalog.Scope{Paths: []string{"/repos/o/r/**"}}, "/repos%2Fo%2Fr/x", false},
		{catalog.Scope{Paths: []string{"/repos/*/*/branches/*"}}, "/repos/o/r/branches/a%2Fb", false},
		{catalog.Scope{Paths: []string{"/user/repos"}}, "/user%2Frepos", false},
		{catalog.Scope{Paths: []string{"/**"}, Models: []string{"*"}}, "/deployments%2Fm/a%2Fb", false},
	} {
		*scope = test.scope
		status := rawGet(t, f, "/api/proxy/github"+test.path)
		result := f.result(t)
		select {
		case <-got:
		default:
		}
		if (status == 200) != test.passes || !test.passes && result.Reason != gateway.ScopeDenied {
			t.Errorf("%v takes %s: %d %s, want %v", test.scope, test.path, status, result.Reason, test.passes)
		}
	}
}

// scopedKeys opens GitHub's key under a scope.
type scopedKeys struct{ scope *catalog.Scope }

func (k scopedKeys) OpenForUse(_ context.Context, _ access.Caller, service *catalog.Service, _ string, _ bool) (gateway.Credential, error) {
	in, err := service.Prepare(map[string]string{"token": injectedKey})
	return gateway.Credential{ID: "cred_1", Name: "Default", Version: 1, Injection: in, Scope: k.scope}, err
}

// FuzzEncodedSlashes holds every path with encoded slashes that is let through against both readings.
func FuzzEncodedSlashes(f *testing.F) {
	for _, seed := range []string{"a%2Fb", "a%2f..", "a%2F%2e", "%2F", "a%252Fb", "a%2F;b/c", "http:%2F%2Fh", "a%2%46", "a%25%2Fb", "%c3%a9%2Fx"} {
		f.Add(seed)
	}
	reason := reasonOf(f)
	f.Fuzz(func(t *testing.T, raw string) {
		serve := func(path string) string { return reason(gateway.Proxy, "github", path) }
		if serve(raw) != "accepted" {
			return
		}
		opened := strings.NewReplacer("%2F", "/", "%2f", "/").Replace(raw)
		if serve(opened) != "accepted" {
			t.Fatalf("%q is accepted and, with separators, %q is not", raw, opened)
		}
		if opened != raw && (strings.Contains("/"+opened, "//") || strings.Contains(opened, ";")) {
			t.Fatalf("%q has an empty segment", raw)
		}
		staysPlain(t, raw, strings.Count(opened, "/")) // none but those that are seen at once
	})
}
