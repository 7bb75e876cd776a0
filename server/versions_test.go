package server_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

const (
	firstKey  = "sk-first-0123456789abcdefghij"
	secondKey = "sk-second-0123456789abcdefghij"
)

// stateOf gives "2 active, 1 retiring" of a credential.
func stateOf(t testing.TB, c *client, id string) string {
	t.Helper()
	var all []string
	for _, v := range decode[api.CredentialVersionList](t, c.get(credentialsPath+"/"+id+"/versions"), 200).Versions {
		all = append(all, fmt.Sprint(v.Version, " ", v.State))
	}
	return strings.Join(all, ", ")
}

// The life of versions over HTTP: statuses, ETags and what is told.
func TestVersionRoutes(t *testing.T) {
	fake := gatehousetest.OpenAI(t, gatehousetest.Key(firstKey))
	s := instancetest.Serve(t, map[string]string{"SERVICE_HOSTS": "openai=" + fake.URL})
	c := as(t, s, "acme", "u1", access.Developer)
	id := c.store("openai", map[string]string{"apiKey": firstKey})
	path := credentialsPath + "/" + id
	tag := func(a answer, status, revision int) {
		t.Helper()
		if want := fmt.Sprintf(`"%d"`, revision); a.Status != status || a.Header.Get("ETag") != want {
			t.Errorf("%d with ETag %s, want %d with %s: %s", a.Status, a.Header.Get("ETag"), status, want, a.Body)
		}
	}
	staged := c.do("POST", path+"/versions", `{"credentials":{"apiKey":"`+secondKey+`"},"reason":"why not"}`, "If-Match", `"1"`)
	tag(staged, 201, 2)
	v := decode[api.CredentialVersion](t, staged, 201)
	if v.Version != 2 || v.State != "staged" || v.Reason != "why not" || v.CreatedBy != "u1" || strings.Contains(staged.Body, secondKey) {
		t.Errorf("%s", staged.Body)
	}
	if test := decode[api.TestResult](t, c.do("POST", path+"/versions/2/test", ""), 200); test.Result != "invalid" {
		t.Errorf("%+v", test)
	}
	checkProblem(t, c.do("POST", path+"/versions/2/activate", ""), 409, "version_failed_test")
	tag(c.do("POST", path+"/versions/2/activate", `{"force":true,"graceSeconds":600}`, "If-Match", `"2"`), 200, 3)
	tag(c.do("POST", path+"/rollback", "", "If-Match", `"3"`), 200, 4)
	if got := stateOf(t, c, id); got != "2 retiring, 1 active" {
		t.Error(got)
	}
	gone := c.do("DELETE", path+"/versions/2", "", "If-Match", `"4"`)
	tag(gone, 204, 5)
	for _, call := range [][3]string{
		{"POST", "/versions", `{"credentials":{"apiKey":"` + secondKey + `"}}`}, {"POST", "/versions/2/activate", `{}`},
		{"POST", "/rollback", `{}`}, {"DELETE", "/versions/2", ""}, {"POST", "/rotate", `{"credentials":{"apiKey":"` + secondKey + `"}}`},
	} {
		checkProblem(t, c.do(call[0], path+call[1], call[2], "If-Match", `"4"`), 412, "credential_changed")
	}
	checkProblem(t, c.do("DELETE", path+"/versions/1", ""), 409, "version_active")
	checkProblem(t, c.do("POST", path+"/versions/2/activate", ""), 409, "version_destroyed")
	checkProblem(t, c.do("POST", path+"/rollback", ""), 409, "version_not_in_grace")
	tag(c.do("POST", path+"/rotate", `{"credentials":{"apiKey":"`+secondKey+`"},"graceSeconds":2592000,"reason":"because"}`), 200, 6)
	if got := stateOf(t, c, id); got != "3 active, 2 retired, 1 retiring" {
		t.Error(got)
	}
	history := decode[api.CredentialVersionList](t, c.get(path+"/versions"), 200).Versions
	if first := history[2]; first.GraceUntil == nil || first.RetiredBy != "u1" || first.DestroyedAt != nil || history[0].Reason != "because" || history[1].DestroyedBy != "u1" {
		t.Errorf("%+v", history)
	}

	// What is no version, no cursor, no body.
	for _, number := range []string{"0", "-1", "4", "01", "+1", "1.0", "x", "%00", "9223372036854775808", "%2e%2e"} {
		for _, a := range []answer{c.do("POST", path+"/versions/"+number+"/activate", ""), c.do("POST", path+"/versions/"+number+"/test", ""), c.do("DELETE", path+"/versions/"+number, "")} {
			if a.Status != 404 {
				t.Errorf("version %s: %d %s", number, a.Status, a.Body)
			}
		}
	}
	for body, field := range map[string]string{
		`{"graceSeconds":-1}`: "graceSeconds", `{"graceSeconds":2592001}`: "graceSeconds", `{"graceSeconds":9223372036854775807}`: "graceSeconds",
		`{"graceSeconds":0.5}`: "graceSeconds", `{"reason":"a\u0000"}`: "reason", `{"reason":"` + strings.Repeat("é", 501) + `"}`: "reason",
		`{"version":"1"}`: "version", `{"nope":1}`: "body",
	} {
		p := checkProblem(t, c.do("POST", path+"/rollback", body), 422, "invalid_request")
		if diff := cmp.Diff([]string{field}, fieldsOf(p)); diff != "" {
			t.Errorf("%s: %s", body, diff)
		}
	}
	for _, masked := range []string{"••••ghij", "sk-********", "xxxxxxxxxxxxghij", "sk-...ghij"} {
		for _, call := range [][2]string{{"PUT", ""}, {"POST", "/rotate"}, {"POST", "/versions"}} {
			p := checkProblem(t, c.do(call[0], path+call[1], `{"credentials":{"apiKey":"`+masked+`"}}`), 422, "invalid_request")
			if len(p.Errors) != 1 || p.Errors[0].Field != "credentials.apiKey" || !strings.Contains(p.Errors[0].Message, "masked value") {
				t.Errorf("%s%s with a mask: %+v", call[0], call[1], p.Errors)
			}
		}
	}

	// Another organization's are not there.
	stranger := as(t, s, "globex", "u9", access.Owner)
	for _, call := range [][3]string{
		{"GET", "/versions", ""}, {"POST", "/versions", `{"credentials":{"apiKey":"` + secondKey + `"}}`}, {"POST", "/versions/1/test", ""},
		{"POST", "/versions/3/test", ""}, {"POST", "/versions/1/activate", ""}, {"POST", "/rollback", ""}, {"DELETE", "/versions/1", ""},
	} {
		checkProblem(t, stranger.do(call[0], path+call[1], call[2]), 404, "credential_not_found")
	}
	if got := stateOf(t, c, id); got != "3 active, 2 retired, 1 retiring" {
		t.Errorf("what was refused changed something: %s", got)
	}
}

// The client's methods are the calls of the API.
func TestVersionsClient(t *testing.T) {
	ctx := t.Context()
	s := instancetest.Serve(t, nil)
	c := api.Client{BaseURL: s.URL, Token: s.Token(t, "acme", "u1", access.Owner)}
	made, err := c.CreateCredential(ctx, api.CredentialCreate{Service: "openai", Credentials: map[string]string{"apiKey": firstKey}})
	if err != nil {
		t.Fatal(err)
	}
	v, err := c.StageCredentialVersion(ctx, made.ID, api.CredentialStage{Credentials: map[string]string{"apiKey": secondKey}})
	if err != nil || v.State != "staged" {
		t.Fatalf("%+v, %v", v, err)
	}
	active, err := c.ActivateCredentialVersion(ctx, made.ID, v.Version, api.CredentialActivate{GraceSeconds: 60})
	if err != nil || active.Version != 2 {
		t.Fatalf("%+v, %v", active, err)
	}
	if active, err = c.RollBackCredential(ctx, made.ID, api.CredentialRollback{Version: 1}); err != nil || active.Version != 1 {
		t.Fatalf("%+v, %v", active, err)
	}
	if err := c.DestroyCredentialVersion(ctx, made.ID, 2); err != nil {
		t.Fatal(err)
	}
	list, err := c.ListCredentialVersions(ctx, made.ID, nil)
	if err != nil || len(list.Versions) != 2 || list.Versions[0].State != "retired" {
		t.Fatalf("%+v, %v", list, err)
	}
}

// While a version is in grace, a provider that refuses the new key is asked with
// the old one, and everything that should tells of it.
func TestFallbackThroughTheServer(t *testing.T) {
	fake := gatehousetest.OpenAI(t, gatehousetest.Key(firstKey))
	s := instancetest.Serve(t, map[string]string{"SERVICE_HOSTS": "openai=" + fake.URL, "GATEHOUSE_METRICS_ADDR": "127.0.0.1:0"})
	c := as(t, s, "acme", "u1", access.Owner)
	id := c.store("openai", map[string]string{"apiKey": firstKey})
	path := credentialsPath + "/" + id
	if a := c.do("POST", path+"/rotate", `{"credentials":{"apiKey":"`+secondKey+`"},"graceSeconds":600}`); a.Status != 200 {
		t.Fatal(a.Body)
	}
	const visits = 5
	for range visits {
		a := c.do("POST", chatPath, chatBody)
		if a.Status != http.StatusOK || !strings.Contains(a.Body, "chat.completion") {
			t.Fatalf("%d %s", a.Status, a.Body)
		}
	}
	if n := len(fake.Requests()); n != 2*visits {
		t.Errorf("the provider was asked %d times, want twice for each of %d visits", n, visits)
	}
	told := c.events("action", "credential.fallback")
	if tally(told) != visits || told[0].Targets[0].ID != id || told[0].Targets[1].ID != "2" || told[0].Class != "security" {
		t.Errorf("the trail: %+v", told)
	}
	for _, e := range c.events("action", "chat.request") {
		if fmt.Sprint(e.Metadata["version"], e.Metadata["refusedVersion"]) != "1 2" {
			t.Errorf("the visit: %+v", e)
		}
	}
	metrics := (&client{t: t, url: s.ServiceURLs["metrics"], http: newHTTP(t)}).get("/metrics").Body
	if !strings.Contains(metrics, fmt.Sprintf(`gatehouse_credential_fallbacks_total{service="openai"} %d`, visits)) {
		t.Error("the counter is not there")
	}
	marked := func() *api.Time { return decode[api.Credential](t, c.get(path), 200).FallbackAt }
	for deadline := time.Now().Add(20 * time.Second); marked() == nil; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the credential is not marked")
		}
	}

	// A scope that the new key lacks is no reason, nor is another status.
	fake.Next(gatehousetest.MissingScope("model.request"))
	if a := c.do("POST", chatPath, chatBody); a.Status != 401 || !strings.Contains(a.Body, "Missing scopes") {
		t.Errorf("a missing scope: %d %s", a.Status, a.Body)
	}
	fake.Next(gatehousetest.RateLimited(time.Second))
	if a := c.do("POST", chatPath, chatBody); a.Status != 429 || a.Header.Get("Gatehouse-Error") != "" {
		t.Errorf("a provider's limit: %d %s", a.Status, a.Body)
	}
	// Going back clears the mark; there is no version in grace then.
	if a := c.do("POST", path+"/rollback", `{"graceSeconds":0}`); a.Status != 200 || marked() != nil {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	before := len(fake.Requests())
	fake.Next(gatehousetest.InvalidKey())
	if a := c.do("POST", chatPath, chatBody); a.Status != 401 || len(fake.Requests()) != before+1 {
		t.Errorf("without a version in grace: %d, asked %d times", a.Status, len(fake.Requests())-before)
	}
}

// The timer of a running server destroys a version within seconds of its instant,
// also where the instant came while no server ran.
func TestGraceEndsOverARestart(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		environ := map[string]string{"DATABASE_URL": url}
		s := instancetest.Serve(t, environ)
		c := as(t, s, "acme", "u1", access.Owner)
		id := c.store("openai", map[string]string{"apiKey": firstKey})
		if a := c.do("POST", credentialsPath+"/"+id+"/rotate", `{"credentials":{"apiKey":"`+secondKey+`"},"graceSeconds":1}`); a.Status != 200 {
			t.Fatal(a.Body)
		}
		s.Stop()
		time.Sleep(time.Second) // the grace ends
		s = instancetest.Serve(t, environ)
		c = as(t, s, "acme", "u1", access.Owner)
		for deadline := time.Now().Add(20 * time.Second); stateOf(t, c, id) != "2 active, 1 retired"; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal(stateOf(t, c, id))
			}
		}
		if told := c.events("action", "credential.destroy"); len(told) != 1 || told[0].Reason != "grace_over" {
			t.Errorf("%+v", told)
		}
	})
}

// docs/credentials.md is run as it stands, from its first request to its last.
func TestDocumentOfCredentialsRuns(t *testing.T) {
	text, err := os.ReadFile("../docs/credentials.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(blocks) < 12 {
		t.Fatalf("%d requests in the document", len(blocks))
	}
	if _, err := exec.LookPath("curl"); err != nil {
		t.Fatalf("the document's requests need curl: %v", err)
	}
	fake := gatehousetest.OpenAI(t, gatehousetest.Key("sk-two-0123456789abcdefghij"))
	s := instancetest.Serve(t, map[string]string{"SERVICE_HOSTS": "openai=" + fake.URL})
	c := as(t, s, "acme", "u1", access.Owner)
	script := "set -euo pipefail\ncurl() { command curl -sS --fail-with-body \"$@\"; }\n"
	for _, block := range blocks[:len(blocks)-1] {
		script += block[1] + "\necho\n"
	}
	dir := t.TempDir()
	run := func(script string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "bash", "-c", script)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "GATEHOUSE="+s.URL, "TOKEN="+c.token)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	out := run(script + "echo ID=$ID\n")
	id := out[strings.LastIndex(out, "ID=")+3:]
	id = strings.TrimSpace(id)
	// 1 stored, 2 by PUT, 3 staged, activated, left, taken up again and destroyed, 4 rotated.
	if got := stateOf(t, c, id); got != "4 active, 3 retired, 2 retiring, 1 retired" {
		t.Errorf("after the walk: %s\n%s", got, out)
	}
	for _, want := range []string{`"result":"valid"`, `"hint":{"apiKey":"••••ghij"`, `"graceUntil"`} {
		if !strings.Contains(out, want) {
			t.Errorf("the answers do not hold %s:\n%s", want, out)
		}
	}
	run(strings.ReplaceAll(script[:strings.Index(script, "\ncurl -X POST")]+"\nID="+id+"\n"+blocks[len(blocks)-1][1], "tee made.json", "cat"))
	if a := c.get(credentialsPath + "/" + id); a.Status != 404 {
		t.Errorf("after the last request: %d", a.Status)
	}
}
