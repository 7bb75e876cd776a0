package server_test

import (
	"bytes"
	"encoding/base64"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// sampleFields gives what a whole credential of a service may be, by the service's own
// description of it, and the secret that is put on requests.
func sampleFields(s *catalog.Service) map[string]string {
	needed := map[string]bool{}
	for _, f := range s.Fields {
		needed[f.Name] = f.Required
	}
	if len(s.Alternatives) > 0 {
		for _, name := range s.Alternatives[0] {
			needed[name] = true
		}
	}
	fields := map[string]string{}
	for _, f := range s.Fields {
		if !needed[f.Name] {
			continue
		}
		switch f.Format {
		case catalog.Label:
			fields[f.Name] = "acme"
		case catalog.Choice:
			fields[f.Name] = f.Choices[0]
		case catalog.Email:
			fields[f.Name] = "agent@example.com"
		case catalog.Endpoint:
			fields[f.Name] = "https://acme" + f.Suffixes[0]
		case catalog.Segment:
			fields[f.Name] = "AC00112233445566778899aabbccddeeff"
		default:
			fields[f.Name] = "secret-0123456789-" + f.Name
		}
	}
	return fields
}

// Every service of the catalogue that has requests is reached by path and by host name,
// with its own paths, queries, bodies and answers: JSON, a stream, a form with a file,
// bytes of any kind. The key is on each request, the caller's token on none.
func TestEveryServiceIsReached(t *testing.T) {
	type visit struct {
		method, uri, body string
		header            http.Header
	}
	var mu sync.Mutex
	var last visit
	binary := bytes.Repeat([]byte("\x00\xff\r\n\x1b data: {"), 5000)
	const events = "event: a\ndata: {\"n\":1}\n\n: comment\n\ndata: [DONE]\n\n"
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		last = visit{r.Method, r.RequestURI, string(body), r.Header}
		mu.Unlock()
		switch {
		case strings.HasSuffix(r.URL.Path, "/events"):
			w.Header().Set("Content-Type", "text/event-stream")
			for part := range strings.SplitAfterSeq(events, "\n") {
				_, _ = io.WriteString(w, part)
				_ = http.NewResponseController(w).Flush()
			}
		case strings.HasSuffix(r.URL.Path, "/file"):
			w.Header().Set("Content-Type", "application/octet-stream")
			_, _ = w.Write(binary)
		default:
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"ok":true}`)
		}
	}))
	defer upstream.Close()

	services, err := catalog.New(catalog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var moved []string
	for _, s := range services.Services() {
		if s.Injectable() {
			moved = append(moved, s.Name+"="+upstream.URL+"/"+s.Name)
		}
	}
	if len(moved) < 22 {
		t.Fatalf("only %d services: %v", len(moved), moved)
	}
	s := instancetest.Serve(t, map[string]string{
		"SERVICE_HOSTS": strings.Join(moved, ","), "GATEHOUSE_DOMAIN": "gw.example.com", "CHAT_IP_LIMIT": "100000/1m", "CHAT_ORG_LIMIT": "100000/1m",
	})
	c := as(t, s, "acme", "u1", access.Owner)

	var form bytes.Buffer
	m := multipart.NewWriter(&form)
	part, _ := m.CreateFormFile("file", "data.bin")
	_, _ = part.Write(binary)
	_ = m.Close()

	for _, service := range services.Services() {
		if !service.Injectable() {
			continue
		}
		t.Run(service.Name, func(t *testing.T) {
			fields := sampleFields(service)
			in := api.CredentialCreate{Service: service.Name, Credentials: fields, Scope: &api.Scope{Paths: []string{"/**"}}}
			if a := c.json("POST", credentialsPath, in); a.Status != http.StatusCreated {
				t.Fatalf("%d %s", a.Status, a.Body)
			}
			// check looks at what the upstream got of the request that was sent last.
			check := func(method, uri, body string) {
				t.Helper()
				mu.Lock()
				defer mu.Unlock()
				if last.method != method || last.uri != "/"+service.Name+uri || last.body != body {
					t.Errorf("the upstream saw %s %s with %d bytes, want %s %s with %d", last.method, last.uri, len(last.body), method, uri, len(body))
				}
				keyed := false
				for name, values := range last.header {
					for _, v := range values {
						if strings.Contains(v, c.token) {
							t.Errorf("the caller's token went upstream in %s", name)
						}
						if _, encoded, ok := strings.Cut(v, "Basic "); ok {
							plain, _ := base64.StdEncoding.DecodeString(encoded)
							v = string(plain)
						}
						keyed = keyed || strings.Contains(v, "secret-0123456789-")
					}
				}
				if !keyed {
					t.Errorf("no header of the request holds the key: %v", last.header)
				}
				last = visit{}
			}
			for _, at := range []struct{ prefix, host string }{{service.PathPrefix(), ""}, {"", service.Name + ".gw.example.com"}} {
				send := func(method, uri, body string, header ...string) answer {
					t.Helper()
					r := c.request(method, at.prefix+uri, strings.NewReader(body), header...)
					if at.host != "" {
						r.Host = at.host
					}
					a := c.send(r)
					if a.Status != http.StatusOK || a.Header.Get("Gatehouse-Error") != "" {
						t.Errorf("%s%s: %d %s", at.host, uri, a.Status, a.Body)
					}
					return a
				}
				const odd = "/v1/a%20b/c:d/%E2%82%AC;e=f/?q=1&q=a+b%2F&empty=&x"
				if a := send("GET", odd, ""); a.Body != `{"ok":true}` {
					t.Errorf("JSON came as %q", a.Body)
				}
				check("GET", odd, "")
				if a := send("POST", "/v1/events", `{"stream":true}`, "Content-Type", "application/json", "Accept", "text/event-stream"); a.Body != events {
					t.Errorf("events came as %q", a.Body)
				}
				check("POST", "/v1/events", `{"stream":true}`)
				if a := send("PUT", "/v1/file", form.String(), "Content-Type", m.FormDataContentType()); a.Body != string(binary) {
					t.Errorf("a file of %d bytes came as %d", len(binary), len(a.Body))
				}
				check("PUT", "/v1/file", form.String())
				send("DELETE", "/v1/things/1", "")
				check("DELETE", "/v1/things/1", "")
			}
			wrong := strings.Replace(strings.Replace(service.PathPrefix(), "/chat/", "/x/", 1), "/proxy/", "/chat/", 1)
			wrong = strings.Replace(wrong, "/x/", "/proxy/", 1)
			checkProblem(t, c.get(wrong+"/v1/x"), http.StatusNotFound, "wrong_route")
		})
	}
}
