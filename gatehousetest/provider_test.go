package gatehousetest_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/google/go-cmp/cmp"
)

// call sends one request to a fake, with header as "Name: value" lines, and gives the answer, read to its end.
func call(t *testing.T, method, url, body string, header ...string) (*http.Response, string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Set(name, value)
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return resp, string(b), err
}

// dig reads one value out of a JSON text by its path, such as "error.code"; nil where there is none.
func dig(t *testing.T, text, path string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	for name := range strings.SplitSeq(path, ".") {
		if list, ok := v.([]any); ok && len(list) > 0 {
			v = list[0]
		}
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[name]
	}
	return v
}

type starter func(testing.TB, ...gatehousetest.Option) *gatehousetest.Provider

// providers is one cheap call of each HTTP fake, with the place of the error code in its answers.
func providers() map[string]struct {
	start      starter
	path       string
	header     func(key string) []string
	errorAt    string
	wrongKey   any // what stands at errorAt
	restricted int // status for a key without the scope
} {
	bearer := func(key string) []string { return []string{"Authorization: Bearer " + key} }
	return map[string]struct {
		start      starter
		path       string
		header     func(key string) []string
		errorAt    string
		wrongKey   any
		restricted int
	}{
		"openai":    {gatehousetest.OpenAI, "/v1/models", bearer, "error.code", "invalid_api_key", 401},
		"anthropic": {gatehousetest.Anthropic, "/v1/models", func(key string) []string { return []string{"X-Api-Key: " + key, "Anthropic-Version: 2023-06-01"} }, "error.type", "authentication_error", 403},
		"stripe":    {gatehousetest.Stripe, "/v1/charges?limit=1", bearer, "error.type", "invalid_request_error", 403},
		"zendesk":   {gatehousetest.Zendesk, "/api/v2/users.json?per_page=1", bearer, "error", "Couldn't authenticate you", 403},
		"intercom":  {gatehousetest.Intercom, "/contacts", bearer, "errors.code", "unauthorized", 403},
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	for name, p := range providers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fake := p.start(t, gatehousetest.Key("one", "two"), gatehousetest.Restricted("narrow", "something:else"))
			status := func(key string) int {
				t.Helper()
				resp, body, err := call(t, "GET", fake.URL+p.path, "", p.header(key)...)
				if err != nil {
					t.Fatal(err)
				}
				if resp.StatusCode == 401 && key == "wrong" {
					if got := dig(t, body, p.errorAt); got != p.wrongKey {
						t.Errorf("%s holds %v, want %v: %s", p.errorAt, got, p.wrongKey, body)
					}
				}
				return resp.StatusCode
			}
			got := []int{status("one"), status("two"), status("wrong"), status("narrow")}
			fake.SetKeys("two")
			got = append(got, status("one"), status("two"))
			if diff := cmp.Diff([]int{200, 200, 401, p.restricted, 401, 200}, got); diff != "" {
				t.Errorf("statuses (-want +got):\n%s", diff)
			}
			if resp, _, err := call(t, "GET", fake.URL+p.path, "", "Anthropic-Version: 2023-06-01"); err != nil || resp.StatusCode != 401 {
				t.Errorf("no key: %v, %v; want 401", resp, err)
			}
			if seen := fake.Await(7); len(seen) != 7 || seen[2].RequestURI != p.path || seen[2].Status != 401 {
				t.Errorf("recorded %+v", seen)
			}
		})
	}
}

func TestBehaviours(t *testing.T) {
	t.Parallel()
	for name, p := range providers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fake := p.start(t)
			get := func() (*http.Response, string, error) {
				return call(t, "GET", fake.URL+p.path, "", p.header(fake.Key())...)
			}
			fake.Next(gatehousetest.RateLimited(1500*time.Millisecond), gatehousetest.ServerError(), gatehousetest.NotFound(),
				gatehousetest.InvalidKey(), gatehousetest.Redirect("https://elsewhere.example/"), gatehousetest.Slow(time.Millisecond))
			var got []int
			for range 6 {
				resp, _, err := get()
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, resp.StatusCode)
				if after := resp.Header.Get("Retry-After"); (after == "2") != (resp.StatusCode == 429 && name != "intercom") {
					t.Errorf("%d with Retry-After %q", resp.StatusCode, after)
				}
			}
			if diff := cmp.Diff([]int{429, 500, 404, 401, 307, 200}, got); diff != "" {
				t.Errorf("statuses (-want +got):\n%s", diff)
			}
			fake.Next(gatehousetest.Garbage(), gatehousetest.CutAfter(10), gatehousetest.HangUp())
			if _, body, err := get(); err != nil || json.Valid([]byte(body)) {
				t.Errorf("garbage: %q, %v", body, err)
			}
			if _, body, err := get(); !errors.Is(err, io.ErrUnexpectedEOF) || len(body) != 10 {
				t.Errorf("cut after 10: %q, %v", body, err)
			}
			fake.Always(gatehousetest.HangUp()) // net/http asks a second time on a connection that was kept
			if _, _, err := get(); err == nil {
				t.Error("hang up: an answer")
			}
			fake.Always(gatehousetest.Overloaded())
			if resp, _, err := get(); err != nil || resp.StatusCode != 503 && resp.StatusCode != 529 {
				t.Errorf("overloaded: %v, %v", resp, err)
			}
			fake.Always(nil)
			if resp, _, err := get(); err != nil || resp.StatusCode != 200 {
				t.Errorf("back to serving: %v, %v", resp, err)
			}
		})
	}
}

func TestHold(t *testing.T) {
	t.Parallel()
	fake := gatehousetest.OpenAI(t, gatehousetest.Reply("one two three"))
	ask := func(t *testing.T, stream bool) (*http.Response, []byte) {
		t.Helper()
		body, _ := json.Marshal(map[string]any{"model": "m", "stream": stream, "messages": []map[string]string{{"role": "user", "content": "x"}}})
		req, err := http.NewRequestWithContext(t.Context(), "POST", fake.URL+"/v1/chat/completions", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+fake.Key())
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = resp.Body.Close() })
		first := make([]byte, 4096)
		n, err := resp.Body.Read(first) // blocks for ever if nothing came before the wait
		if err != nil {
			t.Fatal(err)
		}
		return resp, first[:n]
	}
	t.Run("released", func(t *testing.T) {
		for _, stream := range []bool{true, false} {
			release := make(chan struct{})
			fake.Next(gatehousetest.Hold(release))
			resp, first := ask(t, stream)
			if seen := fake.Requests(); seen[len(seen)-1].Finished {
				t.Error("finished before its release")
			}
			close(release)
			rest, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(first)+string(rest), "three") || len(rest) == 0 {
				t.Errorf("first %q, then %q", first, rest)
			}
		}
	})
	t.Run("left", func(t *testing.T) {
		fake.Next(gatehousetest.Hold(nil))
		resp, _ := ask(t, true)
		_ = resp.Body.Close()
		if seen := fake.Await(3); !seen[2].Aborted {
			t.Errorf("not marked as aborted: %+v", seen[2])
		}
	})
}

func TestTLS(t *testing.T) {
	t.Parallel()
	ca := gatehousetest.NewCA(t)
	fake := gatehousetest.Stripe(t, gatehousetest.TLS(ca, "api.stripe.com"))
	if _, _, err := call(t, "GET", fake.URL+"/v1/charges", ""); err == nil {
		t.Error("a client that does not know the CA gets an answer")
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig.RootCAs = ca.Pool()
	transport.TLSClientConfig.ServerName = "api.stripe.com"
	t.Cleanup(transport.CloseIdleConnections)
	req, err := http.NewRequestWithContext(t.Context(), "GET", fake.URL+"/v1/charges", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if seen := fake.Await(1); resp.StatusCode != 401 || seen[0].Proto != "HTTP/2.0" {
		t.Errorf("%d over %s", resp.StatusCode, seen[0].Proto)
	}
	if ca.File() == "" {
		t.Error("no file")
	}
}

func TestOpenAIMissingScopes(t *testing.T) {
	t.Parallel()
	fake := gatehousetest.OpenAI(t, gatehousetest.Restricted("sk-narrow", "model.request"))
	resp, body, err := call(t, "GET", fake.URL+"/v1/models", "", "Authorization: Bearer sk-narrow")
	if err != nil || resp.StatusCode != 401 || !strings.Contains(body, "Missing scopes: api.model.read.") {
		t.Errorf("%v: %s", err, body)
	}
}

func TestStripeIdempotency(t *testing.T) {
	t.Parallel()
	fake := gatehousetest.Stripe(t)
	create := func(form string) (*http.Response, string) {
		t.Helper()
		resp, body, err := call(t, "POST", fake.URL+"/v1/customers", form, "Authorization: Bearer "+fake.Key(),
			"Content-Type: application/x-www-form-urlencoded", "Idempotency-Key: once")
		if err != nil {
			t.Fatal(err)
		}
		return resp, body
	}
	_, first := create("email=a%40example.com&metadata[plan]=pro")
	again, second := create("metadata[plan]=pro&email=a%40example.com")
	other, third := create("email=b%40example.com")
	if first != second || again.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("the repeated request: %s, want %s", second, first)
	}
	if other.StatusCode != 400 || dig(t, third, "error.type") != "idempotency_error" {
		t.Errorf("other parameters under the same key: %s", third)
	}
	if got := dig(t, first, "metadata.plan"); got != "pro" {
		t.Errorf("metadata.plan %v", got)
	}
}

func TestZendesk(t *testing.T) {
	t.Parallel()
	fake := gatehousetest.Zendesk(t, gatehousetest.Key("token"), gatehousetest.Items(3))
	as := func(user, token, path string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "GET", fake.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if user != "" {
			req.SetBasicAuth(user, token)
		}
		resp, body, err := call(t, "GET", fake.URL+path, "", "Authorization: "+req.Header.Get("Authorization"))
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, body
	}
	for _, c := range []struct {
		user, token string
		users       int
		known       bool
	}{
		{"agent@example.com/token", "token", 200, true},
		{"agent@example.com", "token", 401, false}, // a password would stand there
		{"other@example.com/token", "token", 401, false},
		{"agent@example.com/token", "wrong", 401, false},
		{"", "", 401, false},
	} {
		status, _ := as(c.user, c.token, "/api/v2/users.json")
		meStatus, me := as(c.user, c.token, "/api/v2/users/me.json")
		if known := dig(t, me, "user.id") != nil; status != c.users || meStatus != 200 || known != c.known {
			t.Errorf("%q: users %d, me %d known %t", c.user, status, meStatus, known)
		}
	}
	_, page := as("agent@example.com/token", "token", "/api/v2/users.json?per_page=2")
	next, _ := dig(t, page, "next_page").(string)
	if !strings.HasPrefix(next, fake.URL+"/api/v2/users.json?") {
		t.Fatalf("next_page %q", next)
	}
	if _, last := as("agent@example.com/token", "token", strings.TrimPrefix(next, fake.URL)); dig(t, last, "next_page") != nil {
		t.Errorf("a third page: %s", last)
	}
}

func TestIntercom(t *testing.T) {
	t.Parallel()
	fake := gatehousetest.Intercom(t, gatehousetest.Region("EU"), gatehousetest.Items(7))
	get := func(path string) string {
		t.Helper()
		_, body, err := call(t, "GET", fake.URL+path, "", "Authorization: Bearer "+fake.Key())
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	if got := dig(t, get("/me"), "app.region"); got != "EU" {
		t.Errorf("app.region %v", got)
	}
	resp, _, err := call(t, "GET", fake.URL+"/me", "", "Authorization: Bearer wrong")
	if err != nil || resp.StatusCode != 401 || resp.Header.Get("X-RateLimit-Limit") != "" {
		t.Errorf("a wrong token: %v, %v; want 401 without rate-limit headers", resp, err)
	}
	first := get("/contacts?per_page=5")
	if got := dig(t, first, "pages.next.starting_after"); got != "5" {
		t.Errorf("starting_after %v", got)
	}
	if last := get("/contacts?per_page=5&starting_after=5"); dig(t, last, "pages.next") != nil {
		t.Errorf("a third page: %s", last)
	}
}
