package server_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

const checkPath = "/api/rate-limit/check"

// A check is the decision that a request would have met, and counts with those.
func TestCheck(t *testing.T) {
	s := instancetest.Serve(t, map[string]string{"CHAT_IP_LIMIT": "3/1h", "CHAT_ORG_LIMIT": "5/1h"})
	ops := as(t, s, "ops", "o", access.Operator)
	backend := as(t, s, "acme", "b", access.ServiceRole)
	viewer := as(t, s, "acme", "v", access.Viewer)
	ops.makePolicy(`{"effect":"limit","subject":"org","service":"openai","path":"v1/images/**","limits":["1/1h"],"reason":"x"}`)
	ops.makePolicy(`{"effect":"exempt","organization":"vip","reason":"x"}`)
	ops.makePolicy(`{"effect":"block","organization":"bad","reason":"x"}`)
	check := func(c *client, body string) api.LimitDecision {
		t.Helper()
		return decode[api.LimitDecision](t, c.do("POST", checkPath, body), 200)
	}
	both := `{"subjects":[{"type":"ip","key":"203.0.113.7"},{"type":"organization","key":"acme"}]}`
	for i := range 3 {
		d := check(ops, both)
		if !d.Admitted || d.Outcome != "admitted" || d.Subjects[0].Remaining != 2-i || d.Subjects[1].Remaining != 4-i || d.Store != "memory" {
			t.Errorf("check %d: %+v", i, d)
		}
	}
	d := check(ops, both)
	if d.Admitted || d.Outcome != "denied" || d.RetryAfterMs < 3_590_000 || d.RetryAfterMs > 3_600_000 || d.Subjects[1].Used != 3 {
		t.Errorf("over the limit: %+v", d)
	}
	if d := check(ops, `{"subjects":[{"type":"org","key":"acme"}],"consume":false}`); !d.Admitted || len(d.Subjects) != 1 || d.Subjects[0].Used != 3 {
		t.Errorf("a look: %+v", d)
	}
	if o := decode[api.LimitOverview](t, backend.get(statusPath), 200); o.Organization.Used != 3 {
		t.Errorf("the status says %+v", o.Organization)
	}
	images := `{"subjects":[{"type":"org","key":"acme"}],"service":"openai","path":"/v1/images/generations"}`
	if a, b := check(backend, images), check(backend, images); !a.Admitted || b.Admitted || b.Subjects[0].Limit != 1 {
		t.Errorf("under a path's limit: %+v, %+v", a, b)
	}
	if d := check(ops, `{"subjects":[{"type":"org","key":"vip"}]}`); !d.Admitted || d.Outcome != "exempt" {
		t.Errorf("exempt: %+v", d)
	}
	if d := check(ops, `{"subjects":[{"type":"org","key":"bad"}],"consume":false}`); d.Admitted || d.Outcome != "blocked" {
		t.Errorf("blocked: %+v", d)
	}

	// Who may ask what.
	own := `{"subjects":[{"type":"ip","key":"127.0.0.1"},{"type":"org","key":"acme"}]%s}`
	if d := check(backend, fmt.Sprintf(own, "")); !d.Admitted {
		t.Errorf("the own address and organization: %+v", d)
	}
	if d := check(viewer, fmt.Sprintf(own, `,"consume":false`)); !d.Admitted || d.Subjects[0].Used != 1 {
		t.Errorf("a viewer looks: %+v", d)
	}
	for _, c := range []struct {
		client *client
		body   string
	}{
		{viewer, fmt.Sprintf(own, "")},
		{backend, both},
		{backend, `{"subjects":[{"type":"ip","key":"203.0.113.9"}],"consume":false}`},
		{backend, `{"subjects":[{"type":"org","key":"other"}],"consume":false}`},
	} {
		checkProblem(t, c.client.do("POST", checkPath, c.body), 403, "permission_denied")
	}

	// A batch with one mistake counts nothing.
	one := `{"subjects":[{"type":"org","key":"batch"}]}`
	batch := func(checks ...string) string { return `{"checks":[` + strings.Join(checks, ",") + `]}` }
	p := checkProblem(t, ops.do("POST", checkPath+"/batch", batch(one, `{"subjects":[{"type":"user","key":"u"}]}`)), 422, "invalid_request")
	if got := fieldsOf(p); !slices.Equal(got, []string{"checks[1].subjects[0].type"}) {
		t.Errorf("fields %q", got)
	}
	checkProblem(t, backend.do("POST", checkPath+"/batch", batch(fmt.Sprintf(own, ""), one)), 403, "permission_denied")
	answers := decode[api.LimitDecisions](t, ops.do("POST", checkPath+"/batch", batch(one, one, one, one, one, one)), 200).Decisions
	if len(answers) != 6 || answers[0].Subjects[0].Used != 1 || !answers[4].Admitted || answers[5].Admitted {
		t.Errorf("the batch: %+v", answers)
	}
	if a := ops.do("POST", checkPath+"/batch", batch(slices.Repeat([]string{one}, 101)...)); a.Status != 422 {
		t.Errorf("101 checks: %d", a.Status)
	}
	for body, field := range map[string]string{
		`{"subjects":[]}`:                                                                  "subjects",
		`{"subjects":[{"type":"ip","key":"a"}]}`:                                           "subjects[0].key",
		`{"subjects":[{"type":"ip","key":"10.0.0.0/8"}]}`:                                  "subjects[0].key",
		`{"subjects":[{"type":"org","key":"_instance"}]}`:                                  "subjects[0].key",
		`{"subjects":[{"type":"org","key":"a"},{"type":"organization","key":"b"}]}`:        "subjects[1].type",
		`{"subjects":[{"type":"org","key":"a"}],"path":"v1"}`:                              "service",
		`{"subjects":[{"type":"org","key":"a"}],"service":"opneai"}`:                       "service",
		`{"subjects":[{"type":"ip","key":"1.1.1.1"},{"type":"ip","key":"2.2.2.2"}]}`:       "subjects[1].type",
		`{"subjects":[{"type":"a","key":""},{"type":"b","key":""},{"type":"c","key":""}]}`: "subjects",
	} {
		p := checkProblem(t, ops.do("POST", checkPath, body), 422, "invalid_request")
		if got := fieldsOf(p); !slices.Equal(got, []string{field}) {
			t.Errorf("%s: fields %q, want %q", body, got, field)
		}
	}
}

// The sub-request decides as the chat routes do.
func TestAuthRequest(t *testing.T) {
	s := instancetest.Serve(t, map[string]string{"CHAT_IP_LIMIT": "4/1h", "TRUSTED_PROXIES": "127.0.0.1"})
	ops := as(t, s, "ops", "o", access.Operator)
	c := as(t, s, "acme", "u", access.Developer)
	const path = "/api/rate-limit/auth"
	ops.makePolicy(`{"effect":"block","service":"stripe","path":"v1/refunds","reason":"x"}`)
	ops.makePolicy(`{"effect":"block","service":"app","path":"admin/**","reason":"x"}`)
	from := func(ip string, header ...string) []string { return append(header, "X-Forwarded-For", ip) }
	ops.makePolicy(`{"effect":"block","service":"app","path":"*/refunds","reason":"x"}`)
	ops.makePolicy(`{"effect":"block","service":"stripe","path":"v1/*/refunds","reason":"x"}`)
	ops.makePolicy(`{"effect":"block","service":"stripe","path":"v1/exports","expiresAt":"9999-12-31T00:00:00Z","reason":"x"}`)
	for i := range 4 {
		a := c.get(path, from("192.0.2.1", "X-Original-URI", "/messages?x=1")...)
		if a.Status != 204 || a.Body != "" || a.Header.Get("X-RateLimit-Remaining") != fmt.Sprint(3-i) {
			t.Errorf("request %d: %d %v", i, a.Status, a.Header)
		}
		checkLimitHeaders(t, a.Header)
	}
	a := c.get(path, from("192.0.2.1")...)
	checkProblem(t, a, 429, "rate_limit_exceeded")
	checkLimitHeaders(t, a.Header)
	if a.Header.Get("Retry-After") == "" || a.Header.Get("Gatehouse-Status") != "" {
		t.Errorf("denied: %v", a.Header)
	}
	a = c.get(path+"?deny=403", from("192.0.2.1")...)
	if a.Status != 403 || a.Header.Get("Gatehouse-Status") != "429" || a.Header.Get("Retry-After") == "" {
		t.Errorf("denied for nginx: %d %v", a.Status, a.Header)
	}
	for _, test := range []struct {
		path   string
		header []string
		status int
	}{
		{path, []string{"X-Original-URI", "/api/proxy/stripe/v1/refunds"}, 403},
		{path, []string{"X-Forwarded-Uri", "/api/proxy/stripe/v1/refunds?x"}, 403},
		{path, []string{"X-Forwarded-Uri", "/api/proxy/stripe/v1/charges"}, 204},
		{path + "?service=stripe", []string{"X-Forwarded-Uri", "/v1//ref%75nds/"}, 403},
		{path, []string{"X-Forwarded-Uri", "/admin/users"}, 403},
		{path, []string{"X-Original-URI", "http://app.example/admin/users"}, 403},
		{path, []string{"X-Original-URI", "HTTP://app.example/api/proxy/stripe/v1/refunds"}, 403},
		{path, []string{"X-Forwarded-Uri", "/admin#x"}, 403},
		{path, []string{"X-Forwarded-Uri", "/api/proxy/stripe/v1/refunds#x?y"}, 403},
		{path, []string{"X-Forwarded-Uri", "//api/proxy/stripe/v1/refunds"}, 403},
		{path, []string{"X-Forwarded-Uri", "/api//proxy/stripe/v1/refunds"}, 403},
		{path, []string{"X-Forwarded-Uri", "/api/proxy//stripe/v1/refunds"}, 403},
		{path, []string{"X-Forwarded-Uri", "/api/%70roxy/stripe/v1/refunds"}, 403},
		{path, []string{"X-Forwarded-Uri", "/api/proxy/str%69pe/v1/refunds"}, 403},
		{path, []string{"X-Forwarded-Uri", "/x%3F/refunds"}, 403},
		{path, []string{"X-Forwarded-Uri", "/x%23/refunds"}, 403},
		{path, []string{"X-Forwarded-Uri", "/%23/refunds"}, 403},
		{path, []string{"X-Forwarded-Uri", "/api/proxy/stripe/v1/a%3F/refunds"}, 403},
		{path + "?service=stripe", []string{"X-Forwarded-Uri", "/v1/a%3F/refunds"}, 403},
		{path, []string{"X-Forwarded-Uri", "/admin%3Fx"}, 204},
		{path, []string{"X-Forwarded-Uri", "/./x/../api;v=1/proxy/stripe/v1/refunds"}, 403},
		{path + "?service=stripe", []string{"X-Forwarded-Uri", "/admin/users"}, 204},
		{path + "?service=nope", nil, 400},
		{path + "?service=openai&service=app", nil, 400},
		{path + "?deny=404", nil, 400},
		{path, []string{"X-Forwarded-Uri", "/a", "X-Original-URI", "/a"}, 400},
		{path, []string{"Authorization", ""}, 401},
		{path + "?deny=403", []string{"Authorization", ""}, 401},
		{path, []string{"Authorization", "Bearer nonsense"}, 401},
	} {
		if a := c.get(test.path, from("192.0.2.200", test.header...)...); a.Status != test.status {
			t.Errorf("%s %q: %d %s, want %d", test.path, test.header, a.Status, a.Body, test.status)
		}
	}
	far := c.get(path, from("192.0.2.201", "X-Forwarded-Uri", "/api/proxy/stripe/v1/exports")...)
	if far.Status != 403 || strings.Contains(far.Header.Get("RateLimit"), "-") {
		t.Errorf("a block of nearly 8000 years: %d %v", far.Status, far.Header)
	}
	checkProblem(t, as(t, s, "acme", "v", access.Viewer).get(path), 403, "permission_denied")
	if a := c.do("POST", path, "{}"); a.Status != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", a.Status)
	}
}

// An encoded slash is read both ways wherever a path is asked about, as it is on the way through
// Gatehouse: no spelling of a path that is blocked there is admitted here.
func TestEncodedSlashesOfAskedPaths(t *testing.T) {
	s := instancetest.Serve(t, map[string]string{"CHAT_IP_LIMIT": "1000/1h"})
	ops := as(t, s, "ops", "o", access.Operator)
	c := as(t, s, "acme", "u", access.Developer)
	ops.makePolicy(`{"effect":"block","service":"github","path":"repos/*/*/branches/*","reason":"x"}`)
	ops.makePolicy(`{"effect":"block","service":"app","path":"admin/*","reason":"x"}`)
	ops.makePolicy(`{"effect":"exempt","service":"github","path":"free/*","reason":"x"}`)
	outcomes := map[string]string{ // of a path of github
		"repos/o/r/branches/x": "blocked", "repos/o/r/branches/feature%2Fx": "blocked", "/repos/o/r/branches/feature%2fx?y": "blocked",
		"repos/o/r/branches/feature%252Fx": "blocked", "repos/o/r/branches/feature%2%46x": "blocked", "repos%2Fo%2Fr%2Fbranches%2Fx": "blocked",
		"//repos/./o/r/x%2Fy/../branches;v=1/feature%2Fx/": "blocked", "repos/o/r%2Fbranches%252Fx": "blocked", "%72epos/o/r/branches/a%2F%": "blocked",
		"repos/o/r/branches/feature/x": "admitted", "repos/o/r/pulls%2Fx": "admitted",
		"free/a": "exempt", "free/a%2Fb": "admitted", "free%2Fa": "admitted", "free/a%252Fb": "admitted",
	}
	for path, want := range outcomes {
		body := fmt.Sprintf(`{"subjects":[{"type":"org","key":"acme"}],"service":"github","path":%q}`, path)
		if d := decode[api.LimitDecision](t, c.do("POST", checkPath, body), 200); d.Outcome != want {
			t.Errorf("a check of %s: %s, want %s", path, d.Outcome, want)
		}
		target := "/" + strings.TrimPrefix(path, "/")
		for _, ask := range []struct{ query, header, uri string }{
			{"", "X-Original-URI", "/api/proxy/github" + target},
			{"", "X-Original-URI", "//api/x/../%63hat;v=1/g%69thub" + target},
			{"?service=github", "X-Forwarded-Uri", target},
		} {
			a := c.get("/api/rate-limit/auth"+ask.query, ask.header, ask.uri)
			if exempt := a.Header.Get("Gatehouse-Limit") == "exempt"; (a.Status == 403) != (want == "blocked") || (a.Status == 204) == (want == "blocked") || exempt != (want == "exempt") {
				t.Errorf("%s %s: %d %s, want %s", ask.query, ask.uri, a.Status, a.Body, want)
			}
		}
		if a := c.get("/api/proxy/github" + target); want == "blocked" && a.Status != 403 && a.Status != 400 { // some are no path at all there
			t.Errorf("the way through, %s: %d", target, a.Status)
		}
	}
	for uri, status := range map[string]int{
		"/admin/a%2Fb": 403, "/admin%2Fa": 403, "/admin%2Fa%252Fb": 403, "/x/a%2Fb": 204, "/x%2F..%2Fadmin%2Fb": 403, "/a%2Fb/../c%2F..%2Fd": 204,
		// Which service would hang on the reading: nobody's to guess.
		"/api%2Fproxy/github/repos/o/r/branches/x": 400, "/api%2fproxy%2Fgithub%2Frepos%2Fo": 400, "/api%252Fproxy/github/x": 400, "/api/proxy/github%2Frepos/o/r/branches/x": 400,
		"/api/proxy/git%2Fhub/x": 400, "/x%2Fy/../api/proxy/github/repos/o/r/branches/x": 400, "/api/proxy/github/x%2F../repos/o/r/branches/x": 403,
		"/api/proxy/github/x%2F..%2F..%2Fgithub/repos/o/r/branches/x": 400, "/api/proxy/x%2F../github/repos/o/r/branches/x": 400,
		"/api%2Fproxy/github/y%252F..%252F..%252F..%252F..%252Fz/../repos/o/r/branches/x": 400, "/api/chat/github/../github/repos/o/r/branches/x": 403,
		"/api/proxy/x%2F..%2Fy/..%2Fgithub/z": 400,
	} {
		if a := c.get("/api/rate-limit/auth", "X-Original-URI", uri); a.Status != status {
			t.Errorf("%s: %d %s, want %d", uri, a.Status, a.Body, status)
		}
	}
}
