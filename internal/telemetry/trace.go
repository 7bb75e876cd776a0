package telemetry

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	"go.opentelemetry.io/otel/trace"
)

// What no convention has a name for.
const (
	organizationKey = attribute.Key("gatehouse.organization")
	serviceKey      = attribute.Key("gatehouse.service")
	credentialKey   = attribute.Key("gatehouse.credential.id")
	requestIDKey    = attribute.Key("gatehouse.request.id")
	outcomeKey      = attribute.Key("gatehouse.outcome")
)

// ServerSpan is one request that is being answered. Nil does nothing.
type ServerSpan struct {
	otel   *OTel
	span   trace.Span
	start  time.Time
	method string
	scheme string
}

// StartServer begins the span of a request, as part of the trace that its header
// names. method is one of HTTP's or "unknown"; scheme is what the caller came by.
// The context it gives is that of the request from then on.
func (t *OTel) StartServer(ctx context.Context, header http.Header, method, scheme string, start time.Time) (context.Context, *ServerSpan) {
	if t == nil {
		return ctx, nil
	}
	if method == "unknown" {
		method = "_OTHER"
	}
	s := &ServerSpan{otel: t, start: start, method: method, scheme: scheme}
	ctx, s.span = t.tracer.Start(continued(ctx, header), spanMethod(method), trace.WithTimestamp(start), trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(semconv.HTTPRequestMethodKey.String(method), semconv.URLScheme(scheme)))
	return ctx, s
}

// spanMethod gives the method as the name of a span says it.
func spanMethod(method string) string {
	if method == "_OTHER" {
		return "HTTP"
	}
	return method
}

// TraceID gives the trace's id for a log line; "" where the span is not exported.
func (s *ServerSpan) TraceID() string {
	if s == nil || !s.span.SpanContext().IsSampled() {
		return ""
	}
	return s.span.SpanContext().TraceID().String()
}

// ServerAnswer is how a request was answered.
type ServerAnswer struct {
	Route        string // the template
	Status       int    // 0: nothing was sent
	Reason       string // the code of a problem, or why an answer broke off; "" where neither
	Broken       bool   // the answer broke off
	Left         bool   // and it was the caller who went away, or did not read
	Organization string
	RequestID    string
	Service      string // of the catalogue; "" where the route has none
	Outcome      string // of a visit to Service
	Credential   string // the id of the one that was used
	Took         time.Duration
}

// End ends the span and counts the request.
func (s *ServerSpan) End(a ServerAnswer) {
	if s == nil {
		return
	}
	failed := a.Broken && !a.Left || a.Status >= http.StatusInternalServerError
	kind := a.Reason
	if kind == "" && failed {
		kind = statusText(a.Status)
	}
	set := make([]attribute.KeyValue, 0, 6)
	set = append(set, semconv.HTTPRequestMethodKey.String(s.method), semconv.URLScheme(s.scheme), semconv.HTTPRoute(a.Route))
	if a.Status != 0 {
		set = append(set, semconv.HTTPResponseStatusCode(a.Status))
	}
	if failed || a.Broken {
		set = add(set, semconv.ErrorTypeKey, kind)
	}
	s.otel.instruments.server.Record(context.Background(), a.Took.Seconds(), metric.WithAttributes(set...))
	if s.span.IsRecording() {
		s.span.SetName(spanMethod(s.method) + " " + a.Route)
		about := append(make([]attribute.KeyValue, 0, len(set)+6), set[2:]...)
		if !failed && !a.Broken { // a 4xx is the caller's mistake, and still worth a word
			about = add(about, semconv.ErrorTypeKey, kind)
		}
		about = add(about, requestIDKey, a.RequestID)
		about = add(about, organizationKey, a.Organization)
		about = add(about, serviceKey, a.Service)
		about = add(about, outcomeKey, a.Outcome)
		about = add(about, credentialKey, a.Credential)
		s.span.SetAttributes(about...)
		if failed {
			s.span.SetStatus(codes.Error, "")
		}
	}
	s.span.End(trace.WithTimestamp(s.start.Add(a.Took)))
}

// ClientRequest is one request to an upstream.
type ClientRequest struct {
	Service   string // of the catalogue, or app
	Provider  string // gen_ai.provider.name; only with an Operation
	Operation string // what a model is asked to do; "" for anything else
	Model     string // that is asked for; may be empty
	Stream    bool   // a stream is asked for
	Method    string
	Scheme    string
	Host      string      // with the port, if it is not the scheme's own
	Resend    int         // how many requests went before for the same caller's request
	Header    http.Header // of the request; a traceparent is put into it where the service is told
}

// ClientSpan is one request to an upstream on its way. Nil does nothing.
type ClientSpan struct {
	otel    *OTel
	span    trace.Span
	start   time.Time
	request ClientRequest
}

// StartClient begins the span of a request to an upstream.
func (t *OTel) StartClient(ctx context.Context, r ClientRequest) *ClientSpan {
	if t == nil {
		return nil
	}
	s := &ClientSpan{otel: t, start: time.Now(), request: r}
	s.request.Header = nil
	name := r.Method + " " + r.Service
	about := make([]attribute.KeyValue, 0, 12)
	about = append(about, semconv.HTTPRequestMethodKey.String(r.Method), semconv.URLScheme(r.Scheme), serviceKey.String(r.Service))
	host, port := hostPort(r.Scheme, r.Host)
	about = append(about, semconv.ServerAddress(host), semconv.ServerPort(port))
	if r.Resend > 0 {
		about = append(about, semconv.HTTPRequestResendCount(r.Resend))
	}
	if r.Operation != "" {
		name = r.Operation
		if r.Model != "" {
			name += " " + r.Model
		}
		about = append(about, semconv.GenAIOperationNameKey.String(r.Operation), semconv.GenAIProviderNameKey.String(r.Provider))
		about = add(about, semconv.GenAIRequestModelKey, r.Model)
		if r.Stream {
			about = append(about, semconv.GenAIRequestStreamKey.Bool(true))
		}
	}
	ctx, s.span = t.tracer.Start(ctx, name, trace.WithTimestamp(s.start), trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(about...))
	if t.tells[r.Service] {
		propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(r.Header))
	}
	return s
}

// hostPort cuts a host into address and port.
func hostPort(scheme, host string) (string, int) {
	address, text, err := net.SplitHostPort(host)
	if port, bad := strconv.Atoi(text); err == nil && bad == nil {
		return address, port
	}
	if scheme == "http" {
		return host, 80
	}
	return host, 443
}

// ClientAnswer is how a request to an upstream ended.
type ClientAnswer struct {
	Status     int           // of the upstream's answer; 0 where none came
	Reason     string        // why it failed, in a stable word; "" where it did not
	Left       bool          // it ended because the caller went away, or did not read
	Model      string        // that answered; may be empty
	FirstChunk time.Duration // from the request to the first bytes of a streamed answer; 0: none came

	// Tokens that the provider said; negative: it did not.
	Input, Output, CacheRead, CacheWrite, Reasoning int64
}

// End ends the span and counts the request.
func (s *ClientSpan) End(a ClientAnswer) {
	if s == nil {
		return
	}
	took := time.Since(s.start)
	failed := a.Reason != ""
	kind := a.Reason
	if a.Status >= http.StatusBadRequest && (kind == "" || kind == "upstream_status") {
		failed, kind = true, statusText(a.Status)
	}
	s.count(a, kind, took)
	if s.span.IsRecording() {
		about := make([]attribute.KeyValue, 0, 10)
		if a.Status != 0 {
			about = append(about, semconv.HTTPResponseStatusCode(a.Status))
		}
		about = add(about, semconv.ErrorTypeKey, kind)
		if s.request.Operation != "" {
			about = answered(about, a)
		}
		s.span.SetAttributes(about...)
		if failed && !a.Left {
			s.span.SetStatus(codes.Error, "")
		}
	}
	s.span.End(trace.WithTimestamp(s.start.Add(took)))
}
