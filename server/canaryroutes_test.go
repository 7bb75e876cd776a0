package server_test

import (
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

var placeholders = regexp.MustCompile(`\{[a-z]+\}`)

// plantEverywhere plants values in every operation of the API document: in each
// place of its path, in its query, in a header and in its body. A route that is
// added to the table is visited by that alone; one that no answer comes from
// fails the test.
func plantEverywhere(t *testing.T, clients []*client, id string, p *planted, note func(where string, a answer)) {
	t.Helper()
	ops := operations(t, clients[0])
	// What removes things comes last, so that others meet them.
	slices.SortStableFunc(ops, func(a, b string) int { return strings.Compare(removal(a), removal(b)) })
	visited := make(map[string]bool)
	visit := func(op string, c *client, path, body string, header ...string) {
		method, _, _ := strings.Cut(op, " ")
		a := c.do(method, path, body, header...)
		note(op+" as "+path+" "+body, a)
		var problem struct{ Code string }
		if a.Status >= 400 {
			problem = decode[struct{ Code string }](t, a, a.Status)
		}
		if problem.Code != "route_not_found" && problem.Code != "method_not_allowed" {
			visited[op] = true
		}
	}
	for _, op := range ops {
		method, template, _ := strings.Cut(op, " ")
		more := "?"
		if template == "/api/audit/tail" { // it ends when its caller does, or when told
			template, more = template+"?seconds=1", "&"
		}
		real := strings.NewReplacer("{id}", id, "{service}", "openai", "{path}", "v1/models", "{type}", "org", "{key}", "acme").Replace(template)
		real = placeholders.ReplaceAllString(real, "1")
		for i, c := range clients {
			strange := placeholders.ReplaceAllStringFunc(template, func(string) string { return url.PathEscape(p.next()) })
			visit(op, c, strange, "")
			visit(op, c, real+more+"cursor="+p.next()+"&"+p.next()+"=x", "")
			visit(op, c, real, "", "If-Match", `"`+p.next()+`"`, "X-Request-Id", p.next()+"!")
			if method == http.MethodGet {
				continue
			}
			for n, body := range plantedBodies(p) {
				if i == 0 || n%10 == 0 { // those who are refused at the door are refused alike
					visit(op, c, real, body)
				}
			}
		}
	}
	for _, op := range ops {
		if !visited[op] {
			t.Errorf("%s is a route that no planted value came to", op)
		}
	}
	if len(ops) < 30 {
		t.Errorf("only %d operations: %v", len(ops), ops)
	}
}

func removal(op string) string {
	if strings.HasPrefix(op, http.MethodDelete) {
		return "last"
	}
	return "first"
}

// The test above goes by the API document; what is not in it is listed here, so
// that no route is in neither.
func TestEveryRouteMeetsTheCanary(t *testing.T) {
	s := instancetest.Serve(t, nil)
	inDocument := make(map[string]bool)
	for _, op := range operations(t, anonymous(t, s)) {
		inDocument[op] = true
	}
	for op := range maps.Keys(calls) { // the table of permissions, which is compared with the routes' own
		if !inDocument[op] {
			t.Errorf("%s is not in the API document, and so not visited", op)
		}
	}
}
