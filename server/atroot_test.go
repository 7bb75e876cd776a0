package server_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// {service}.GATEHOUSE_DOMAIN is the service at its root: no route of ours is
// there, and no other host is one.
func TestServiceByHostName(t *testing.T) {
	stripe := gatehousetest.Stripe(t)
	s := instancetest.Serve(t, map[string]string{"SERVICE_HOSTS": "stripe=" + stripe.URL, "GATEHOUSE_DOMAIN": "gw.example.com"})
	c := as(t, s, "acme", "u1", access.Owner)
	c.store("stripe", map[string]string{"secretKey": stripe.Key()})
	get := func(host, path string) answer {
		r := c.request("GET", path, nil)
		r.Host = host
		return c.send(r)
	}
	for _, host := range []string{"stripe.gw.example.com", "Stripe.GW.example.com:8443", "stripe.gw.example.com."} {
		if a := get(host, "/v1/charges"); a.Status != 200 {
			t.Errorf("%s: %d %s", host, a.Status, a.Body)
		}
	}
	if a := get("stripe.gw.example.com", credentialsPath); a.Status != 404 || strings.Contains(a.Body, `"credentials"`) || a.Header.Get("Gatehouse-Error") != "" {
		t.Errorf("our route by the service's name: %d %s", a.Status, a.Body)
	}
	before := len(stripe.Requests())
	for _, host := range []string{"nope.gw.example.com", "a.stripe.gw.example.com", "stripe%2f.gw.example.com", ".gw.example.com"} {
		if a := get(host, "/v1/charges"); a.Status != 404 && a.Status != 400 {
			t.Errorf("%s: %d %s", host, a.Status, a.Body)
		}
	}
	for _, host := range []string{"gw.example.com", "example.com", "stripegw.example.com", "stripe.gw.example.com.evil.example"} {
		if a := get(host, "/v1/charges"); a.Status != 404 || a.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %q", host, a.Status, a.Header)
		}
		if a := get(host, credentialsPath); a.Status != 200 {
			t.Errorf("%s: our own route: %d", host, a.Status)
		}
	}
	if n := len(stripe.Requests()); n != before {
		t.Errorf("the provider saw %d requests for other hosts", n-before)
	}
}

// Links that a provider puts into its answers lead back through Gatehouse, by the
// address that was asked; links elsewhere stay.
func TestProvidersLinksLeadThroughGatehouse(t *testing.T) {
	zendesk := gatehousetest.Zendesk(t, gatehousetest.Items(5))
	github := gatehousetest.Stripe(t) // any provider: what it answers is said below
	s := instancetest.Serve(t, map[string]string{
		"SERVICE_HOSTS": "zendesk=" + zendesk.URL + ",stripe=" + github.URL, "GATEHOUSE_LISTEN_ZENDESK": "127.0.0.1:0",
		"GATEHOUSE_DOMAIN": "gw.example.com", "TRUSTED_PROXIES": "127.0.0.1",
	})
	c := as(t, s, "acme", "u1", access.Owner)
	c.store("zendesk", map[string]string{"subdomain": "acme", "email": "agent@example.com", "apiToken": zendesk.Key()})
	c.store("stripe", map[string]string{"secretKey": github.Key()})

	next := func(a answer) string {
		t.Helper()
		var page struct {
			Next string `json:"next_page"`
		}
		if err := json.Unmarshal([]byte(a.Body), &page); err != nil || a.Status != 200 {
			t.Fatalf("%d %s: %v", a.Status, a.Body, err)
		}
		if n := a.Header.Get("Content-Length"); n != fmt.Sprint(len(a.Body)) {
			t.Errorf("Content-Length %s of %d bytes", n, len(a.Body))
		}
		return page.Next
	}
	const page = "/api/v2/users.json?per_page=2"
	if got, want := next(c.get("/api/proxy/zendesk"+page)), s.URL+"/api/proxy/zendesk/api/v2/users.json?page=2&per_page=2"; got != want {
		t.Errorf("the next page is %s, want %s", got, want)
	}
	// Who does not say what was asked is led by a link that is relative to it.
	if _, body := raw(t, s, "GET /api/proxy/zendesk"+page+" HTTP/1.0\r\nAuthorization: Bearer "+c.token+"\r\n\r\n"); !strings.Contains(body, `"next_page":"/api/proxy/zendesk/api/v2/users.json?page=2&per_page=2"`) &&
		!strings.Contains(body, `"next_page":"/api/proxy/zendesk/api/v2/users.json?page=2\u0026per_page=2"`) {
		t.Errorf("without a host: %s", body)
	}
	port := *c
	port.url = s.ServiceURLs["zendesk"]
	if got, want := next(port.get(page)), port.url+"/api/v2/users.json?page=2&per_page=2"; got != want {
		t.Errorf("the next page is %s, want %s", got, want)
	}
	r := c.request("GET", page, nil, "X-Forwarded-Proto", "https")
	r.Host = "zendesk.gw.example.com"
	if got, want := next(c.send(r)), "https://zendesk.gw.example.com/api/v2/users.json?page=2&per_page=2"; got != want {
		t.Errorf("the next page is %s, want %s", got, want)
	}

	github.Always(gatehousetest.Handler(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", fmt.Sprintf(`<%s/repos?page=2>; rel="next", <https://elsewhere.example/x>; rel="help", </repos?page=9>; rel="last", <%s/../x>; rel="up"`, github.URL, github.URL))
		w.Header().Set("Location", github.URL+"/v1/new")
		w.WriteHeader(http.StatusCreated)
	}))
	a := c.get("/api/proxy/stripe/repos")
	want := fmt.Sprintf(`<%s/api/proxy/stripe/repos?page=2>; rel="next", <https://elsewhere.example/x>; rel="help", <%s/api/proxy/stripe/repos?page=9>; rel="last", <%s/api/proxy/stripe/x>; rel="up"`, s.URL, s.URL, s.URL)
	if got := a.Header.Get("Link"); got != want {
		t.Errorf("Link: %s\nwant  %s", got, want)
	}
	if got := a.Header.Get("Location"); got != "/api/proxy/stripe/v1/new" {
		t.Errorf("Location: %s", got)
	}

	// Where an SDK goes on with an upload, or asks how an operation gets on.
	gemini := gatehousetest.Gemini(t)
	behind := instancetest.Serve(t, map[string]string{
		"SERVICE_HOSTS": "gemini=" + gemini.URL, "GATEHOUSE_URL": "https://gatehouse.example", "GATEHOUSE_DOMAIN": "gw.example.com",
		"GATEHOUSE_LISTEN_GEMINI": "127.0.0.1:0",
	})
	c = as(t, behind, "acme", "u1", access.Owner)
	id := c.store("gemini", map[string]string{"apiKey": gemini.Key()})
	decode[api.Credential](t, c.do("PUT", credentialsPath+"/"+id, `{"scope":{"paths":["/**"]}}`), 200)
	gemini.Always(gatehousetest.Handler(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Goog-Upload-Url", gemini.URL+"/upload/v1beta/files?upload_id=1")
		w.Header().Set("X-Goog-Upload-Control-Url", "https://elsewhere.example/upload")
	}))
	a = c.do("POST", "/api/chat/gemini/upload/v1beta/files", "{}")
	if got := a.Header.Get("X-Goog-Upload-Url"); got != "https://gatehouse.example/api/chat/gemini/upload/v1beta/files?upload_id=1" {
		t.Errorf("the upload goes on at %q: %d %s", got, a.Status, a.Body)
	}
	if got := a.Header.Get("X-Goog-Upload-Control-Url"); got != "" {
		t.Errorf("the upload goes on at %s", got)
	}
	r = c.request("POST", "/upload/v1beta/files", strings.NewReader("{}"))
	r.Host = "gemini.gw.example.com"
	if got := c.send(r).Header.Get("X-Goog-Upload-Url"); got != "https://gemini.gw.example.com/upload/v1beta/files?upload_id=1" {
		t.Errorf("by name, the upload goes on at %q", got)
	}
	port = *c
	port.url = behind.ServiceURLs["gemini"] // which no proxy stands before
	if got := port.do("POST", "/upload/v1beta/files", "{}").Header.Get("X-Goog-Upload-Url"); got != port.url+"/upload/v1beta/files?upload_id=1" {
		t.Errorf("by port, the upload goes on at %q", got)
	}
}

// Where an SDK goes on at a link that an answer holds, with the caller's token, the link leads
// back, whichever of the provider's hosts it names; GitHub's is a template (RFC 6570).
func TestLinksAtWhichSDKsGoOn(t *testing.T) {
	fake := gatehousetest.Stripe(t) // any provider: what it answers is said below
	s := instancetest.Serve(t, map[string]string{"SERVICE_HOSTS": "slack=" + fake.URL + ",github=" + fake.URL + ",anthropic=" + fake.URL})
	c := as(t, s, "acme", "u1", access.Owner)
	c.store("slack", map[string]string{"botToken": "xoxb-0123456789-abcdefghij"})
	c.store("github", map[string]string{"token": "ghp_0123456789abcdefghij0123456789abcdef"})
	c.store("anthropic", map[string]string{"apiKey": "sk-ant-api03-0123456789abcdefghij0123"})
	for _, test := range []struct{ method, path, says, want string }{
		{"GET", "/api/proxy/slack/api/files.getUploadURLExternal", `{"ok":true,"upload_url":"https:\/\/files.slack.com\/upload\/v1\/ABC"}`, `{"ok":true,"upload_url":"ORIGIN/api/proxy/slack/upload/v1/ABC"}`},
		{"GET", "/api/proxy/slack/api/files.info", `{"url_private":"https://files.slack.com/files-pri/T1-F1/a.txt"}`, `{"url_private":"https://files.slack.com/files-pri/T1-F1/a.txt"}`},
		{
			"GET", "/api/proxy/github/repos/o/r/releases/1",
			`{"upload_url":"https://uploads.github.com/repos/o/r/releases/1/assets{?name,label}","html_url":"https://github.com/o/r"}`,
			`{"upload_url":"ORIGIN/api/proxy/github/repos/o/r/releases/1/assets{?name,label}","html_url":"https://github.com/o/r"}`,
		},
		{"GET", "/api/proxy/github/x", `{"upload_url":"https://evil.example/repos/o/r/releases/1/assets{?name}"}`, `{"upload_url":"https://evil.example/repos/o/r/releases/1/assets{?name}"}`},
		{"GET", "/api/chat/anthropic/v1/models", `{"results_url":"https://api.anthropic.com/v1/messages/batches/b/results"}`, `{"results_url":"ORIGIN/api/chat/anthropic/v1/messages/batches/b/results"}`},
		// What a model says is passed on as it is.
		{"POST", "/api/chat/anthropic/v1/messages", `{"results_url":"https://api.anthropic.com/v1/x"}`, `{"results_url":"https://api.anthropic.com/v1/x"}`},
	} {
		fake.Next(gatehousetest.Handler(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, test.says)
		}))
		body := ""
		if test.method == "POST" {
			body = `{"model":"m","messages":[]}`
		}
		if a := c.do(test.method, test.path, body); a.Status != 200 || a.Body != strings.ReplaceAll(test.want, "ORIGIN", s.URL) {
			t.Errorf("%s %s: %d %s", test.method, test.path, a.Status, a.Body)
		}
	}
}
