package server_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

func scoped(t *testing.T, opts ...func(map[string]string)) (*instancetest.Server, *gatehousetest.Provider, *client, string) {
	t.Helper()
	openai := gatehousetest.OpenAI(t)
	environ := map[string]string{"SERVICE_HOSTS": "openai=" + openai.URL}
	for _, o := range opts {
		o(environ)
	}
	s := instancetest.Serve(t, environ)
	owner := as(t, s, "acme", "u1", access.Owner)
	return s, openai, owner, owner.store("openai", map[string]string{"apiKey": openai.Key()})
}

// Without a scope of its own a credential of a service that chats takes inference
// and lists of models, and nothing that manages the account.
func TestDefaultScopeOfChat(t *testing.T) {
	s, openai, owner, id := scoped(t)
	for _, call := range [][2]string{{"GET", "v1/models"}, {"GET", "v1/models/m"}, {"POST", "v1/chat/completions"}} {
		if a := owner.do(call[0], "/api/chat/openai/"+call[1], chatBody); a.Status == 403 {
			t.Errorf("%s: %d %s", call, a.Status, a.Body)
		}
	}
	before := len(openai.Requests())
	for _, call := range [][2]string{
		{"GET", "v1/files"}, {"DELETE", "v1/models/m"}, {"POST", "v1/organization/admin_api_keys"}, {"GET", "v1/organization/users"},
		{"POST", "v1/realtime/client_secrets"}, {"GET", "v1/files/file-1/content"}, {"POST", "v1/%63hat/completions/../../files"}, {"GET", ""},
		{"POST", "v1//chat/completions"}, {"POST", "V1/chat/completions"}, {"POST", "v1/chat/completions%2F"}, {"POST", "v1/chat/completions%00"},
		{"POST", "v1/chat/completions;x"}, {"POST", "v1/%2563hat/completions"},
	} {
		a := owner.do(call[0], "/api/chat/openai/"+call[1], `{}`)
		if a.Status != 403 && a.Status != 400 || a.Status == 403 && a.Header.Get("Gatehouse-Error") != "scope_denied" {
			t.Errorf("%s: %d %s", call, a.Status, a.Body)
		}
	}
	if sent := openai.Requests()[before:]; len(sent) != 0 {
		t.Errorf("the provider saw %+v", sent)
	}
	if a := owner.do("POST", "/api/chat/openai/v1/%63hat/completions", chatBody); a.Status != 200 {
		t.Errorf("an escaped letter: %d %s", a.Status, a.Body)
	}

	// It is told as a security event, once for a series, and not as a visit.
	denials := owner.events("action", "access.deny")
	if len(denials) == 0 || denials[0].Reason != "scope_denied" || denials[0].Class != "security" || denials[0].Organization != "acme" ||
		denials[0].Actor.ID != "u1" || !slices.ContainsFunc(denials[0].Targets, func(e api.EventTarget) bool { return e.ID == id }) ||
		denials[0].Metadata["scope"] != "path" || denials[0].Outcome != "denied" {
		t.Errorf("the trail tells %+v", denials)
	}
	for _, visit := range owner.events("action", "chat.request") {
		if visit.Outcome == "denied" {
			t.Errorf("a denial is a visit as well: %+v", visit)
		}
	}
	other := as(t, s, "globex", "u9", access.Owner)
	if events := other.events("action", "access.deny"); len(events) != 0 {
		t.Errorf("another organization sees %+v", events)
	}

	// The catalogue says what the default is.
	service := decode[api.Service](t, owner.get("/api/services/openai"), 200)
	if service.DefaultScope == nil || !slices.Contains(service.DefaultScope.Paths, "POST /v1/chat/completions") {
		t.Errorf("the service's default is %+v", service.DefaultScope)
	}
	if stripe := decode[api.Service](t, owner.get("/api/services/stripe"), 200); !slices.Equal(stripe.DefaultScope.Paths, []string{"/**"}) {
		t.Errorf("stripe's default is %+v", stripe.DefaultScope)
	}
}

func TestScopeOfACredential(t *testing.T) {
	s, openai, owner, id := scoped(t)
	developer, machine := as(t, s, "acme", "u2", access.Developer), as(t, s, "acme", "bot", access.ServiceRole)
	put := func(body string, status int) {
		t.Helper()
		if a := owner.do("PUT", credentialsPath+"/"+id, body); a.Status != status {
			t.Fatalf("PUT %s: %d %s", body, a.Status, a.Body)
		}
	}
	expect := func(c *client, method, path, body string, want int, header ...string) {
		t.Helper()
		if a := c.do(method, "/api/chat/openai/"+path, body, header...); a.Status != want {
			t.Errorf("%s %s %s: %d %s, want %d", method, path, body, a.Status, a.Body, want)
		}
	}
	gpt := func(model string) string { return strings.Replace(chatBody, `"m"`, `"`+model+`"`, 1) }
	if gpt("x") == chatBody {
		t.Fatal("chatBody names another model")
	}

	put(`{"scope":{"paths":["/**"]}}`, 200)
	expect(owner, "GET", "v1/files", "", 200)
	if c := decode[api.Credential](t, owner.get(credentialsPath+"/"+id), 200); c.Scope == nil || !slices.Equal(c.Scope.Paths, []string{"/**"}) {
		t.Errorf("the metadata say %+v", c.Scope)
	}

	put(`{"scope":{"paths":["/**"],"models":["m"]}}`, 200)
	for _, path := range []string{
		"openai/Deployments/evil/chat/completions", "openai/deployments/m/deployments/evil/x", "v1beta/models/evil:generateContent/",
		"v1beta/Models/evil:generateContent", "v1beta/tunedModels/evil:generateContent", "v1beta/dynamic/evil:streamGenerateContent",
	} {
		expect(owner, "POST", path, chatBody, 403)
	}
	expect(owner, "POST", "v1/responses", `{"model":"m","input":"x","tools":[{"type":"image_generation","model":"evil"}]}`, 403)
	expect(owner, "POST", "v1/responses", `{"input":"x","tools":[{"type":"image_generation","model":"m"}]}`, 403) // which is not the request's

	put(`{"scope":{"models":["m","gpt-5*"]}}`, 200)
	expect(owner, "POST", "v1/chat/completions", chatBody, 200)
	expect(owner, "GET", "v1/models", "", 200)
	expect(owner, "GET", "v1/files", "", 403)
	for _, body := range []string{
		gpt("m2"), gpt("m\\u0000"), `{"model":"m","model":"gpt-fake-1","messages":[]}`,
		`{"model":"m","Model":"gpt-fake-1"}`, `{"models":["m","gpt-fake-1"]}`, `{"messages":[]}`, `[]`, ``, `{"model":"m"`,
		"model=m", `{"model":["m"]}`, `{"mod\u0065l":"gpt-fake-1"}`, `{"model":"m"} {"model":"gpt-fake-1"}`,
	} {
		expect(owner, "POST", "v1/chat/completions", body, 403)
	}
	expect(owner, "POST", "v1/chat/completions", chatBody, 403, "Content-Type", "application/x-www-form-urlencoded")
	expect(owner, "POST", "v1/audio/transcriptions", "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n--b--", 403, "Content-Type", "multipart/form-data; boundary=b")
	expect(owner, "POST", "v1/chat/completions", chatBody, 403, "Content-Encoding", "gzip")
	expect(owner, "POST", "v1/chat/completions", chatBody, 403, "Connection", "Content-Type") // and so it is not sent
	expect(owner, "POST", "v1/chat/completions?model=gpt-fake-1", chatBody, 403)
	expect(owner, "POST", "v1/chat/completions?model=m;model=x", chatBody, 403)

	put(`{"scope":{"members":["u2"]}}`, 200)
	expect(owner, "POST", "v1/chat/completions", chatBody, 403)
	expect(developer, "POST", "v1/chat/completions", chatBody, 200)
	put(`{"scope":{"members":["u2"],"roles":["service"]}}`, 200)
	expect(machine, "POST", "v1/chat/completions", chatBody, 200)
	expect(owner, "POST", "v1/chat/completions", chatBody, 403)
	put(`{"scope":{"methods":["GET"]}}`, 200)
	expect(owner, "POST", "v1/chat/completions", chatBody, 403)
	expect(owner, "GET", "v1/models", "", 200)
	put(`{"scope":null}`, 200)
	expect(owner, "POST", "v1/chat/completions", chatBody, 200)
	expect(owner, "GET", "v1/files", "", 403)
	if c := decode[api.Credential](t, owner.get(credentialsPath+"/"+id), 200); c.Scope != nil {
		t.Errorf("the metadata still say %+v", c.Scope)
	}

	// A change of scope is a change: it is in the trail, members on its erasable side.
	told := owner.events("action", "credential.update")
	if len(told) != 7 || told[0].Class != "control" || told[0].Metadata["scope"] != "default" ||
		told[len(told)-1].Metadata["scope"] != `{"paths":["/**"]}` {
		t.Errorf("the trail tells %+v", told)
	}
	for _, bad := range []string{
		`{"scope":{}}`, `{"scope":{"paths":[]}}`, `{"scope":{"paths":["v1"]}}`, `{"scope":{"methods":["TRACE"]}}`, `{"scope":{"nope":1}}`, `{"scope":"x"}`,
		`{"scope":{"models":null}}`, `{"scope":{"paths":["/CANARY%00"]}}`, `{"scope":{"paths":"/**"}}`, `{"scope":{"members":[1]}}`,
		`{"failover":["Default"]}`, `{"failover":["a","a"]}`, `{"failover":["a","b","c","d","e"]}`, `{"failover":[""]}`,
	} {
		a := owner.do("PUT", credentialsPath+"/"+id, bad)
		if bad == `{"scope":{}}` { // bounds nothing more than the default
			if a.Status != 200 {
				t.Errorf("%s: %d %s", bad, a.Status, a.Body)
			}
			continue
		}
		if a.Status != 422 && a.Status != 200 || strings.Contains(a.Body, "CANARY") {
			t.Errorf("%s: %d %s", bad, a.Status, a.Body)
		}
		if a.Status == 200 && bad != `{"scope":{"models":null}}` {
			t.Errorf("%s was taken", bad)
		}
	}
	viewer := as(t, s, "acme", "u3", access.Viewer)
	if a := viewer.do("PUT", credentialsPath+"/"+id, `{"scope":{"paths":["/**"]}}`); a.Status != 403 {
		t.Errorf("a viewer widens a scope: %d", a.Status)
	}
	if a := as(t, s, "globex", "u1", access.Owner).do("PUT", credentialsPath+"/"+id, `{"scope":{"paths":["/**"]}}`); a.Status != 404 {
		t.Errorf("another organization widens a scope: %d", a.Status)
	}
	_ = openai
}
