package server_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// traced starts a server that exports to a collector.
func traced(t testing.TB, environ map[string]string) (*instancetest.Server, *gatehousetest.OTLPCollector) {
	t.Helper()
	c := gatehousetest.Collector(t)
	variables := map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": c.URL, "OTEL_BSP_SCHEDULE_DELAY": "20", "OTEL_METRIC_EXPORT_INTERVAL": "100",
		"OTEL_RESOURCE_ATTRIBUTES": "team=chat",
	}
	maps.Copy(variables, environ)
	for name, value := range variables {
		if strings.HasPrefix(name, "OTEL_") {
			t.Setenv(name, value) // the SDK reads the environment itself
		}
	}
	return instancetest.Serve(t, variables), c
}

// What a caller sends along: a trace, and free text that belongs to nobody else.
const (
	callersTrace  = "0af7651916cd43dd8448eb211c80319c"
	callersSpan   = "b7ad6b7169203331"
	callersParent = "00-" + callersTrace + "-" + callersSpan + "-01"
)

// A spanCase is a request and the two spans that tell of it.
type spanCase struct {
	name   string
	send   func(requestID string)
	server map[string]any // "name" and "status" beside the attributes
	client map[string]any // nil: nothing went out
}

func TestSpans(t *testing.T) {
	openai, stripe := gatehousetest.OpenAI(t), gatehousetest.Stripe(t)
	s, collector := traced(t, map[string]string{"SERVICE_HOSTS": "openai=" + openai.URL + ",stripe=" + stripe.URL})
	c := as(t, s, "acme", "u1", access.Developer)
	viewer := as(t, s, "acme", "u2", access.Viewer)
	key := c.store("openai", map[string]string{"apiKey": openai.Key()})
	stripeKey := c.store("stripe", map[string]string{"secretKey": stripe.Key()})
	do := func(c *client, method, path, body string) func(string) {
		return func(id string) {
			c.do(method, path, body, "X-Request-Id", id, "Traceparent", callersParent, "Tracestate", "vendor=x")
		}
	}
	with := func(base map[string]any, more ...any) map[string]any {
		all := maps.Clone(base)
		for i := 0; i+1 < len(more); i += 2 {
			if more[i+1] == nil {
				delete(all, more[i].(string))
				continue
			}
			all[more[i].(string)] = more[i+1]
		}
		return all
	}
	request := map[string]any{
		"name": "POST /api/chat/{service}/{path...}", "status": "UNSET", "http.request.method": "POST", "url.scheme": "http",
		"http.route": "/api/chat/{service}/{path...}", "http.response.status_code": int64(200), "gatehouse.organization": "acme",
		"gatehouse.service": "openai", "gatehouse.outcome": "success", "gatehouse.credential.id": key,
	}
	chat := map[string]any{
		"name": "chat m", "status": "UNSET", "http.request.method": "POST", "url.scheme": "http", "gatehouse.service": "openai",
		"server.address": "127.0.0.1", "http.response.status_code": int64(200), "gen_ai.operation.name": "chat",
		"gen_ai.provider.name": "openai", "gen_ai.request.model": "m", "gen_ai.response.model": "m",
		"gen_ai.usage.input_tokens": int64(2), "gen_ai.usage.output_tokens": int64(2), "gen_ai.usage.cache_read.input_tokens": int64(0),
		"gen_ai.usage.reasoning.output_tokens": int64(0),
	}
	unanswered := with(chat, "gen_ai.response.model", nil, "gen_ai.usage.input_tokens", nil, "gen_ai.usage.output_tokens", nil,
		"gen_ai.usage.cache_read.input_tokens", nil, "gen_ai.usage.reasoning.output_tokens", nil)
	streamed := strings.Replace(chatBody, "{", `{"stream":true,`, 1)
	cases := []spanCase{
		{"chat", do(c, "POST", chatPath+"?secret=1", chatBody), request, chat},
		{"a stream", do(c, "POST", chatPath, streamed), request, with(chat, "gen_ai.request.stream", true)},
		{"a proxied request", do(c, "GET", "/api/proxy/stripe/v1/charges?limit=3", ""),
			with(request, "name", "GET /api/proxy/{service}/{path...}", "http.request.method", "GET", "http.route", "/api/proxy/{service}/{path...}",
				"gatehouse.service", "stripe", "gatehouse.credential.id", stripeKey),
			map[string]any{"name": "GET stripe", "status": "UNSET", "http.request.method": "GET", "url.scheme": "http", "gatehouse.service": "stripe",
				"server.address": "127.0.0.1", "http.response.status_code": int64(200)}},
		{"a caller without a token", do(anonymous(t, s), "POST", chatPath, chatBody),
			with(request, "http.response.status_code", int64(401), "error.type", "token_missing", "gatehouse.organization", nil,
				"gatehouse.service", nil, "gatehouse.outcome", nil, "gatehouse.credential.id", nil), nil},
		{"a caller without the permission", do(viewer, "POST", chatPath, chatBody),
			with(request, "http.response.status_code", int64(403), "error.type", "permission_denied",
				"gatehouse.service", nil, "gatehouse.outcome", nil, "gatehouse.credential.id", nil), nil},
		{"no credential", do(c, "POST", "/api/chat/anthropic/v1/messages", chatBody),
			with(request, "http.response.status_code", int64(424), "error.type", "credential_missing", "gatehouse.service", "anthropic",
				"gatehouse.outcome", "failure", "gatehouse.credential.id", nil), nil},
		{"an error of the provider's", func(id string) {
			openai.Next(gatehousetest.ServerError())
			do(c, "POST", chatPath, chatBody)(id)
		}, with(request, "status", "ERROR", "http.response.status_code", int64(500), "error.type", "upstream_status", "gatehouse.outcome", "failure"),
			with(unanswered, "status", "ERROR", "http.response.status_code", int64(500), "error.type", "500")},
		{"a provider that hangs up", func(id string) {
			openai.Next(gatehousetest.HangUp())
			do(c, "POST", chatPath, chatBody)(id)
		}, with(request, "status", "ERROR", "http.response.status_code", int64(502), "error.type", "upstream_interrupted", "gatehouse.outcome", "failure"),
			with(unanswered, "status", "ERROR", "http.response.status_code", nil, "error.type", "upstream_interrupted")},
		{"a stream that breaks", func(id string) {
			openai.Next(gatehousetest.CutAfter(400))
			do(c, "POST", chatPath, streamed)(id)
		}, with(request, "status", "ERROR", "error.type", "upstream_interrupted", "gatehouse.outcome", "partial"),
			with(unanswered, "status", "ERROR", "error.type", "upstream_interrupted", "gen_ai.request.stream", true, "gen_ai.response.model", "m")},
		{"a caller who leaves", func(id string) {
			seen := make(chan struct{}, 1)
			openai.Next(gatehousetest.Announce(seen, gatehousetest.Silent()))
			ctx, cancel := context.WithCancel(t.Context())
			go func() { <-seen; cancel() }()
			r := c.request("POST", chatPath, strings.NewReader(chatBody), "X-Request-Id", id, "Traceparent", callersParent)
			if _, err := c.http.Do(r.WithContext(ctx)); err == nil {
				t.Error("there was an answer")
			}
		}, with(request, "http.response.status_code", nil, "error.type", "client_closed", "gatehouse.outcome", "partial"),
			with(unanswered, "http.response.status_code", nil, "error.type", "client_closed")},
		{"another route", do(c, "GET", credentialsPath, ""),
			with(request, "name", "GET "+credentialsPath, "http.request.method", "GET", "http.route", credentialsPath,
				"gatehouse.service", nil, "gatehouse.outcome", nil, "gatehouse.credential.id", nil), nil},
		{"no route", do(c, "GET", "/nothing/here", ""),
			with(request, "name", "GET unmatched", "http.request.method", "GET", "http.route", "unmatched", "http.response.status_code", int64(404),
				"error.type", "route_not_found", "gatehouse.organization", nil, "gatehouse.service", nil, "gatehouse.outcome", nil, "gatehouse.credential.id", nil), nil},
	}
	for i, tc := range cases {
		id := fmt.Sprintf("req_case_%d", i)
		tc.send(id)
		server := collector.AwaitSpan(t, tc.name, func(s *trace.Span) bool {
			return gatehousetest.OTLPAttributes(s.GetAttributes())["gatehouse.request.id"] == id
		})
		if diff := cmp.Diff(with(tc.server, "gatehouse.request.id", id), told(server)); diff != "" {
			t.Errorf("%s: the request's span: %s", tc.name, diff)
		}
		if server.GetKind() != trace.Span_SPAN_KIND_SERVER || hex.EncodeToString(server.GetTraceId()) != callersTrace ||
			hex.EncodeToString(server.GetParentSpanId()) != callersSpan || server.GetTraceState() != "" {
			t.Errorf("%s: the request's span: %v", tc.name, server)
		}
		isChild := func(s *trace.Span) bool { return string(s.GetParentSpanId()) == string(server.GetSpanId()) }
		if tc.client == nil {
			for _, s := range collector.Spans() {
				if isChild(s) {
					t.Errorf("%s: something went out: %v", tc.name, s)
				}
			}
			continue
		}
		client := collector.AwaitSpan(t, tc.name+", upstream", isChild)
		if diff := cmp.Diff(tc.client, told(client)); diff != "" {
			t.Errorf("%s: the upstream's span: %s", tc.name, diff)
		}
		if client.GetKind() != trace.Span_SPAN_KIND_CLIENT || hex.EncodeToString(client.GetTraceId()) != callersTrace ||
			client.GetStartTimeUnixNano() < server.GetStartTimeUnixNano() || client.GetEndTimeUnixNano() > server.GetEndTimeUnixNano()+1e6 {
			t.Errorf("%s: the upstream's span: %v", tc.name, client)
		}
	}
	for _, r := range append(openai.Requests(), stripe.Requests()...) {
		if r.Header.Get("Traceparent")+r.Header.Get("Tracestate") != "" {
			t.Errorf("the trace went upstream: %v", r.Header)
		}
	}
	page, err := os.ReadFile("../docs/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range cases {
		for _, all := range []map[string]any{tc.server, tc.client} {
			for name := range all {
				if !strings.Contains(string(page), "`"+name+"`") && name != "name" && name != "status" {
					t.Errorf("docs/observability.md does not name %s", name)
				}
			}
		}
	}
	about := collector.Resource()
	if about["service.name"] != "gatehouse" || about["team"] != "chat" || about["deployment.environment.name"] != "test" || about["process.command_args"] != nil {
		t.Errorf("the resource: %v", about)
	}
	lines := s.Logs.String()
	if !strings.Contains(lines, `"traceId":"`+callersTrace+`"`) {
		t.Error("no log line names the trace")
	}
}

// told gives what a span tells, without what differs from run to run.
func told(s *trace.Span) map[string]any {
	all := gatehousetest.OTLPAttributes(s.GetAttributes())
	delete(all, "server.port")
	delete(all, "gen_ai.response.time_to_first_chunk")
	all["name"], all["status"] = s.GetName(), strings.TrimPrefix(s.GetStatus().GetCode().String(), "STATUS_CODE_")
	return all
}

// A traceparent of ours goes where it is configured to go, and nowhere else.
func TestTraceGoesUpstreamWhereConfigured(t *testing.T) {
	seen := make(chan http.Header, 1)
	app := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header }))
	t.Cleanup(app.Close)
	s, collector := traced(t, map[string]string{"CHAT_UPSTREAM": app.URL, "GATEHOUSE_TRACE_UPSTREAMS": "app"})
	c := as(t, s, "acme", "u1", access.Developer)
	c.do("POST", "/api/chat/app/answer", chatBody, "Traceparent", callersParent, "Tracestate", "vendor=x", "Baggage", "user=1")
	header := <-seen
	span := collector.AwaitSpan(t, "app", func(s *trace.Span) bool { return s.GetName() == "POST app" })
	if want := "00-" + callersTrace + "-" + hex.EncodeToString(span.GetSpanId()) + "-01"; header.Get("Traceparent") != want {
		t.Errorf("the backend saw traceparent %q, want %q", header.Get("Traceparent"), want)
	}
	if header.Get("Tracestate")+header.Get("Baggage") != "" {
		t.Errorf("the backend saw %v", header)
	}

	// A header that is none begins a trace of its own; one that says unsampled is obeyed.
	for _, bad := range []string{"00-00000000000000000000000000000000-b7ad6b7169203331-01", "ff-" + callersParent[3:], "x", strings.Repeat("0", 5000)} {
		c.do("GET", credentialsPath, "", "Traceparent", bad, "X-Request-Id", "req_bad")
		bads := collector.AwaitSpan(t, bad, func(s *trace.Span) bool {
			return gatehousetest.OTLPAttributes(s.GetAttributes())["gatehouse.request.id"] == "req_bad" && len(s.GetParentSpanId()) == 0
		})
		if hex.EncodeToString(bads.GetTraceId()) == callersTrace {
			t.Errorf("%q was continued", bad)
		}
	}
	c.do("GET", credentialsPath, "", "Traceparent", callersParent[:53]+"00", "X-Request-Id", "req_unsampled")
	c.do("GET", credentialsPath, "", "X-Request-Id", "req_last")
	collector.AwaitSpan(t, "the last", func(s *trace.Span) bool {
		return gatehousetest.OTLPAttributes(s.GetAttributes())["gatehouse.request.id"] == "req_last"
	})
	if strings.Contains(collector.Whole(), "req_unsampled") {
		t.Error("a caller's word not to sample was not heard")
	}
}

// The metrics that the conventions name come with bounded attributes, and those of
// Prometheus beside them.
func TestExportedMetrics(t *testing.T) {
	openai := gatehousetest.OpenAI(t)
	s, collector := traced(t, map[string]string{"SERVICE_HOSTS": "openai=" + openai.URL})
	c := as(t, s, "acme", "u1", access.Developer)
	c.store("openai", map[string]string{"apiKey": openai.Key()})
	c.do("POST", chatPath, strings.Replace(chatBody, "{", `{"stream":true,`, 1))
	openai.Next(gatehousetest.NotFound()) // a model that nobody knows is no attribute
	c.do("POST", chatPath, strings.Replace(chatBody, `"m"`, `"made-up-model"`, 1))

	points := func(m *metrics.Metric) map[string]uint64 {
		all := make(map[string]uint64)
		for _, p := range m.GetHistogram().GetDataPoints() {
			all[fmt.Sprint(gatehousetest.OTLPAttributes(p.GetAttributes()))] = p.GetCount()
		}
		return all
	}
	const model = " gen_ai.provider.name:openai gen_ai.request.model:m gen_ai.response.model:m"
	for name, want := range map[string]map[string]uint64{
		"gen_ai.client.operation.duration": {
			"map[gen_ai.operation.name:chat" + model + "]":                                                          1,
			"map[error.type:404 gen_ai.operation.name:chat gen_ai.provider.name:openai gen_ai.request.model:other]": 1,
		},
		"gen_ai.client.operation.time_to_first_chunk": {"map[gen_ai.operation.name:chat" + model + "]": 1},
		"gen_ai.client.token.usage": {
			"map[gen_ai.operation.name:chat" + model + " gen_ai.token.type:input]":  1,
			"map[gen_ai.operation.name:chat" + model + " gen_ai.token.type:output]": 1,
		},
		"http.client.request.duration": {
			"map[gatehouse.service:openai http.request.method:POST http.response.status_code:200 url.scheme:http]":                1,
			"map[error.type:404 gatehouse.service:openai http.request.method:POST http.response.status_code:404 url.scheme:http]": 1,
		},
	} {
		var got map[string]uint64
		collector.AwaitMetric(t, name, func(m *metrics.Metric) bool { got = points(m); return len(got) >= len(want) })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	collector.AwaitMetric(t, "http.server.request.duration", func(m *metrics.Metric) bool {
		return points(m)["map[http.request.method:POST http.response.status_code:200 http.route:/api/chat/{service}/{path...} url.scheme:http]"] == 1
	})
	collector.AwaitMetric(t, "gatehouse_gateway_requests_total", func(m *metrics.Metric) bool { return len(m.GetSum().GetDataPoints()) == 2 })
}

// Nothing of a request's content and nobody's secret is in what is exported.
func TestNothingSecretIsExported(t *testing.T) {
	const secret = "sk-" + canary + "-exported"
	openai := gatehousetest.OpenAI(t, gatehousetest.Key(secret), gatehousetest.Reply("an answer with "+canary))
	s, collector := traced(t, map[string]string{"SERVICE_HOSTS": "openai=" + openai.URL, "OTEL_EXPORTER_OTLP_HEADERS": "x-collector=for-it-alone"})
	c := as(t, s, "acme", "u1", access.Developer)
	c.store("openai", map[string]string{"apiKey": secret})
	header := []string{
		"Traceparent", callersParent, "Tracestate", "vendor=" + canary, "Baggage", "user=" + canary, "User-Agent", canary, "X-Forwarded-For", canary,
		"Cookie", canary, "Referer", "http://" + canary, "X-Custom", canary, "Host", canary,
	}
	body := `{"model":"gpt-4o","stream":%v,"user":"` + canary + `","messages":[{"role":"user","content":"` + canary + `"}]}`
	for i, stream := range []bool{false, true, false, false, false} {
		switch i {
		case 2:
			openai.Next(gatehousetest.InvalidKey())
		case 3:
			openai.Next(gatehousetest.Garbage())
		case 4:
			openai.Next(gatehousetest.Redirect("http://" + canary + "/"))
		}
		c.do("POST", chatPath+"?q="+canary, fmt.Sprintf(body, stream), header...)
	}
	c.do("POST", "/api/chat/openai/v1/"+canary, fmt.Sprintf(body, false), header...)
	c.do("POST", "/api/chat/"+canary+"/v1", fmt.Sprintf(body, false), header...)
	c.do("GET", "/api/api-credentials/"+canary+"?q="+canary, "", header...)
	c.do("GET", "/"+canary, "", header...)
	c.do("POST", chatPath, fmt.Sprintf(strings.Replace(body, "gpt-4o", "a model "+canary, 1), false), header...)
	anonymous(t, s).do("POST", chatPath, body, append(header, "Authorization", "Bearer "+canary)...)
	c.get(credentialsPath, "X-Request-Id", "req_last")
	collector.AwaitSpan(t, "the last", func(s *trace.Span) bool {
		return gatehousetest.OTLPAttributes(s.GetAttributes())["gatehouse.request.id"] == "req_last"
	})
	collector.AwaitMetric(t, "gen_ai.client.token.usage", func(*metrics.Metric) bool { return true })
	s.Stop()
	whole := collector.Whole()
	for what, text := range map[string]string{"something planted": canary, "the caller's token": c.token, "a member": `"u1"`} {
		if at := strings.Index(whole, text); at >= 0 {
			t.Errorf("%s was exported: %.200s", what, whole[max(0, at-100):])
		}
	}
	if !strings.Contains(whole, "for-it-alone") {
		t.Error("the collector did not get the header that is for it")
	}
	for what, text := range map[string]string{"something planted": canary, "the caller's token": c.token, "the collector's key": "for-it-alone"} {
		if strings.Contains(s.Logs.String(), text) {
			t.Errorf("%s is in the log", what)
		}
	}
}
