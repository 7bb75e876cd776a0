package server_test

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

const policiesPath = "/api/rate-limit/policies"

func (c *client) makePolicy(body string) api.LimitPolicy {
	c.t.Helper()
	return decode[api.LimitPolicy](c.t, c.do("POST", policiesPath, body), http.StatusCreated)
}

func TestPoliciesOverHTTP(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		s := instancetest.Serve(t, map[string]string{"DATABASE_URL": url})
		ops := as(t, s, "ops", "o", access.Operator)
		admin := as(t, s, "acme", "a", access.Admin)
		made := ops.do("POST", policiesPath, `{"effect":"limit","subject":"org","organization":"acme","cidr":"192.0.2.0/24","limits":["20/1s","500/1h"],
			"reason":"Plan","expiresAt":"2090-01-02T03:04:05+01:00"}`)
		p := decode[api.LimitPolicy](t, made, 201)
		if made.Header.Get("ETag") != `"1"` || p.Owner != "_instance" || p.Mode != "enforce" || p.ExpiresAt.String() != "2090-01-02T02:04:05.000Z" ||
			!slices.Equal(p.Limits, []string{"20/1s", "500/1h"}) || p.CIDR != "192.0.2.0/24" || p.CreatedBy != "o" {
			t.Errorf("made %s", made.Body)
		}
		path := policiesPath + "/" + p.ID
		if a := ops.get(path); a.Body != made.Body || a.Header.Get("ETag") != `"1"` {
			t.Errorf("read %s, made %s", a.Body, made.Body)
		}
		body := `{"effect":"limit","subject":"org","organization":"acme","limits":["30/1s"],"reason":"More"}`
		checkProblem(t, ops.do("PUT", path, body, "If-Match", `"2"`), 412, "stale")
		if a := ops.do("PUT", path, body, "If-Match", `"1"`); a.Status != 200 || a.Header.Get("ETag") != `"2"` {
			t.Errorf("changed: %d %s", a.Status, a.Body)
		}
		checkProblem(t, ops.do("DELETE", path, "", "If-Match", `"1"`), 412, "stale")
		if a := ops.do("POST", path+"/rollback", `{"revision":1}`); a.Status != 200 || !strings.Contains(a.Body, "500/1h") {
			t.Errorf("rolled back: %d %s", a.Status, a.Body)
		}
		history := decode[api.LimitPolicyRevisions](t, ops.get(path+"/revisions"), 200)
		if len(history.Revisions) != 3 || history.Revisions[2].Policy.CIDR != "192.0.2.0/24" {
			t.Errorf("revisions %+v", history)
		}
		for _, c := range []struct{ method, path, body string }{
			{"GET", path, ""}, {"PUT", path, body}, {"DELETE", path, ""}, {"POST", path + "/rollback", `{"revision":1}`}, {"GET", path + "/revisions", ""},
			{"GET", policiesPath + "/pol_x", ""}, {"GET", policiesPath + "/" + unknownID, ""},
		} {
			body := c.body
			if strings.HasPrefix(body, `{"effect`) {
				body = strings.Replace(body, `"organization":"acme",`, "", 1)
			}
			checkProblem(t, admin.do(c.method, c.path, body), 404, "policy_not_found")
		}
		if l := decode[api.LimitPolicyList](t, admin.get(policiesPath), 200); len(l.Policies) != 0 {
			t.Errorf("an admin lists %+v", l)
		}
		own := admin.makePolicy(`{"effect":"block","service":"stripe","reason":"Not used"}`)
		if own.Owner != "acme" || own.Organization != "acme" {
			t.Errorf("an own policy: %+v", own)
		}
		if a := ops.do("DELETE", path, ""); a.Status != 204 {
			t.Errorf("deleted: %d", a.Status)
		}
		if e := admin.events("action", "policy.create"); len(e) != 1 || e[0].Metadata["after"] == nil || e[0].Metadata["afterReason"] != "Not used" {
			t.Errorf("the trail: %+v", e)
		}
		// Nothing of a refused policy stays, and no value comes back.
		before := len(decode[api.LimitPolicyList](t, ops.get(policiesPath), 200).Policies)
		for _, bad := range []struct {
			body   string
			fields []string
		}{
			{`{}`, []string{"effect", "reason"}},
			{`{"effect":"limit","subject":"org","limits":["0/1s","1.5/1m","5/-1h"],"reason":"x"}`, []string{"limits[0]", "limits[1]", "limits[2]"}},
			{`{"effect":"limit","subject":"org","limits":[20],"reason":"x"}`, []string{"limits[0]"}},
			{`{"effect":"limit","subject":"org","limits":"20/1s","reason":"x"}`, []string{"limits"}},
			{`{"effect":"block","cidr":"zebra/99","service":"zebra","reason":"x"}`, []string{"cidr", "service"}},
			{`{"effect":"block","cidr":"192.0.2.1","reason":"x","zebra":1}`, []string{"body"}},
			{`{"effect":"block","cidr":"192.0.2.1","reason":"x","expiresAt":"zebra"}`, []string{"expiresAt"}},
			{`{"effect":"block","cidr":"192.0.2.1","reason":"x","expiresAt":"2001-01-01T00:00:00Z"}`, []string{"expiresAt"}},
		} {
			a := ops.do("POST", policiesPath, bad.body)
			p := checkProblem(t, a, 422, "invalid_request")
			if got := fieldsOf(p); !slices.Equal(got, bad.fields) {
				t.Errorf("%s: fields %q, want %q", bad.body, got, bad.fields)
			}
			if strings.Contains(a.Body, "zebra") {
				t.Errorf("a rejected value comes back: %s", a.Body)
			}
		}
		if n := len(decode[api.LimitPolicyList](t, ops.get(policiesPath), 200).Policies); n != before {
			t.Errorf("%d policies after refusals, %d before", n, before)
		}
	})
}

// What policies say is what chat requests meet.
func TestPoliciesOnChat(t *testing.T) {
	openai := gatehousetest.OpenAI(t)
	metrics := map[string]string{"GATEHOUSE_METRICS_ADDR": "127.0.0.1:0", "SERVICE_HOSTS": "openai=" + openai.URL, "TRUSTED_PROXIES": "127.0.0.1"}
	s := instancetest.Serve(t, metrics)
	ops := as(t, s, "ops", "o", access.Operator)
	c := as(t, s, "acme", "u", access.Owner)
	c.store("openai", map[string]string{"apiKey": openai.Key()})
	ops.makePolicy(`{"effect":"limit","subject":"org","organization":"acme","limits":["2/1h","50/24h"],"reason":"x"}`)
	ops.makePolicy(`{"effect":"exempt","cidr":"198.51.100.0/24","reason":"x"}`)
	ops.makePolicy(`{"effect":"block","cidr":"203.0.113.66","reason":"the hidden reason"}`)
	ops.makePolicy(`{"effect":"limit","mode":"observe","subject":"ip","limits":["1/1h"],"reason":"x"}`)
	chat := func(ip string) answer { return c.do("POST", chatPath, chatBody, "X-Forwarded-For", ip) }

	a := chat("192.0.2.1")
	if a.Status != 200 || a.Header.Get("X-RateLimit-Org-Limit") != "2" || a.Header.Get("X-RateLimit-Org-Remaining") != "1" {
		t.Errorf("under a policy: %d %v", a.Status, a.Header)
	}
	if got, want := a.Header.Get("RateLimit-Policy"), `"ip";q=100;w=60, "org-2/1h";q=2;w=3600, "org-50/24h";q=50;w=86400`; got != want {
		t.Errorf("RateLimit-Policy %s, want %s", got, want)
	}
	if got, want := a.Header.Get("RateLimit"), `"ip";r=99;t=60, "org-2/1h";r=1;t=3600`; got != want {
		t.Errorf("RateLimit %s, want %s", got, want)
	}
	if a := chat("192.0.2.1"); a.Status != 200 { // over the observed limit
		t.Errorf("an observed limit: %d %s", a.Status, a.Body)
	}
	a = chat("192.0.2.1")
	checkProblem(t, a, 429, "rate_limit_exceeded")
	var ms int64
	if _, err := fmt.Sscan(a.Header.Get("Retry-After-Ms"), &ms); err != nil || ms <= 3_590_000 || ms > 3_600_000 || a.Header.Get("Retry-After") == "" {
		t.Errorf("retry-after-ms %q, Retry-After %q", a.Header.Get("Retry-After-Ms"), a.Header.Get("Retry-After"))
	}
	a = chat("198.51.100.9")
	if a.Status != 200 || a.Header.Get("Gatehouse-Limit") != "exempt" || a.Header.Get("X-RateLimit-Org-Remaining") != "2" || a.Header.Get("X-RateLimit-Remaining") != "100" {
		t.Errorf("exempt: %d %v", a.Status, a.Header)
	}
	a = chat("203.0.113.66")
	checkSDKError(t, a)
	checkProblem(t, a, 403, "blocked")
	if a.Header.Get("X-RateLimit-Remaining") != "0" || a.Header.Get("Retry-After") != "" || strings.Contains(a.Body, "hidden") {
		t.Errorf("blocked: %v %s", a.Header, a.Body)
	}
	if e := c.await(1, "action", "access.deny"); len(e) != 1 || e[0].Reason != "blocked" || e[0].Request.Status != 403 {
		t.Errorf("events of a block: %+v", e)
	}
	if n := len(openai.Requests()); n != 3 {
		t.Errorf("%d requests reached the provider, want 3", n)
	}
	scrape, err := http.Get(s.ServiceURLs["metrics"] + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer scrape.Body.Close()
	var text strings.Builder
	buffer := make([]byte, 1<<20)
	for {
		n, err := scrape.Body.Read(buffer)
		text.Write(buffer[:n])
		if err != nil {
			break
		}
	}
	for _, want := range []string{
		`gatehouse_limit_decisions_total{outcome="blocked",store="none"} 1`, `gatehouse_limit_decisions_total{outcome="exempt",store="none"} 1`,
		`gatehouse_limit_decisions_total{outcome="denied",store="memory"} 1`, `gatehouse_limit_observed_total{effect="limit"} 1`,
		`gatehouse_limit_subjects_total{outcome="denied",type="org"}`, `gatehouse_limit_decision_seconds_count{store="memory"}`, "gatehouse_limit_memory_keys",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
	top := decode[api.LimitOffenders](t, ops.get("/api/rate-limit/top"), 200)
	if len(top.Offenders) != 2 || top.Offenders[0].Key != "acme" || top.Offenders[0].Denied != 2 {
		t.Errorf("the top is %+v", top)
	}
	checkProblem(t, c.get("/api/rate-limit/top"), 403, "permission_denied")
}

// A change on one instance holds on another over the same database.
func TestPoliciesReachOtherInstances(t *testing.T) {
	url := gatehousetest.Postgres(t)
	one := instancetest.Serve(t, map[string]string{"DATABASE_URL": url})
	two := instancetest.Serve(t, map[string]string{"DATABASE_URL": url})
	ops := as(t, one, "ops", "o", access.Operator)
	c := as(t, two, "acme", "u", access.Owner)
	limit := func() int { return decode[api.LimitOverview](t, c.get(statusPath), 200).Organization.Limit }
	if limit() != 1000 {
		t.Fatalf("the limit is %d", limit())
	}
	var slowest time.Duration
	for i, requests := range []int{7, 8, 9, 10} {
		body := fmt.Sprintf(`{"effect":"limit","subject":"org","organization":"acme","limits":["%d/1h"],"reason":"x"}`, requests)
		start := time.Now()
		if i == 0 {
			ops.makePolicy(body)
		} else {
			list := decode[api.LimitPolicyList](t, ops.get(policiesPath), 200)
			if a := ops.do("PUT", policiesPath+"/"+list.Policies[0].ID, body); a.Status != 200 {
				t.Fatalf("%d %s", a.Status, a.Body)
			}
		}
		for limit() != requests {
			if time.Since(start) > 20*time.Second {
				t.Fatalf("the other instance still has %d after 20 s, want %d", limit(), requests)
			}
			time.Sleep(10 * time.Millisecond)
		}
		slowest = max(slowest, time.Since(start))
	}
	t.Logf("the slowest of 4 changes was seen after %v", slowest)
}

// Instances over one Redis share the counts of scopes, too.
func TestScopesAreSharedOnRedis(t *testing.T) {
	environ := map[string]string{"DATABASE_URL": gatehousetest.Postgres(t), "REDIS_URL": gatehousetest.Redis(t).URL()}
	one, two := instancetest.Serve(t, environ), instancetest.Serve(t, environ)
	as(t, one, "ops", "o", access.Operator).makePolicy(`{"effect":"limit","subject":"org","service":"openai","path":"v1/**","limits":["7/1h"],"reason":"x"}`)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		// A look does not count.
		d := decode[api.LimitDecision](t, as(t, two, "acme", "b", access.ServiceRole).do("POST", checkPath,
			`{"subjects":[{"type":"org","key":"acme"}],"service":"openai","path":"v1/x","consume":false}`), 200)
		if d.Subjects[0].Limit == 7 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the policy does not reach the other instance")
		}
	}
	passed := 0
	for i := range 20 {
		s := []*instancetest.Server{one, two}[i%2]
		d := decode[api.LimitDecision](t, as(t, s, "acme", "b", access.ServiceRole).do("POST", checkPath,
			`{"subjects":[{"type":"org","key":"acme"}],"service":"openai","path":"v1/x"}`), 200)
		if d.Store != "redis" || d.Degraded {
			t.Fatalf("decided by %+v", d)
		}
		if d.Admitted {
			passed++
		}
	}
	if passed != 7 {
		t.Errorf("%d of 20 admitted by two instances, want 7", passed)
	}
}

// The examples of the document are taken as they stand there.
func TestDocumentedPolicies(t *testing.T) {
	text, err := os.ReadFile("../docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	s := instancetest.Serve(t, nil)
	ops := as(t, s, "ops", "o", access.Operator)
	policies, checks := 0, 0
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(strings.TrimSpace(line), "'")
		switch {
		case strings.HasPrefix(line, `{"effect"`):
			policies++
			if a := ops.do("POST", policiesPath, line); a.Status != 201 {
				t.Errorf("%s: %d %s", line, a.Status, a.Body)
			}
		case strings.HasPrefix(line, `{"subjects"`):
			checks++
			if d := decode[api.LimitDecision](t, ops.do("POST", checkPath, line), 200); !d.Admitted || len(d.Subjects) != 2 {
				t.Errorf("%s: %+v", line, d)
			}
		}
	}
	if policies != 5 || checks != 1 {
		t.Errorf("%d policies and %d checks were found in the document", policies, checks)
	}
}
