package server_test

import (
	"encoding/json"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// operation is what the tests read of one.
type operation struct {
	ID         string `json:"operationId"`
	Summary    string `json:"summary"`
	Permission string `json:"x-permission"`
	Security   []map[string][]string
	Parameters []described
	Responses  map[string]struct {
		Description string
		Content     map[string]struct{ Schema json.RawMessage }
	}
}

// described is a parameter of an operation.
type described struct {
	Name, In string
	Required bool
	Schema   json.RawMessage
}

func TestDocumentIsWhole(t *testing.T) {
	s := instancetest.Serve(t, nil)
	a := anonymous(t, s).get("/openapi.json")
	if a.Header.Get("Content-Type") != "application/json" {
		t.Errorf("Content-Type %q", a.Header.Get("Content-Type"))
	}
	var document struct {
		OpenAPI    string                          `json:"openapi"`
		Info       struct{ Title, Version string } `json:"info"`
		Paths      map[string]map[string]operation `json:"paths"`
		Components struct {
			SecuritySchemes map[string]json.RawMessage `json:"securitySchemes"`
		} `json:"components"`
	}
	var whole any
	if err := json.Unmarshal([]byte(a.Body), &document); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(a.Body), &whole); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(document.OpenAPI, "3.1") || document.Info.Title == "" || document.Info.Version == "" {
		t.Errorf("the document begins %q %+v", document.OpenAPI, document.Info)
	}
	checkReferences(t, whole, whole, "#")

	ids := map[string]string{}
	permissions := map[string]bool{"none": true}
	for _, p := range access.Permissions() {
		permissions[p.String()] = true
	}
	placeholder := regexp.MustCompile(`\{([^}]+)\}`)
	for path, item := range document.Paths {
		for method, o := range item {
			where := method + " " + path
			if o.ID == "" || ids[o.ID] != "" {
				t.Errorf("%s has the id %q, as has %q", where, o.ID, ids[o.ID])
			}
			ids[o.ID] = where
			if o.Summary == "" || !permissions[o.Permission] || len(o.Responses) == 0 {
				t.Errorf("%s: summary %q, permission %q, %d answers", where, o.Summary, o.Permission, len(o.Responses))
			}
			for _, requirement := range o.Security {
				for name := range requirement {
					if document.Components.SecuritySchemes[name] == nil {
						t.Errorf("%s: the security scheme %q is not there", where, name)
					}
				}
			}
			if len(o.Security) == 0 {
				t.Errorf("%s needs no token, says the document", where)
			}
			inPath := map[string]bool{}
			for _, p := range o.Parameters {
				if p.In == "path" {
					inPath[p.Name] = p.Required
				}
				if len(p.Schema) == 0 {
					t.Errorf("%s: %s has no schema", where, p.Name)
				}
			}
			for _, m := range placeholder.FindAllStringSubmatch(path, -1) {
				if !inPath[m[1]] {
					t.Errorf("%s: {%s} is no required parameter", where, m[1])
				}
				delete(inPath, m[1])
			}
			if len(inPath) > 0 {
				t.Errorf("%s: parameters that are not in the path: %v", where, inPath)
			}
			for status, response := range o.Responses {
				for media := range response.Content {
					if want := "application/problem+json"; status >= "4" && status != "default" && media != want {
						t.Errorf("%s: %s is %s, want %s", where, status, media, want)
					}
				}
			}
		}
	}
}

// checkReferences walks the document and finds the target of each $ref.
func checkReferences(t *testing.T, root, at any, where string) {
	switch v := at.(type) {
	case map[string]any:
		if ref, ok := v["$ref"].(string); ok {
			target := root
			for name := range strings.SplitSeq(strings.TrimPrefix(ref, "#/"), "/") {
				m, _ := target.(map[string]any)
				target = m[name]
			}
			if target == nil {
				t.Errorf("%s: %s leads nowhere", where, ref)
			}
		}
		for name, child := range v {
			checkReferences(t, root, child, where+"/"+name)
		}
	case []any:
		for _, child := range v {
			checkReferences(t, root, child, where)
		}
	}
}

// The reader of the document comes out of the binary: it works without a
// network, and asks nobody else.
func TestDocsWorkOffline(t *testing.T) {
	s := instancetest.Serve(t, nil)
	c := anonymous(t, s)
	page := c.get("/docs")
	if page.Status != 200 || !strings.HasPrefix(page.Header.Get("Content-Type"), "text/html") {
		t.Fatalf("/docs: %d %q", page.Status, page.Header)
	}
	policy := page.Header.Get("Content-Security-Policy")
	if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "http") || !strings.Contains(policy, "frame-ancestors 'none'") {
		t.Errorf("the policy is %q", policy)
	}
	assets := regexp.MustCompile(`(?:src|href)\s*=\s*["']([^"']+)["']`).FindAllStringSubmatch(page.Body, -1)
	if len(assets) == 0 {
		t.Errorf("the page has no assets: %s", page.Body)
	}
	scripts := 0
	for _, m := range assets {
		path := m[1]
		if strings.Contains(path, "//") {
			t.Errorf("the page asks %s", path)
			continue
		}
		if !strings.HasPrefix(path, "/") {
			path = "/docs/" + path
		}
		a := c.get(path)
		if a.Status != 200 || len(a.Body) == 0 {
			t.Errorf("%s: %d", path, a.Status)
		}
		if strings.HasSuffix(path, ".js") {
			scripts++
			if ct := a.Header.Get("Content-Type"); !strings.Contains(ct, "javascript") { // nosniff holds
				t.Errorf("%s is %s", path, ct)
			}
		}
	}
	elsewhere := regexp.MustCompile(`["'(](?:https?:)?//[A-Za-z0-9]`)
	if scripts == 0 || elsewhere.MatchString(page.Body) || !strings.Contains(page.Body, "/openapi.json") {
		t.Errorf("%d scripts, and the page is %s", scripts, page.Body)
	}
}

// The instance's own routes need no token and tell nothing.
func TestInstanceRoutes(t *testing.T) {
	s := instancetest.Serve(t, nil)
	c := anonymous(t, s)
	for _, path := range []string{"/healthz", "/readyz", "/openapi.json", "/docs"} {
		a := c.do("GET", path, "", "X-Request-Id", "host-1")
		if a.Status != 200 || a.Header.Get("Cache-Control") != "no-store" || a.Header.Get("X-Request-Id") != "host-1" {
			t.Errorf("%s: %d %q", path, a.Status, a.Header)
		}
		for _, secret := range []string{gatehousetest.JWTSecret, gatehousetest.EncryptionKey, s.Config.Data} {
			if strings.Contains(a.Body, secret) {
				t.Errorf("%s tells a secret or a path", path)
			}
		}
	}
	// A request id that could break a log line is not taken over.
	for _, id := range []string{"a b", "a\tb", "é", strings.Repeat("a", 129), `"}{"x":"`, "a;b", "<script>"} {
		if a := c.get("/healthz", "X-Request-Id", id); !strings.HasPrefix(a.Header.Get("X-Request-Id"), "req_") {
			t.Errorf("the request id %q is taken over as %q", id, a.Header.Get("X-Request-Id"))
		}
	}
	lines := strings.Split(strings.TrimSpace(s.Logs.String()), "\n")
	for _, line := range lines {
		dec := json.NewDecoder(strings.NewReader(line))
		var v map[string]any
		if err := dec.Decode(&v); err != nil || dec.More() {
			t.Errorf("a log line is not one JSON object: %q (%v)", line, err)
		} else if _, err := dec.Token(); err != io.EOF {
			t.Errorf("a log line goes on after its object: %q", line)
		}
	}
}

// A POST that asks for nothing in its body works without one; what a PUT replaces everything by has
// to be said.
func TestNothingAskedNoBodyNeeded(t *testing.T) {
	s := instancetest.Serve(t, nil)
	ops := as(t, s, "ops", "o", access.Operator)
	var document struct {
		Paths map[string]map[string]struct {
			RequestBody *struct {
				Required bool
				Content  map[string]struct {
					Schema struct {
						Ref string `json:"$ref"`
					}
				}
			}
		}
		Components struct {
			Schemas map[string]struct{ Required []string }
		}
	}
	if err := json.Unmarshal([]byte(anonymous(t, s).get("/openapi.json").Body), &document); err != nil {
		t.Fatal(err)
	}
	free := 0
	for path, item := range document.Paths {
		o := item["post"]
		if o.RequestBody == nil {
			continue
		}
		_, name, _ := strings.Cut(o.RequestBody.Content["application/json"].Schema.Ref, "#/components/schemas/")
		schema, known := document.Components.Schemas[name]
		if !known {
			t.Errorf("POST %s: no schema %q", path, name)
		}
		if o.RequestBody.Required != (len(schema.Required) > 0) {
			t.Errorf("POST %s: its body is required: %t, and in it %q", path, o.RequestBody.Required, schema.Required)
		}
		if o.RequestBody.Required {
			continue
		}
		free++
		path = regexp.MustCompile(`\{[^}]+\}`).ReplaceAllString(path, "1")
		empty, braces := ops.do("POST", path, ""), ops.do("POST", path, "{}")
		if empty.Status/100 != braces.Status/100 || strings.Contains(empty.Body, "request body is required") {
			t.Errorf("POST %s gives %d without a body, and %d with {}: %s", path, empty.Status, braces.Status, empty.Body)
		}
	}
	if free < 8 {
		t.Errorf("%d POST take no body", free)
	}
}

// The document has the answer to a change that meets another, and to one that is meant for another state; and
// to what another gateway cannot have meant.
func TestDocumentTellsOfConflicts(t *testing.T) {
	s := instancetest.Serve(t, nil)
	c := as(t, s, "acme", "boss", access.Owner, access.Operator)
	var document struct {
		Paths map[string]map[string]operation
	}
	if err := json.Unmarshal([]byte(c.get("/openapi.json").Body), &document); err != nil {
		t.Fatal(err)
	}
	told := func(o operation, status string) bool {
		return len(o.Responses[status].Content["application/problem+json"].Schema) > 0
	}
	conditional := 0
	for path, item := range document.Paths {
		for method, o := range item {
			takes := slices.ContainsFunc(o.Parameters, func(p described) bool { return p.Name == "If-Match" })
			if takes != told(o, "412") {
				t.Errorf("%s %s: it takes If-Match: %t, and 412 is told: %t", method, path, takes, told(o, "412"))
			}
			if takes {
				conditional++
			}
		}
	}
	if conditional < 12 {
		t.Errorf("%d operations take If-Match", conditional)
	}
	auth := document.Paths["/api/rate-limit/auth"]["get"]
	if a := c.get("/api/rate-limit/auth?service=nope"); a.Status != 400 || auth.Responses["400"].Description == "" || auth.Responses["503"].Description == "" {
		t.Errorf("a service that there is not gives %d, and the document tells of %v", a.Status, auth.Responses)
	}
	id := c.store("openai", map[string]string{"apiKey": "sk-0123456789abcdefghijklmn"})
	for _, call := range [][4]string{
		{"POST", credentialsPath, credentialsPath, `{"service":"openai","credentials":{"apiKey":"sk-0123456789abcdefghijklmn"}}`},
		{"POST", credentialsPath + "/{id}/rollback", credentialsPath + "/" + id + "/rollback", ""},
		{"DELETE", credentialsPath + "/{id}/versions/{version}", credentialsPath + "/" + id + "/versions/1", ""},
		{"POST", "/api/organizations", "/api/organizations", `{"id":"acme"}`},
		{"PUT", "/api/roles/{role}", "/api/roles/viewer", `{"permissions":["limit:read"]}`},
	} {
		if a := c.do(call[0], call[2], call[3]); a.Status != 409 || !told(document.Paths[call[1]][strings.ToLower(call[0])], "409") {
			t.Errorf("%s %s gives %d %s, and the document tells of 409: %t", call[0], call[2], a.Status, a.Body, told(document.Paths[call[1]][strings.ToLower(call[0])], "409"))
		}
	}
}
