package server_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// theirMark stands in every text that the other organization wrote and that is
// no id: it never reaches anybody else.
const theirMark = "GLOBEX-ONLY"

// places says what each placeholder of a path names: a kind of what tenants
// have (see furnish), or "" where it is nobody's own. A placeholder that is not
// here fails the walk: say what it names, and the walk tries another tenant's.
var places = map[string]string{
	"/api/api-credentials/{id}":                    "credential",
	"/api/api-credentials/{id}/versions/{version}": "",
	"/api/webhooks/{id}":                           "webhook",
	"/api/webhooks/{id}/deliveries/{delivery}":     "delivery",
	"/api/services/{name}":                         "",
	"/api/rate-limit/admin/status/{type}":          "",
	"/api/rate-limit/admin/status/{type}/{key}":    "organization",
	"/api/rate-limit/policies/{id}":                "policy",
	"/api/audit/events/{id}":                       "event",
	"/api/audit/persons/{person}":                  "member",
	"/api/members/{member}":                        "member",
	"/api/roles/{role}":                            "role",
	"/api/tokens/{token}":                          "token",
	"/api/retention/holds/{id}":                    "hold",
	"/api/organizations/{id}":                      "organization",
	"/api/keys/{id}":                               "", // the instance's
	"/api/chat/{service}":                          "",
	"/api/chat/{service}/{path}":                   "",
	"/api/proxy/{service}":                         "",
	"/api/proxy/{service}/{path}":                  "",
}

// unowned fills the places that name nothing of a tenant's.
var unowned = map[string]string{
	"{version}": "1", "{name}": "openai", "{type}": "org", "{service}": "openai", "{path}": "v1/models",
	"{id}": "key_01936f3e-7c5a-7b0e-9d52-3b1f6a3c9e10",
}

// nobodys are ids that have the form of a kind's, and are nobody's.
var nobodys = map[string]string{
	"credential": unknownID, "webhook": "whk_01936f3e-7c5a-7b0e-9d52-3b1f6a3c9e10", "delivery": "dlv_01936f3e-7c5a-7b0e-9d52-3b1f6a3c9e10",
	"policy": "pol_01936f3e-7c5a-7b0e-9d52-3b1f6a3c9e10", "event": "evt_01936f3e-7c5a-7b0e-9d52-3b1f6a3c9e10", "token": "tok_01936f3e-7c5a-7b0e-9d52-3b1f6a3c9e10",
	"hold": "hold_01936f3e-7c5a-7b0e-9d52-3b1f6a3c9e10", "member": "nobody-there", "role": "nobodys-role", "organization": "nowhere",
}

// furnish gives an organization one of everything that a tenant can have, and
// the ids by kind. mark is in every text that is no id.
func furnish(owner *client, organization, mark, receiver string) map[string]string {
	owner.t.Helper()
	create := func(method, path string, status int, body string) string {
		owner.t.Helper()
		return decode[struct{ ID string }](owner.t, owner.do(method, path, body), status).ID
	}
	has := map[string]string{"organization": organization, "member": organization + "-ann", "role": organization + "-role"}
	has["credential"] = owner.store("openai", map[string]string{"apiKey": "sk-0123456789abcdefghijklmn"}, "name", mark)
	if a := owner.do("POST", credentialsPath+"/"+has["credential"]+"/versions", `{"credentials":{"apiKey":"sk-0123456789abcdefghijklmo"}}`); a.Status != 201 {
		owner.t.Fatalf("staging a version: %d %s", a.Status, a.Body)
	}
	has["webhook"] = create("POST", webhooksPath, 201, `{"url":"`+receiver+`","description":"`+mark+`"}`)
	has["delivery"] = create("POST", webhooksPath+"/"+has["webhook"]+"/test", 202, "")
	has["policy"] = create("POST", policiesPath, 201, `{"effect":"limit","subject":"org","service":"openai","limits":["900/1h"],"reason":"`+mark+`"}`)
	has["hold"] = create("POST", "/api/retention/holds", 201, `{"reason":"`+mark+`","scope":{"actor":"`+has["member"]+`"}}`)
	_, has["token"] = owner.makeToken(map[string]any{"permissions": []string{"credential:list"}, "name": mark})
	create("PUT", "/api/members/"+has["member"], 200, `{"name":"`+mark+`","email":"`+mark+`@example.com"}`)
	create("POST", "/api/roles", 201, `{"name":"`+has["role"]+`","permissions":["limit:read"],"description":"`+mark+`"}`)
	has["event"] = owner.events("action", "credential.create")[0].ID
	return has
}

// snapshot gives everything of an organization that others could have changed.
func snapshot(owner *client, has map[string]string) map[string]string {
	owner.t.Helper()
	all := make(map[string]string)
	for _, path := range []string{
		credentialsPath, credentialsPath + "/" + has["credential"], credentialsPath + "/" + has["credential"] + "/versions", webhooksPath,
		webhooksPath + "/" + has["webhook"], webhooksPath + "/" + has["webhook"] + "/deliveries", policiesPath, policiesPath + "/" + has["policy"] + "/revisions",
		"/api/retention/policy", "/api/retention/holds", "/api/tokens", "/api/members", "/api/roles",
	} {
		a := owner.get(path)
		if a.Status != http.StatusOK {
			owner.t.Fatalf("%s: %d %s", path, a.Status, a.Body)
		}
		all[path] = a.Body
	}
	return all
}

// TestAnotherTenantsIDs walks every route of the API document that names
// something by an id, with another tenant's id in each place of its path, as
// every role, a role with every permission and a service token. The answer must
// be the one to an id that is nobody's; so it is with another tenant's ids in
// every query parameter and in every text of every body. Nothing of what the
// other tenant wrote comes back, nothing of it changes, and its trail knows
// nothing of the visitors.
func TestAnotherTenantsIDs(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, database string) {
		receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		defer receiver.Close()
		openai := gatehousetest.OpenAI(t)
		s := instancetest.Serve(t, map[string]string{
			"DATABASE_URL": database, "WEBHOOK_HOSTS": receiver.URL, "SERVICE_HOSTS": "openai=" + openai.URL, "CREDENTIAL_REVEAL": "true",
			"CHAT_IP_LIMIT": "100000/1m", "CREDENTIAL_TEST_LIMIT": "100000/1m", "AUTH_FAILURE_LIMIT": "100000/1h",
		})
		stranger := as(t, s, "globex", "globex-boss", access.Owner)
		owner := as(t, s, "acme", "acme-boss", access.Owner)
		theirs := furnish(stranger, "globex", theirMark, receiver.URL+"/in")
		ours := furnish(owner, "acme", "ours", receiver.URL+"/in")
		deliveries := webhooksPath + "/" + theirs["webhook"] + "/deliveries"
		for end := time.Now().Add(30 * time.Second); strings.Contains(stranger.get(deliveries).Body, `"pending"`) && time.Now().Before(end); {
			time.Sleep(50 * time.Millisecond) // the test message is on its way
		}
		before := snapshot(stranger, theirs)
		w := &tenantWalk{T: t, document: document(t, owner), theirs: theirs, ours: ours, callers: visitors(t, s, owner)}
		w.paths()
		w.queries(stranger)
		w.bodies()
		for path, body := range snapshot(stranger, theirs) {
			if body != before[path] {
				t.Errorf("another tenant changed %s: it was %s and is %s", path, before[path], body)
			}
		}
		for _, e := range stranger.events() {
			if strings.HasPrefix(e.Actor.ID, "acme-") || e.Organization != "globex" {
				t.Errorf("the other tenant's trail tells of a visitor: %+v by %+v", e, e.Actor)
			}
		}
	})
}

// visitors are callers of acme: one of each role, one with every permission by
// a role of its own, and a service token with all that a token can have.
func visitors(t *testing.T, s *instancetest.Server, owner *client) map[string]*client {
	t.Helper()
	all := map[string]*client{}
	for _, role := range letters {
		all[string(role)] = as(t, s, "acme", "acme-"+string(role), role)
	}
	everything := access.Tenant().Names()
	if a := owner.json("POST", "/api/roles", map[string]any{"name": "everything", "permissions": everything}); a.Status != 201 {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	all["a role with everything"] = as(t, s, "acme", "acme-everything", "everything")
	all["a token with everything"], _ = owner.makeToken(map[string]any{
		"permissions": slices.DeleteFunc(everything, func(p string) bool { return p == access.TokenManage.String() }),
	})
	return all
}

type tenantWalk struct {
	*testing.T
	document     documented
	theirs, ours map[string]string
	callers      map[string]*client
}

// mayEverywhere reports whether the caller may do the operation on any organization.
func mayEverywhere(caller string, o documentedOperation) bool {
	p, _ := access.ParsePermission(o.Permission)
	return caller == string(access.Operator) && access.Allow(access.NewCaller("acme", access.User, "x", access.Operator), p, "globex") == nil
}

// clean reports an answer that tells something of the other tenant: what it
// wrote, or an id that was made for it and is not the one that was sent.
func (w *tenantWalk) clean(what, sent string, a answer) {
	w.Helper()
	whole := a.Body + a.Header.Get("ETag") + a.Header.Get("Location")
	if a.Status >= 500 || strings.Contains(whole, theirMark) {
		w.Errorf("%s: %d %s", what, a.Status, a.Body)
	}
	for kind, id := range w.theirs {
		if !slices.Contains([]string{"organization", "member", "role"}, kind) && sent != "" && id != sent && strings.Contains(whole, id) {
			w.Errorf("%s tells the other tenant's %s: %d %s", what, kind, a.Status, a.Body)
		}
	}
}

// paths puts an id of the other tenant, and one of nobody's, in each place of
// each path; what else is in the path is the caller's own.
func (w *tenantWalk) paths() {
	tried := map[string]bool{}
	for operation, o := range w.document.operations() {
		method, template, _ := strings.Cut(operation, " ")
		for _, at := range placeholders.FindAllStringIndex(template, -1) {
			kind, known := places[template[:at[1]]]
			if !known {
				w.Errorf("%s: say in places what %s names", operation, template[at[0]:at[1]])
			}
			if kind == "" {
				continue
			}
			tried[kind] = true
			for name, c := range w.callers {
				if mayEverywhere(name, o) {
					continue
				}
				ask := func(id string) (answer, string) {
					path := w.path(template, at[1], id)
					a := c.do(method, path, calls[operation].body)
					var p api.Problem
					_ = json.Unmarshal([]byte(a.Body), &p) // not every answer is a problem
					w.clean(name+": "+operation+" at "+path, id, a)
					return a, p.Code
				}
				foreign, foreignCode := ask(w.theirs[kind])
				unknown, unknownCode := ask(nobodys[kind])
				if foreign.Status != unknown.Status || foreignCode != unknownCode {
					w.Errorf("%s: %s with the other tenant's %s: %d %s; with nobody's: %d %s", name, operation, kind, foreign.Status, foreign.Body, unknown.Status, unknown.Body)
				}
				if foreign.Status < 300 && kind != "member" && kind != "organization" { // members are named by their own issuers
					w.Errorf("%s: %s with the other tenant's %s is done: %d %s", name, operation, kind, foreign.Status, foreign.Body)
				}
			}
		}
	}
	for kind := range w.theirs {
		if !tried[kind] {
			w.Errorf("no route was tried with another tenant's %s", kind)
		}
	}
}

// path fills a template: id in the place that ends at the byte at, the caller's
// own in all others.
func (w *tenantWalk) path(template string, at int, id string) string {
	var b strings.Builder
	last := 0
	for _, place := range placeholders.FindAllStringIndex(template, -1) {
		value := unowned[template[place[0]:place[1]]]
		if own := w.ours[places[template[:place[1]]]]; own != "" {
			value = url.PathEscape(own)
		}
		if place[1] == at {
			value = url.PathEscape(id)
		}
		b.WriteString(template[last:place[0]] + value)
		last = place[1]
	}
	return b.String() + template[last:]
}

// queries puts the other tenant's ids, and cursors of its lists, in every query
// parameter of every route that reads.
func (w *tenantWalk) queries(stranger *client) {
	values := slices.Collect(maps.Values(w.theirs))
	for _, path := range []string{credentialsPath, eventsPath, "/api/tokens", "/api/roles", "/api/members", webhooksPath, policiesPath} {
		var page struct{ NextCursor string }
		if a := stranger.get(path + "?limit=1"); a.Status == 200 && json.Unmarshal([]byte(a.Body), &page) == nil && page.NextCursor != "" {
			values = append(values, page.NextCursor)
		}
	}
	for operation, o := range w.document.operations() {
		method, template, _ := strings.Cut(operation, " ")
		if method != http.MethodGet {
			continue
		}
		base := strings.Replace(w.path(template, 0, ""), "/tail", "/tail?seconds=1", 1)
		join := "?"
		if strings.Contains(base, "?") {
			join = "&"
		}
		for _, p := range o.Parameters {
			if p.In != "query" || p.Name == "seconds" {
				continue
			}
			for _, value := range values {
				for _, name := range []string{"owner", "operator"} {
					if mayEverywhere(name, o) || strings.Contains(base, "/tail") && p.Name != "organization" && p.Name != "after" {
						continue // a tail that is let in lasts a second
					}
					a := w.callers[name].get(base + join + p.Name + "=" + url.QueryEscape(value))
					w.clean(name+": "+operation+" "+p.Name, value, a)
				}
			}
		}
	}
}

// bodies puts the other tenant's ids in every text of every body.
func (w *tenantWalk) bodies() {
	for operation, o := range w.document.operations() {
		method, template, _ := strings.Cut(operation, " ")
		shape, takes := o.body()
		if !takes {
			continue
		}
		for _, id := range w.theirs {
			for _, name := range []string{"owner", "operator"} {
				if mayEverywhere(name, o) {
					continue
				}
				a := w.callers[name].json(method, w.path(template, 0, ""), w.document.example(shape, id))
				w.clean(name+": "+operation+" with "+id+" in its body", "", a)
			}
		}
	}
	// Bodies that get as far as they can.
	owner := w.callers["owner"]
	for _, c := range []struct {
		path, body string
		status     int
	}{
		{"/api/rate-limit/check", `{"subjects":[{"type":"org","key":"globex"}],"consume":false}`, 403},
		{"/api/rate-limit/check/batch", `{"checks":[{"subjects":[{"type":"org","key":"acme"}]},{"subjects":[{"type":"org","key":"globex"}]}]}`, 403},
		{"/api/rate-limit/reset", `{"type":"org","key":"globex"}`, 403},
		{policiesPath, `{"effect":"limit","subject":"org","organization":"globex","limits":["1/1h"],"reason":"x"}`, 422},
		{"/api/retention/preview?organization=globex", `{}`, 403},
	} {
		a := owner.do("POST", c.path, c.body)
		if w.clean(c.path, "", a); a.Status != c.status {
			w.Errorf("%s with %s: %d %s, want %d", c.path, c.body, a.Status, a.Body, c.status)
		}
	}
	d := decode[api.AccessDecision](w.T, owner.do("POST", "/api/access/check", `{"permission":"credential:list","organization":"globex"}`), 200)
	if d.Allowed {
		w.Errorf("an owner is told that it may list another tenant's credentials: %+v", d)
	}
	// By the header that picks a credential, and by a token for that one alone.
	picks := map[string]string{"its name": theirMark, "its id": w.theirs["credential"], "nobody's name": "no-such-name"}
	for name, pick := range picks {
		a := owner.do("POST", chatPath, chatBody, "Gatehouse-Credential", pick)
		if w.clean("Gatehouse-Credential: "+name, pick, a); a.Status != http.StatusFailedDependency {
			w.Errorf("Gatehouse-Credential with %s: %d %s", name, a.Status, a.Body)
		}
	}
	narrow, _ := owner.makeToken(map[string]any{"permissions": []string{"credential:use"}, "credentials": []string{w.theirs["credential"]}})
	checkProblem(w.T, narrow.do("POST", chatPath, chatBody), 403, "credential_out_of_scope")
}

// documented is the API document as the walks read it.
type documented struct {
	Paths      map[string]map[string]documentedOperation
	Components struct{ Schemas map[string]documentedSchema }
}

type documentedOperation struct {
	Permission  string `json:"x-permission"`
	Parameters  []struct{ Name, In string }
	RequestBody struct {
		Content map[string]struct{ Schema documentedSchema }
	}
}

type documentedSchema struct {
	Ref        string `json:"$ref"`
	Type       any
	Format     string
	Enum       []any
	Properties map[string]documentedSchema
	Items      *documentedSchema
	Additional json.RawMessage `json:"additionalProperties"`
}

func document(t *testing.T, c *client) documented {
	t.Helper()
	return decode[documented](t, c.get("/openapi.json"), http.StatusOK)
}

// operations gives every operation by "METHOD /path".
func (d documented) operations() map[string]documentedOperation {
	all := make(map[string]documentedOperation)
	for path, item := range d.Paths {
		for method, o := range item {
			all[strings.ToUpper(method)+" "+path] = o
		}
	}
	return all
}

// body gives the schema of the JSON that an operation of ours takes.
func (o documentedOperation) body() (documentedSchema, bool) {
	content, takes := o.RequestBody.Content["application/json"]
	return content.Schema, takes && (content.Schema.Ref != "" || len(content.Schema.Properties) > 0)
}

var lastName = regexp.MustCompile(`[^/]+$`)

// example makes a value of a schema whose every text is text.
func (d documented) example(s documentedSchema, text string) any {
	if s.Ref != "" {
		return d.example(d.Components.Schemas[lastName.FindString(s.Ref)], text)
	}
	kind, _ := s.Type.(string)
	if kinds, ok := s.Type.([]any); ok && len(kinds) > 0 { // or null
		kind, _ = kinds[0].(string)
	}
	switch {
	case len(s.Enum) > 0:
		return s.Enum[0]
	case kind == "integer" || kind == "number":
		return 1
	case kind == "boolean":
		return true
	case kind == "array" && s.Items != nil:
		return []any{d.example(*s.Items, text)}
	case kind == "object" && len(s.Properties) == 0:
		return map[string]any{text: text}
	case kind == "object":
		object := make(map[string]any)
		for name, p := range s.Properties {
			object[name] = d.example(p, text)
		}
		return object
	case s.Format == "date-time":
		return time.Now().Add(30 * 24 * time.Hour).UTC().Format(time.RFC3339)
	}
	return text
}
