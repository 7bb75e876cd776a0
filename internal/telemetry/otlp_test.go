package telemetry_test

import (
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/internal/telemetry"
)

func TestReadOTLP(t *testing.T) {
	const endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT"
	both := telemetry.OTLP{Traces: telemetry.HTTPProtobuf, Metrics: telemetry.HTTPProtobuf}
	for name, c := range map[string]struct {
		environ map[string]string
		want    telemetry.OTLP
	}{
		"nothing":              {nil, telemetry.OTLP{}},
		"what is no collector": {map[string]string{"OTEL_SERVICE_NAME": "x", "OTEL_TRACES_SAMPLER": "odd"}, telemetry.OTLP{}},
		"an endpoint":          {map[string]string{endpoint: "http://127.0.0.1:4318"}, both},
		"disabled":             {map[string]string{endpoint: "nonsense", "OTEL_SDK_DISABLED": "TRUE"}, telemetry.OTLP{}},
		"traces only":          {map[string]string{endpoint: "https://c:4318", "OTEL_METRICS_EXPORTER": "none"}, telemetry.OTLP{Traces: telemetry.HTTPProtobuf}},
		"one endpoint":         {map[string]string{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c/v1/metrics"}, telemetry.OTLP{Metrics: telemetry.HTTPProtobuf}},
		"an exporter":          {map[string]string{"OTEL_TRACES_EXPORTER": "otlp"}, telemetry.OTLP{Traces: telemetry.HTTPProtobuf}},
		"other exporters":      {map[string]string{endpoint: "http://c:4318", "OTEL_TRACES_EXPORTER": "console", "OTEL_METRICS_EXPORTER": "prometheus, otlp"}, telemetry.OTLP{Metrics: telemetry.HTTPProtobuf}},
		"grpc for one": {map[string]string{endpoint: "http://c:4317", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"},
			telemetry.OTLP{Traces: telemetry.GRPC, Metrics: telemetry.HTTPProtobuf}},
		"all that is good": {map[string]string{
			endpoint: "https://collector.example/otlp", "OTEL_EXPORTER_OTLP_HEADERS": "api-key=abc%20def, x-tenant=1", "OTEL_EXPORTER_OTLP_TIMEOUT": "5000",
			"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip", "OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25",
			"OTEL_RESOURCE_ATTRIBUTES": "team=chat,service.namespace=a%2Fb",
		}, both},
	} {
		if got, err := telemetry.ReadOTLP(c.environ); err != nil || got != c.want {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, c.want)
		}
	}
}

// A value that the SDK would write to the standard error output is refused, and
// not echoed.
func TestReadOTLPRefuses(t *testing.T) {
	const planted = "CANARYcanary"
	for variable, value := range map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT":         "https://user:" + planted + "@c:4318",
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT":  planted + ":4318",
		"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c/v1/metrics?key=" + planted,
		"OTEL_EXPORTER_OTLP_PROTOCOL":         "http/json" + planted,
		"OTEL_EXPORTER_OTLP_HEADERS":          "api-key " + planted,
		"OTEL_EXPORTER_OTLP_TRACES_HEADERS":   "api-key=" + planted + "%zz",
		"OTEL_EXPORTER_OTLP_METRICS_HEADERS":  "api-key=a%0d%0a" + planted,
		"OTEL_EXPORTER_OTLP_TIMEOUT":          planted,
		"OTEL_EXPORTER_OTLP_COMPRESSION":      planted,
		"OTEL_TRACES_SAMPLER":                 planted,
		"OTEL_BSP_MAX_QUEUE_SIZE":             planted,
		"OTEL_METRIC_EXPORT_INTERVAL":         "-" + planted,
		"OTEL_RESOURCE_ATTRIBUTES":            planted,
	} {
		environ := map[string]string{"OTEL_METRICS_EXPORTER": "otlp", variable: value}
		_, err := telemetry.ReadOTLP(environ)
		if err == nil || !strings.Contains(err.Error(), variable) || strings.Contains(err.Error(), planted) {
			t.Errorf("%s: %v", variable, err)
		}
	}
	_, err := telemetry.ReadOTLP(map[string]string{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "1.5"})
	if err == nil || !strings.Contains(err.Error(), "OTEL_TRACES_SAMPLER_ARG") {
		t.Errorf("a ratio above 1: %v", err)
	}
}
