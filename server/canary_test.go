package server_test

import (
	"database/sql"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis/rueidis"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// canary is in every planted value. It has the form of a key, so that it gets as
// far as a value can.
const canary = "CANARYcanary0123456789CANARY"

// unknownKey has the form of a master key's id.
const unknownKey = "key_00000000-0000-7000-8000-000000000001"

// planted is a key that is unlike any other and holds the canary.
type planted int

func (p *planted) next() string {
	*p++
	return fmt.Sprintf("sk-%s-%04d", canary, int(*p))
}

// Whatever is planted in a request that is refused comes back in no answer, no
// log line, no event and no file; nor does a stored secret, but from reveal.
func TestNothingPlantedComesBack(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		nothingPlantedComesBack(t, nil, func(*testing.T) {})
	})
	t.Run("postgresql and redis", func(t *testing.T) {
		database, redis := gatehousetest.Postgres(t), gatehousetest.Redis(t)
		environ := map[string]string{"DATABASE_URL": database, "REDIS_URL": redis.URL(), "REDIS_TIMEOUT": "2s", "GATEHOUSE_METRICS_ADDR": "127.0.0.1:0"}
		nothingPlantedComesBack(t, environ, func(t *testing.T) {
			searchPostgres(t, gatehousetest.Across(t, database))
			searchRedis(t, redis.URL())
		})
	})
}

func nothingPlantedComesBack(t *testing.T, environ map[string]string, search func(t *testing.T)) {
	openai := gatehousetest.OpenAI(t)
	variables := map[string]string{
		"GATEHOUSE_LOG_LEVEL": "debug", "SERVICE_HOSTS": "openai=" + openai.URL, "AUTH_FAILURE_LIMIT": "1000000/1h", "CHAT_IP_LIMIT": "1000/1m",
	}
	maps.Copy(variables, environ)
	s := instancetest.Serve(t, variables)
	owner := as(t, s, "acme", "u1", access.Owner, access.Operator)
	viewer := as(t, s, "acme", "u2", access.Viewer)
	nobody := anonymous(t, s)
	note := func(where string, a answer) {
		t.Helper()
		whole := fmt.Sprint(a.Header, a.Body)
		if strings.Contains(whole, canary) {
			t.Errorf("%s: the planted value came back: %d %s", where, a.Status, whole)
		}
	}
	var p planted
	id := owner.store("openai", map[string]string{"apiKey": "sk-0123456789abcdefghijklmn"})

	for _, body := range plantedBodies(&p) {
		for _, call := range [][2]string{
			{"POST", credentialsPath}, {"PUT", credentialsPath + "/" + id}, {"POST", credentialsPath + "/" + id + "/rotate"},
			{"POST", credentialsPath + "/" + id + "/reveal"}, {"POST", "/api/rate-limit/reset"}, {"POST", "/api/organizations"},
			{"POST", credentialsPath + "/test"}, {"DELETE", credentialsPath + "/" + unknownID}, {"GET", credentialsPath},
			{"POST", credentialsPath + "/" + id + "/versions"}, {"POST", credentialsPath + "/" + id + "/versions/1/activate"},
			{"POST", credentialsPath + "/" + id + "/rollback"}, {"GET", credentialsPath + "/" + id + "/versions"},
			{"POST", "/api/keys/stage"}, {"POST", "/api/keys/rotate"}, {"POST", "/api/keys/verify"}, {"POST", "/api/keys/" + unknownKey + "/retire"},
			{"POST", webhooksPath}, {"PUT", webhooksPath + "/" + unknownID}, {"POST", webhooksPath + "/" + unknownID + "/rotate"},
		} {
			for _, c := range []*client{owner, viewer, nobody} {
				a := c.do(call[0], call[1], body)
				note(call[0]+" "+call[1]+" "+body, a)
				if a.Status < 400 && call[0] != "GET" {
					t.Errorf("%s %s took %s: %d", call[0], call[1], body, a.Status)
				}
			}
		}
	}
	for _, path := range plantedPaths(&p) {
		for _, method := range []string{"GET", "POST", "DELETE", canary} {
			for _, c := range []*client{owner, viewer, nobody} {
				note(method+" "+path, c.do(method, path, `{}`))
			}
		}
	}
	for _, h := range plantedHeaders(&p) {
		for _, path := range []string{credentialsPath, statusPath, chatPath, "/nowhere"} {
			for _, method := range []string{"GET", "POST"} {
				note(fmt.Sprint(method, path, h), owner.do(method, path, `{}`, h...))
				note(fmt.Sprint(method, path, h), nobody.do(method, path, `{}`, h...))
			}
		}
	}

	openai.SetKeys() // so that none of what is planted is good
	throwaway := owner.store("openai", map[string]string{"apiKey": "sk-0123456789abcdefghijklmn"}, "name", "throwaway")
	plantEverywhere(t, []*client{owner, viewer, nobody}, throwaway, &p, note)

	// A secret that is stored, used, changed, and said again by a provider.
	openai.SetKeys()
	stored := p.next()
	for _, a := range []answer{
		owner.do("POST", credentialsPath, `{"service":"openai","name":"second","credentials":{"apiKey":"`+stored+`"}}`),
		owner.do("POST", chatPath, chatBody, "Gatehouse-Credential", "second"),
		owner.do("PUT", credentialsPath+"/"+id, `{"credentials":{"apiKey":"`+p.next()+`"}}`),
		owner.do("POST", credentialsPath+"/"+id+"/rotate", `{"credentials":{"apiKey":"`+p.next()+`"},"graceSeconds":3600}`),
		owner.do("POST", credentialsPath+"/"+id+"/versions", `{"credentials":{"apiKey":"`+p.next()+`"}}`),
		owner.do("POST", credentialsPath+"/"+id+"/versions/4/test", ""),
		owner.do("POST", credentialsPath+"/"+id+"/versions/4/activate", `{"force":true,"graceSeconds":3600}`),
		owner.do("POST", credentialsPath+"/"+id+"/rollback", ""),
		owner.do("DELETE", credentialsPath+"/"+id+"/versions/4", ""),
		owner.get(credentialsPath + "/" + id + "/versions"),
		owner.do("POST", credentialsPath, `{"service":"openai","name":"second","credentials":{"apiKey":"`+p.next()+`"}}`),
		as(t, s, "fresh", "u1", access.Owner).do("POST", credentialsPath+"/test", `{"service":"openai","credentials":{"apiKey":"`+p.next()+`"}}`),
		owner.get(credentialsPath + "/" + id), owner.get(credentialsPath),
	} {
		note("a stored secret", a)
	}
	openai.Next(gatehousetest.Handler(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Debug", r.Header.Get("Authorization"))
		w.WriteHeader(http.StatusInternalServerError)
	}))
	note("a provider that says the key again", owner.do("POST", chatPath, chatBody, "Gatehouse-Credential", "second"))
	sent := openai.Requests()
	for _, behaviour := range saysTheKeyAgain() {
		openai.Next(behaviour)
		note("a provider that says the key again", owner.do("POST", chatPath, chatBody, "Gatehouse-Credential", "second"))
	}
	note("usage", owner.get("/api/usage"))
	if last := sent[len(sent)-1]; last.Header.Get("Authorization") != "Bearer "+stored {
		t.Errorf("the provider saw %q, want the stored key", last.Header.Get("Authorization"))
	}

	for _, query := range []string{"?limit=500", "?limit=500&organization=_instance"} {
		a := owner.get(eventsPath + query)
		note("the trail", a)
		if a.Status != 200 || len(a.Body) < 1000 {
			t.Errorf("the trail %s: %d, %d bytes", query, a.Status, len(a.Body))
		}
	}
	if metrics, ok := s.ServiceURLs["metrics"]; ok {
		note("the metrics", (&client{t: t, url: metrics, http: newHTTP(t)}).get("/metrics"))
	}
	search(t)
	s.Stop()
	if text := s.Logs.String(); strings.Contains(text, canary) || !strings.Contains(text, `"requestId"`) {
		t.Errorf("the log holds the planted value, or nothing: %s", around(text))
	}
	files := 0
	err := filepath.WalkDir(s.Config.Data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if files++; strings.Contains(string(data), canary) {
			t.Errorf("%s holds a planted value: %s", d.Name(), around(string(data)))
		}
		return err
	})
	if err != nil || files == 0 && environ == nil {
		t.Errorf("reading %d files: %v", files, err)
	}
}

// searchPostgres looks for the canary in every row of every table, as text and
// as the bytes of a column.
func searchPostgres(t *testing.T, url string) {
	t.Helper()
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	column := func(query string) []string {
		rows, err := db.QueryContext(t.Context(), query)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		var all []string
		for rows.Next() {
			var text string
			if err := rows.Scan(&text); err != nil {
				t.Fatal(err)
			}
			all = append(all, text)
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		return all
	}
	rows := 0
	for _, table := range column(`SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'`) {
		for _, row := range column(`SELECT t::text FROM "` + table + `" t`) {
			rows++
			if strings.Contains(row, canary) || strings.Contains(row, hex.EncodeToString([]byte(canary))) {
				t.Errorf("a row of %s holds a planted value", table)
			}
		}
	}
	if rows < 20 {
		t.Errorf("%d rows searched; is this the database?", rows)
	}
}

// searchRedis looks for the canary in every key and value.
func searchRedis(t *testing.T, url string) {
	t.Helper()
	option, err := rueidis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	option.DisableCache = true
	c, err := rueidis.NewClient(option)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	keys, err := c.Do(t.Context(), c.B().Keys().Pattern("*").Build()).AsStrSlice()
	if err != nil || len(keys) == 0 {
		t.Fatalf("%d keys, %v; is this the Redis?", len(keys), err)
	}
	for _, key := range keys {
		value, err := c.Do(t.Context(), c.B().Dump().Key(key).Build()).ToString()
		if err != nil && !rueidis.IsRedisNil(err) { // it may have expired
			t.Fatal(err)
		}
		if strings.Contains(key+value, canary) {
			t.Errorf("the key %q holds a planted value", key)
		}
	}
}

// around cuts text to what stands about the canary.
func around(text string) string {
	at := strings.Index(text, canary)
	return fmt.Sprintf("%q", text[max(at-200, 0):min(max(at, 0)+200, len(text))])
}

// plantedBodies are bodies that no call takes.
func plantedBodies(p *planted) []string {
	var bodies []string
	for _, form := range []string{
		`%s`, `"%s"`, `{"%s":1}`, `{"%s`, `["%s"]`, `{"service":"%s"}`, `{"service":"%s","credentials":{"apiKey":"x"}}`,
		`{"service":"openai","credentials":"%s"}`, `{"service":"openai","credentials":["%s"]}`,
		`{"service":"openai","credentials":{"%s":"x"}}`, `{"service":"openai","credentials":{"apiKey":{"%s":1}}}`,
		`{"service":"openai","credentials":{"apiKey":"%s\u0000"}}`, `{"service":"openai","credentials":{"apiKey":" %s"}}`,
		`{"service":"openai","credentials":{"apiKey":"%s"},"nope":1}`, `{"service":"openai","credentials":{"apiKey":"%s"},"name":"\u0000"}`,
		`{"service":"openai","credentials":{"apiKey":"%s"},"expiresAt":"2001-01-01T00:00:00Z"}`,
		`{"service":"openai","credentials":{"apiKey":"x"},"expiresAt":"%s"}`, `{"service":"openai","credentials":{"apiKey":"x"},"name":"%s\u0000"}`,
		`{"service":"openai","credentials":{"apiKey":"%s","apiKey":"%[1]s"}}`, `{"name":1,"credentials":{"apiKey":"%s"}}`,
		`{"service":"zendesk","credentials":{"subdomain":"%s.evil.example/","email":"%[1]s","apiToken":"%[1]s"}}`,
		`{"credentials":{"apiKey":"%s"},"graceSeconds":"%[1]s"}`, `{"reason":["%s"]}`, `{"type":"%s","key":"%[1]s"}`, `{"type":"ip","key":"%s"}`,
		`{"type":"org","key":"%s/x"}`, `{"id":"%s!","name":"A"}`, `{"id":"x!","name":"%s"}`, `{"disabled":"%s"}`,
		`{"iterations":"%s"}`, `{"key":"%s"}`, `{"sample":"%s"}`, `{"lost":"%s"}`,
	} {
		bodies = append(bodies, fmt.Sprintf(form, p.next()))
	}
	return bodies
}

// plantedPaths are paths and queries that name nothing.
func plantedPaths(p *planted) []string {
	var paths []string
	for _, form := range []string{
		"/%s", "/api/%s", "/api/%s/../x", "/docs/%s", credentialsPath + "/%s", credentialsPath + "/%s/rotate", credentialsPath + "/%s/%[1]s",
		credentialsPath + "/%s/versions", credentialsPath + "/" + unknownID + "/versions/%s", credentialsPath + "/" + unknownID + "/versions/%s/activate",
		credentialsPath + "/" + unknownID + "/versions?cursor=%s", credentialsPath + "/" + unknownID + "/versions?limit=%s",
		"/api//%s", "/api/rate-limit/admin/status/%s/x", "/api/rate-limit/admin/status/ip/%s", "/api/rate-limit/admin/status/org/%s%%00",
		"/api/services/%s", "/api/services?%s", "/api/chat/%s", "/api/chat/%s/v1", "/api/proxy/%s", "/api/proxy/openai/%s", "/api/chat/openai/../%s", "/api/chat/openai/%s%%00",
		credentialsPath + "?service=%s%%00", credentialsPath + "?status=%s", credentialsPath + "?cursor=%s", credentialsPath + "?%s=%[1]s",
		credentialsPath + "?limit=%s", eventsPath + "?action=%s", eventsPath + "?actor=%s", eventsPath + "?from=%s", eventsPath + "?cursor=%s",
		eventsPath + "?organization=%s", eventsPath + "?outcome=%s", eventsPath + "?limit=%s", "/api/organizations?cursor=%s!", "/healthz?%s", "/docs?%s",
		"/api/organizations/%s", "/api/organizations/acme?confirm=%s", "/api/keys/%s/retire", "/api/keys?%s",
	} {
		paths = append(paths, fmt.Sprintf(form, url.PathEscape(p.next())))
	}
	return paths
}

// plantedHeaders are headers that are refused, or passed over.
func plantedHeaders(p *planted) [][]string {
	headers := [][]string{
		{"Authorization", "Bearer " + p.next()}, {"Authorization", "Basic " + p.next()}, {"Authorization", p.next()},
		{"Authorization", p.next() + " x"}, {"Authorization", "Bearer eyJhbGciOiJIUzI1NiJ9." + p.next() + ".x"},
		{"X-Request-Id", p.next() + "!"}, {"X-Request-Id", strings.Repeat(p.next(), 10)}, {"Content-Type", p.next()},
		{"Content-Type", "application/" + p.next()}, {"X-" + canary, "x"},
	}
	for _, name := range []string{
		"X-Api-Key", "Api-Key", "X-Goog-Api-Key", "Cookie", "Referer", "Origin", "Accept", "Accept-Language", "Accept-Encoding", "If-Match",
		"X-Forwarded-For", "Forwarded", "X-Forwarded-Host", "Gatehouse-Credential", "Gatehouse-Organization", "Proxy-Authorization", "Expect", "Range",
		"X-Http-Method-Override", "X-Original-Url", "Traceparent", "Idempotency-Key", "Openai-Organization", "Via", "Host",
	} {
		headers = append(headers, []string{name, p.next()})
	}
	return headers
}

// A panic tells nobody its value.
func TestPanicsTellNothing(t *testing.T) {
	s := instancetest.Serve(t, nil)
	r := as(t, s, "acme", "u1", access.Owner).request("POST", credentialsPath, io.NopCloser(panicking{}))
	r.URL.Path, r.URL.Opaque, r.RequestURI, r.ContentLength = credentialsPath, "", credentialsPath, 10
	w := httptest.NewRecorder()
	s.Server.ServeHTTP(w, r)
	checkProblem(t, answer{w.Code, w.Header(), w.Body.String()}, 500, "internal_error")
	if logs := s.Logs.String(); strings.Contains(logs, canary) || !strings.Contains(logs, `"msg":"panic"`) {
		t.Errorf("the log of a panic: %s", logs)
	}
}

type panicking struct{}

func (panicking) Read([]byte) (int, error) { panic("reading " + canary) }

// saysTheKeyAgain are providers that quote the key in what they answer instead.
func saysTheKeyAgain() []gatehousetest.Behaviour {
	answer := func(status int, write func(w http.ResponseWriter, key string)) gatehousetest.Behaviour {
		return gatehousetest.Handler(func(w http.ResponseWriter, r *http.Request) {
			key := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Location", "https://api.openai.com/v1/"+key)
			w.Header().Set("Openai-Organization", key)
			w.WriteHeader(status)
			write(w, key)
		})
	}
	return []gatehousetest.Behaviour{
		answer(401, func(w http.ResponseWriter, key string) { fmt.Fprintf(w, `{"error":{"message":"bad key %s"}}`, key) }),
		answer(403, func(w http.ResponseWriter, key string) { // byte by byte
			for i := range len(key) {
				_, _ = io.WriteString(w, key[i:i+1])
				_ = http.NewResponseController(w).Flush()
			}
		}),
		answer(500, func(w http.ResponseWriter, key string) { fmt.Fprint(w, "<a href='?k=", url.QueryEscape(key), "'>") }),
		answer(302, func(w http.ResponseWriter, key string) { fmt.Fprint(w, "see ", key) }),
	}
}
