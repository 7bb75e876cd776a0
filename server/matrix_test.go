package server_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// call is an operation of the document with the roles that may use it, as the
// table of docs/access.md has it, written out by hand.
type call struct {
	body  string
	roles string // the letters of those who may, see letters
}

// letters names the roles in the tables below.
var letters = map[byte]access.Role{
	'o': access.Owner, 'a': access.Admin, 'd': access.Developer, 'u': access.Auditor, 'v': access.Viewer, 's': access.ServiceRole,
	'O': access.Operator, '-': "nobody-knows-this",
}

// everybody is every caller, one without a known role included.
const everybody = "oaduvsO-"

// calls is the table of permissions for each operation. {id} is a credential
// of the caller's own organization, {key} its organization.
var calls = map[string]call{
	"GET /api/api-credentials":              {"", "oaduv"},
	"POST /api/api-credentials":             {`{}`, "oad"},
	"GET /api/api-credentials/{id}":         {"", "oaduv"},
	"PUT /api/api-credentials/{id}":         {`{"name":""}`, "oad"},
	"DELETE /api/api-credentials/{id}":      {"", "oa"},
	"POST /api/api-credentials/test":        {`{}`, "oad"},
	"POST /api/api-credentials/{id}/test":   {"", "oad"},
	"POST /api/api-credentials/{id}/rotate": {`{}`, "oad"},
	"POST /api/api-credentials/{id}/reveal": {`{}`, "o"},
	"GET /api/api-credentials/health":       {"", "oaduv"},

	"GET /api/webhooks":                                    {"", "oa"},
	"POST /api/webhooks":                                   {`{}`, "oa"},
	"GET /api/webhooks/{id}":                               {"", "oa"},
	"PUT /api/webhooks/{id}":                               {`{"url":"https://example.com"}`, "oa"},
	"DELETE /api/webhooks/{id}":                            {"", "oa"},
	"POST /api/webhooks/{id}/rotate":                       {`{}`, "oa"},
	"POST /api/webhooks/{id}/test":                         {"", "oa"},
	"GET /api/webhooks/{id}/deliveries":                    {"", "oa"},
	"POST /api/webhooks/{id}/deliveries/{delivery}/replay": {"", "oa"},

	"GET /api/api-credentials/{id}/versions":                     {"", "oaduv"},
	"POST /api/api-credentials/{id}/versions":                    {`{}`, "oad"},
	"POST /api/api-credentials/{id}/versions/{version}/test":     {"", "oad"},
	"POST /api/api-credentials/{id}/versions/{version}/activate": {`{}`, "oad"},
	"DELETE /api/api-credentials/{id}/versions/{version}":        {"", "oad"},
	"POST /api/api-credentials/{id}/rollback":                    {`{}`, "oad"},

	"GET /api/services":        {"", everybody},
	"GET /api/services/{name}": {"", everybody},

	"GET /api/rate-limit/status":                    {"", everybody},
	"POST /api/rate-limit/reset":                    {`{"type":"org","key":"acme"}`, "O"},
	"GET /api/rate-limit/admin/status/{type}/{key}": {"", "oaduvsO"},
	"POST /api/rate-limit/check":                    {`{"subjects":[{"type":"org","key":"acme"}],"consume":false}`, "oaduvsO"},
	"POST /api/rate-limit/check/batch":              {`{"checks":[{"subjects":[{"type":"org","key":"acme"}]}]}`, "oadsO"},
	"GET /api/rate-limit/auth":                      {"", "oads"},
	"GET /api/rate-limit/top":                       {"", "O"},
	"GET /api/rate-limit/policies":                  {"", "oaduvsO"},
	"POST /api/rate-limit/policies":                 {`{}`, "oaO"},
	"GET /api/rate-limit/policies/{id}":             {"", "oaduvsO"},
	"PUT /api/rate-limit/policies/{id}":             {`{}`, "oaO"},
	"DELETE /api/rate-limit/policies/{id}":          {"", "oaO"},
	"GET /api/rate-limit/policies/{id}/revisions":   {"", "oaduvsO"},
	"POST /api/rate-limit/policies/{id}/rollback":   {`{"revision":1}`, "oaO"},

	"GET /api/usage": {"", "oadusO"},

	// An operator reads the reserved organization's trail, and may knock at its own's.
	"GET /api/audit/events":            {"", "oau"},
	"GET /api/audit/verify":            {"", "oau"},
	"GET /api/audit/checkpoint":        {"", "oau"},
	"GET /api/audit/events/{id}/proof": {"", "oau"},
	"GET /api/audit/keys":              {"", everybody},
	"POST /api/audit/keys/rotate":      {"", "O"},

	"GET /api/members":                   {"", "oaduv"},
	"GET /api/members/{member}":          {"", "oaduv"},
	"PUT /api/members/{member}":          {`{"name":"Ann"}`, "oa"},
	"DELETE /api/members/{member}":       {"", "oa"},
	"GET /api/roles":                     {"", "oaduv"},
	"POST /api/roles":                    {`{"name":"","permissions":[]}`, "oa"},
	"PUT /api/roles/{role}":              {`{"permissions":["credential:use"]}`, "oa"},
	"DELETE /api/roles/{role}":           {"", "oa"},
	"GET /api/tokens":                    {"", "oaduv"},
	"POST /api/tokens":                   {`{}`, "oa"},
	"GET /api/tokens/{token}":            {"", "oaduv"},
	"DELETE /api/tokens/{token}":         {"", "oa"},
	"POST /api/access/check":             {`{"permission":"credential:use"}`, everybody},
	"GET /api/audit/export":              {"", "oau"},
	"GET /api/audit/tail":                {"", "oau"},
	"GET /api/audit/schema":              {"", everybody},
	"GET /api/audit/sinks":               {"", "oau"},
	"DELETE /api/audit/persons/{person}": {"", "oa"},
	// An operator keeps the reserved organization's policy, and everybody's bounds.
	"GET /api/retention/policy":        {"", "oau"},
	"PUT /api/retention/policy":        {`{}`, "o"},
	"GET /api/retention/bounds":        {"", "oauO"},
	"PUT /api/retention/bounds":        {`{"floors":{},"ceilings":{}}`, "O"},
	"GET /api/retention/presets":       {"", "oauO"},
	"POST /api/retention/preview":      {`{}`, "oau"},
	"GET /api/retention/holds":         {"", "oau"},
	"POST /api/retention/holds":        {`{"reason":"","scope":{}}`, "o"},
	"DELETE /api/retention/holds/{id}": {"", "o"},
	"GET /api/retention/held":          {"", "oau"},
	"GET /api/retention/certificates":  {"", "oau"},

	"GET /api/organizations":         {"", "O"},
	"POST /api/organizations":        {`{}`, "O"},
	"DELETE /api/organizations/{id}": {"", "O"},

	"GET /api/keys":              {"", "O"},
	"POST /api/keys/stage":       {`{}`, "O"},
	"POST /api/keys/rotate":      {`{}`, "O"},
	"POST /api/keys/stop":        {"", "O"},
	"POST /api/keys/verify":      {`{"sample":1}`, "O"},
	"POST /api/keys/{id}/retire": {`{}`, "O"},

	"GET /api/chat/{service}/{path}":     {"", "oads"},
	"POST /api/chat/{service}/{path}":    {chatBody, "oads"},
	"PUT /api/chat/{service}/{path}":     {`{}`, "oads"},
	"PATCH /api/chat/{service}/{path}":   {`{}`, "oads"},
	"DELETE /api/chat/{service}/{path}":  {"", "oads"},
	"GET /api/proxy/{service}/{path}":    {"", "oads"},
	"POST /api/proxy/{service}/{path}":   {`{}`, "oads"},
	"PUT /api/proxy/{service}/{path}":    {`{}`, "oads"},
	"PATCH /api/proxy/{service}/{path}":  {`{}`, "oads"},
	"DELETE /api/proxy/{service}/{path}": {"", "oads"},
}

// operations gives "METHOD /path" of everything in the API document.
func operations(t *testing.T, c *client) []string {
	t.Helper()
	document := decode[struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}](t, c.get("/openapi.json"), 200)
	var all []string
	for path, item := range document.Paths {
		for method := range item {
			all = append(all, strings.ToUpper(method)+" "+path)
		}
	}
	slices.Sort(all)
	return all
}

func TestMatrix(t *testing.T) {
	fake := gatehousetest.OpenAI(t)
	s := instancetest.Serve(t, map[string]string{
		"CREDENTIAL_REVEAL": "true", "CHAT_IP_LIMIT": "10000/1m", "SERVICE_HOSTS": "openai=" + fake.URL + ",stripe=" + fake.URL,
	})
	theirs := as(t, s, "other", "u1", access.Owner).store("openai", map[string]string{"apiKey": "sk-0123456789abcdefghijklmn"})
	owner := as(t, s, "acme", "owner", access.Owner)
	nobody := anonymous(t, s)
	served := operations(t, nobody)
	if len(served) < 20 {
		t.Fatalf("the document has only %q", served)
	}
	for _, operation := range served {
		want, known := calls[operation]
		if !known {
			t.Errorf("%s is served and not in the table of this test", operation)
			continue
		}
		t.Run(operation, func(t *testing.T) {
			method, template, _ := strings.Cut(operation, " ")
			// Each role gets a credential of its own, since some destroy it.
			fill := func(id string) string {
				return strings.NewReplacer("{id}", id, "{version}", "1", "{delivery}", "dlv_x", "{type}", "org", "{key}", "acme", "{service}", "openai", "{name}", "openai", "{path}", "v1/models", "{member}", "somebody", "{role}", "support", "{token}", "tok_x", "{person}", "nobody", "/tail", "/tail?seconds=1").Replace(template)
			}
			for _, letter := range slices.Sorted(maps.Keys(letters)) {
				role := letters[letter]
				c := as(t, s, "acme", "m-"+string(role), role)
				id := unknownID
				if strings.Contains(template, "{id}") {
					id = owner.store("openai", map[string]string{"apiKey": "sk-0123456789abcdefghijklmn"}, "name", string(role)+operation)
				}
				got := c.do(method, fill(id), want.body)
				if strings.IndexByte(want.roles, letter) >= 0 {
					if got.Status == http.StatusForbidden || got.Status == http.StatusUnauthorized || got.Status >= 500 {
						t.Errorf("%s: %d %s, want to be let in", role, got.Status, got.Body)
					}
				} else if p := checkProblem(t, got, http.StatusForbidden, "permission_denied"); p.Code != "" {
					checkDenialRecorded(t, s, owner, c, role, template)
				}

				// Another organization's id: 403 without the permission, as
				// unknown with it.
				if strings.Contains(template, "{id}") {
					if a := c.do(method, fill(theirs), want.body); a.Status != 403 && a.Status != 404 && a.Status != 422 {
						t.Errorf("%s on another organization's: %d %s", role, a.Status, a.Body)
					}
				}
			}
			p := checkProblem(t, nobody.do(method, fill(unknownID), want.body), http.StatusUnauthorized, "token_missing")
			if gateway := strings.Contains(template, "{service}"); (p.Error != nil) != gateway {
				t.Errorf("the error object for SDKs: %+v", p.Error)
			}
		})
	}
	for operation := range calls {
		if !slices.Contains(served, operation) && !strings.HasSuffix(operation, "/test") {
			t.Errorf("%s is in the table of this test and not served", operation)
		}
	}
	if a := as(t, s, "other", "u1", access.Owner).get(credentialsPath + "/" + theirs); a.Status != 200 {
		t.Errorf("the other organization's credential: %d %s", a.Status, a.Body)
	}
}

// checkDenialRecorded looks for the denial in the caller's own organization.
func checkDenialRecorded(t *testing.T, s *instancetest.Server, owner, c *client, role access.Role, template string) {
	t.Helper()
	route := strings.Replace(template, "{path}", "{path...}", 1)
	found := slices.ContainsFunc(owner.events("action", "access.deny", "actor", "m-"+string(role)), func(e api.Event) bool {
		return e.Request != nil && e.Request.Route == route && e.Request.Status == 403 && e.Reason == "permission_denied" &&
			e.Organization == "acme" && e.Outcome == "denied" && strings.Contains(e.Permission, ":")
	})
	if !found {
		t.Errorf("%s was denied at %s, and the trail of its organization does not tell", role, route)
	}
}

// The cells that the walk cannot see: those over another organization, and over
// the reserved one.
func TestMatrixAcrossOrganizations(t *testing.T) {
	s := instancetest.Serve(t, nil)
	as(t, s, "other", "u1", access.Owner).get(statusPath) // makes it
	for letter, role := range letters {
		c := as(t, s, "acme", "m-"+string(role), role)
		operator := letter == 'O'
		for path, may := range map[string]bool{
			"/api/rate-limit/admin/status/org/other":          operator,
			"/api/rate-limit/admin/status/organization/other": operator,
			"/api/rate-limit/admin/status/ip/203.0.113.7":     operator,
			"/api/rate-limit/admin/status/org/nobody-knows":   operator,
			"/api/usage?organization=other":                   operator,
			"/api/usage?organization=*":                       operator,
			"/api/usage?organization=acme&member=u1":          operator || strings.IndexByte("oau", letter) >= 0,
			eventsPath + "?organization=_instance":            operator,
			eventsPath + "?organization=other":                false,
			eventsPath + "?organization=nobody-knows":         false,
			eventsPath + "?organization=acme":                 strings.IndexByte("oau", letter) >= 0,
		} {
			a := c.get(path)
			if may && a.Status != 200 {
				t.Errorf("%s: %s: %d %s", role, path, a.Status, a.Body)
			}
			if !may {
				checkProblem(t, a, 403, "permission_denied")
			}
		}
	}
	// Reveal needs the instance's word as well.
	owner := as(t, s, "acme", "u1", access.Owner)
	id := owner.store("openai", map[string]string{"apiKey": "sk-0123456789abcdefghijklmn"})
	checkProblem(t, owner.do("POST", credentialsPath+"/"+id+"/reveal", `{"reason":"x"}`), 403, "reveal_disabled")
	// Two roles are the sum of both.
	both := as(t, s, "acme", "u2", access.Viewer, access.Operator)
	for _, path := range []string{credentialsPath, "/api/organizations", "/api/rate-limit/admin/status/org/other"} {
		if a := both.get(path); a.Status != 200 {
			t.Errorf("viewer and operator: %s: %d", path, a.Status)
		}
	}
	checkProblem(t, both.do("POST", credentialsPath, `{}`), 403, "permission_denied")
}
