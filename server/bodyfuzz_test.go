package server_test

import (
	"encoding/json"
	"errors"
	"hash/fnv"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// FuzzBodies sends any body to any operation that takes one, as a caller who
// may do everything. Whatever comes, the answer is not a fault of the server,
// is JSON, and where it refuses says nothing of what was sent.
func FuzzBodies(f *testing.F) {
	for _, seed := range [][2]string{
		{"POST /api/api-credentials", `{"service":"openai","credentials":{"apiKey":"sk-0123456789abcdefghijklmn"}}`},
		{"POST /api/api-credentials", `{"service":"smtp","name":"mail","credentials":{"host":"smtp.example.com","user":"u","pass":"p"},"expiresAt":"2999-01-01T00:00:00Z"}`},
		{"PUT /api/api-credentials/{id}", `{"name":null,"credentials":{"apiKey":null},"expiresAt":"x","disabled":1}`},
		{"POST /api/api-credentials/{id}/rotate", `{"credentials":{"apiKey":"••••ghij"},"graceSeconds":-1}`},
		{"POST /api/api-credentials/{id}/reveal", `{"reason":"` + strings.Repeat("a", 600) + `"}`},
		{"POST /api/rate-limit/reset", `{"type":"ip","key":"::ffff:1.2.3.4"}`},
		{"POST /api/rate-limit/check", `{"subjects":[{"type":"ip","key":"203.0.113.7"},{"type":"org","key":"acme"}],"service":"openai","path":"v1/%2e%2e/x","consume":true}`},
		{"POST /api/rate-limit/check/batch", `{"checks":[{"subjects":[]},{"subjects":null},{}]}`},
		{"POST /api/rate-limit/policies", `{"effect":"limit","subject":"org","limits":["20/1s","5000/1h"],"reason":"r","cidr":"203.0.113.0/24"}`},
		{"PUT /api/rate-limit/policies/{id}", `{"effect":"exempt","cidr":"1.2.3.4/33","reason":"r","expiresAt":"0000-00-00T00:00:00Z"}`},
		{"POST /api/organizations", `{"id":"a/../b","name":"\u202e"}`},
		{"POST /api/api-credentials", "{\"service\":\"openai\",\"credentials\":{\"apiKey\":\"\xff\xfe\"}}"},
		{"POST /api/api-credentials", `{"service":1e400,"credentials":[[[[{}]]]]}`},
		{"", `null`}, {"", `[]`}, {"", `"x"`}, {"", `{"a":{"b":{"c":1}}}`}, {"", ``}, {"", `{`},
	} {
		f.Add(seed[0], seed[1])
	}
	s := instancetest.Serve(f, map[string]string{"CREDENTIAL_REVEAL": "true", "CHAT_ORG_LIMIT": "1000000/1s"})
	c := as(f, s, "acme", "u1", access.Owner, access.Operator)
	id := c.store("openai", map[string]string{"apiKey": "sk-0123456789abcdefghijklmn"})
	operations, words := operationsWithBody(f, anonymous(f, s).get("/openapi.json").Body)

	f.Fuzz(func(t *testing.T, operation, body string) {
		if !slices.Contains(operations, operation) {
			h := fnv.New32a()
			_, _ = h.Write([]byte(operation + body))
			operation = operations[int(h.Sum32()%uint32(len(operations)))]
		}
		method, path, _ := strings.Cut(operation, " ")
		path = parameter.ReplaceAllString(strings.Replace(path, "{id}", id, 1), "1")
		c := *c
		c.t = t
		a := c.do(method, path, body)
		if a.Status >= 500 {
			t.Fatalf("%s with %q: %d %s", operation, body, a.Status, a.Body)
		}
		if a.Body != "" && !json.Valid([]byte(a.Body)) {
			t.Fatalf("%s with %q: %d with what is no JSON: %q", operation, body, a.Status, a.Body)
		}
		if a.Status < 400 {
			return
		}
		for _, said := range word.FindAllString(body, -1) {
			if strings.Contains(a.Body, said) && !strings.Contains(words, said) {
				t.Fatalf("%s: %d repeats %q of what was sent: %s", operation, a.Status, said, a.Body)
			}
		}
	})
}

var (
	parameter = regexp.MustCompile(`\{[a-zA-Z]+\}`)
	word      = regexp.MustCompile(`[A-Za-z0-9_-]{12,}`) // shorter ones may be in any answer
)

// operationsWithBody gives "POST /path" of each operation of the document that
// takes a body, in order, and the document as the words that an answer may hold.
func operationsWithBody(t testing.TB, document string) (operations []string, words string) {
	var d struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal([]byte(document), &d); err != nil {
		t.Fatal(err)
	}
	for path, item := range d.Paths {
		for method, raw := range item {
			var o struct {
				RequestBody json.RawMessage `json:"requestBody"`
			}
			if json.Unmarshal(raw, &o) == nil && len(o.RequestBody) > 0 && !strings.Contains(path, "{path") {
				operations = append(operations, strings.ToUpper(method)+" "+path)
			}
		}
	}
	slices.Sort(operations)
	if len(operations) < 10 {
		t.Fatalf("the document has %d operations with a body: %q", len(operations), operations)
	}
	return operations, document
}

// Each operation that takes a body has a saved one that fits it, from which
// fuzzing starts, and which every run of the tests sends.
func TestEveryBodyHasACorpus(t *testing.T) {
	const folder = "testdata/fuzz/FuzzBodies"
	files, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	saved := make(map[string]bool)
	for _, f := range files {
		content, err := os.ReadFile(filepath.Join(folder, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(content), "\n")
		if len(lines) < 3 {
			t.Fatalf("%s is no corpus of two strings", f.Name())
		}
		operation, err := strconv.Unquote(strings.TrimSuffix(strings.TrimPrefix(lines[1], "string("), ")"))
		body, err2 := strconv.Unquote(strings.TrimSuffix(strings.TrimPrefix(lines[2], "string("), ")"))
		if err := errors.Join(err, err2); err != nil {
			t.Fatalf("%s: %v", f.Name(), err)
		}
		var members map[string]json.RawMessage
		if json.Unmarshal([]byte(body), &members) == nil && len(members) > 0 {
			saved[operation] = true
		}
	}
	operations, _ := operationsWithBody(t, anonymous(t, instancetest.Serve(t, nil)).get("/openapi.json").Body)
	for _, operation := range operations {
		if !saved[operation] {
			t.Errorf("no file in %s has a body for %s", folder, operation)
		}
	}
}
