package catalog_test

import (
	"bytes"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/catalog"
)

const customFile = `{
  "services": [{
    "name": "weather", "title": "Weather", "docs": "https://weather.example/keys", "origin": "https://api.weather.example/v2",
    "fields": [
      {"name": "apiKey", "title": "API key", "secret": true, "required": true, "pattern": "^w_[a-z]+$", "example": "w_…", "env": ["WEATHER_API_KEY"]},
      {"name": "plan", "format": "choice", "choices": ["free", "paid"]}
    ],
    "headers": [
      {"name": "authorization", "scheme": "Bearer", "value": "{apiKey}"},
      {"name": "X-Plan", "value": "{plan}"},
      {"name": "X-Api-Version", "value": "3"}
    ],
    "probe": {"path": "/me", "query": "limit=1", "results": {"200": "valid", "401": "invalid", "403": "restricted", "404": "misconfigured"}}
  }]
}`

func custom(t *testing.T, file, name string) *catalog.Service {
	t.Helper()
	s, ok := newCatalog(t, catalog.Options{Custom: []byte(file)}).Service(name)
	if !ok {
		t.Fatalf("no service %s", name)
	}
	return s
}

func TestCustomService(t *testing.T) {
	weather := custom(t, customFile, "weather")
	if !weather.Custom() || weather.Private() || weather.Chat || weather.PathPrefix() != "/api/proxy/weather" || weather.Title != "Weather" || len(weather.Hosts()) != 0 {
		t.Errorf("%+v", weather)
	}
	if problems, warnings := weather.Check(map[string]string{"apiKey": "AAAA"}); len(problems) != 0 || len(warnings) != 1 {
		t.Errorf("%v %v", problems, warnings)
	}
	in, err := weather.Prepare(map[string]string{"apiKey": "w_secret_1", "plan": "paid"})
	if err != nil {
		t.Fatal(err)
	}
	h := http.Header{}
	in.Apply(h)
	if diff := cmp.Diff(http.Header{"Authorization": {"Bearer w_secret_1"}, "X-Plan": {"paid"}, "X-Api-Version": {"3"}}, h); diff != "" {
		t.Error(diff)
	}
	r, err := weather.Probe(t.Context(), in)
	if err != nil || r.Method != "GET" || r.URL.String() != "https://api.weather.example/v2/me?limit=1" {
		t.Errorf("asked %v, %v", r, err)
	}
	for status, want := range map[int]catalog.Result{
		200: catalog.Valid, 401: catalog.Invalid, 403: catalog.Restricted, 404: catalog.Misconfigured,
		201: catalog.Indeterminate, 302: catalog.Indeterminate, 429: catalog.Indeterminate, 500: catalog.Indeterminate,
	} {
		if got := weather.Read(in, status, nil, []byte(`{"code":"w_secret_1"}`)); got.Result != want || got.Detail == "" || got.Code != "" {
			t.Errorf("%d: %+v, want %s", status, got, want)
		}
	}
}

func TestCustomBasicPrivateAndAlternatives(t *testing.T) {
	file := `{"services":[{"name":"intranet","chat":true,"origin":"http://10.0.0.7:8080","private":true,
		"fields":[{"name":"user","format":"text"},{"name":"password","secret":true,"format":"text"},{"name":"token","secret":true}],
		"alternatives":[["token"],["user","password"]],
		"headers":[{"name":"Authorization","scheme":"Bearer","value":"{token}"},{"name":"Authorization","scheme":"basic","value":"{user}:{password}"}]}]}`
	c := newCatalog(t, catalog.Options{Custom: []byte(file), ServiceHosts: map[string]string{"stripe": "http://127.0.0.1:1"}})
	if diff := cmp.Diff([]string{"http://10.0.0.7:8080", "http://127.0.0.1:1"}, c.OperatorOrigins()); diff != "" {
		t.Error(diff)
	}
	s, _ := c.Service("intranet")
	in, err := s.Prepare(map[string]string{"user": "ü ser", "password": "pass word 1"})
	if err != nil || !s.Private() || s.PathPrefix() != "/api/chat/intranet" {
		t.Fatal(err)
	}
	h := http.Header{}
	in.Apply(h)
	if !strings.HasPrefix(h.Get("Authorization"), "Basic ") {
		t.Errorf("%v", h)
	}
	// Without a probe nothing can be told.
	if r, err := s.Probe(t.Context(), in); err == nil {
		t.Errorf("asks %v", r)
	}
	if got := s.Read(in, 200, nil, nil); got.Result != catalog.Indeterminate {
		t.Errorf("%+v", got)
	}
	// It can be moved like the others, and its name is taken.
	if _, err := catalog.New(catalog.Options{Custom: []byte(file), ServiceHosts: map[string]string{"intranet": "http://127.0.0.1:1"}}); err != nil {
		t.Error(err)
	}
	if _, err := catalog.New(catalog.Options{Custom: []byte(file), ChatHosts: map[string]string{"intranet": "http://127.0.0.1:1"}}); err == nil {
		t.Error("a name is there twice")
	}
}

// Every mistake is listed with its place; none repeats what the file holds.
func TestCustomMistakes(t *testing.T) {
	for _, test := range []struct {
		name, from, to string // a change of customFile
		want           string // the whole error
	}{
		{"no object", customFile, `[]`, "the file: must be an object"},
		{"no JSON", `"services": [{`, `"services": [{,`, "line 2: the file is not JSON from here on (no comments, no comma before a closing bracket), or it was cut off"},
		{"comment", `"services"`, "// hunter2\n\"services\"", "line 2: the file is not JSON"},
		{"cut off", customFile, `{"services": [{"name": "hunter2`, "line 1: the file is not JSON"},
		{"empty", customFile, ``, "line 1: the file is not JSON"},
		{"not UTF-8", `"Weather"`, "\"\xff\xfe\"", "the file is not UTF-8 text"},
		{"two documents", customFile, customFile + `{}`, "there is something after the end"},
		{"no services", customFile, `{}`, "services: must be a list of 1 to 200 entries"},
		{"none", customFile, `{"services":[]}`, "services: must be a list of 1 to 200 entries"},
		{"text for a service", customFile, `{"services":["hunter2"]}`, "services[0]: must be an object"},
		{"member of the file", `"services"`, `"$schema": "hunter2", "services"`, "(a member): is not known here; there can be services"},
		{"unknown member", `"title": "Weather"`, `"titel": "hunter2"`, "services[0].titel: is not known here; there can be name, title, docs,"},
		{"twice", `"title": "Weather"`, `"title": "Weather", "title": "hunter2"`, "services[0].title: is there twice"},
		{"too deep", `"limit=1"`, `[[[[[[[[[1]]]]]]]]]`, "services[0].probe.query[0][0][0][0]: nests deeper than"},
		{"taken", `"weather"`, `"openai"`, "services[0].name: is taken"},
		{"reserved", `"weather"`, `"app"`, "services[0].name: is reserved"},
		{"echo", `"weather"`, `"echo"`, "services[0].name: is reserved"},
		{"odd name", `"weather"`, `"Hunter2"`, "services[0].name: must be 1 to 32 of"},
		{"number for text", `"Weather"`, `7`, "services[0].title: must be text"},
		{"line break", `"Weather"`, `"hunter2\n"`, "services[0].title: must not hold"},
		{"docs", `https://weather.example/keys`, `javascript:hunter2`, "services[0].docs: must be the address of a page"},
		{"flag", `"title": "Weather"`, `"chat": "yes"`, "services[0].chat: must be true or false"},
		{"plain http", `https://api.weather`, `http://hunter2`, `services[0].origin: must start with https://; set "private": true`},
		{"port", `https://api.weather.example/v2`, `https://api.weather.example:8443`, `services[0].origin: must be on port 443`},
		{"password in it", `https://api.weather`, `https://root:hunter2@api.weather`, "services[0].origin: the origin must not hold a user name or password"},
		{"field in the host", `https://api.weather`, `https://{apiKey}.weather`, "services[0].origin: the origin"},
		{"field name", `"name": "apiKey"`, `"name": "Hunter2"`, "services[0].fields[0].name: must be a letter a-z"},
		{"field twice", `"name": "plan"`, `"name": "apiKey"`, "services[0].fields[1].name: is the name of an earlier field"},
		{"format", `"format": "choice"`, `"format": "host"`, "services[0].fields[1].format: must be token, text, choice, email or segment"},
		{"choices", `, "choices": ["free", "paid"]`, ``, "services[0].fields[1].choices: must be given with the format choice"},
		{"choice of no form", `"free"`, `"hunter 2"`, "services[0].fields[1].choices: must be ASCII without spaces"},
		{"pattern", `"^w_[a-z]+$"`, `"(hunter2"`, "services[0].fields[0].pattern: must be a regular expression"},
		{"length", `"secret": true,`, `"secret": true, "maxLength": 1e9,`, "services[0].fields[0].maxLength: must be a whole number from 1 to 8192"},
		{"env", `"WEATHER_API_KEY"`, `"hunter2"`, "services[0].fields[0]: env[0] must be the name of a variable"},
		{"env taken", `"WEATHER_API_KEY"`, `"OPENAI_API_KEY"`, "services[0].fields[0]: env[0] is read for another field or service already"},
		{"nothing required", `"required": true, `, ``, "services[0].fields: must hold one that is required"},
		{"header", `"name": "authorization"`, `"name": "Host"`, "services[0].headers[0].name: must be the name of a header"},
		{"our header", `"name": "X-Plan"`, `"name": "gatehouse-actor"`, "services[0].headers[1].name: must be the name of a header"},
		{"header of two lines", `"name": "X-Plan"`, `"name": "X-Plan: hunter2"`, "services[0].headers[1].name: must be the name of a header"},
		{"unknown field", `"{plan}"`, `"{hunter2}"`, "services[0].headers[1].value: names a field that the service does not have"},
		{"braces", `"{plan}"`, `"{{plan}}"`, "services[0].headers[1].value: must be ASCII, with fields in braces"},
		{"open brace", `"{plan}"`, `"{plan"`, "services[0].headers[1].value: must be ASCII, with fields in braces"},
		{"no value", `, "value": "{plan}"`, ``, "services[0].headers[1].value: must be given"},
		{"no colon", `"scheme": "Bearer"`, `"scheme": "Basic"`, "services[0].headers[0].value: must be user:password with the scheme Basic"},
		{"scheme", `"scheme": "Bearer"`, `"scheme": "Hunter2 x"`, "services[0].headers[0].scheme: must be a word"},
		{"no secret", `"secret": true, `, ``, "services[0].headers: must put a secret field on requests"},
		{"text in a header", `"secret": true,`, `"secret": true, "format": "text",`, "services[0].headers[0].value: puts a field of the format text into a header"},
		{"method", `"path": "/me"`, `"method": "DELETE", "path": "/me"`, "services[0].probe.method: must be GET, HEAD or POST"},
		{"path", `"/me"`, `"/../me"`, "services[0].probe.path: must be a plain path"},
		{"secret in the path", `"/me"`, `"/{apiKey}"`, "services[0].probe.path: must be a plain path"},
		{"secret in the query", `"limit=1"`, `"key={apiKey}"`, "services[0].probe.query: must be plain"},
		{"result", `"restricted"`, `"hunter2"`, "services[0].probe.results.403: must be valid, restricted,"},
		{"status", `"403"`, `"hunter2"`, "services[0].probe.results.hunter2: must be a status from 200 to 599"},
		{"429", `"403": "restricted"`, `"429": "invalid"`, "services[0].probe.results.429: must be indeterminate"},
		{"500", `"403": "restricted"`, `"500": "invalid"`, "services[0].probe.results.500: must be indeterminate"},
		{"302", `"403": "restricted"`, `"302": "invalid"`, "services[0].probe.results.302: must be indeterminate"},
		{"401 is valid", `"401": "invalid"`, `"401": "valid"`, "services[0].probe.results.401: cannot be valid"},
		{"nothing is valid", `"200": "valid", `, ``, "services[0].probe.results: must say which status is valid"},
		{"one alternative", `"headers"`, `"alternatives": [["plan"]], "headers"`, "services[0].alternatives: must be at least two"},
		{"alternative of a required field", `"headers"`, `"alternatives": [["apiKey"], ["plan"]], "headers"`, "services[0]: alternatives[0] must name fields that are not required"},
		{"too large", `"Weather"`, `"` + strings.Repeat("w", catalog.MaxCustomFile) + `"`, "the file is larger than"},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := strings.Replace(customFile, test.from, test.to, 1)
			if test.from != "" && file == customFile {
				t.Fatal("the change does not apply")
			}
			_, err := catalog.New(catalog.Options{Custom: []byte(file)})
			if err == nil || !strings.Contains(err.Error(), "GATEHOUSE_SERVICES: "+test.want) {
				t.Fatalf("%v\nwant %s", err, test.want)
			}
			// A member's name of letters alone may stand in the text, a value never.
			if strings.Contains(strings.Replace(err.Error(), "results.hunter2:", "", 1), "hunter2") {
				t.Errorf("the error echoes a value: %v", err)
			}
		})
	}
	// All at once.
	file := strings.NewReplacer(`"weather"`, `"openai"`, `"/me"`, `"me"`, `"{plan}"`, `"{nope}"`).Replace(customFile)
	_, err := catalog.New(catalog.Options{Custom: []byte(file), ChatHosts: map[string]string{"echo": "http://h"}})
	if err == nil || strings.Count(err.Error(), "GATEHOUSE_SERVICES: ") != 3 || strings.Count(err.Error(), "CHAT_HOSTS: ") != 1 {
		t.Errorf("%v", err)
	}
}

// A byte order mark, as editors on Windows put one, is no mistake.
func TestCustomByteOrderMark(t *testing.T) {
	custom(t, "\ufeff"+customFile, "weather")
}

// The example of the manual is a file that works.
func TestExampleOfTheManual(t *testing.T) {
	s := custom(t, exampleOfTheManual(t), "weather")
	in, err := s.Prepare(map[string]string{"apiKey": "w_0123456789"})
	if err != nil {
		t.Fatal(err)
	}
	h := http.Header{}
	in.Apply(h)
	if len(h) == 0 || in.Origin().Scheme != "https" {
		t.Errorf("%v to %s", h, in.Origin())
	}
}

func exampleOfTheManual(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("../docs/services.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(page), "```json\n")
	example, _, closed := strings.Cut(after, "```")
	if !found || !closed {
		t.Fatal("docs/services.md has no example")
	}
	return example
}

// Whatever is in the file, it is refused or makes services that hold to the
// rules of the house.
func FuzzCustom(f *testing.F) {
	f.Add([]byte(customFile))
	f.Add([]byte(`{"services":[{"name":"a","origin":"https://a.example","fields":[{"name":"k","secret":true,"required":true}],"headers":[{"name":"X-K","value":"{k}"}]}]}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		c, err := catalog.New(catalog.Options{Custom: content})
		if err != nil {
			if c != nil || !strings.Contains(err.Error(), "GATEHOUSE_SERVICES: ") {
				t.Errorf("%v", err)
			}
			return
		}
		for _, s := range c.Services() {
			if !s.Custom() {
				continue
			}
			fields := make(map[string]string)
			for _, f := range s.Fields {
				fields[f.Name] = strings.Repeat("1", min(f.MaxLength, 12))
				if f.Format == catalog.Choice {
					fields[f.Name] = f.Choices[0]
				}
				if f.Format == catalog.Email {
					fields[f.Name] = "a@b.example"
				}
			}
			compile(t, s)
			in, err := s.Prepare(fields)
			if err != nil {
				continue // a field too short for its format, a choice that looks masked
			}
			u := in.Origin()
			if u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Scheme != "https" && !s.Private() {
				t.Errorf("goes to %s", u)
			}
			h := http.Header{}
			in.Apply(h)
			for name, values := range h {
				for _, value := range values {
					if name == "Host" || strings.HasPrefix(name, "Gatehouse-") || bytes.ContainsAny([]byte(name+value), "\r\n\x00") {
						t.Errorf("puts on %q", name)
					}
				}
			}
			if r, err := s.Probe(t.Context(), in); err == nil && (r.URL.Host != u.Host || strings.Contains(r.URL.String(), "{")) {
				t.Errorf("asks %s", r.URL)
			}
		}
	})
}
