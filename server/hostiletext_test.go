package server_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// hostileTexts are what a database, a log or a page might choke on.
var hostileTexts = []string{
	"\x00", "a\x00b", "\xff\xfe", "\xed\xa0\x80", "\xc0\xaf", "'; DROP TABLE events; --", `" OR ""="`, "%00", "$1", "\\", "\u202e", "\ufeff", "\ufffd",
	"\U0010ffff", "a\r\nX-A: b", "<script>alert(1)</script>", "{{7*7}}", "${jndi:ldap://x}", strings.Repeat("é", 2000), strings.Repeat("\U0001f600", 300),
}

// No text in a header, a query, a path, a token or a body makes an error of
// ours, on either database, and the trail can be read after it.
func TestHostileTexts(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, database string) {
		fake := gatehousetest.OpenAI(t)
		s := instancetest.Serve(t, map[string]string{
			"DATABASE_URL": database, "SERVICE_HOSTS": "openai=" + fake.URL, "CHAT_IP_LIMIT": "10000/1m", "AUTH_FAILURE_LIMIT": "10000/1m",
		})
		c := as(t, s, "acme", "u1", access.Owner, access.Operator)
		c.store("openai", map[string]string{"apiKey": fake.Key()})
		check := func(what, text string, a answer) {
			t.Helper()
			if a.Status >= 500 || a.Status == 0 {
				t.Errorf("%s of %.40q: %d %s", what, text, a.Status, a.Body)
			}
		}
		for _, text := range hostileTexts {
			escaped, segment := url.QueryEscape(text), url.PathEscape(text)
			for _, name := range []string{"service", "status", "cursor", "limit"} {
				check("filter "+name, text, c.get(credentialsPath+"?"+name+"="+escaped))
			}
			for _, name := range []string{"action", "actor", "outcome", "from", "cursor", "organization"} {
				check("filter "+name, text, c.get(eventsPath+"?"+name+"="+escaped))
			}
			check("id", text, c.get(credentialsPath+"/"+segment))
			check("subject", text, c.get("/api/rate-limit/admin/status/org/"+segment))
			check("service", text, c.get("/api/chat/"+segment+"/v1/models"))
			check("path", text, c.get("/api/chat/openai/"+segment))
			for _, body := range []string{
				`{"service":` + quote(text) + `,"credentials":{"apiKey":` + quote(text) + `}}`,
				`{"service":"openai","name":` + quote(text) + `,"credentials":{"apiKey":"sk-0123456789abcdefghijklmn"}}`,
				`{"service":"openai","name":"x","credentials":{` + quote(text) + `:"x"}}`,
				`{"service":"smtp","name":` + quote(text) + `,"credentials":{"host":"h.example","port":"587","user":` + quote(text) + `,"pass":` + quote(text) + `}}`,
			} {
				check("body", body, c.do("POST", credentialsPath, body))
			}
			check("organization", text, c.do("POST", "/api/organizations", `{"id":"x`+strings.ToLower(newID(text))+`","name":`+quote(text)+`}`))

			claims := with(map[string]any{"sub": "u" + text, "jti": text, "roles": []string{"owner", text}, "iss": text})
			token := sign(t, jwt.SigningMethodHS256, []byte(gatehousetest.JWTSecret), nil, claims)
			check("token", text, c.get(credentialsPath, "Authorization", "Bearer "+token))
			check("denied token", text, c.get("/api/organizations", "Authorization", "Bearer "+token))
			check("visit", text, c.get("/api/chat/openai/v1/models", "Authorization", "Bearer "+token))
			if strings.ContainsAny(text, "\x00\r\n") {
				continue // no HTTP client sends these in a header
			}
			for _, name := range []string{"User-Agent", "Gatehouse-Credential", "If-Match", "X-Request-Id", "X-Forwarded-For", "Authorization", "X-Api-Key"} {
				check(name, text, c.get(credentialsPath, name, text))
				check(name, text, c.get("/api/chat/openai/v1/models", name, text))
			}
		}
		for _, query := range []string{"", "&organization=_instance"} {
			if a := c.get(eventsPath + "?limit=500" + query); a.Status != 200 || len(a.Body) < 1000 {
				t.Errorf("the trail%s: %d, %d bytes", query, a.Status, len(a.Body))
			}
		}
		if waiting, lost := s.Audit.Backlog(); lost != 0 {
			t.Errorf("%d events could not be written, %d wait", lost, waiting)
		}
		if logs := s.Logs.String(); strings.Contains(logs, `"level":"ERROR"`) {
			at := strings.Index(logs, `"level":"ERROR"`)
			t.Errorf("the log has an error: %.600s", logs[max(at-60, 0):])
		}
	})
}

// quote writes text as a JSON string as it is, also where it is no text.
func quote(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\x00", `\u0000`, "\r", `\r`, "\n", `\n`).Replace(text) + `"`
}

// newID makes an organization's id of the letters of text.
func newID(text string) string {
	id := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, strings.ToLower(text))
	return id[:min(len(id), 40)]
}
