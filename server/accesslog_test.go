package server_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// Every request has one line, which tells a visit's service, outcome and usage.
func TestAccessLog(t *testing.T) {
	openai := gatehousetest.OpenAI(t)
	s := instancetest.Serve(t, map[string]string{"SERVICE_HOSTS": "openai=" + openai.URL, "GATEHOUSE_METRICS_ADDR": "127.0.0.1:0"})
	c := as(t, s, "acme", "u1", access.Developer)
	id := c.store("openai", map[string]string{"apiKey": openai.Key()})
	visit := map[string]any{
		"level": "INFO", "msg": "request", "method": "POST", "route": "/api/chat/{service}/{path...}", "status": 200.0, "organization": "acme",
		"service": "openai", "outcome": "success", "credential": id, "model": "m", "inputTokens": 2.0, "outputTokens": 2.0,
		"cacheReadTokens": 0.0, "reasoningTokens": 0.0,
	}
	refused := maps.Clone(visit)
	for _, name := range []string{"service", "credential", "model", "inputTokens", "outputTokens", "cacheReadTokens", "reasoningTokens"} {
		delete(refused, name)
	}
	failed := maps.Clone(refused)
	maps.Copy(failed, map[string]any{"status": 500.0, "service": "openai", "credential": id, "model": "m", "outcome": "failure", "reason": "upstream_status"})
	maps.Copy(refused, map[string]any{"status": 401.0, "organization": "", "outcome": "denied", "code": "token_missing"})
	streamed := maps.Clone(visit)
	streamed["stream"] = true

	c.do("POST", chatPath+"?q=1", chatBody, "X-Request-Id", "req_whole")
	c.do("POST", chatPath, strings.Replace(chatBody, "{", `{"stream":true,`, 1), "X-Request-Id", "req_stream")
	openai.Next(gatehousetest.ServerError())
	c.do("POST", chatPath, chatBody, "X-Request-Id", "req_failed")
	anonymous(t, s).do("POST", chatPath, chatBody, "X-Request-Id", "req_refused")
	metrics := anonymous(t, s)
	metrics.url = s.ServiceURLs["metrics"]
	scraped := metrics.get("/metrics").Body
	for until := time.Now().Add(10 * time.Second); !strings.Contains(scraped, `outcome="failure"`) && time.Now().Before(until); time.Sleep(5 * time.Millisecond) {
		scraped = metrics.get("/metrics").Body // a request is counted a moment after its answer
	}
	s.Stop()

	lines := make(map[string][]map[string]any)
	for line := range strings.Lines(s.Logs.String()) {
		var v map[string]any
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		if v["msg"] == "request" {
			request, _ := v["requestId"].(string)
			for _, name := range []string{"time", "requestId", "bytes", "tookMs", "firstByteMs"} { // differ from run to run
				delete(v, name)
			}
			lines[request] = append(lines[request], v)
		}
	}
	for request, want := range map[string]map[string]any{"req_whole": visit, "req_stream": streamed, "req_failed": failed, "req_refused": refused} {
		if diff := cmp.Diff([]map[string]any{want}, lines[request]); diff != "" {
			t.Errorf("%s: %s", request, diff)
		}
	}

	for _, want := range []string{
		`gatehouse_gateway_requests_total{outcome="success",reason="none",service="openai"} 2`,
		`gatehouse_gateway_requests_total{outcome="failure",reason="upstream_status",service="openai"} 1`,
		`gatehouse_gateway_request_seconds_count{service="openai"} 3`,
		`gatehouse_upstream_first_byte_seconds_count{service="openai"} 3`,
		`gatehouse_usage_tokens_total{kind="output",service="openai"} 4`,
	} {
		if !slices.Contains(strings.Split(scraped, "\n"), want) {
			t.Errorf("no %s", want)
		}
	}
	if strings.Contains(scraped, "acme") || strings.Contains(scraped, `"m"`) {
		t.Error("a metric is labelled with an organization or a caller's text")
	}
	if strings.Contains(scraped, "gatehouse_otlp") {
		t.Error("drops are told of where nothing is exported")
	}
}
