package server_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// What somebody with a part of the permissions tries, to reach beyond them.

// The names of roles tell callers apart, in scopes and at the operator's application: nobody
// gives a token a name that it does not have itself.
func TestTokensTakeNoNamesOfOthers(t *testing.T) {
	openai := gatehousetest.OpenAI(t)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("roles=" + r.Header.Get("Gatehouse-Roles")))
	}))
	defer app.Close()
	s := instancetest.Serve(t, map[string]string{"SERVICE_HOSTS": "openai=" + openai.URL, "CHAT_UPSTREAM": app.URL})
	owner := as(t, s, "acme", "u1", access.Owner)
	id := owner.store("openai", map[string]string{"apiKey": openai.Key()})
	for _, role := range []string{`{"name":"botmaker","permissions":["token:manage","credential:use"]}`, `{"name":"finance","permissions":["credential:use","audit:read"]}`} {
		decode[struct{}](t, owner.do("POST", "/api/roles", role), 201)
	}
	mallory := as(t, s, "acme", "mallory", "botmaker")
	for _, role := range []string{"owner", "finance", "nothing"} {
		body, err := json.Marshal(map[string]any{"name": "bot", "permissions": []string{"credential:use"}, "roles": []string{role}, "expiresAt": inDays(1)})
		if err != nil {
			t.Fatal(err)
		}
		if a := mallory.do("POST", "/api/tokens", string(body)); a.Status != http.StatusUnprocessableEntity || !strings.Contains(a.Body, "roles") {
			t.Errorf("a token named %s: %d %s", role, a.Status, a.Body)
		}
	}
	bot, _ := mallory.makeToken(map[string]any{"permissions": []string{"credential:use"}, "roles": []string{"botmaker"}})
	if a := bot.do("GET", "/api/chat/app/x", ""); a.Status != http.StatusOK || a.Body != "roles=botmaker" {
		t.Errorf("a token of one's own role: %d %s", a.Status, a.Body)
	}
	helper, _ := owner.makeToken(map[string]any{"roles": []string{"service"}})
	if a := helper.do("GET", "/api/chat/app/x", ""); a.Status != http.StatusOK || a.Body != "roles=service" {
		t.Errorf("a token of less than one has: %d %s", a.Status, a.Body)
	}
	// A token for credentials reaches nothing that takes none.
	narrow, _ := owner.makeToken(map[string]any{"permissions": []string{"credential:use"}, "credentials": []string{id}})
	if a := narrow.do("GET", "/api/chat/app/x", ""); a.Status != http.StatusForbidden || a.Header.Get("Gatehouse-Error") != "credential_out_of_scope" {
		t.Errorf("the application with a token for a credential: %d %s", a.Status, a.Body)
	}
	if e := owner.await(1, "outcome", "denied", "action", "chat.request"); len(e) != 1 || e[0].Reason != "credential_out_of_scope" {
		t.Errorf("the denial is told by %+v", e)
	}
	if a := narrow.do("GET", "/api/rate-limit/auth", "", "X-Original-URI", "/admin/everything"); a.Status != http.StatusForbidden {
		t.Errorf("what is no service, asked for by a gateway in front: %d %s", a.Status, a.Body)
	}
	if a := narrow.do("POST", "/api/chat/openai/v1/chat/completions", chatBody); a.Status != http.StatusOK {
		t.Errorf("its credential: %d %s", a.Status, a.Body)
	}
	twice := owner.request("POST", "/api/chat/openai/v1/chat/completions", strings.NewReader(chatBody))
	twice.Header["Gatehouse-Credential"] = []string{"Default", "other"}
	if a := owner.send(twice); a.Status != http.StatusBadRequest {
		t.Errorf("two names of credentials: %d %s", a.Status, a.Body)
	}
}

// A scope's models hold wherever a service takes the model from.
func TestModelsElsewhere(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) }))
	defer upstream.Close()
	hosts := ""
	for _, service := range []string{"openai", "azure-openai", "huggingface", "replicate"} {
		hosts += service + "=" + upstream.URL + ","
	}
	s := instancetest.Serve(t, map[string]string{"SERVICE_HOSTS": strings.TrimSuffix(hosts, ","), "CHAT_HOSTS": "litellm=" + upstream.URL})
	owner := as(t, s, "acme", "u1", access.Owner)
	for service, fields := range map[string]map[string]string{
		"openai": {"apiKey": "sk-0123456789abcdefghijklmnopqrstuvwx"}, "litellm": {"apiKey": "sk-0123456789abcdef"},
		"azure-openai": {"apiKey": "0123456789abcdef0123456789abcdef", "endpoint": "https://acme.openai.azure.com"},
		"huggingface":  {"accessToken": "hf_0123456789abcdefghijklmnopqrstuvwx"}, "replicate": {"apiToken": "r8_0123456789abcdefghijklmnopqrstuvwxyz01"},
	} {
		id := owner.store(service, fields)
		decode[struct{}](t, owner.do("PUT", credentialsPath+"/"+id, `{"scope":{"models":["cheap","cheap/model"]}}`), 200)
	}
	const image = "X-Ms-Oai-Image-Generation-Deployment"
	for _, test := range []struct {
		path, body string
		want       int
		header     []string
	}{
		{"chat/openai/v1/responses", `{"model":"cheap","input":"x"}`, 200, nil},
		{"chat/openai/v1/responses?model=cheap", `{"prompt":{"id":"pmpt_dear"},"input":"x"}`, 403, nil},
		{"chat/openai/v1/responses?model=dear", `{"model":"cheap","input":"x"}`, 403, nil},
		{"chat/azure-openai/openai/v1/responses", `{"model":"cheap","input":"x"}`, 403, []string{image, "dear"}},
		{"chat/azure-openai/openai/v1/responses", `{"model":"cheap","input":"x"}`, 200, []string{image, "cheap"}},
		{"chat/azure-openai/openai/deployments/cheap/chat/completions", `{"messages":[],"data_sources":[{"parameters":{"embedding_dependency":{"deployment_name":"dear"}}}]}`, 403, nil},
		{"chat/litellm/v1/chat/completions", `{"model":"cheap","messages":[],"fallbacks":["dear"]}`, 403, nil},
		{"chat/litellm/v1/chat/completions", `{"model":"cheap","messages":[],"fallbacks":["cheap"]}`, 200, nil},
		{"chat/huggingface/hf-inference/models/dear/model", `{"inputs":"x","model":"cheap/model"}`, 403, nil},
		{"chat/huggingface/hf-inference/models/dear/model/pipeline/feature-extraction", `{"inputs":"x","model":"cheap/model"}`, 403, nil},
		{"chat/huggingface/hf-inference/models/cheap/model/v1/chat/completions", `{"model":"cheap/model","messages":[]}`, 200, nil},
		{"chat/huggingface/hf-inference/models/dear/model?model=cheap/model", ``, 403, nil},
		{"proxy/replicate/v1/models/dear/model/predictions", `{"input":{},"model":"cheap/model"}`, 403, nil},
		{"proxy/replicate/v1/predictions", `{"version":"dear/model:5c7d5dc6","input":{},"model":"cheap/model"}`, 403, nil},
		{"proxy/replicate/v1/predictions", `{"version":"dear/model:5c7d5dc6","Version":"cheap/model","input":{},"model":"cheap/model"}`, 403, nil},
		{"chat/litellm/serving-endpoints/dear/invocations", `{"messages":[],"model":"cheap"}`, 403, nil},
		{"proxy/replicate/v1/predictions", `{"version":"5c7d5dc6","input":{},"model":"cheap/model"}`, 403, nil},
		{"proxy/replicate/v1/predictions", `{"version":"cheap/model:5c7d5dc6","input":{},"model":"cheap/model"}`, 200, nil},
	} {
		if a := owner.do("POST", "/api/"+test.path, test.body, test.header...); a.Status != test.want {
			t.Errorf("%s %s %q: %d %s, want %d", test.path, test.body, test.header, a.Status, a.Body, test.want)
		}
	}
}

// The id of a person may be that of something else; only the person's events are erased.
func TestErasureIsOfPeople(t *testing.T) {
	s, _, owner, id := scoped(t)
	decode[struct{}](t, owner.do("POST", "/api/roles", `{"name":"hr","permissions":["member:manage"]}`), 201)
	victim, hr := as(t, s, "acme", "victim", access.Developer), as(t, s, "acme", "mallory", "hr")
	if a := victim.do("POST", "/api/chat/openai/v1/chat/completions", chatBody); a.Status != http.StatusOK {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	withAddress := func() (n int) {
		for _, e := range owner.events() {
			if e.Actor.ID == "victim" && e.Request.IP != "" {
				n++
			}
		}
		return n
	}
	owner.await(1, "actor", "victim")
	before := withAddress()
	for _, other := range []string{"openai", id, "acme"} {
		if a := hr.do("DELETE", "/api/audit/persons/"+other, ""); a.Status != http.StatusOK || !strings.Contains(a.Body, `"events":0`) {
			t.Errorf("erasing %s: %d %s", other, a.Status, a.Body)
		}
	}
	if after := withAddress(); before == 0 || after != before {
		t.Errorf("%d of %d events have an address", after, before)
	}
	if a := hr.do("DELETE", "/api/audit/persons/victim", ""); a.Status != http.StatusOK || withAddress() != 0 {
		t.Errorf("erasing the person: %d %s, and %d events have an address", a.Status, a.Body, withAddress())
	}
}

// Who may not read the trail does not end its delivery, and does not get what signs it.
func TestSinksTakeWhatReadsTheTrail(t *testing.T) {
	s, _, owner, _ := scoped(t)
	decode[struct{}](t, owner.do("POST", "/api/roles", `{"name":"wh","permissions":["webhook:manage","webhook:read"]}`), 201)
	hook := decode[struct{ ID string }](t, owner.do("POST", "/api/webhooks", `{"url":"https://siem.example.com/y","events":["audit.events"]}`), 201)
	mallory := as(t, s, "acme", "mallory", "wh")
	if a := mallory.do("POST", "/api/webhooks", `{"url":"https://evil.example.com/y","events":["audit.events"]}`); a.Status != http.StatusForbidden {
		t.Errorf("a sink of its own: %d %s", a.Status, a.Body)
	}
	other := decode[struct{ ID string }](t, mallory.do("POST", "/api/webhooks", `{"url":"https://evil.example.com/y","events":["credential.expired"]}`), 201)
	if a := mallory.do("PUT", "/api/webhooks/"+other.ID, `{"url":"https://evil.example.com/y","events":["audit.events"]}`); a.Status != http.StatusForbidden {
		t.Errorf("a webhook that becomes a sink: %d %s", a.Status, a.Body)
	}
	for _, call := range [][]string{
		{"PUT", "", `{"url":"https://siem.example.com/y","events":["credential.expired"]}`}, {"POST", "/rotate", `{}`}, {"DELETE", "", ""},
	} {
		if a := mallory.do(call[0], "/api/webhooks/"+hook.ID+call[1], call[2]); a.Status != http.StatusForbidden || strings.Contains(a.Body, "whsec_") {
			t.Errorf("%q: %d %s", call, a.Status, a.Body)
		}
	}
	if a := owner.do("DELETE", "/api/webhooks/"+hook.ID, ""); a.Status != http.StatusNoContent {
		t.Errorf("its owner: %d %s", a.Status, a.Body)
	}
	if e := owner.await(1, "actor", "mallory", "outcome", "denied"); len(e) == 0 {
		t.Error("the denials left no event")
	}
}
