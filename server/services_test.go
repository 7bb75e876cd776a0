package server_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

const operatorsFile = `{"services":[
	{"name":"weather","title":"Weather","docs":"https://weather.example/keys","origin":"https://api.weather.example",
		"fields":[{"name":"apiKey","secret":true,"required":true,"pattern":"^w_","env":["WEATHER_API_KEY"]}],
		"headers":[{"name":"X-Weather-Key","value":"{apiKey}"}],
		"probe":{"path":"/v1/me","results":{"200":"valid","401":"invalid"}}},
	{"name":"intranet","chat":true,"origin":"ORIGIN","private":true,
		"fields":[{"name":"user"},{"name":"password","secret":true,"format":"text"},{"name":"token","secret":true}],
		"alternatives":[["token"],["user","password"]],
		"headers":[{"name":"Authorization","scheme":"Bearer","value":"{token}"},{"name":"Authorization","scheme":"Basic","value":"{user}:{password}"}],
		"probe":{"path":"/v1/models"}}]}`

// withServices serves with everything that an operator can add, on hosts whose
// names are not to be told.
func withServices(t *testing.T, intranet string) *instancetest.Server {
	t.Helper()
	file := filepath.Join(t.TempDir(), "services.json")
	if err := os.WriteFile(file, []byte(strings.Replace(operatorsFile, "ORIGIN", intranet, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	return instancetest.Serve(t, map[string]string{
		"GATEHOUSE_SERVICES": file, "CHAT_HOSTS": "local=http://inside-chat.corp:8000/v1",
		"SERVICE_HOSTS": "stripe=http://inside-stripe.corp:12111,azure-openai=http://inside-azure.corp", "GITHUB_HOSTS": "https://inside-github.corp",
	})
}

func TestServices(t *testing.T) {
	s := withServices(t, "http://inside-intranet.corp:8080")
	nobody := as(t, s, "acme", "u1", "nobody-knows-this")
	a := nobody.get("/api/services")
	all := decode[api.ServiceList](t, a, http.StatusOK)
	if strings.Contains(a.Body, "inside-") || strings.Contains(a.Body, ".corp") {
		t.Error("the catalogue tells where the operator's hosts are")
	}
	var names []string
	for _, service := range all.Services {
		names = append(names, service.Name)
		one := nobody.get("/api/services/" + service.Name)
		if got := decode[api.Service](t, one, http.StatusOK); got.Title != service.Title || len(got.Fields) != len(service.Fields) {
			t.Errorf("%s differs from the list", service.Name)
		}
		content, err := json.Marshal(service.Schema)
		if err != nil {
			t.Fatal(err)
		}
		document, err := jsonschema.UnmarshalJSON(bytes.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		c := jsonschema.NewCompiler()
		if err := c.AddResource("schema.json", document); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Compile("schema.json"); err != nil {
			t.Errorf("%s: %v", service.Name, err)
		}
		if service.PathPrefix == "" && service.Name != "smtp" || len(service.Fields) == 0 {
			t.Errorf("%+v", service)
		}
	}
	for _, name := range []string{"openai", "twilio", "local", "weather", "intranet", "smtp"} {
		if !slices.Contains(names, name) {
			t.Errorf("%s is not in %v", name, names)
		}
	}
	checkProblem(t, nobody.get("/api/services/telegram"), http.StatusNotFound, "service_not_found")
	checkProblem(t, anonymous(t, s).get("/api/services"), http.StatusUnauthorized, "token_missing")
	if logs := s.Logs.String(); !strings.Contains(logs, "GATEHOUSE_SERVICES sends keys") || !strings.Contains(logs, "intranet") {
		t.Error("the start says nothing of the private host")
	}
}

// A value without the usual form is stored, with a warning.
func TestOddFormIsAWarning(t *testing.T) {
	c := as(t, withServices(t, "http://127.0.0.1:9"), "acme", "u1", access.Developer)
	for service, fields := range map[string]map[string]string{
		"weather": {"apiKey": "new-form-0123456789"}, "gemini": {"apiKey": "ZZ.new-form-0123456789"}, "github": {"token": "new-form-0123456789"},
		"twilio": {"accountSid": "XX1", "authToken": "new-form-0123456789"},
	} {
		a := c.json("POST", credentialsPath, api.CredentialCreate{Service: service, Credentials: fields})
		if a.Status != http.StatusCreated || !strings.Contains(a.Header.Get("Gatehouse-Warning"), "usual form") {
			t.Errorf("%s: %d %v %s", service, a.Status, a.Header["Gatehouse-Warning"], a.Body)
		}
	}
	// Where it goes is no matter of form: a host of somebody's own is refused, and not told the operator's.
	for service, fields := range map[string]map[string]string{
		"azure-openai": {"endpoint": "https://evil.example", "apiKey": "0123456789"},
		"github":       {"token": "ghp_0123456789", "baseUrl": "http://169.254.169.254"},
		"twilio":       {"accountSid": "../../x", "authToken": "0123456789"},
		"zendesk":      {"subdomain": "evil.example/", "oauthToken": "0123456789"},
	} {
		a := c.json("POST", credentialsPath, api.CredentialCreate{Service: service, Name: "evil", Credentials: fields})
		if a.Status != http.StatusUnprocessableEntity || strings.Contains(a.Body, "evil.example") || strings.Contains(a.Body, ".corp") {
			t.Errorf("%s: %d %s", service, a.Status, a.Body)
		}
	}
	// An organization adds no service.
	if a := c.do("POST", "/api/services", `{"name":"mine"}`); a.Status != http.StatusMethodNotAllowed && a.Status != http.StatusNotFound {
		t.Errorf("%d %s", a.Status, a.Body)
	}
}

// A service of the operator's file works from end to end: stored, tested, used.
func TestCustomServiceServes(t *testing.T) {
	fake := gatehousetest.OpenAI(t, gatehousetest.Key("token-0123456789abcdef"))
	s := withServices(t, fake.URL)
	c := as(t, s, "acme", "u1", access.Developer)
	id := c.store("intranet", map[string]string{"token": "token-0123456789abcdef"})
	if got := decode[api.TestResult](t, c.do("POST", credentialsPath+"/"+id+"/test", ""), http.StatusOK); got.Result != "valid" {
		t.Errorf("%+v", got)
	}
	wrong := api.CredentialTest{Service: "intranet", Credentials: map[string]string{"user": "u", "password": "long-enough-password"}}
	if got := decode[api.TestResult](t, c.json("POST", credentialsPath+"/test", wrong), http.StatusOK); got.Result != "invalid" {
		t.Errorf("%+v", got)
	}
	if a := c.do("POST", "/api/chat/intranet/v1/chat/completions", chatBody); a.Status != http.StatusOK {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	seen := fake.Requests()
	if last := seen[len(seen)-1]; last.Header.Get("Authorization") != "Bearer token-0123456789abcdef" {
		t.Errorf("asked with %v", last.Header)
	}
}
