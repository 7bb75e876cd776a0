package server_test

import (
	"context"
	"encoding/csv"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/usage"
)

const streamedChat = `{"model":"gpt-fake-0","stream":true,"messages":[{"role":"user","content":"one two three"}]}`

func tokensOf(row api.UsageRow) string {
	one := func(n *int64) string {
		if n == nil {
			return "-"
		}
		return strconv.FormatInt(*n, 10)
	}
	return "in " + one(row.InputTokens) + " out " + one(row.OutputTokens)
}

// awaitUsage waits until n requests are in the usage that query picks: a visit is
// recorded a moment after its answer has reached the caller.
func awaitUsage(t *testing.T, c *client, query string, n int64) api.UsageRow {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		row := decode[api.UsageReport](t, c.get("/api/usage?"+query), 200).Rows[0]
		if row.Requests == n {
			return row
		}
		if time.Now().After(end) {
			t.Fatalf("%d requests are counted, want %d: %+v", row.Requests, n, row)
		}
	}
}

// What four providers say of tokens, whole and streamed, is what usage answers.
func TestUsageOfEveryDialect(t *testing.T) {
	openai, anthropic := gatehousetest.OpenAI(t), gatehousetest.Anthropic(t)
	gemini, cohere := gatehousetest.Gemini(t), gatehousetest.Cohere(t)
	s := instancetest.Serve(t, map[string]string{
		"SERVICE_HOSTS": "openai=" + openai.URL + ",anthropic=" + anthropic.URL, "CHAT_HOSTS": "google=" + gemini.URL + ",coral=" + cohere.URL,
		"GATEHOUSE_METRICS_ADDR": "127.0.0.1:0",
	})
	c := as(t, s, "acme", "u1", access.Owner)
	c.store("openai", map[string]string{"apiKey": openai.Key()})
	c.store("anthropic", map[string]string{"apiKey": anthropic.Key()})
	c.store("google", map[string]string{"apiKey": gemini.Key()})
	c.store("coral", map[string]string{"apiKey": cohere.Key()})

	ask := func(path, body string) string {
		t.Helper()
		a := c.do("POST", "/api/chat/"+path, body)
		if a.Status != 200 {
			t.Fatalf("%s: %d %s", path, a.Status, a.Body)
		}
		return a.Body
	}
	const claude = `{"model":"claude-fake-0","max_tokens":9,"messages":[{"role":"user","content":"one two three"}]`
	const contents = `{"contents":[{"role":"user","parts":[{"text":"one two three"}]}]}`
	const command = `{"model":"command-fake","messages":[{"role":"user","content":"one two three"}]`
	ask("openai/v1/chat/completions", strings.Replace(streamedChat, `"stream":true,`, "", 1))
	if body := ask("openai/v1/chat/completions", streamedChat); strings.Contains(body, "usage") || !strings.HasSuffix(body, "data: [DONE]\n\n") {
		t.Errorf("the caller sees what it did not ask for: %s", body)
	}
	if body := ask("openai/v1/chat/completions", strings.Replace(streamedChat, `"stream":true,`, `"stream":true,"stream_options":{"include_usage":true},`, 1)); !strings.Contains(body, `"choices":[]`) {
		t.Errorf("the caller does not see what it asked for: %s", body)
	}
	ask("anthropic/v1/messages", claude+`}`)
	ask("anthropic/v1/messages", claude+`,"stream":true}`)
	ask("google/v1beta/models/gemini-fake-0:generateContent", contents)
	ask("google/v1beta/models/gemini-fake-0:streamGenerateContent", contents)
	ask("google/v1beta/models/gemini-fake-0:streamGenerateContent?alt=sse", contents)
	ask("coral/v2/chat", command+`}`)
	ask("coral/v2/chat", command+`,"stream":true}`)
	c.get("/api/chat/openai/v1/models")

	awaitUsage(t, c, "", 11)
	report := decode[api.UsageReport](t, c.get("/api/usage?groupBy=service,model"), 200)
	got := map[string]string{}
	for _, row := range report.Rows {
		got[*row.Service+" "+*row.Model] = strconv.FormatInt(row.Requests, 10) + " of them " + strconv.FormatInt(row.Counted, 10) + " counted, " + tokensOf(row)
	}
	want := map[string]string{
		"openai gpt-fake-0": "3 of them 3 counted, in 9 out 9", "openai ": "1 of them 0 counted, in - out -",
		"anthropic claude-fake-0": "2 of them 2 counted, in 6 out 6",
		"google gemini-fake-0":    "3 of them 3 counted, in 9 out 9", "coral command-fake": "2 of them 2 counted, in 6 out 6",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("usage (-want +got):\n%s", diff)
	}
	answer, err := http.Get(s.ServiceURLs["metrics"] + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	for _, line := range []string{`gatehouse_usage_tokens_total{kind="input",service="openai"} 9`, `gatehouse_usage_tokens_total{kind="output",service="coral"} 6`,
		"gatehouse_usage_spool_bytes 0", "gatehouse_usage_lost 0", "gatehouse_usage_queued 0"} {
		if !strings.Contains(string(text), line+"\n") {
			t.Errorf("the metrics lack %s", line)
		}
	}
	// The event of a visit says what it used.
	for _, e := range c.events("action", "chat.request") {
		if e.Targets[0].ID == "coral" && (e.Metadata["inputTokens"] != 3.0 || e.Metadata["outputTokens"] != 3.0 || e.Metadata["model"] != "command-fake") {
			t.Errorf("the trail tells %+v", e.Metadata)
		}
	}
}

// A stream that is left, or breaks, is partial and its tokens are not known.
func TestUsageOfBrokenStreams(t *testing.T) {
	openai := gatehousetest.OpenAI(t)
	s := instancetest.Serve(t, map[string]string{"SERVICE_HOSTS": "openai=" + openai.URL})
	c := as(t, s, "acme", "u1", access.Owner)
	c.store("openai", map[string]string{"apiKey": openai.Key()})
	openai.Next(gatehousetest.CutAfter(400), gatehousetest.Hold(nil), gatehousetest.RateLimited(time.Second))
	_, lines := stream(t, c)
	_, _ = io.ReadAll(lines)
	resp, _ := stream(t, c)
	resp.Body.Close()
	if a := c.do("POST", chatPath, chatBody); a.Status != 429 {
		t.Errorf("%d", a.Status)
	}
	openai.Await(3)
	row := awaitUsage(t, c, "", 3)
	if row.Partial != 2 || row.Failed != 1 || row.Counted != 0 || row.Uncounted != 2 || row.InputTokens != nil || row.BytesOut == 0 {
		t.Errorf("%+v", row)
	}
}

// The report as a file, in which no cell is a formula.
func TestUsageAsCSV(t *testing.T) {
	openai := gatehousetest.OpenAI(t)
	s := instancetest.Serve(t, map[string]string{"SERVICE_HOSTS": "openai=" + openai.URL})
	as(t, s, "acme", "u1", access.Owner).store("openai", map[string]string{"apiKey": openai.Key()})
	for _, member := range []string{"=cmd|'/c calc'!A1", "@x", "a,\"b\"c", "plain"} {
		c := as(t, s, "acme", member, access.Owner)
		if a := c.do("POST", chatPath, chatBody); a.Status != 200 {
			t.Fatalf("%d %s", a.Status, a.Body)
		}
	}
	c := as(t, s, "acme", "u2", access.Auditor)
	awaitUsage(t, c, "", 4)
	byAccept := c.do("GET", "/api/usage?groupBy=member,hour", "", "Accept", "text/csv, */*;q=0.1")
	byFormat := c.get("/api/usage?groupBy=hour,member&format=csv")
	if byAccept.Status != 200 || byAccept.Header.Get("Content-Type") != "text/csv; charset=utf-8" || byAccept.Body != byFormat.Body {
		t.Fatalf("%d %q %q %q", byAccept.Status, byAccept.Header, byAccept.Body, byFormat.Body)
	}
	rows, err := csv.NewReader(strings.NewReader(byFormat.Body)).ReadAll()
	if err != nil || len(rows) != 5 || rows[0][0] != "hour" || rows[0][1] != "member" {
		t.Fatalf("%v %q", err, rows)
	}
	var members []string
	for _, row := range rows[1:] {
		members = append(members, row[1])
		if _, err := time.Parse(api.TimeFormat, row[0]); err != nil || row[2] != "1" {
			t.Errorf("%q", row)
		}
	}
	if !strings.HasPrefix(byFormat.Body, "hour,member,requests,") || strings.Contains(byFormat.Body, ",=") || strings.Contains(byFormat.Body, ",@") {
		t.Errorf("%q", members)
	}
	page := c.get("/api/usage?groupBy=member&format=csv&limit=2")
	next := c.get("/api/usage?groupBy=member&format=csv&limit=2&cursor=" + url.QueryEscape(page.Header.Get("Gatehouse-Next-Cursor")))
	if strings.Count(page.Body, "\r\n") < 3 || next.Status != 200 || next.Header.Get("Gatehouse-Next-Cursor") != "" {
		t.Errorf("%q %q", page.Body, next.Body)
	}
	if a := c.do("GET", "/api/usage?format=json", "", "Accept", "text/csv"); !strings.HasPrefix(a.Body, "{") {
		t.Errorf("%q", a.Body)
	}
	for _, query := range []string{"format=xml", "from=yesterday", "to=x", "groupBy=tokens", "groupBy=hour%3Bdrop", "limit=10001", "limit=x", "cursor=%00", "from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z"} {
		if a := c.get("/api/usage?" + query); a.Status != 422 || strings.Contains(a.Body, "drop") || strings.Contains(a.Body, "yesterday") {
			t.Errorf("%s: %d %s", query, a.Status, a.Body)
		}
	}
}

// Others' usage is others' business.
func TestUsageAcrossOrganizationsAndMembers(t *testing.T) {
	openai := gatehousetest.OpenAI(t)
	s := instancetest.Serve(t, map[string]string{"SERVICE_HOSTS": "openai=" + openai.URL})
	for _, organization := range []string{"acme", "globex"} {
		as(t, s, organization, "boss", access.Owner).store("openai", map[string]string{"apiKey": openai.Key()})
		for _, member := range []string{"u1", "u2"} {
			if a := as(t, s, organization, member, access.Developer).do("POST", chatPath, chatBody); a.Status != 200 {
				t.Fatal(a.Status)
			}
		}
	}
	total := func(c *client, query string) int64 {
		t.Helper()
		var n int64
		for _, row := range decode[api.UsageReport](t, c.get("/api/usage?"+query), 200).Rows {
			n += row.Requests
		}
		return n
	}
	boss, developer := as(t, s, "acme", "boss", access.Owner), as(t, s, "acme", "u1", access.Developer)
	operator := as(t, s, "acme", "op", access.Operator)
	awaitUsage(t, operator, "organization=*", 4)
	for _, test := range []struct {
		c     *client
		query string
		want  int64
	}{
		{boss, "", 2}, {boss, "member=u2", 1}, {developer, "", 1}, {developer, "groupBy=member", 1}, {operator, "organization=*", 4},
		{operator, "organization=globex", 2}, {operator, "organization=nobody-knows", 0}, {as(t, s, "acme", "never", access.ServiceRole), "", 0},
	} {
		if got := total(test.c, test.query); got != test.want {
			t.Errorf("%s: %d, want %d", test.query, got, test.want)
		}
	}
	checkProblem(t, developer.get("/api/usage?member=u2"), 403, "permission_denied")
	checkProblem(t, boss.get("/api/usage?organization=globex"), 403, "permission_denied")
	checkProblem(t, boss.get("/api/usage?organization=*"), 403, "permission_denied")

	// The client of package api reads the same.
	report, err := (&api.Client{BaseURL: s.URL, Token: boss.token}).GetUsage(t.Context(), url.Values{"groupBy": {"credential,member"}})
	if err != nil || len(report.Rows) != 2 || *report.Rows[0].Member != "u1" || !strings.HasPrefix(*report.Rows[0].Credential, "cred_") || report.Rows[0].Hour != nil {
		t.Errorf("%+v %v", report, err)
	}
}

// A provider that gives the key back as a model, and callers who make names up,
// leave no trace of them.
func TestUsageHoldsNoSecrets(t *testing.T) {
	openai := gatehousetest.OpenAI(t)
	s := instancetest.Serve(t, map[string]string{"SERVICE_HOSTS": "openai=" + openai.URL})
	c := as(t, s, "acme", "u1", access.Owner)
	c.store("openai", map[string]string{"apiKey": openai.Key()})
	openai.Next(gatehousetest.Handler(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"model":"`+strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")+`","usage":{"prompt_tokens":1}}`)
	}))
	c.do("POST", chatPath, chatBody)
	c.do("POST", chatPath, `{"model":"<script>alert(1)</script>"}`)
	awaitUsage(t, c, "", 2)
	report := c.get("/api/usage?groupBy=model").Body
	if strings.Contains(report, openai.Key()) || strings.Contains(report, "script") || !strings.Contains(report, `"model":"other"`) {
		t.Errorf("%s", report)
	}
	if trail := c.get(eventsPath).Body; strings.Contains(trail, openai.Key()) || strings.Contains(trail, "script") {
		t.Errorf("%s", trail)
	}
}

// Streams past the organization's number are refused by one code, and the limits
// stand in the answer.
func TestStreamsPerOrganization(t *testing.T) {
	openai := gatehousetest.OpenAI(t)
	s := instancetest.Serve(t, map[string]string{"SERVICE_HOSTS": "openai=" + openai.URL, "CHAT_STREAMS_PER_ORG": "1"})
	c := as(t, s, "acme", "u1", access.Owner)
	c.store("openai", map[string]string{"apiKey": openai.Key()})
	release := make(chan struct{})
	openai.Next(gatehousetest.Hold(release))
	_, lines := stream(t, c)
	a := c.do("POST", chatPath, streamedChat)
	if p := checkProblem(t, a, 429, "too_many_streams"); p.Error == nil || p.Error.Type != "rate_limit_error" || a.Header.Get("Retry-After") != "1" {
		t.Errorf("%q %s", a.Header, a.Body)
	}
	checkLimitHeaders(t, a.Header)
	if a := c.do("POST", chatPath, chatBody); a.Status != 200 {
		t.Errorf("no stream: %d", a.Status)
	}
	close(release)
	_, _ = io.ReadAll(lines)
	if v := c.events("action", "chat.request", "outcome", "denied"); len(v) != 1 || v[0].Reason != "too_many_streams" {
		t.Errorf("the trail tells %+v", v)
	}
}

// A host of the operator's own is asked for usage where the operator says that it
// takes the question.
func TestUsageOfOwnHosts(t *testing.T) {
	fake := gatehousetest.OpenAI(t)
	s := instancetest.Serve(t, map[string]string{"CHAT_HOSTS": "vllm=" + fake.URL + ",old=" + fake.URL, "CHAT_HOSTS_USAGE": "vllm"})
	c := as(t, s, "acme", "u1", access.Owner)
	for _, service := range []string{"vllm", "old"} {
		c.store(service, map[string]string{"apiKey": fake.Key()})
		a := c.do("POST", "/api/chat/"+service+"/v1/chat/completions", streamedChat)
		if a.Status != 200 || strings.Contains(a.Body, "usage") {
			t.Errorf("%s: %d %s", service, a.Status, a.Body)
		}
	}
	sent := fake.Requests()
	if !strings.Contains(string(sent[0].Body), "include_usage") || string(sent[1].Body) != streamedChat {
		t.Errorf("the hosts saw %s and %s", sent[0].Body, sent[1].Body)
	}
	awaitUsage(t, c, "", 2)
	if row := awaitUsage(t, c, "service=vllm", 1); row.Counted != 1 || tokensOf(row) != "in 3 out 3" {
		t.Errorf("%+v", row)
	}
	if row := awaitUsage(t, c, "service=old", 1); row.Uncounted != 1 || tokensOf(row) != "in - out -" {
		t.Errorf("%+v", row)
	}
}

// When no further visit can be recorded none is let in, none uses up a limit,
// and it goes on once the database is back.
func TestFullSpoolRefusesVisits(t *testing.T) {
	openai := gatehousetest.OpenAI(t)
	s := instancetest.Serve(t, map[string]string{"SERVICE_HOSTS": "openai=" + openai.URL, "USAGE_SPOOL_MIB": "1"})
	c := as(t, s, "acme", "u1", access.Owner)
	c.store("openai", map[string]string{"apiKey": openai.Key()})
	if a := c.do("POST", chatPath, chatBody); a.Status != 200 {
		t.Fatal(a.Status)
	}
	held, release := make(chan struct{}), make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		_ = s.DB.Update(context.Background(), "acme", func(*store.Tx) error { // SQLite has one writer
			close(held)
			<-release
			return nil
		})
	})
	<-held
	for s.Usage.Ready() == nil {
		s.Usage.Record(usage.Record{Organization: "acme", Service: "openai", Member: strings.Repeat("m", 200)})
	}
	used := c.get(statusPath).Body
	a := c.do("POST", chatPath, chatBody)
	if p := checkProblem(t, a, 503, "usage_unavailable"); p.Error == nil || a.Header.Get("Retry-After") == "" {
		t.Errorf("%q %s", a.Header, a.Body)
	}
	if now := c.get(statusPath).Body; len(now) != len(used) || len(openai.Requests()) != 1 {
		t.Errorf("the refused visit was counted: %s, then %s", used, now)
	}
	close(release)
	done.Wait()
	for end := time.Now().Add(60 * time.Second); s.Usage.Ready() != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("full for good")
		}
	}
	if a := c.do("POST", chatPath, chatBody); a.Status != 200 {
		t.Errorf("after it: %d %s", a.Status, a.Body)
	}
}
