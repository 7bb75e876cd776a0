package server_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// TestHostileTextsEverywhere puts texts that databases and logs choke on into
// each place, each query parameter and each text of a body of every operation
// of the API document: whatever comes back, it is no error of ours.
func TestHostileTextsEverywhere(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, database string) {
		openai := gatehousetest.OpenAI(t)
		s := instancetest.Serve(t, map[string]string{
			"DATABASE_URL": database, "SERVICE_HOSTS": "openai=" + openai.URL, "CREDENTIAL_REVEAL": "true",
			"CHAT_IP_LIMIT": "100000/1m", "CREDENTIAL_TEST_LIMIT": "100000/1m",
		})
		c := as(t, s, "acme", "u1", access.Owner, access.Operator)
		id := c.store("openai", map[string]string{"apiKey": "sk-0123456789abcdefghijklmn"})
		real := strings.NewReplacer("{id}", id, "{service}", "openai", "{path}", "v1/models", "{type}", "org", "{key}", "acme", "/tail", "/tail?seconds=1")
		d := document(t, c)
		check := func(operation, what, text string, a answer) {
			t.Helper()
			if a.Status >= 500 {
				t.Errorf("%s, %s of %.40q: %d %s", operation, what, text, a.Status, a.Body)
			}
		}
		for operation, o := range d.operations() {
			method, template, _ := strings.Cut(operation, " ")
			path := placeholders.ReplaceAllString(real.Replace(template), "1")
			for _, text := range []string{"a\x00b", "\xff", "\xed\xa0\x80", `'"\$1%_`, "\U0010ffff\u202e", strings.Repeat("\u00e9", 1000)} {
				for _, at := range placeholders.FindAllStringIndex(template, -1) {
					place := template[at[0]:at[1]]
					one := strings.Replace(template, place, url.PathEscape(text), 1)
					check(operation, place, text, c.do(method, placeholders.ReplaceAllString(real.Replace(one), "1"), calls[operation].body))
				}
				for _, p := range o.Parameters {
					if p.In != "query" || p.Name == "seconds" {
						continue
					}
					join := "?"
					if strings.Contains(path, "?") {
						join = "&"
					}
					if method == http.MethodGet && strings.Contains(path, "/tail") && text[0] != 'a' {
						continue // one that is let in lasts a second
					}
					check(operation, p.Name, text, c.do(method, path+join+p.Name+"="+url.QueryEscape(text), calls[operation].body))
				}
				if shape, takes := o.body(); takes {
					body, err := json.Marshal(d.example(shape, "HOSTILE"))
					if err != nil {
						t.Fatal(err)
					}
					check(operation, "body", text, c.do(method, path, strings.ReplaceAll(string(body), `"HOSTILE"`, quote(text))))
				}
			}
		}
		if logs := s.Logs.String(); strings.Contains(logs, `"level":"ERROR"`) {
			at := strings.Index(logs, `"level":"ERROR"`)
			t.Errorf("the log has an error: %.600s", logs[max(at-60, 0):])
		}
		if waiting, lost := s.Audit.Backlog(); lost != 0 {
			t.Errorf("%d events could not be written, %d wait", lost, waiting)
		}
	})
}

// No body takes a member that its operation does not know: what a server sets
// itself (whose a thing is, its id, who made it) cannot be set from outside.
func TestNothingIsAssignedInPassing(t *testing.T) {
	s := instancetest.Serve(t, map[string]string{"CREDENTIAL_REVEAL": "true"})
	c := as(t, s, "acme", "u1", access.Owner, access.Operator)
	id := c.store("openai", map[string]string{"apiKey": "sk-0123456789abcdefghijklmn"})
	d := document(t, c)
	tried := 0
	for operation, o := range d.operations() {
		method, template, _ := strings.Cut(operation, " ")
		shape, takes := o.body()
		if !takes {
			continue
		}
		tried++
		path := placeholders.ReplaceAllString(strings.ReplaceAll(template, "{id}", id), "1")
		object, _ := d.example(shape, "x").(map[string]any)
		for _, name := range []string{"organizationId", "organization", "owner", "id", "createdBy", "createdAt", "revision", "operator", "__proto__", "CREATEDBY"} {
			if _, its := object[name]; its {
				continue
			}
			object[name] = "globex"
			p := checkProblem(t, c.json(method, path, object), 422, "invalid_request")
			if !slices.ContainsFunc(p.Errors, func(e api.ProblemField) bool {
				return strings.Contains(e.Message, "is not a field") || strings.Contains(e.Message, "has a field")
			}) {
				t.Errorf("%s with %s: %+v", operation, name, p)
			}
			delete(object, name)
		}
	}
	if tried < 20 {
		t.Errorf("%d operations take a body; are they found?", tried)
	}
}
