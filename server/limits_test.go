package server_test

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// standing is what the headers of one answer tell of one subject.
type standing struct {
	limit, remaining int
	reset            time.Time
}

// checkLimitHeaders reads the six headers and the two fields of the IETF, and
// checks them against each other.
func checkLimitHeaders(t testing.TB, h http.Header) (ip, organization standing) {
	t.Helper()
	states, policies := subjectItems(t, h, "RateLimit"), subjectItems(t, h, "RateLimit-Policy")
	for name, s := range map[string]*standing{"": &ip, "Org-": &organization} {
		var err error
		if s.limit, err = strconv.Atoi(h.Get("X-RateLimit-" + name + "Limit")); err != nil || len(h.Values("X-RateLimit-"+name+"Limit")) != 1 {
			t.Fatalf("X-RateLimit-%sLimit: %q", name, h.Values("X-RateLimit-"+name+"Limit"))
		}
		if s.remaining, err = strconv.Atoi(h.Get("X-RateLimit-" + name + "Remaining")); err != nil || s.remaining < 0 || s.remaining > s.limit {
			t.Fatalf("X-RateLimit-%sRemaining: %q", name, h.Get("X-RateLimit-"+name+"Remaining"))
		}
		if s.reset, err = time.Parse(api.TimeFormat, h.Get("X-RateLimit-"+name+"Reset")); err != nil {
			t.Fatalf("X-RateLimit-%sReset: %v", name, err)
		}
		item := "ip"
		if name != "" {
			item = "org"
		}
		if states[item]["r"] != s.remaining || policies[item]["q"] != s.limit || policies[item]["w"] < 1 || states[item]["t"] < 0 {
			t.Errorf("%s: RateLimit %q and RateLimit-Policy %q do not say what %+v does", item, h.Get("RateLimit"), h.Get("RateLimit-Policy"), *s)
		}
	}
	return ip, organization
}

// item is one member of the list of strings with integer parameters that both
// fields are (RFC 9651).
var item = regexp.MustCompile(`^"([a-z]+)"((?:;[a-z]+=[0-9]{1,15})*)$`)

// subjectItems reads such a field strictly.
func subjectItems(t testing.TB, h http.Header, name string) map[string]map[string]int {
	t.Helper()
	all := make(map[string]map[string]int)
	for text := range strings.SplitSeq(strings.Join(h.Values(name), ", "), ", ") {
		m := item.FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("%s is no structured field: %q", name, h.Values(name))
		}
		all[m[1]] = make(map[string]int)
		for parameter := range strings.SplitSeq(strings.TrimPrefix(m[2], ";"), ";") {
			key, value, _ := strings.Cut(parameter, "=")
			all[m[1]][key], _ = strconv.Atoi(value)
		}
	}
	if len(all) != 2 || all["ip"] == nil || all["org"] == nil {
		t.Fatalf("%s names %v, want ip and org", name, all)
	}
	return all
}

// Every answer on a chat route that passed authentication says where both
// subjects stand, whatever its status, and the status route says the same.
func TestLimitHeadersOnEveryAnswer(t *testing.T) {
	openai := gatehousetest.OpenAI(t)
	s := instancetest.Serve(t, map[string]string{
		"SERVICE_HOSTS": "openai=" + openai.URL + ",anthropic=http://127.0.0.1:1", "CHAT_IP_LIMIT": "9/1h", "CHAT_ORG_LIMIT": "50/2h", "CHAT_UPSTREAM": "http://127.0.0.1:1", "REQUEST_BODY_MIB": "10",
	})
	c := as(t, s, "acme", "u1", access.Owner)
	viewer := as(t, s, "acme", "u2", access.Viewer)
	c.store("openai", map[string]string{"apiKey": openai.Key()})
	c.store("anthropic", map[string]string{"apiKey": "sk-ant-api03-0123456789abcdefghij"})
	used := 0
	for _, call := range []struct {
		client       *client
		method, path string
		body         io.Reader
		status       int
		counts       bool
	}{
		{c, "POST", chatPath, strings.NewReader(chatBody), 200, true},
		{viewer, "POST", chatPath, strings.NewReader(chatBody), 403, false},
		{c, "GET", "/api/chat/nope/v1", nil, 404, true},
		{c, "GET", "/api/chat/", nil, 404, true},
		{c, "GET", "/api/proxy/openai/v1/models", nil, 404, true},
		{c, "POST", chatPath, io.LimitReader(endless(' '), 11<<20), 413, true},
		{c, "GET", "/api/chat/openai/v1/../x", nil, 400, true},
		{c, "GET", "/api/proxy/stripe/v1/charges", nil, 424, true},
		{c, "POST", "/api/chat/anthropic/v1/messages", strings.NewReader("{}"), 502, true},
		{c, "GET", "/api/chat/app/x", nil, 502, true},
		{c, "POST", chatPath, strings.NewReader(chatBody), 429, false},
		{viewer, "POST", chatPath, strings.NewReader(chatBody), 403, false},
		{c, "GET", "/api/chat/nope/v1", nil, 429, false},
	} {
		name := fmt.Sprint(call.method, " ", call.path, " ", call.status)
		a := call.client.send(call.client.request(call.method, call.path, call.body))
		if a.Status != call.status {
			t.Fatalf("%s: %d %s", name, a.Status, a.Body)
		}
		if call.counts {
			used++
		}
		ip, organization := checkLimitHeaders(t, a.Header)
		if ip.limit != 9 || ip.remaining != 9-used || organization.limit != 50 || organization.remaining != 50-used {
			t.Errorf("%s: %+v %+v after %d requests", name, ip, organization, used)
		}
		if call.status >= 400 {
			checkSDKError(t, a)
		}
		if retry := a.Header.Get("Retry-After"); (retry != "") != (call.status == 429) {
			t.Errorf("%s: Retry-After %q", name, retry)
		} else if seconds, _ := strconv.Atoi(retry); call.status == 429 && (seconds < 1 || seconds > 3600) {
			t.Errorf("%s: Retry-After %q, want 1 to 3600", name, retry)
		}
		status := decode[api.LimitOverview](t, c.get(statusPath), 200)
		for _, both := range []struct {
			header standing
			status api.LimitStatus
		}{{ip, status.IP}, {organization, status.Organization}} {
			if both.status.Limit != both.header.limit || both.status.Remaining != both.header.remaining ||
				both.status.Used != used || !time.Time(*both.status.ResetAt).Equal(both.header.reset) {
				t.Errorf("%s: the headers say %+v, the status route %+v", name, both.header, both.status)
			}
		}
	}
	if p := checkProblem(t, c.do("POST", chatPath, chatBody), 429, "rate_limit_exceeded"); !strings.Contains(p.Detail, "this address") {
		t.Errorf("a denial says %q", p.Detail)
	}
}

// checkSDKError checks that a problem on a chat route is one that SDKs read.
func checkSDKError(t testing.TB, a answer) {
	t.Helper()
	p := checkProblem(t, a, a.Status, a.Header.Get("Gatehouse-Error"))
	if p.Error == nil || p.Error.Code != p.Code || p.Error.Message != p.Detail || p.Error.Type == "" {
		t.Errorf("the error object is %+v beside %+v", p.Error, p)
	}
}

// Denials are counted exactly, and a reset admits again.
func TestExceedAndReset(t *testing.T) {
	openai := gatehousetest.OpenAI(t)
	s := instancetest.Serve(t, map[string]string{
		"SERVICE_HOSTS": "openai=" + openai.URL, "CHAT_IP_LIMIT": "100/1h", "CHAT_ORG_LIMIT": "3/1h", "TRUSTED_PROXIES": "127.0.0.0/8",
	})
	c := as(t, s, "acme", "u1", access.Owner)
	operator := as(t, s, "ops", "root", access.Operator)
	c.store("openai", map[string]string{"apiKey": openai.Key()})
	for i := range 3 + 17 {
		a := c.do("POST", chatPath, chatBody, "X-Forwarded-For", fmt.Sprintf("203.0.113.%d", i%4))
		if want := 200; i < 3 && a.Status != want || i >= 3 && a.Status != 429 {
			t.Fatalf("request %d: %d %s", i, a.Status, a.Body)
		}
	}
	if n := len(openai.Requests()); n != 3 {
		t.Errorf("the provider saw %d requests, want the admitted 3", n)
	}

	reset := func(c *client, typ, key string) answer {
		return c.do("POST", "/api/rate-limit/reset", fmt.Sprintf(`{"type":%q,"key":%q}`, typ, key))
	}
	checkProblem(t, reset(c, "org", "acme"), 403, "permission_denied")
	if a := c.do("POST", chatPath, chatBody); a.Status != 429 {
		t.Errorf("a reset that was denied: %d", a.Status)
	}
	status := decode[api.LimitStatus](t, reset(operator, "organization", "acme"), 200)
	if status.Type != "org" || status.Key != "acme" || status.Used != 0 || status.Remaining != 3 || status.WindowSeconds != 3600 {
		t.Errorf("after the reset: %+v", status)
	}
	if a := c.do("POST", chatPath, chatBody); a.Status != 200 {
		t.Errorf("after the reset: %d %s", a.Status, a.Body)
	}
	if e := c.events("action", "limit.reset"); len(e) != 1 || e[0].Actor.ID != "root" || e[0].Class != "control" {
		t.Errorf("the trail tells of the reset as %+v", e)
	}

	s.Stop() // repeats are written now
	again := instancetest.ServeConfig(t, s.Config)
	events := as(t, again, "acme", "u1", access.Owner).events("action", "limit.exceed")
	if n := tally(events); n != 17+1 {
		t.Errorf("the trail counts %d denials in %d events, want 18", n, len(events))
	}
	for _, e := range events {
		if e.Organization != "acme" || e.Request.Status != 429 || e.Metadata["key"] != "acme" || e.Metadata["type"] != "org" {
			t.Errorf("a denial is recorded as %+v of %+v", e, e.Request)
		}
	}
}

// Whose the limit of an address is: without trusted proxies the peer's, whatever
// the client writes; behind them the address that they vouch for.
func TestForgedForwardedFor(t *testing.T) {
	environ := map[string]string{"CHAT_IP_LIMIT": "2/1h", "CHAT_UPSTREAM": "http://127.0.0.1:1"}
	bare := instancetest.Serve(t, environ)
	c := as(t, bare, "acme", "u1", access.Owner)
	statuses := func(c *client, headers ...string) (got []int) {
		for _, h := range headers {
			got = append(got, c.get("/api/chat/app/x", "X-Forwarded-For", h).Status)
		}
		return got
	}
	if got := statuses(c, "203.0.113.1", "203.0.113.2", "203.0.113.3"); fmt.Sprint(got) != "[502 502 429]" {
		t.Errorf("without a trusted proxy, three addresses as the client writes them: %v", got)
	}

	environ["TRUSTED_PROXIES"] = "127.0.0.1, 10.0.0.0/8"
	behind := instancetest.Serve(t, environ)
	c = as(t, behind, "acme", "u1", access.Owner)
	if got := statuses(c, "203.0.113.1", "1.1.1.1, 203.0.113.1", "2.2.2.2,203.0.113.1, 10.1.1.1", "203.0.113.1:5555"); fmt.Sprint(got) != "[502 502 429 429]" {
		t.Errorf("one address behind forged ones: %v", got)
	}
	if got := statuses(c, "2001:db8::1", "2001:db8::2", "[2001:db8::ffff:3]:443", "2001:db8:0:1::1"); fmt.Sprint(got) != "[502 502 429 502]" {
		t.Errorf("an IPv6 client and its neighbour: %v", got)
	}
	own := decode[api.LimitOverview](t, c.get(statusPath, "X-Forwarded-For", "2001:db8::abcd"), 200)
	if own.IP.Key != "2001:db8::" || own.IP.Used != 2 {
		t.Errorf("an IPv6 client stands at %+v", own.IP)
	}
	operator := as(t, behind, "ops", "root", access.Operator)
	for _, key := range []string{"2001:db8::abcd", "2001:DB8:0:0:9::", "2001:db8::"} {
		if got := decode[api.LimitStatus](t, operator.get("/api/rate-limit/admin/status/ip/"+key), 200); got.Used != 2 || got.Key != "2001:db8::" {
			t.Errorf("%s stands at %+v", key, got)
		}
	}
	if got := decode[api.LimitStatus](t, operator.get("/api/rate-limit/admin/status/ip/::ffff:203.0.113.1"), 200); got.Used != 2 {
		t.Errorf("a mapped IPv4 address stands at %+v", got)
	}
}

// With CHAT_IPV6_PREFIX=48 all networks of one site are one client, and another
// site is another.
func TestIPv6Prefix(t *testing.T) {
	s := instancetest.Serve(t, map[string]string{"CHAT_IP_LIMIT": "2/1h", "CHAT_UPSTREAM": "http://127.0.0.1:1",
		"TRUSTED_PROXIES": "127.0.0.1", "CHAT_IPV6_PREFIX": "48"})
	c := as(t, s, "acme", "u1", access.Owner)
	var got []int
	for _, address := range []string{"2001:db8:7:1::1", "2001:db8:7:2::1", "2001:db8:7:ffff::1", "2001:db8:8:1::1"} {
		got = append(got, c.get("/api/chat/app/x", "X-Forwarded-For", address).Status)
	}
	if fmt.Sprint(got) != "[502 502 429 502]" {
		t.Errorf("three networks of one site, and another site: %v", got)
	}
	// A policy about a part of a site has a counter of its own: it takes nothing off the site's.
	as(t, s, "ops", "o", access.Operator).makePolicy(`{"effect":"limit","subject":"ip","cidr":"2001:db8:9:ff00::/56","limits":["100/1s"],"reason":"x"}`)
	var denied []bool
	for _, address := range []string{"2001:db8:9:1::1", "2001:db8:9:ff01::1", "2001:db8:9:1::1", "2001:db8:9:ff01::1", "2001:db8:9:1::1"} {
		denied = append(denied, c.get("/api/chat/app/x", "X-Forwarded-For", address).Status == http.StatusTooManyRequests)
	}
	if fmt.Sprint(denied) != "[false false false false true]" {
		t.Errorf("a site and a part of it with a policy of its own: denied %v", denied)
	}
	own := decode[api.LimitOverview](t, c.get(statusPath, "X-Forwarded-For", "2001:db8:7:9::"), 200)
	if own.IP.Key != "2001:db8:7::" || own.IP.Used != 2 {
		t.Errorf("the site stands at %+v", own.IP)
	}
}
