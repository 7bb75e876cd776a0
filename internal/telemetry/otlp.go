package telemetry

import (
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// OTLP says what is exported by the OpenTelemetry Protocol, and how. The zero
// value exports nothing.
type OTLP struct {
	Traces, Metrics Protocol // "": not exported
}

// Enabled reports whether anything is exported.
func (o OTLP) Enabled() bool { return o.Traces != "" || o.Metrics != "" }

// Protocol is a transport of the OpenTelemetry Protocol, by its name in
// OTEL_EXPORTER_OTLP_PROTOCOL.
type Protocol string

// The protocols that are spoken.
const (
	HTTPProtobuf Protocol = "http/protobuf"
	GRPC         Protocol = "grpc"
)

// samplers are the values of OTEL_TRACES_SAMPLER that the SDK knows; true: it
// takes OTEL_TRACES_SAMPLER_ARG.
var samplers = map[string]bool{
	"always_on": false, "always_off": false, "traceidratio": true,
	"parentbased_always_on": false, "parentbased_always_off": false, "parentbased_traceidratio": true,
}

// ReadOTLP reads the standard variables (OpenTelemetry specification 1.5x,
// "Environment Variable Specification" and "Protocol Exporter") out of environ, by
// name. Nothing is exported unless an endpoint is named, or otlp as an exporter.
//
// The SDK reads most of these variables again by itself, and writes a value that
// it cannot read to the standard error output, keys of collectors included. So
// whatever it would not take is an error here, which names the variable and never
// the value.
func ReadOTLP(environ map[string]string) (OTLP, error) {
	r := otlpReader{environ: environ}
	if strings.EqualFold(r.get("OTEL_SDK_DISABLED"), "true") {
		return OTLP{}, nil
	}
	o := OTLP{Traces: r.signal("TRACES"), Metrics: r.signal("METRICS")}
	if !o.Enabled() {
		return OTLP{}, errors.Join(r.mistakes...)
	}
	for _, infix := range []string{"", "TRACES_", "METRICS_"} {
		r.checkExporter("OTEL_EXPORTER_OTLP_" + infix)
	}
	r.checkSampler()
	for _, name := range []string{
		"OTEL_BSP_SCHEDULE_DELAY", "OTEL_BSP_EXPORT_TIMEOUT", "OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
		"OTEL_METRIC_EXPORT_INTERVAL", "OTEL_METRIC_EXPORT_TIMEOUT",
	} {
		r.checkNumber(name)
	}
	r.checkList("OTEL_RESOURCE_ATTRIBUTES", func(string) bool { return true })
	return o, errors.Join(r.mistakes...)
}

type otlpReader struct {
	environ  map[string]string
	mistakes []error
}

func (r *otlpReader) get(name string) string { return strings.TrimSpace(r.environ[name]) }

func (r *otlpReader) wrong(format string, args ...any) {
	r.mistakes = append(r.mistakes, fmt.Errorf(format, args...))
}

// signal gives the protocol of one signal, "" where it is not exported.
func (r *otlpReader) signal(name string) Protocol {
	exporter, endpoint := "OTEL_"+name+"_EXPORTER", r.get("OTEL_EXPORTER_OTLP_ENDPOINT")+r.get("OTEL_EXPORTER_OTLP_"+name+"_ENDPOINT")
	// A list; what else may stand in it (none, prometheus, console) is not ours to
	// export, and no mistake: such variables are often set for a whole cluster.
	wanted := false
	for name := range strings.SplitSeq(r.get(exporter), ",") {
		wanted = wanted || strings.TrimSpace(name) == "otlp"
	}
	if !wanted && (r.get(exporter) != "" || endpoint == "") {
		return ""
	}
	variable := "OTEL_EXPORTER_OTLP_" + name + "_PROTOCOL"
	if r.get(variable) == "" {
		variable = "OTEL_EXPORTER_OTLP_PROTOCOL"
	}
	switch p := Protocol(r.get(variable)); p {
	case "":
		return HTTPProtobuf
	case HTTPProtobuf, GRPC:
		return p
	}
	r.wrong("%s must be %s or %s", variable, HTTPProtobuf, GRPC)
	return ""
}

// checkExporter looks at the variables that begin with prefix.
func (r *otlpReader) checkExporter(prefix string) {
	if endpoint := r.get(prefix + "ENDPOINT"); endpoint != "" {
		u, err := url.Parse(endpoint)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			r.wrong("%sENDPOINT must be a URL without a user or a query, such as http://127.0.0.1:4318; keys go into %sHEADERS", prefix, prefix)
		}
	}
	r.checkList(prefix+"HEADERS", func(name string) bool { return httpguts.ValidHeaderFieldName(name) && !reservedHeader(name) })
	r.checkNumber(prefix + "TIMEOUT")
	if c := r.get(prefix + "COMPRESSION"); c != "" && c != "gzip" && c != "none" {
		r.wrong("%sCOMPRESSION must be gzip or none", prefix)
	}
}

// reservedHeader reports whether an exporter sets the header itself.
func reservedHeader(name string) bool {
	switch textproto.CanonicalMIMEHeaderKey(name) {
	case "Host", "Content-Length", "Content-Type", "Content-Encoding", "Transfer-Encoding", "Connection":
		return true
	}
	return false
}

// checkList looks at a list of name=value pairs, separated by commas, with values
// percent-encoded (W3C Baggage).
func (r *otlpReader) checkList(variable string, valid func(name string) bool) {
	list := r.get(variable)
	if list == "" {
		return
	}
	for i, pair := range strings.Split(list, ",") {
		name, value, ok := strings.Cut(pair, "=")
		plain, err := url.PathUnescape(value)
		if name = strings.TrimSpace(name); !ok || name == "" || err != nil || !valid(name) || !httpguts.ValidHeaderFieldValue(strings.TrimSpace(plain)) {
			r.wrong("%s: entry %d must be name=value, with what is special in the value percent-encoded", variable, i+1)
		}
	}
}

func (r *otlpReader) checkNumber(variable string) {
	if text := r.get(variable); text != "" {
		if n, err := strconv.Atoi(text); err != nil || n <= 0 {
			r.wrong("%s must be a whole number above 0; times are milliseconds", variable)
		}
	}
}

func (r *otlpReader) checkSampler() {
	name := strings.ToLower(r.get("OTEL_TRACES_SAMPLER"))
	takes, known := samplers[name]
	if name != "" && !known {
		names := make([]string, 0, len(samplers))
		for name := range samplers {
			names = append(names, name)
		}
		slices.Sort(names)
		r.wrong("OTEL_TRACES_SAMPLER must be one of %s", strings.Join(names, ", "))
	}
	if arg := r.get("OTEL_TRACES_SAMPLER_ARG"); takes && arg != "" {
		if ratio, err := strconv.ParseFloat(arg, 64); err != nil || !(ratio >= 0 && ratio <= 1) {
			r.wrong("OTEL_TRACES_SAMPLER_ARG must be a number from 0 to 1")
		}
	}
}

// OTLPHelp lists the variables that [ReadOTLP] and the SDK read, for --help: a
// line with names and a line of text each.
func OTLPHelp() [][2]string {
	return [][2]string{
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "Collector that traces and metrics are exported to by the OpenTelemetry Protocol: http://127.0.0.1:4318. Also one for each signal: OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, ..._METRICS_ENDPOINT, with the whole path. Default: none, nothing is exported."},
		{"OTEL_EXPORTER_OTLP_PROTOCOL=" + string(HTTPProtobuf), string(HTTPProtobuf) + " or " + string(GRPC) + ", whose port is 4317 by custom. Also for each signal."},
		{"OTEL_EXPORTER_OTLP_HEADERS", "Headers for the collector, such as its key: name=value,... with what is special percent-encoded. Also for each signal; so are ..._TIMEOUT (ms), ..._COMPRESSION (gzip), ..._CERTIFICATE, ..._CLIENT_CERTIFICATE and ..._CLIENT_KEY (files)."},
		{"OTEL_TRACES_EXPORTER, OTEL_METRICS_EXPORTER", "none leaves a signal out; otlp is the default where there is an endpoint."},
		{"OTEL_SERVICE_NAME=gatehouse, OTEL_RESOURCE_ATTRIBUTES", "What the exporting process is called, and further attributes of it: name=value,..."},
		{"OTEL_TRACES_SAMPLER=parentbased_always_on, OTEL_TRACES_SAMPLER_ARG", "always_on, always_off, traceidratio, or parentbased_ and one of these, which leaves it to callers that send a traceparent; the ratio is from 0 to 1."},
		{"OTEL_BSP_MAX_QUEUE_SIZE=2048, OTEL_BSP_SCHEDULE_DELAY=5000", "Spans that may wait for the collector (further ones are dropped, and counted), and how long they wait for company, in ms. OTEL_METRIC_EXPORT_INTERVAL=60000 is that of metrics."},
		{"OTEL_SDK_DISABLED", "true: nothing is exported, whatever else is set."},
	}
}

// statusText gives "500" for 500, without allocating for the usual ones.
func statusText(status int) string {
	switch status {
	case http.StatusInternalServerError:
		return "500"
	case http.StatusTooManyRequests:
		return "429"
	}
	return strconv.Itoa(status)
}
