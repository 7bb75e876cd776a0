package server_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

func inDays(days int) string {
	return time.Now().Add(time.Duration(days) * 24 * time.Hour).UTC().Format(time.RFC3339)
}

// makeToken makes a service token and gives a client that uses it, and its id.
func (c *client) makeToken(in map[string]any) (*client, string) {
	c.t.Helper()
	if in["expiresAt"] == nil {
		in["expiresAt"] = inDays(30)
	}
	if in["name"] == nil {
		in["name"] = "a test's"
	}
	made := decode[api.ServiceTokenCreated](c.t, c.json("POST", "/api/tokens", in), http.StatusCreated)
	return &client{t: c.t, url: c.url, token: made.Token, http: c.http}, made.ID
}

// until asks until the answer has the status, for at most the five seconds that
// a change may take to hold everywhere.
func until(t *testing.T, status int, ask func() answer) answer {
	t.Helper()
	end := time.Now().Add(5 * time.Second)
	for {
		a := ask()
		if a.Status == status || time.Now().After(end) {
			if a.Status != status {
				t.Errorf("five seconds later: %d, want %d: %s", a.Status, status, a.Body)
			}
			return a
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// twoServers starts two instances over one database.
func twoServers(t *testing.T, database string) (here, there *instancetest.Server) {
	variables := map[string]string{"DATABASE_URL": database, "AUTH_FAILURE_LIMIT": "100000/1h"}
	return instancetest.Serve(t, variables), instancetest.Serve(t, variables)
}

func TestServiceTokenLife(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, database string) {
		here, there := twoServers(t, database)
		admin := as(t, here, "acme", "admin", access.Admin)
		mine := admin.store("openai", map[string]string{"apiKey": "sk-0123456789abcdefghijklmn"})
		service, id := admin.makeToken(map[string]any{"permissions": []string{"credential:list", "credential:use"}})
		elsewhere := &client{t: t, url: there.URL, token: service.token, http: service.http}

		// By every header that SDKs use.
		for _, header := range [][2]string{
			{"Authorization", "Bearer " + service.token}, {"x-api-key", service.token}, {"api-key", service.token}, {"x-goog-api-key", service.token},
			{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("x:"+service.token))},
			{"Authorization", "token " + service.token}, // Octokit
		} {
			if a := anonymous(t, there).get(credentialsPath, header[0], header[1]); a.Status != 200 {
				t.Errorf("by %s: %d %s", header[0], a.Status, a.Body)
			}
		}
		checkProblem(t, service.get("/api/webhooks"), 403, "permission_denied")
		checkProblem(t, service.do("POST", "/api/tokens", `{"name":"x","permissions":["credential:use"],"expiresAt":"`+inDays(1)+`"}`), 403, "permission_denied")
		if a := as(t, here, "globex", "boss", access.Owner).get("/api/tokens/" + id); a.Status != 404 {
			t.Errorf("another organization's token: %d", a.Status)
		}
		checkProblem(t, as(t, here, "globex", "boss", access.Owner).do("DELETE", "/api/tokens/"+id, ""), 404, "token_not_found")
		listed := admin.get("/api/tokens")
		if !strings.Contains(listed.Body, id) || strings.Contains(listed.Body, service.token) {
			t.Errorf("the list: %s", listed.Body)
		}
		denied := admin.events("action", "access.deny", "actor", id)
		if !slices.ContainsFunc(denied, func(e api.Event) bool { return e.Class == "security" && e.Permission == "webhook:read" }) {
			t.Errorf("the denial is not told in its organization: %+v", denied)
		}

		// A restriction to other credentials.
		narrow, _ := admin.makeToken(map[string]any{"permissions": []string{"credential:use"}, "credentials": []string{unknownID}})
		checkProblem(t, narrow.do("POST", chatPath, chatBody), 403, "credential_out_of_scope")
		if wide, _ := admin.makeToken(map[string]any{"permissions": []string{"credential:use"}, "credentials": []string{mine}}); wide.do("POST", chatPath, chatBody).Status == 403 {
			t.Error("its own credential is refused")
		}

		// Revoked here, refused there; its organization is told.
		if a := elsewhere.get(credentialsPath); a.Status != 200 {
			t.Fatalf("before: %d", a.Status)
		}
		if a := admin.do("DELETE", "/api/tokens/"+id, ""); a.Status != 204 {
			t.Fatalf("revoking: %d %s", a.Status, a.Body)
		}
		checkProblem(t, service.get(credentialsPath), 401, "token_revoked")
		checkProblem(t, until(t, 401, func() answer { return elsewhere.get(credentialsPath) }), 401, "token_revoked")
		for range 3 { // replayed
			checkProblem(t, elsewhere.get(credentialsPath), 401, "token_revoked")
		}
		if told := admin.events("action", "access.deny", "actor", id); !slices.ContainsFunc(told, func(e api.Event) bool { return e.Reason == "token_revoked" }) {
			t.Errorf("the replay is not told in its organization: %+v", told)
		}
		if got := decode[api.ServiceToken](t, admin.get("/api/tokens/"+id), 200); got.Status != "revoked" || got.RevokedBy != "admin" {
			t.Errorf("afterwards: %+v", got)
		}
		if strings.Contains(here.Logs.String()+there.Logs.String(), service.token) {
			t.Error("a log holds the token")
		}
	})
}

// What its maker loses, a token loses: by a role, by being disabled or deleted.
func TestTokensFollowTheirMakers(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, database string) {
		here, there := twoServers(t, database)
		owner := as(t, here, "acme", "boss", access.Owner)
		for _, role := range []string{
			`{"name":"lister","permissions":["credential:list"]}`, `{"name":"keeper","permissions":["token:manage","limit:read"]}`,
		} {
			if a := owner.do("POST", "/api/roles", role); a.Status != 201 {
				t.Fatalf("%d %s", a.Status, a.Body)
			}
		}
		// The maker's own token says keeper; lister is stored for it here.
		maker := as(t, here, "acme", "ann", "keeper")
		if a := owner.do("PUT", "/api/members/ann", `{"roles":["lister"],"name":"Ann","email":"ann@example.com"}`); a.Status != 200 {
			t.Fatalf("%d %s", a.Status, a.Body)
		}
		until(t, 200, func() answer { return maker.get(credentialsPath) })
		made, _ := maker.makeToken(map[string]any{"permissions": []string{"credential:list", "limit:read"}})
		byRole, _ := maker.makeToken(map[string]any{"roles": []string{"lister"}})
		elsewhere := &client{t: t, url: there.URL, token: made.token, http: made.http}
		for _, c := range []*client{made, byRole, elsewhere} {
			if a := c.get(credentialsPath); a.Status != 200 {
				t.Fatalf("a token of hers: %d %s", a.Status, a.Body)
			}
		}
		checkProblem(t, maker.json("POST", "/api/tokens", map[string]any{"name": "x", "permissions": []string{"credential:use"}, "expiresAt": inDays(1)}), 403, "permission_denied")

		// The role that grants it goes; what another grants stays.
		if a := owner.do("DELETE", "/api/roles/lister", ""); a.Status != 204 {
			t.Fatalf("%d %s", a.Status, a.Body)
		}
		for _, c := range []*client{made, byRole, elsewhere, maker} {
			until(t, 403, func() answer { return c.get(credentialsPath) })
		}
		if a := elsewhere.get("/api/rate-limit/policies"); a.Status != 200 {
			t.Errorf("what its maker still holds: %d %s", a.Status, a.Body)
		}
		// A role of the same name later gives nothing back to who had it here.
		if a := owner.do("POST", "/api/roles", `{"name":"lister","permissions":["credential:list","credential:use"]}`); a.Status != 201 {
			t.Fatalf("%d %s", a.Status, a.Body)
		}
		time.Sleep(4 * time.Second)
		checkProblem(t, elsewhere.get(credentialsPath), 403, "permission_denied")

		if a := owner.do("PUT", "/api/members/ann", `{"disabled":true}`); a.Status != 200 {
			t.Fatalf("%d %s", a.Status, a.Body)
		}
		checkProblem(t, made.get("/api/rate-limit/policies"), 403, "member_disabled")
		until(t, 403, func() answer { return elsewhere.get("/api/rate-limit/policies") })

		// Deleted: the person's data are gone, its tokens end, it stays out.
		if a := owner.do("DELETE", "/api/members/ann", ""); a.Status != 204 {
			t.Fatalf("%d %s", a.Status, a.Body)
		}
		checkProblem(t, owner.get("/api/members/ann"), 404, "member_not_found")
		// Who was never stored has nothing to forget, and is told to be let in.
		unstored := owner.do("DELETE", "/api/members/never-stored", "")
		if checkProblem(t, unstored, 404, "member_not_found"); !strings.Contains(unstored.Body, `PUT {\"disabled\": true} keeps this id out`) {
			t.Errorf("a deletion of nothing: %s", unstored.Body)
		}
		checkProblem(t, maker.get(statusPath), 403, "member_disabled")
		back := decode[api.Member](t, owner.do("PUT", "/api/members/ann", `{"disabled":false}`), 200)
		if back.Name != "" || back.Email != "" || len(back.Roles) != 0 || back.Disabled {
			t.Errorf("put back: %+v", back)
		}
		until(t, 401, func() answer { return elsewhere.get(statusPath) })
		checkProblem(t, made.get(statusPath), 401, "token_revoked")
	})
}

// A denial says what it was about, where that has the form of an id, and a change of
// roles what was before.
func TestWhatEventsOfAccessSay(t *testing.T) {
	s := instancetest.Serve(t, nil)
	admin, viewer := as(t, s, "acme", "admin", access.Owner), as(t, s, "acme", "v", access.Viewer)
	credential := admin.store("openai", map[string]string{"apiKey": "sk-0123456789abcdefghijklmn"})
	for range 3 {
		checkProblem(t, viewer.do("DELETE", credentialsPath+"/"+credential, ""), 403, "permission_denied")
	}
	checkProblem(t, viewer.do("DELETE", credentialsPath+"/"+unknownID, ""), 403, "permission_denied")
	checkProblem(t, viewer.do("DELETE", credentialsPath+"/sk-a-key-in-a-wrong-place", ""), 403, "permission_denied")
	denials := admin.await(2, "action", "access.deny", "target", credential)
	if n := len(admin.events("action", "access.deny", "target", unknownID)); n != 1 || denials[0].Actor.ID != "v" {
		t.Errorf("%d events of the other id, %+v", n, denials[0])
	}
	// Ids made up by the hundred hide nobody else's denial, and fill nothing.
	for i := range 1100 {
		viewer.do("DELETE", fmt.Sprintf("%s/cred_01936f3e-7c5a-7b0e-9d52-%012x", credentialsPath, i), "")
	}
	other := as(t, s, "acme", "w", access.Viewer)
	checkProblem(t, other.do("DELETE", credentialsPath+"/"+credential, ""), 403, "permission_denied")
	if e := admin.await(1, "action", "access.deny", "actor", "w")[0]; len(e.Targets) != 1 || e.Targets[0].ID != credential {
		t.Errorf("another's denial after a flood of them: %+v", e)
	}
	count := int64(0)
	events := admin.events("action", "access.deny", "actor", "v")
	for _, e := range events {
		count += max(1, e.Count)
	}
	if len(events) > 40 || count != 1105 {
		t.Errorf("%d events of %d denials", len(events), count)
	}
	if a := admin.get(eventsPath + "?limit=500"); strings.Contains(a.Body, "wrong-place") {
		t.Error("text of a path is in the trail")
	}

	if a := admin.json("POST", "/api/roles", map[string]any{"name": "ops", "permissions": []string{"limit:read"}}); a.Status != 201 {
		t.Fatal(a.Body)
	}
	admin.json("PUT", "/api/roles/ops", map[string]any{"permissions": []string{"limit:read", "usage:read"}})
	admin.json("PUT", "/api/members/m1", map[string]any{"roles": []string{"ops"}})
	admin.json("PUT", "/api/members/m1", map[string]any{"roles": []string{"viewer", "ops"}})
	for action, want := range map[string][2]string{"role.update": {"before.permissions", "limit:read"}, "member.update": {"before.roles", "ops"}} {
		if e := admin.events("action", action)[0]; e.Metadata[want[0]] != want[1] {
			t.Errorf("%s: %v", action, e.Metadata)
		}
	}

	roles := make([]access.Role, 80)
	for i := range roles {
		roles[i] = access.Role(fmt.Sprintf("z%02d", i))
	}
	many := append(roles[:40:40], access.Owner)
	for i, held := range [][]access.Role{many, append(roles, access.Owner)} {
		name := fmt.Sprintf("m%d", 10+i)
		as(t, s, "acme", "boss", held...).json("PUT", "/api/members/"+name, map[string]any{"roles": []string{"viewer"}})
		e := admin.events("action", "member.update", "target", name)[0]
		if whole := slices.Contains(e.Actor.Roles, "owner"); whole == (e.Metadata["truncated"] == true) {
			t.Errorf("of %d roles the event has %d, metadata %v", len(held), len(e.Actor.Roles), e.Metadata)
		}
	}
}

func TestRolesAreChecked(t *testing.T) {
	s := instancetest.Serve(t, nil)
	owner, admin := as(t, s, "acme", "boss", access.Owner), as(t, s, "acme", "admin", access.Admin)
	for name, test := range map[string]struct {
		body   string
		status int
		code   string
		field  string
	}{
		"unknown permission":    {`{"name":"r","permissions":["credential:CANARY"]}`, 422, "invalid_request", "permissions[0]"},
		"an operator's":         {`{"name":"r","permissions":["credential:use","org:manage"]}`, 422, "invalid_request", "permissions[1]"},
		"twice":                 {`{"name":"r","permissions":["credential:use","credential:use"]}`, 422, "invalid_request", "permissions[1]"},
		"none":                  {`{"name":"r","permissions":[]}`, 422, "invalid_request", "permissions"},
		"more than its author":  {`{"name":"r","permissions":["credential:reveal"]}`, 403, "permission_denied", ""},
		"a built-in name":       {`{"name":"owner","permissions":["credential:use"]}`, 409, "role_built_in", ""},
		"almost a built-in one": {`{"name":"Owner","permissions":["credential:use"]}`, 409, "role_built_in", ""},
		"a strange name":        {`{"name":"a b","permissions":["credential:use"]}`, 422, "invalid_request", "name"},
	} {
		p := checkProblem(t, admin.do("POST", "/api/roles", test.body), test.status, test.code)
		if test.field != "" && !slices.Equal(fieldsOf(p), []string{test.field}) {
			t.Errorf("%s: %+v", name, p.Errors)
		}
		if b, _ := json.Marshal(p); strings.Contains(string(b), "CANARY") {
			t.Errorf("%s: the answer repeats the value", name)
		}
	}
	if a := owner.do("POST", "/api/roles", `{"name":"high","permissions":["credential:reveal"]}`); a.Status != 201 {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	// Not by update, by deletion, by a member, by a token, or through another role.
	checkProblem(t, admin.do("PUT", "/api/roles/high", `{"permissions":["credential:use"]}`), 403, "permission_denied")
	checkProblem(t, admin.do("DELETE", "/api/roles/high", ""), 403, "permission_denied")
	checkProblem(t, admin.do("PUT", "/api/members/admin", `{"roles":["high"]}`), 403, "permission_denied")
	checkProblem(t, admin.do("PUT", "/api/members/admin", `{"roles":["owner"]}`), 403, "permission_denied")
	checkProblem(t, owner.do("PUT", "/api/members/boss", `{"roles":["operator"]}`), 422, "invalid_request")
	checkProblem(t, owner.do("PUT", "/api/members/boss", `{"roles":["nosuch"]}`), 422, "invalid_request")
	checkProblem(t, admin.json("POST", "/api/tokens", map[string]any{"name": "x", "roles": []string{"high"}, "expiresAt": inDays(1)}), 403, "permission_denied")
	if a := owner.do("PUT", "/api/members/boss2", `{"roles":["owner"]}`); a.Status != 200 {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	for _, body := range []string{`{"disabled":true}`, `{"roles":[]}`, `{"name":"x"}`} {
		checkProblem(t, admin.do("PUT", "/api/members/boss2", body), 403, "permission_denied")
	}
	checkProblem(t, admin.do("DELETE", "/api/members/boss2", ""), 403, "permission_denied")
	checkProblem(t, owner.do("PUT", "/api/roles/viewer", `{"permissions":["credential:use"]}`), 409, "role_built_in")
	checkProblem(t, owner.do("DELETE", "/api/roles/viewer", ""), 409, "role_built_in")
	if a := as(t, s, "globex", "boss", access.Owner).get("/api/roles"); strings.Contains(a.Body, "high") {
		t.Error("another organization sees the role")
	}
	for name, test := range map[string]map[string]any{
		"no expiry": {"name": "x", "permissions": []string{"credential:use"}},
		"too far":   {"name": "x", "permissions": []string{"credential:use"}, "expiresAt": inDays(367)},
		"past":      {"name": "x", "permissions": []string{"credential:use"}, "expiresAt": inDays(-1)},
		"nothing":   {"name": "x", "expiresAt": inDays(1)},
		"chains":    {"name": "x", "permissions": []string{"token:manage"}, "expiresAt": inDays(1)},
		"operator":  {"name": "x", "roles": []string{"operator"}, "expiresAt": inDays(1)},
		"too much":  {"name": "x", "permissions": []string{"credential:update"}, "credentials": []string{unknownID}, "expiresAt": inDays(1)},
		"of none":   {"name": "x", "permissions": []string{"credential:use"}, "credentials": []string{}, "expiresAt": inDays(1)},
	} {
		if a := owner.json("POST", "/api/tokens", test); a.Status != 422 {
			t.Errorf("a token, %s: %d %s", name, a.Status, a.Body)
		}
	}
}

func TestCheckAccess(t *testing.T) {
	s := instancetest.Serve(t, nil)
	owner, viewer := as(t, s, "acme", "boss", access.Owner), as(t, s, "acme", "ann", access.Viewer)
	if a := owner.do("POST", "/api/roles", `{"name":"lister","permissions":["credential:use"]}`); a.Status != 201 {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	if a := owner.do("PUT", "/api/members/ann", `{"roles":["lister"]}`); a.Status != 200 {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	service, _ := owner.makeToken(map[string]any{"permissions": []string{"limit:read"}})
	for _, test := range []struct {
		as      *client
		body    string
		allowed bool
		reason  string
		by      string
	}{
		{viewer, `{"permission":"credential:list"}`, true, "granted", "viewer"},
		{viewer, `{"permission":"credential:use"}`, true, "granted", "lister"},
		{viewer, `{"permission":"credential:reveal"}`, false, "permission_missing", ""},
		{viewer, `{"permission":"credential:list","organization":"globex"}`, false, "other_organization", "viewer"},
		{owner, `{"permission":"credential:use","member":"ann"}`, true, "granted", "lister"},
		{owner, `{"permission":"credential:list","member":"ann","roles":["viewer","unheard"]}`, true, "granted", "viewer"},
		{owner, `{"permission":"limit:reset","roles":["operator"],"organization":"globex"}`, true, "granted", "operator"},
		{service, `{"permission":"limit:read"}`, true, "granted", ""},
		{service, `{"permission":"credential:use"}`, false, "permission_missing", ""},
	} {
		d := decode[api.AccessDecision](t, test.as.do("POST", "/api/access/check", test.body), 200)
		var by []string
		for _, r := range d.Roles {
			if r.Grants {
				by = append(by, r.Name)
			}
		}
		if d.Allowed != test.allowed || d.Reason != test.reason || strings.Join(by, " ") != test.by {
			t.Errorf("%s: %+v", test.body, d)
		}
	}
	checkProblem(t, owner.do("POST", "/api/access/check", `{"permission":"no:such"}`), 422, "invalid_request")
	checkProblem(t, service.do("POST", "/api/access/check", `{"permission":"credential:use","member":"ann"}`), 403, "permission_denied")
	if a := owner.do("PUT", "/api/members/ann", `{"disabled":true}`); a.Status != 200 {
		t.Fatal(a.Body)
	}
	if d := decode[api.AccessDecision](t, owner.do("POST", "/api/access/check", `{"permission":"credential:use","member":"ann"}`), 200); d.Allowed || d.Reason != "member_disabled" {
		t.Errorf("disabled: %+v", d)
	}
}

// A role with one permission opens the routes that name it, and no other.
func TestMatrixOfCustomRoles(t *testing.T) {
	s := instancetest.Serve(t, map[string]string{"CHAT_IP_LIMIT": "100000/1m", "CREDENTIAL_TEST_LIMIT": "10000/1m", "AUTH_FAILURE_LIMIT": "100000/1h"})
	owner := as(t, s, "acme", "boss", access.Owner)
	document := decode[struct {
		Paths map[string]map[string]struct {
			Permission string `json:"x-permission"`
		} `json:"paths"`
	}](t, owner.get("/openapi.json"), 200)
	fill := strings.NewReplacer("{id}", unknownID, "{version}", "1", "{delivery}", "dlv_x", "{type}", "org", "{key}", "acme", "{service}", "openai",
		"{name}", "openai", "{path}", "v1/models", "{member}", "somebody", "{role}", "support", "{token}", "tok_x", "{person}", "nobody", "/tail", "/tail?seconds=1")
	// Routes that ask for more than the permission at their door.
	more := []string{"POST /api/rate-limit/check", "POST /api/rate-limit/check/batch", "GET /api/rate-limit/top", "PUT /api/roles/{role}", "PUT /api/retention/bounds"}
	for _, p := range access.Tenant().Permissions() {
		role := "only-" + strings.Replace(p.String(), ":", "-", 1)
		if a := owner.json("POST", "/api/roles", map[string]any{"name": role, "permissions": []string{p.String()}}); a.Status != 201 {
			t.Fatalf("%s: %d %s", role, a.Status, a.Body)
		}
		byRole := as(t, s, "acme", "m-"+role, access.Role(role))
		callers := map[string]*client{"a role": byRole}
		if p != access.TokenManage {
			callers["a token"], _ = owner.makeToken(map[string]any{"permissions": []string{p.String()}})
		}
		for path, item := range document.Paths {
			for method, o := range item {
				operation := strings.ToUpper(method) + " " + path
				call, known := calls[operation]
				if !known {
					continue // TestMatrix tells
				}
				for kind, c := range callers {
					a := c.do(strings.ToUpper(method), fill.Replace(path), call.body)
					opens := o.Permission == "none" || o.Permission == "" || o.Permission == p.String()
					if opens && slices.Contains(more, operation) {
						continue // it asks for more inside
					}
					if opens == (a.Status == 403) || a.Status == 401 {
						t.Errorf("%s with %s alone at %s (%s): %d %s", kind, p, operation, o.Permission, a.Status, a.Body)
					}
				}
			}
		}
	}
}

// The token's digits are in no file of the database.
func TestServiceTokensAreNotKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gatehouse.db")
	s := instancetest.Serve(t, map[string]string{"DATABASE_URL": path})
	service, _ := as(t, s, "acme", "boss", access.Owner).makeToken(map[string]any{"permissions": []string{"credential:list"}})
	if a := service.get(credentialsPath); a.Status != 200 {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	if n := gatehousetest.Occurrences(t, path, []byte(service.token[4:30])); n != 0 {
		t.Errorf("the token is in the database's files %d times", n)
	}
	wrong := []byte(service.token)
	wrong[20] ^= 1
	for _, token := range []string{string(wrong), service.token + "x", service.token[:52], strings.ToUpper(service.token)} {
		checkProblem(t, anonymous(t, s).get(credentialsPath, "x-api-key", token), 401, "token_invalid")
	}
}
