package telemetry_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	collectortrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/internal/telemetry"
)

// open makes an exporter to a collector at url.
func open(t testing.TB, url string, o telemetry.OTelOptions, environ ...string) *telemetry.OTel {
	t.Helper()
	all := map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": "20"}
	for i := 0; i+1 < len(environ); i += 2 {
		all[environ[i]] = environ[i+1]
	}
	for name, value := range all {
		t.Setenv(name, value)
	}
	var err error
	if o.OTLP, err = telemetry.ReadOTLP(all); err != nil {
		t.Fatal(err)
	}
	otel, err := telemetry.NewOTel(t.Context(), o)
	if err != nil || otel == nil {
		t.Fatalf("%v, %v", otel, err)
	}
	return otel
}

// request is what one chat request does to telemetry.
func request(otel *telemetry.OTel, header http.Header) {
	ctx, span := otel.StartServer(context.Background(), header, "POST", "https", time.Now())
	up := otel.StartClient(ctx, telemetry.ClientRequest{Service: "openai", Provider: "openai", Operation: "chat", Model: "gpt-5", Method: "POST", Scheme: "https", Host: "api.openai.com", Header: header})
	up.End(telemetry.ClientAnswer{Status: 200, Model: "gpt-5-1", Input: 12, Output: 34, CacheRead: -1, CacheWrite: -1, Reasoning: -1})
	_ = span.TraceID()
	span.End(telemetry.ServerAnswer{Route: "/api/chat/{service}/{path...}", Status: 200, Organization: "acme", RequestID: "req_1", Service: "openai", Outcome: "success", Took: time.Millisecond})
}

// What is off costs nothing: no allocation, and no change to the context.
func TestOffAllocatesNothing(t *testing.T) {
	var off *telemetry.OTel
	header := http.Header{"Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}}
	if n := testing.AllocsPerRun(100, func() { request(off, header) }); n != 0 {
		t.Errorf("%v allocations for a request", n)
	}
	if off.Dropped() != 0 || off.Shutdown(t.Context()) != nil {
		t.Error("nothing was dropped, and there was nothing to end")
	}
	if on, err := telemetry.NewOTel(t.Context(), telemetry.OTelOptions{}); on != nil || err != nil {
		t.Errorf("without a collector: %v, %v", on, err)
	}
}

// A collector that hangs or fails holds nothing up: spans past the queue are
// dropped and counted, and the log says so once, without the collector's words.
func TestACollectorInTrouble(t *testing.T) {
	const spans, queue = 1000, 64 // two spans a request
	for name, trouble := range map[string]func(http.ResponseWriter, *http.Request){
		"hangs": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"answers 500": func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "CANARY in an answer", http.StatusInternalServerError)
		},
		"hangs up": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"talks nonsense": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/x-protobuf")
			_, _ = w.Write(bytes.Repeat([]byte("CANARY"), 100))
		},
	} {
		t.Run(name, func(t *testing.T) {
			collector := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = bytes.NewBuffer(nil).ReadFrom(r.Body) // so that the end of the connection is seen
				trouble(w, r)
			}))
			collector.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
			collector.Start()
			t.Cleanup(collector.Close)
			var lines gatehousetest.Buffer
			m := telemetry.NewMetrics()
			otel := open(t, collector.URL, telemetry.OTelOptions{Metrics: m, Logger: slog.New(slog.NewTextHandler(&lines, nil))},
				"OTEL_BSP_MAX_QUEUE_SIZE", strconv.Itoa(queue), "OTEL_BSP_EXPORT_TIMEOUT", "200", "OTEL_METRICS_EXPORTER", "none")
			for range spans / 2 {
				request(otel, http.Header{})
			}
			if name == "hangs" && otel.Dropped() < spans-queue {
				t.Errorf("%d spans were dropped while nothing was taken, want %d at least", otel.Dropped(), spans-queue)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			_ = otel.Shutdown(ctx) // what is left was counted
			if n := otel.Dropped(); n != spans {
				t.Errorf("%d of %d spans are counted as dropped", n, spans)
			}
			w := httptest.NewRecorder()
			m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
			if !strings.Contains(w.Body.String(), "gatehouse_otlp_dropped_spans_total 1000\n") {
				t.Error("Prometheus is not told of the drops")
			}
			if text := lines.String(); strings.Count(text, "cannot be exported") != 1 || strings.Contains(text, "CANARY") {
				t.Errorf("the log: %s", text)
			}
		})
	}
}

type traceService struct {
	collectortrace.UnimplementedTraceServiceServer
	got chan *collectortrace.ExportTraceServiceRequest
}

// Export implements the collector's service.
func (s *traceService) Export(_ context.Context, in *collectortrace.ExportTraceServiceRequest) (*collectortrace.ExportTraceServiceResponse, error) {
	s.got <- in
	return &collectortrace.ExportTraceServiceResponse{}, nil
}

func TestGRPC(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, service := grpc.NewServer(), &traceService{got: make(chan *collectortrace.ExportTraceServiceRequest, 10)}
	collectortrace.RegisterTraceServiceServer(server, service)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	otel := open(t, "http://"+l.Addr().String(), telemetry.OTelOptions{}, "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "OTEL_METRICS_EXPORTER", "none")
	request(otel, http.Header{})
	if err := otel.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	spans := 0
	for len(service.got) > 0 {
		spans += len((<-service.got).GetResourceSpans()[0].GetScopeSpans()[0].GetSpans())
	}
	if spans != 2 || otel.Dropped() != 0 {
		t.Errorf("%d spans came and %d were dropped, want 2 and none", spans, otel.Dropped())
	}
}

// BenchmarkRequest is what telemetry does for one chat request, off and on. Off is
// what every request pays where no collector is named.
func BenchmarkRequest(b *testing.B) {
	collector := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer collector.Close()
	on := open(b, collector.URL, telemetry.OTelOptions{}, "OTEL_METRICS_EXPORTER", "otlp")
	defer func() { _ = on.Shutdown(context.Background()) }()
	for _, c := range []struct {
		name string
		otel *telemetry.OTel
	}{{"off", nil}, {"on", on}} {
		b.Run(c.name, func(b *testing.B) {
			header := http.Header{}
			b.ReportAllocs()
			for b.Loop() {
				request(c.otel, header)
			}
		})
	}
}
