package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	bridge "go.opentelemetry.io/contrib/bridges/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	"go.opentelemetry.io/otel/trace"
	nooptrace "go.opentelemetry.io/otel/trace/noop"
)

// scope names the instrumentation in what is exported.
const scope = "github.com/gatehouse-io/gatehouse"

// OTel exports traces and metrics by OpenTelemetry. Make one with [NewOTel]. A nil
// *OTel, and what its methods give, do nothing and allocate nothing. It is safe
// for concurrent use, and nothing in it waits for a collector but Shutdown.
type OTel struct {
	tracer      trace.Tracer
	instruments instruments
	tells       map[string]bool // services that are sent a traceparent
	report      *exportReport
	queue       *spanQueue // nil: no traces
	stop        []func(context.Context) error
}

// OTelOptions configures [NewOTel].
type OTelOptions struct {
	OTLP
	Metrics *Metrics // counters that are exported beside those of OpenTelemetry; its own counters of drops are added

	ServiceVersion string // the resource's service.version
	InstanceID     string // service.instance.id
	Environment    string // deployment.environment.name

	// TellUpstreams names services, and app, whose requests carry a traceparent.
	TellUpstreams []string
	Logger        *slog.Logger
}

// NewOTel sets up what o.OTLP names, or gives nil where it names nothing. Beside
// OTLP the SDK reads the standard variables out of the process's environment; call
// [ReadOTLP] on it before. No connection is made here.
func NewOTel(ctx context.Context, o OTelOptions) (*OTel, error) {
	if !o.Enabled() {
		return nil, nil
	}
	about, err := resource.New(ctx,
		resource.WithAttributes(semconv.ServiceName("gatehouse"), semconv.ServiceVersion(o.ServiceVersion),
			semconv.ServiceInstanceID(o.InstanceID), semconv.DeploymentEnvironmentNameKey.String(o.Environment)),
		resource.WithTelemetrySDK(), resource.WithFromEnv()) // the environment last, so that it wins
	if err != nil {
		return nil, errors.New("OTEL_RESOURCE_ATTRIBUTES cannot be used")
	}
	t := &OTel{report: &exportReport{log: o.Logger}, tells: make(map[string]bool)}
	for _, service := range o.TellUpstreams {
		t.tells[service] = true
	}
	if t.report.log == nil {
		t.report.log = slog.New(slog.DiscardHandler)
	}
	if err := t.openTraces(ctx, o.Traces, about); err != nil {
		return nil, err
	}
	meter, err := t.openMetrics(ctx, o, about)
	if err != nil {
		return nil, errors.Join(err, t.Shutdown(ctx))
	}
	if t.instruments, err = newInstruments(meter); err != nil {
		return nil, errors.Join(err, t.Shutdown(ctx))
	}
	t.count(o.Metrics)
	return t, nil
}

var errExporter = errors.New("the OpenTelemetry exporter cannot be set up; see to the OTEL_EXPORTER_OTLP_ variables and the files that they name")

func (t *OTel) openTraces(ctx context.Context, p Protocol, about *resource.Resource) error {
	if p == "" {
		t.tracer = nooptrace.NewTracerProvider().Tracer(scope)
		return nil
	}
	open := func() (sdktrace.SpanExporter, error) { return otlptracehttp.New(ctx) }
	if p == GRPC {
		open = func() (sdktrace.SpanExporter, error) { return otlptracegrpc.New(ctx) }
	}
	exporter, err := open()
	if err != nil {
		return errExporter
	}
	t.queue = newSpanQueue(exporter, t.report)
	provider := sdktrace.NewTracerProvider(sdktrace.WithResource(about), sdktrace.WithSpanProcessor(t.queue))
	t.tracer = provider.Tracer(scope, trace.WithSchemaURL(semconv.SchemaURL))
	t.stop = append(t.stop, provider.Shutdown)
	return nil
}

func (t *OTel) openMetrics(ctx context.Context, o OTelOptions, about *resource.Resource) (metric.Meter, error) {
	if o.OTLP.Metrics == "" {
		return noop.NewMeterProvider().Meter(scope), nil
	}
	open := func() (sdkmetric.Exporter, error) { return otlpmetrichttp.New(ctx) }
	if o.OTLP.Metrics == GRPC {
		open = func() (sdkmetric.Exporter, error) { return otlpmetricgrpc.New(ctx) }
	}
	exporter, err := open()
	if err != nil {
		return nil, errExporter
	}
	var options []sdkmetric.PeriodicReaderOption
	if o.Metrics != nil {
		options = append(options, sdkmetric.WithProducer(bridge.NewMetricProducer(bridge.WithGatherer(o.Metrics.registry))))
	}
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithResource(about),
		sdkmetric.WithReader(sdkmetric.NewPeriodicReader(&countingMetrics{exporter, t.report}, options...)))
	t.stop = append(t.stop, provider.Shutdown)
	return provider.Meter(scope, metric.WithSchemaURL(semconv.SchemaURL)), nil
}

// count adds what is dropped to the counters for Prometheus.
func (t *OTel) count(m *Metrics) {
	if m == nil {
		return
	}
	m.Counter("gatehouse_otlp_dropped_spans_total", "Spans that were not exported: the queue was full, or the collector failed.", func() float64 { return float64(t.Dropped()) })
	m.Counter("gatehouse_otlp_failed_exports_total", "Exports of traces or metrics that the collector did not take.", func() float64 {
		return float64(t.report.traces.Load() + t.report.metrics.Load())
	})
}

// Dropped gives how many spans were not exported since the start, because the
// queue was full or the collector failed.
func (t *OTel) Dropped() int64 {
	if t == nil || t.queue == nil {
		return 0
	}
	return t.queue.dropped.Load()
}

// Shutdown exports what waits, as far as ctx leaves time for it, and ends.
func (t *OTel) Shutdown(ctx context.Context) error {
	if t == nil {
		return nil
	}
	done := make(chan error, len(t.stop))
	for _, stop := range t.stop { // at once: one that hangs must not take the other's time
		go func() { done <- stop(ctx) }()
	}
	var failed error
	for range t.stop {
		if err := <-done; err != nil {
			failed = errors.New("what was left of the telemetry could not be exported in time")
		}
	}
	return failed
}

// continued puts the caller's trace into ctx, where its header is valid (W3C Trace
// Context). A tracestate is left: it is free text of the caller's.
func continued(ctx context.Context, header http.Header) context.Context {
	values := header["Traceparent"]
	if len(values) != 1 {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": values[0]})
}

// add appends an attribute with a text, unless that is empty.
func add(to []attribute.KeyValue, key attribute.Key, value string) []attribute.KeyValue {
	if value == "" {
		return to
	}
	return append(to, key.String(value))
}
