package server_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// A rejected request is one of the tables below: what was sent and what it is
// refused with.
type rejected struct {
	name   string
	method string
	path   string
	body   string
	header []string

	status int
	code   string
	fields []string // that a 422 names
}

func (r rejected) run(t *testing.T, c *client) {
	t.Run(r.name, func(t *testing.T) {
		c := *c
		c.t = t
		p := checkProblem(t, c.do(r.method, r.path, r.body, r.header...), r.status, r.code)
		if got := fieldsOf(p); !slices.Equal(got, r.fields) {
			t.Errorf("fields %q, want %q", got, r.fields)
		}
	})
}

func TestBadBody(t *testing.T) {
	s := instancetest.Serve(t, map[string]string{"CREDENTIAL_REVEAL": "true"})
	c := as(t, s, "acme", "u1", access.Owner, access.Operator)
	id := c.store("openai", map[string]string{"apiKey": "sk-0123456789abcdefghijklmn"})
	one := credentialsPath + "/" + id

	const good = `"service":"openai","credentials":{"apiKey":"sk-0123456789abcdefghijklmn"}`
	malformed := map[string]string{
		"empty object cut off":      `{`,
		"text":                      `service=openai`,
		"a string without its end":  `{"service":"openai`,
		"something after the value": `{` + good + `}{}`,
		"a word after the value":    `{` + good + `} x`,
		"a NUL after the value":     "{" + good + "}\x00",
		"a member twice":            `{"service":"stripe",` + good + `}`,
		"a member twice, escaped":   `{"serv\u0069ce":"stripe",` + good + `}`,
		"a field twice":             `{"service":"openai","credentials":{"apiKey":"sk-a","apiKey":"sk-b"}}`,
		"deep nesting of arrays":    strings.Repeat("[", 40) + strings.Repeat("]", 40),
		"deep nesting of objects":   strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40),
		"very deep nesting":         strings.Repeat("[", 30_000),
		"bytes that are not UTF-8":  "{\"service\":\"openai\",\"credentials\":{\"apiKey\":\"sk-\xff\xfe0123456789abcdefg\"}}",
		"half a surrogate pair":     `{"service":"openai","credentials":{"apiKey":"sk-\ud800-0123456789abcdefg"}}`,
		"a control character":       "{\"service\":\"open\nai\",\"credentials\":{}}",
		"NaN":                       `{"service":NaN}`,
		"a comment":                 `{/* */` + good + `}`,
		"a trailing comma":          `{` + good + `,}`,
		"UTF-16":                    "\xff\xfe{\x00}\x00",
		"a byte order mark":         "\xef\xbb\xbf{" + good + "}",
		"white space alone":         "  \n",
	}
	for name, body := range malformed {
		rejected{name: name, method: "POST", path: credentialsPath, body: body, status: 400, code: "malformed_request"}.run(t, c)
	}

	post := func(name, body string, fields ...string) rejected {
		return rejected{name: name, method: "POST", path: credentialsPath, body: body, status: 422, code: "invalid_request", fields: fields}
	}
	put := func(name, body string, fields ...string) rejected {
		return rejected{name: "update: " + name, method: "PUT", path: one, body: body, status: 422, code: "invalid_request", fields: fields}
	}
	long := strings.Repeat("a", 5000)
	for _, r := range []rejected{
		post("null", `null`, "body"),
		post("an array", `[]`, "body"),
		post("a string", `"x"`, "body"),
		post("nothing in it", `{}`, "credentials", "service"),
		post("no credentials", `{"service":"openai"}`, "credentials"),
		post("credentials null", `{"service":"openai","credentials":null}`, "credentials"),
		post("credentials empty", `{"service":"openai","credentials":{}}`, "credentials.apiKey"),
		post("credentials a string", `{"service":"openai","credentials":"sk-x"}`, "credentials"),
		post("credentials an array", `{"service":"openai","credentials":["sk-x"]}`, "credentials"),
		post("a field that is a number", `{"service":"openai","credentials":{"apiKey":5}}`, "credentials.apiKey"),
		post("a field that is null", `{"service":"openai","credentials":{"apiKey":null}}`, "credentials.apiKey"),
		post("a field that is an object", `{"service":"openai","credentials":{"apiKey":{"a":"b"}}}`, "credentials.apiKey"),
		post("a field that is empty", `{"service":"openai","credentials":{"apiKey":""}}`, "credentials.apiKey"),
		post("a field that is too long", `{"service":"openai","credentials":{"apiKey":"`+long+`"}}`, "credentials.apiKey"),
		post("a field with a NUL", `{"service":"openai","credentials":{"apiKey":"sk-\u0000-0123456789abcdef"}}`, "credentials.apiKey"),
		post("a field with a line break", `{"service":"openai","credentials":{"apiKey":"sk-0123456789\r\nX-A: b"}}`, "credentials.apiKey"),
		post("an unknown field", `{"service":"openai","credentials":{"apiKey":"sk-0123456789abcdefghijklmn","apikey":"x"}}`, "credentials"),
		post("a masked field", `{"service":"openai","credentials":{"apiKey":"••••ghij"}}`, "credentials.apiKey"),
		post("an unknown service", `{"service":"nope","credentials":{"apiKey":"x"}}`, "service"),
		post("a service that takes none", `{"service":"app","credentials":{"apiKey":"x"}}`, "service"),
		post("a service that is a number", `{"service":1,"credentials":{"apiKey":"x"}}`, "service"),
		post("a service in capitals", `{"service":"OpenAI","credentials":{"apiKey":"x"}}`, "service"),
		post("an unknown member", `{`+good+`,"nope":1}`, "body"),
		post("a member in another case", `{"Service":"openai","credentials":{"apiKey":"x"}}`, "body", "service"),
		post("a name that is too long", `{`+good+`,"name":"`+long+`"}`, "name"),
		post("a name with a NUL", `{`+good+`,"name":"a\u0000b"}`, "name"),
		post("a name of spaces", `{`+good+`,"name":"   "}`, "name"),
		post("a name that turns text around", `{`+good+`,"name":"a\u202eb"}`, "name"),
		post("a name that is an object", `{`+good+`,"name":{}}`, "name"),
		post("a date that is none", `{`+good+`,"expiresAt":"tomorrow"}`, "expiresAt"),
		post("the 30th of February", `{`+good+`,"expiresAt":"2999-02-30T00:00:00Z"}`, "expiresAt"),
		post("a date without a zone", `{`+good+`,"expiresAt":"2999-01-01T00:00:00"}`, "expiresAt"),
		post("a date in the past", `{`+good+`,"expiresAt":"2001-01-01T00:00:00Z"}`, "expiresAt"),
		post("the year one", `{`+good+`,"expiresAt":"0001-01-01T00:00:00Z"}`, "expiresAt"),
		post("the year zero", `{`+good+`,"expiresAt":"0000-01-01T00:00:00Z"}`, "expiresAt"),
		post("the year 10000", `{`+good+`,"expiresAt":"9999-12-31T23:59:59-14:00"}`, "expiresAt"),
		post("a date that is a number", `{`+good+`,"expiresAt":1795423260}`, "expiresAt"),
		post("several mistakes at once", `{"service":"openai","credentials":{"apiKey":""},"name":" ","expiresAt":"2001-01-01T00:00:00Z"}`,
			"credentials.apiKey", "expiresAt", "name"),
		put("name null", `{"name":null}`, "name"),
		put("name empty", `{"name":""}`, "name"),
		put("credentials null", `{"credentials":null}`, "credentials"),
		put("disabled null", `{"disabled":null}`, "disabled"),
		put("disabled a string", `{"disabled":"true"}`, "disabled"),
		put("the year one", `{"expiresAt":"0001-01-01T00:00:00Z"}`, "expiresAt"),
		put("a required field taken away", `{"credentials":{"apiKey":null}}`, "credentials.apiKey"),
		put("an unknown field taken away", `{"credentials":{"nope":null}}`, "credentials"),
		put("the service", `{"service":"stripe"}`, "service"),
		put("an unknown member", `{"nope":true}`, "body"),
		{name: "rotate: nothing", method: "POST", path: one + "/rotate", body: `{"credentials":{}}`, status: 422, code: "invalid_request", fields: []string{"credentials"}},
		{name: "rotate: grace", method: "POST", path: one + "/rotate", body: `{"credentials":{"apiKey":"sk-0123456789abcdefghijklmn"},"graceSeconds":-1}`,
			status: 422, code: "invalid_request", fields: []string{"graceSeconds"}},
		{name: "rotate: an integer with a point", method: "POST", path: one + "/rotate", body: `{"credentials":{"apiKey":"sk-0123456789abcdefghijklmn"},"graceSeconds":60.0}`,
			status: 422, code: "invalid_request", fields: []string{"graceSeconds"}},
		{name: "rotate: too large an integer", method: "POST", path: one + "/rotate", body: `{"credentials":{"apiKey":"sk-0123456789abcdefghijklmn"},"graceSeconds":100000000000000000000}`,
			status: 422, code: "invalid_request", fields: []string{"graceSeconds"}},
		{name: "rotate: half a second", method: "POST", path: one + "/rotate", body: `{"credentials":{"apiKey":"sk-0123456789abcdefghijklmn"},"graceSeconds":0.5}`,
			status: 422, code: "invalid_request", fields: []string{"graceSeconds"}},
		{name: "reveal: no reason", method: "POST", path: one + "/reveal", body: `{"reason":" "}`, status: 422, code: "invalid_request", fields: []string{"reason"}},
		{name: "reveal: reason null", method: "POST", path: one + "/reveal", body: `{"reason":null}`, status: 422, code: "invalid_request", fields: []string{"reason"}},
		{name: "reset: a prefix", method: "POST", path: "/api/rate-limit/reset", body: `{"type":"ip","key":"10.0.0.0/8"}`, status: 422, code: "invalid_request", fields: []string{"key"}},
		{name: "reset: another type", method: "POST", path: "/api/rate-limit/reset", body: `{"type":"user","key":"u1"}`, status: 422, code: "invalid_request", fields: []string{"type"}},
		{name: "reset: the reserved organization", method: "POST", path: "/api/rate-limit/reset", body: `{"type":"org","key":"_instance"}`, status: 422, code: "invalid_request", fields: []string{"key"}},
		{name: "organization: the reserved id", method: "POST", path: "/api/organizations", body: `{"id":"_instance"}`, status: 422, code: "invalid_request", fields: []string{"id"}},
		{name: "organization: a path", method: "POST", path: "/api/organizations", body: `{"id":"../x"}`, status: 422, code: "invalid_request", fields: []string{"id"}},
		{name: "organization: a line break", method: "POST", path: "/api/organizations", body: `{"id":"a\n","name":"A"}`, status: 422, code: "invalid_request", fields: []string{"id"}},
		{name: "organization: a name of control characters", method: "POST", path: "/api/organizations", body: `{"id":"x","name":"\u0001"}`,
			status: 422, code: "invalid_request", fields: []string{"name"}},

		{name: "no body", method: "POST", path: credentialsPath, status: 400, code: "body_missing"},
		{name: "no body on an update", method: "PUT", path: one, status: 400, code: "body_missing"},
		{name: "a form", method: "POST", path: credentialsPath, body: "service=openai", header: []string{"Content-Type", "application/x-www-form-urlencoded"},
			status: 400, code: "unsupported_media_type"},
		{name: "JSON that is called text", method: "POST", path: credentialsPath, body: "{" + good + "}", header: []string{"Content-Type", "text/plain"},
			status: 400, code: "unsupported_media_type"},
		{name: "a body at the cap", method: "POST", path: credentialsPath, body: "{" + good + "}" + strings.Repeat(" ", 64<<10), status: 413, code: "body_too_large"},
		{name: "a reason over its route's cap", method: "POST", path: one + "/reveal", body: `{"reason":"` + strings.Repeat("a", 9<<10) + `"}`, status: 413, code: "body_too_large"},
		{name: "a stale state", method: "PUT", path: one, body: `{"disabled":true}`, header: []string{"If-Match", `"99"`}, status: 412, code: "credential_changed"},
		{name: "an ETag that is none", method: "PUT", path: one, body: `{"disabled":true}`, header: []string{"If-Match", `nonsense`}, status: 412, code: "credential_changed"},
		{name: "a weak ETag of another state", method: "DELETE", path: one, header: []string{"If-Match", `W/"9"`}, status: 412, code: "credential_changed"},
		{name: "a name that is taken", method: "POST", path: credentialsPath, body: "{" + good + "}", status: 409, code: "credential_exists"},
	} {
		r.run(t, c)
	}

	// Nothing of all that left a trace.
	list := decode[api.CredentialList](t, c.get(credentialsPath), 200)
	if len(list.Credentials) != 1 || list.Credentials[0].Version != 1 || list.Credentials[0].Status != "active" {
		t.Errorf("after rejected requests only: %+v, want the one credential as it was", list.Credentials)
	}
}

// The type of a body is the same in any case, and with any parameters.
func TestMediaTypeInAnyCase(t *testing.T) {
	s := instancetest.Serve(t, nil)
	c := as(t, s, "acme", "u1", access.Owner)
	for i, media := range []string{"Application/JSON", "APPLICATION/JSON; Charset=UTF-8", "application/json ;charset=utf-8", "application/json"} {
		body := fmt.Sprintf(`{"service":"openai","name":"k%d","credentials":{"apiKey":"sk-0123456789abcdefghijklmn"}}`, i)
		decode[api.Credential](t, c.do("POST", credentialsPath, body, "Content-Type", media), 201)
	}
}

// A value of the wrong type is told by its own name where that is one of the API's, and not as if
// what holds it should be of that type.
func TestWrongTypesInObjects(t *testing.T) {
	c := as(t, instancetest.Serve(t, nil), "acme", "u1", access.Owner, access.Operator)
	for _, test := range []struct{ method, path, body, field, message string }{
		{"PUT", "/api/retention/policy", `{"keep":{"access":30}}`, "keep.access", "must be a JSON string"},
		{"PUT", "/api/retention/policy", `{"keep":{"limit-history":null}}`, "keep.limit-history", "must be a JSON string"},
		{"PUT", "/api/retention/bounds", `{"floors":{"usage":[]},"ceilings":{}}`, "floors.usage", "must be a JSON string"},
		{"PUT", "/api/retention/policy", `{"keep":{"nope":30}}`, "keep", "holds something that must be a JSON string"},
		{"PUT", "/api/retention/policy", `{"keep":30}`, "keep", "must be a JSON object"},
		{"PUT", "/api/retention/policy", `30`, "body", "must be a JSON object"},
		{"POST", credentialsPath, `{"service":"openai","credentials":{"nope":5}}`, "credentials", "holds something that must be a JSON string"},
	} {
		p := checkProblem(t, c.do(test.method, test.path, test.body), 422, "invalid_request")
		if len(p.Errors) != 1 || p.Errors[0].Field != test.field || p.Errors[0].Message != test.message {
			t.Errorf("%s gives %+v, want %s %s", test.body, p.Errors, test.field, test.message)
		}
	}
}

// An id that is none is told from ids that are too many, by its place.
func TestTokenForIDsThatAreNone(t *testing.T) {
	admin := as(t, instancetest.Serve(t, nil), "acme", "admin", access.Admin)
	for _, test := range []struct {
		ids       []string
		says, not string
	}{
		{[]string{unknownID, "cred_x", unknownID, ""}, "entry 2, 4", "50"},
		{slices.Repeat([]string{unknownID}, 51), "at most 50", "entry"},
	} {
		p := checkProblem(t, admin.json("POST", "/api/tokens", map[string]any{
			"name": "x", "permissions": []string{"credential:use"}, "credentials": test.ids, "expiresAt": inDays(1),
		}), 422, "invalid_request")
		if len(p.Errors) != 1 || p.Errors[0].Field != "credentials" || !strings.Contains(p.Errors[0].Message, test.says) || strings.Contains(p.Errors[0].Message, test.not) ||
			strings.Contains(p.Errors[0].Message, "cred_x") {
			t.Errorf("%+v, want %q", p.Errors, test.says)
		}
	}
}

func TestBadQuery(t *testing.T) {
	s := instancetest.Serve(t, nil)
	c := as(t, s, "acme", "u1", access.Owner, access.Operator)
	c.store("openai", map[string]string{"apiKey": "sk-0123456789abcdefghijklmn"})
	get := func(path string, fields ...string) rejected {
		return rejected{name: path, method: "GET", path: path, status: 422, code: "invalid_request", fields: fields}
	}
	for _, r := range []rejected{
		get(credentialsPath+"?limit=x", "limit"),
		get(credentialsPath+"?limit=-1", "limit"),
		get(credentialsPath+"?limit=201", "limit"),
		get(credentialsPath+"?limit=99999999999999999999", "limit"),
		get(credentialsPath+"?limit=1e2", "limit"),
		get(credentialsPath+"?status=gone", "status"),
		get(credentialsPath+"?cursor=%00", "cursor"),
		get(credentialsPath+"?cursor=!!!!", "cursor"),
		get(credentialsPath+"?cursor=Y3JlZF8nIE9SIDE9MQ", "cursor"),
		get(credentialsPath+"?service="+strings.Repeat("a", 65), "service"),
		get(credentialsPath+"?service=%00", "service"),
		get(credentialsPath+"?service=%ff", "service"),
		get(credentialsPath+"?status=gone&limit=-1&cursor=x", "cursor", "limit", "status"),
		get(eventsPath+"?from=yesterday", "from"),
		get(eventsPath+"?from=yesterday&to=2026", "from", "to"),
		get(eventsPath+"?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "from"),
		get(eventsPath+"?outcome=maybe", "outcome"),
		get(eventsPath+"?action=DROP%20TABLE", "action"),
		get(eventsPath+"?limit=501", "limit"),
		get(eventsPath+"?cursor=AAAA", "cursor"),
		get("/api/organizations?limit=-5", "limit"),
		get("/api/organizations?cursor=%2e%2e", "cursor"),
		get("/api/rate-limit/admin/status/user/u1", "type"),
		get("/api/rate-limit/admin/status/ip/localhost", "key"),
		get("/api/rate-limit/admin/status/ip/10.0.0.0%2F8", "key"),
		get("/api/rate-limit/admin/status/org/%00", "key"),
		get("/api/rate-limit/admin/status/org/_instance", "key"),
		{name: "half an escape", method: "GET", path: eventsPath + "?actor=%zz", status: 400, code: "malformed_query"},
		{name: "a semicolon", method: "GET", path: eventsPath + "?actor=a;action=b", status: 400, code: "malformed_query"},
	} {
		r.run(t, c)
	}

	for _, path := range []string{
		eventsPath + "?actor=%27%20OR%201=1--", eventsPath + "?actor=%00", eventsPath + "?actor=%ff%fe", credentialsPath + "?service=%27%20OR%201=1--",
		eventsPath + "?actor=" + strings.Repeat("a", 20_000), eventsPath + "?from=9999-12-31T23:59:59Z", eventsPath + "?to=0001-01-01T00:00:00Z", credentialsPath + "?service=stripe",
	} {
		a := c.get(path)
		if a.Status != 200 || strings.Contains(a.Body, `"id"`) {
			t.Errorf("%.80s: %d %.200s, want an empty page", path, a.Status, a.Body)
		}
	}
}
