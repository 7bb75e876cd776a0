package server_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// An id that is malformed, unknown or another organization's answers alike, to
// the last byte but the request's id.
func TestStrangeIDsAnswerAlike(t *testing.T) {
	s := instancetest.Serve(t, map[string]string{"CREDENTIAL_REVEAL": "true"})
	theirs := as(t, s, "other", "u1", access.Owner).store("openai", map[string]string{"apiKey": "sk-0123456789abcdefghijklmn"})
	c := as(t, s, "acme", "u1", access.Owner)
	deleted := c.store("openai", map[string]string{"apiKey": "sk-0123456789abcdefghijklmn"})
	if a := c.do("DELETE", credentialsPath+"/"+deleted, ""); a.Status != 204 || a.Body != "" {
		t.Fatalf("deleting: %d %q", a.Status, a.Body)
	}
	for _, call := range []struct{ method, after, body string }{
		{"GET", "", ""},
		{"PUT", "", `{"disabled":true}`},
		{"DELETE", "", ""},
		{"POST", "/rotate", `{"credentials":{"apiKey":"sk-0123456789abcdefghijklmn"}}`},
		{"POST", "/reveal", `{"reason":"looking"}`},
	} {
		var want api.Problem
		for i, id := range []string{
			unknownID, theirs, deleted, "x", "cred_", strings.ToUpper(unknownID), unknownID + "0", "evt" + unknownID[4:], "%00", "%ff%fe", "%0d%0aX-A:%20b",
			"%27%20OR%201=1--", "..%2f..%2fetc", strings.Repeat("a", 4000), "%E2%80%AE", "cred_%2500",
		} {
			p := checkProblem(t, c.do(call.method, credentialsPath+"/"+id+call.after, call.body), 404, "credential_not_found")
			if p.RequestID = ""; i == 0 {
				want = p
			} else if diff := cmp.Diff(want, p); diff != "" {
				t.Errorf("%s %.60s%s does not answer as for an unknown id: %s", call.method, id, call.after, diff)
			}
		}
	}
}

func TestUnknownRoutes(t *testing.T) {
	s := instancetest.Serve(t, nil)
	c := as(t, s, "acme", "u1", access.Owner)
	for _, path := range []string{
		"/", "/api", "/api/", "/favicon.ico", "/api/api-credentials/", "/api/api-credentials/a/b/c", "/api/chat", "/api/proxy", "/api/CHAT/openai",
		"/api//api-credentials", "/api/./api-credentials", "/api/x/../api-credentials", "/api//chat/openai/v1/models", "/api%2Fchat/openai", "/%2e%2e/healthz",
		"/api/api-credentials/../organizations", "/%00", "/%ff", "/..", "/debug/pprof/", "/metrics/../healthz", "/.git/config", "/openapi.json/", "/healthz/x",
	} {
		checkProblem(t, c.get(path), 404, "route_not_found")
		checkProblem(t, anonymous(t, s).get(path), 404, "route_not_found")
	}
}

func TestMethods(t *testing.T) {
	s := instancetest.Serve(t, nil)
	c := as(t, s, "acme", "u1", access.Owner)
	for _, call := range []struct {
		method, path string
		allow        []string
	}{
		{"PATCH", credentialsPath, []string{"GET", "POST"}},
		{"DELETE", credentialsPath, []string{"GET", "POST"}},
		{"OPTIONS", credentialsPath, []string{"GET", "POST"}},
		{"TRACE", credentialsPath, []string{"GET", "POST"}},
		{"PROPFIND", credentialsPath, []string{"GET", "POST"}},
		{"get", credentialsPath, []string{"GET", "POST"}},
		{"POST", credentialsPath + "/" + unknownID, []string{"GET", "PUT", "DELETE"}},
		{"GET", credentialsPath + "/" + unknownID + "/rotate", []string{"POST"}},
		{"GET", "/api/rate-limit/reset", []string{"POST"}},
		{"PUT", eventsPath, []string{"GET"}},
		{"POST", "/healthz", []string{"GET"}},
		{"POST", "/openapi.json", []string{"GET"}},
		{"OPTIONS", "/readyz", []string{"GET"}},
	} {
		a := c.do(call.method, call.path, "")
		checkProblem(t, a, 405, "method_not_allowed")
		if got := a.Header.Values("Allow"); !slices.Equal(got, call.allow) {
			t.Errorf("%s %s: Allow %q, want %q", call.method, call.path, got, call.allow)
		}
	}
	for _, path := range []string{credentialsPath, statusPath, eventsPath, "/healthz", "/readyz", "/openapi.json", "/docs"} {
		get, head := c.get(path), c.do("HEAD", path, "")
		if head.Status != 200 || head.Body != "" || head.Header.Get("Content-Type") != get.Header.Get("Content-Type") {
			t.Errorf("HEAD %s: %d %q %q, want 200 as for GET (%q)", path, head.Status, head.Header, head.Body, get.Header.Get("Content-Type"))
		}
	}
	for _, accept := range []string{"json", "text/html", "application/xml;q=1, */*;q=0", ";;"} {
		if a := c.get(credentialsPath, "Accept", accept); a.Status != 200 || a.Header.Get("Content-Type") != "application/json" {
			t.Errorf("Accept: %s: %d %q", accept, a.Status, a.Header)
		}
	}
	if a := c.do("HEAD", "/nowhere", ""); a.Status != 404 || a.Body != "" {
		t.Errorf("HEAD /nowhere: %d %q", a.Status, a.Body)
	}
}

func TestLargeBodies(t *testing.T) {
	s := instancetest.Serve(t, nil)
	c := as(t, s, "acme", "u1", access.Owner)
	const ten = 10 << 20
	for _, path := range []string{credentialsPath, credentialsPath + "/" + unknownID + "/rotate"} {
		for name, length := range map[string]int64{"with its length": ten, "in chunks": -1} {
			r := c.request("POST", path, io.LimitReader(endless('a'), ten))
			r.ContentLength = length
			t.Run(name, func(t *testing.T) { checkProblem(t, c.send(r), 413, "body_too_large") })
		}
	}

	// The permission comes before the body, and the token before the permission.
	r := as(t, s, "acme", "u2", access.Viewer).request("POST", credentialsPath, io.LimitReader(endless('a'), ten))
	checkProblem(t, c.send(r), 403, "permission_denied")
	r = anonymous(t, s).request("POST", credentialsPath, io.LimitReader(endless('a'), ten))
	checkProblem(t, c.send(r), 401, "token_missing")
}

type endless byte

func (e endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(e)
	}
	return len(p), nil
}

// A body that stops coming, or breaks off, is the client's fault and says so.
func TestBrokenBodies(t *testing.T) {
	s := instancetest.Serve(t, nil)
	c := as(t, s, "acme", "u1", access.Owner)
	for name, err := range map[string]error{
		"slow": fmt.Errorf("read tcp: %w", os.ErrDeadlineExceeded), "cut": io.ErrUnexpectedEOF, "no chunk": errors.New("invalid byte in chunk length"),
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequestWithContext(t.Context(), "POST", credentialsPath, io.MultiReader(strings.NewReader(`{"service":`), broken{err}))
			r.Header.Set("Authorization", "Bearer "+c.token)
			w := httptest.NewRecorder()
			s.Server.ServeHTTP(w, r)
			checkProblem(t, answer{w.Code, w.Header(), w.Body.String()}, 400, "body_incomplete")
		})
	}
	if strings.Contains(s.Logs.String(), `"level":"ERROR"`) {
		t.Errorf("a client's broken body is logged as an error of ours: %s", s.Logs)
	}
}

type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }

// raw sends bytes as they are and gives the answer's status, 0 for none.
func raw(t *testing.T, s *instancetest.Server, text string) (int, string) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go io.WriteString(conn, text)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}

// What is not HTTP, or could be read in two ways by two servers, is refused
// before anything of ours sees it.
func TestHostileHTTP(t *testing.T) {
	s := instancetest.Serve(t, nil)
	token := as(t, s, "acme", "u1", access.Owner).token
	const host = "Host: x\r\nConnection: close\r\n"
	for name, test := range map[string]struct {
		text   string
		status int
	}{
		"huge header":              {"GET " + statusPath + " HTTP/1.1\r\n" + host + "X-Big: " + strings.Repeat("a", 64<<10) + "\r\n\r\n", 431},
		"many headers":             {"GET " + statusPath + " HTTP/1.1\r\n" + host + strings.Repeat("A: b\r\n", 20_000) + "\r\n", 431},
		"two lengths":              {"POST " + credentialsPath + " HTTP/1.1\r\n" + host + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400},
		"length that is none":      {"POST " + credentialsPath + " HTTP/1.1\r\n" + host + "Content-Length: +2\r\n\r\n{}", 400},
		"unknown transfer coding":  {"POST " + credentialsPath + " HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501},
		"NUL in a header":          {"GET " + statusPath + " HTTP/1.1\r\n" + host + "Authorization: Bearer a\x00b\r\n\r\n", 400},
		"space before the colon":   {"GET " + statusPath + " HTTP/1.1\r\n" + host + "Authorization : Bearer a\r\n\r\n", 400},
		"two hosts":                {"GET " + statusPath + " HTTP/1.1\r\n" + host + "Host: y\r\n\r\n", 400},
		"no host":                  {"GET " + statusPath + " HTTP/1.1\r\nConnection: close\r\n\r\n", 400},
		"space in the path":        {"GET /api/rate limit HTTP/1.1\r\n" + host + "\r\n", 400},
		"a tunnel":                 {"CONNECT example.com:443 HTTP/1.1\r\n" + host + "\r\n", 404},
		"a path that is another's": {"GET http://example.com/api/chat/openai/v1/models HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\nAuthorization: Bearer " + token + "\r\n\r\n", 404},
		"HTTP/0.9":                 {"GET /healthz\r\n", 400},
		"HTTP/2":                   {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400},
		"the server as a whole":    {"OPTIONS * HTTP/1.1\r\n" + host + "\r\n", 200},
		"a body cut in its chunks": {"POST " + credentialsPath + " HTTP/1.1\r\n" + host + "Authorization: Bearer " + token + "\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400},
		// A length beside chunks is read as chunks, and the connection is not used again.
		"a length and chunks": {"POST " + credentialsPath + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token +
			"\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 400},
	} {
		t.Run(name, func(t *testing.T) {
			status, body := raw(t, s, test.text)
			if status != test.status {
				t.Errorf("status %d, want %d: %.200s", status, test.status, body)
			}
			if strings.Contains(body, `"status":"ok"`) {
				t.Error("the second request in the body was answered")
			}
		})
	}
}
