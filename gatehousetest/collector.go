package gatehousetest

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	collectormetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	collectortrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
)

// An OTLPCollector takes what is exported by the OpenTelemetry Protocol over HTTP, as binary protobuf, and keeps it.
// Its methods may be called from any goroutine.
type OTLPCollector struct {
	URL string // for OTEL_EXPORTER_OTLP_ENDPOINT

	mu       sync.Mutex
	spans    []*trace.Span
	series   map[string]*metrics.Metric // the last of each name, by scope and name
	resource map[string]any
	scopes   map[string]bool
	whole    []byte // all that came, as text
	answer   func(http.ResponseWriter, *http.Request) bool
}

// Collector starts a collector on 127.0.0.1 that runs until the test ends.
func Collector(t testing.TB) *OTLPCollector {
	c := &OTLPCollector{series: make(map[string]*metrics.Metric), scopes: make(map[string]bool)}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", func(w http.ResponseWriter, r *http.Request) {
		var in collectortrace.ExportTraceServiceRequest
		if c.read(t, w, r, &in) {
			c.keepSpans(&in)
		}
	})
	mux.HandleFunc("POST /v1/metrics", func(w http.ResponseWriter, r *http.Request) {
		var in collectormetrics.ExportMetricsServiceRequest
		if c.read(t, w, r, &in) {
			c.keepMetrics(&in)
		}
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	c.URL = s.URL
	return c
}

// Answer lets f answer instead of taking what comes, as long as it gives true.
func (c *OTLPCollector) Answer(f func(http.ResponseWriter, *http.Request) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer = f
}

func (c *OTLPCollector) read(t testing.TB, w http.ResponseWriter, r *http.Request, into proto.Message) bool {
	c.mu.Lock()
	answer := c.answer
	c.mu.Unlock()
	if answer != nil && answer(w, r) {
		return false
	}
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(r.Body)
		if err != nil {
			return gaveUp(t, r, err)
		}
		body = unzipped
	}
	data, err := io.ReadAll(io.LimitReader(body, maxBody))
	if err != nil {
		return gaveUp(t, r, err)
	}
	if err = proto.Unmarshal(data, into); err != nil || r.Header.Get("Content-Type") != "application/x-protobuf" {
		t.Errorf("the collector was sent %s: %v", r.Header.Get("Content-Type"), err)
		w.WriteHeader(http.StatusBadRequest)
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.whole = append(c.whole, fmt.Sprintln(r.Header)...)
	c.whole = append(c.whole, data...)
	c.whole = append(c.whole, prototext.Format(into)...)
	w.Header().Set("Content-Type", "application/x-protobuf")
	return true
}

// gaveUp is for a body that ended early: the exporter gave up half way, and sends it
// again. Any other error is one of what it sent.
func gaveUp(t testing.TB, r *http.Request, err error) bool {
	if r.Context().Err() == nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the collector was sent what cannot be read: %v", err)
	}
	return false
}

func (c *OTLPCollector) keepSpans(in *collectortrace.ExportTraceServiceRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range in.GetResourceSpans() {
		c.resource = OTLPAttributes(r.GetResource().GetAttributes())
		for _, s := range r.GetScopeSpans() {
			c.scopes[s.GetScope().GetName()+" "+s.GetSchemaUrl()] = true
			c.spans = append(c.spans, s.GetSpans()...)
		}
	}
}

func (c *OTLPCollector) keepMetrics(in *collectormetrics.ExportMetricsServiceRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range in.GetResourceMetrics() {
		for _, s := range r.GetScopeMetrics() {
			for _, m := range s.GetMetrics() {
				c.series[m.GetName()] = m
			}
		}
	}
}

// Resource gives the attributes of the process that exported last.
func (c *OTLPCollector) Resource() map[string]any {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.resource
}

// Scopes gives what exported spans: names with the URL of the conventions that they follow.
func (c *OTLPCollector) Scopes() map[string]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.scopes
}

// Whole gives all that came, headers too, as bytes and as text.
func (c *OTLPCollector) Whole() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.whole)
}

// Spans gives all spans that came.
func (c *OTLPCollector) Spans() []*trace.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]*trace.Span(nil), c.spans...)
}

// AwaitSpan waits for a span for which found gives true.
func (c *OTLPCollector) AwaitSpan(t testing.TB, what string, found func(*trace.Span) bool) *trace.Span {
	t.Helper()
	for until := time.Now().Add(awaitTimeout); time.Now().Before(until); time.Sleep(5 * time.Millisecond) {
		for _, s := range c.Spans() {
			if found(s) {
				return s
			}
		}
	}
	t.Fatalf("no span came: %s", what)
	return nil
}

// AwaitMetric waits for a metric of some name for which found gives true.
func (c *OTLPCollector) AwaitMetric(t testing.TB, name string, found func(*metrics.Metric) bool) *metrics.Metric {
	t.Helper()
	for until := time.Now().Add(awaitTimeout); time.Now().Before(until); time.Sleep(5 * time.Millisecond) {
		c.mu.Lock()
		m := c.series[name]
		c.mu.Unlock()
		if m != nil && found(m) {
			return m
		}
	}
	t.Fatalf("no metric came: %s", name)
	return nil
}

// OTLPAttributes gives attributes by name: string, bool, int64 or float64.
func OTLPAttributes(in []*common.KeyValue) map[string]any {
	out := make(map[string]any, len(in))
	for _, a := range in {
		switch v := a.GetValue().GetValue().(type) {
		case *common.AnyValue_StringValue:
			out[a.GetKey()] = v.StringValue
		case *common.AnyValue_BoolValue:
			out[a.GetKey()] = v.BoolValue
		case *common.AnyValue_IntValue:
			out[a.GetKey()] = v.IntValue
		case *common.AnyValue_DoubleValue:
			out[a.GetKey()] = v.DoubleValue
		default:
			out[a.GetKey()] = fmt.Sprint(v)
		}
	}
	return out
}
