package server_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// The routes that most tests ask for.
const (
	credentialsPath = "/api/api-credentials"
	statusPath      = "/api/rate-limit/status"
	eventsPath      = "/api/audit/events"
	chatPath        = "/api/chat/openai/v1/chat/completions"
)

// chatBody is a chat request that every fake answers.
const chatBody = `{"model":"m","messages":[{"role":"user","content":"Hello there"}]}`

// unknownID has the form of a credential's id and is nobody's.
const unknownID = "cred_01936f3e-7c5a-7b0e-9d52-3b1f6a3c9e10"

// A client sends requests to one server with one token.
type client struct {
	t     testing.TB
	url   string
	token string
	http  *http.Client
}

// as gives a client of a member of organization with the roles.
func as(t testing.TB, s *instancetest.Server, organization, sub string, roles ...access.Role) *client {
	t.Helper()
	return &client{t: t, url: s.URL, token: s.Token(t, organization, sub, roles...), http: newHTTP(t)}
}

// anonymous gives a client without a token.
func anonymous(t testing.TB, s *instancetest.Server) *client {
	return &client{t: t, url: s.URL, http: newHTTP(t)}
}

func newHTTP(t testing.TB) *http.Client {
	transport := &http.Transport{DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// An answer is a whole response.
type answer struct {
	Status int
	Header http.Header
	Body   string
}

// request makes a request whose path is sent as it is written.
func (c *client) request(method, path string, body io.Reader, header ...string) *http.Request {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.url, body)
	if err != nil {
		c.t.Fatal(err)
	}
	raw, query, _ := strings.Cut(path, "?")
	r.URL.Opaque, r.URL.RawQuery = raw, query
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i+1] == "" {
			r.Header.Del(header[i])
			continue
		}
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

// do sends a request, with header as pairs of names and values, and reads the
// answer whole. A body of "" is none.
func (c *client) do(method, path, body string, header ...string) answer {
	c.t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	return c.send(c.request(method, path, reader, header...))
}

func (c *client) get(path string, header ...string) answer {
	c.t.Helper()
	return c.do("GET", path, "", header...)
}

func (c *client) send(r *http.Request) answer {
	c.t.Helper()
	resp, err := c.http.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatalf("reading the answer: %v", err)
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

// decode reads an answer that must have this status.
func decode[T any](t testing.TB, a answer, status int) T {
	t.Helper()
	var v T
	if a.Status != status {
		t.Fatalf("status %d, want %d: %s", a.Status, status, a.Body)
	}
	if err := json.Unmarshal([]byte(a.Body), &v); err != nil {
		t.Fatalf("%v in %s", err, a.Body)
	}
	return v
}

// checkProblem checks everything that the contract says of a refusal and gives
// the problem.
func checkProblem(t testing.TB, a answer, status int, code string) api.Problem {
	t.Helper()
	var p api.Problem
	dec := json.NewDecoder(strings.NewReader(a.Body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p); err != nil {
		t.Errorf("status %d, no problem: %v in %q", a.Status, err, a.Body)
		return p
	}
	if a.Status != status || p.Status != status || p.Code != code {
		t.Errorf("status %d (in the body %d), code %q, want %d %q: %s", a.Status, p.Status, p.Code, status, code, a.Body)
	}
	if ct := a.Header.Get("Content-Type"); ct != "application/problem+json" {
		t.Errorf("Content-Type %q, want application/problem+json", ct)
	}
	if p.RequestID == "" || p.RequestID != a.Header.Get("X-Request-Id") {
		t.Errorf("requestId %q, X-Request-Id %q: want them alike", p.RequestID, a.Header.Get("X-Request-Id"))
	}
	if p.Type == "" || p.Title == "" || p.Detail == "" {
		t.Errorf("a problem without type, title or detail: %s", a.Body)
	}
	if status == http.StatusUnprocessableEntity && len(p.Errors) == 0 {
		t.Errorf("a 422 that names no field: %s", a.Body)
	}
	if status == http.StatusUnauthorized && !strings.HasPrefix(a.Header.Get("WWW-Authenticate"), "Bearer") {
		t.Errorf("a 401 with WWW-Authenticate %q", a.Header.Get("WWW-Authenticate"))
	}
	if a.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Error("a problem without nosniff")
	}
	return p
}

// fieldsOf gives the fields that a problem names, sorted.
func fieldsOf(p api.Problem) []string {
	var names []string
	for _, e := range p.Errors {
		names = append(names, e.Field)
	}
	slices.Sort(names)
	return names
}

// store stores a credential and gives its id.
func (c *client) store(service string, fields map[string]string, more ...string) string {
	c.t.Helper()
	in := map[string]any{"service": service, "credentials": fields}
	for i := 0; i+1 < len(more); i += 2 {
		in[more[i]] = more[i+1]
	}
	var body bytes.Buffer
	if err := json.NewEncoder(&body).Encode(in); err != nil {
		c.t.Fatal(err)
	}
	return decode[api.Credential](c.t, c.do("POST", credentialsPath, body.String()), http.StatusCreated).ID
}

// json sends body as JSON.
func (c *client) json(method, path string, body any) answer {
	c.t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		c.t.Fatal(err)
	}
	return c.do(method, path, string(data))
}

// events gives the organization's newest events that match the filters, pairs
// of a query parameter and its value.
func (c *client) events(filters ...string) []api.Event {
	c.t.Helper()
	query := url.Values{"limit": {"500"}}
	for i := 0; i+1 < len(filters); i += 2 {
		query.Set(filters[i], filters[i+1])
	}
	return decode[api.EventList](c.t, c.get(eventsPath+"?"+query.Encode()), http.StatusOK).Events
}

// await is events, asked again until there are n: a denial's event may come a
// moment after its answer.
func (c *client) await(n int, filters ...string) []api.Event {
	c.t.Helper()
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if e := c.events(filters...); len(e) >= n || time.Now().After(until) {
			return e
		}
	}
}

// tally adds up what events stand for.
func tally(events []api.Event) int {
	n := 0
	for _, e := range events {
		n += int(max(e.Count, 1))
	}
	return n
}
