package instance

import (
	"context"
	"errors"
	"time"

	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/gateway"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/internal/telemetry"
	"github.com/gatehouse-io/gatehouse/usage/tokens"
)

// otelGrace is how long a stop waits for a collector to take what is left.
const otelGrace = 3 * time.Second

// newOTel sets up what is exported by OpenTelemetry; nil where nothing is.
func (in *Instance) newOTel(ctx context.Context, c Config) (*telemetry.OTel, error) {
	t, err := telemetry.NewOTel(ctx, telemetry.OTelOptions{
		OTLP: c.OTLP, Metrics: in.metrics, ServiceVersion: Version, InstanceID: processName(), Environment: c.Environment,
		TellUpstreams: trimmed(c.TraceUpstreams), Logger: in.Log,
	})
	if t != nil {
		in.Log.Info("exporting telemetry", "traces", string(c.OTLP.Traces), "metrics", string(c.OTLP.Metrics))
	}
	return t, err
}

// closeOTel exports what is left. A collector that is away is no failure of the stop.
func (in *Instance) closeOTel() error {
	ctx, cancel := context.WithTimeout(context.Background(), otelGrace)
	defer cancel()
	if err := in.otel.Shutdown(ctx); err != nil {
		in.Log.Warn("telemetry", "error", err)
	}
	return nil
}

// attempted traces requests to upstreams; nil where nothing is exported.
func attempted(t *telemetry.OTel) gateway.Attempted {
	if t == nil {
		return nil
	}
	return func(ctx context.Context, a gateway.Attempt) func(gateway.AttemptEnd) {
		span := t.StartClient(ctx, telemetry.ClientRequest{
			Service: a.Service, Provider: a.Provider, Operation: a.Operation, Model: a.Model, Stream: a.Stream,
			Method: a.Method, Scheme: a.Scheme, Host: a.Host, Resend: a.Before, Header: a.Header,
		})
		return func(how gateway.AttemptEnd) {
			count := how.Tokens
			span.End(telemetry.ClientAnswer{
				Status: how.Status, Reason: how.Reason, Left: how.Reason == "client_closed" || how.Reason == "client_slow",
				Model: how.Model, FirstChunk: how.FirstChunk,
				Input: said(count.Input), Output: said(count.Output), CacheRead: said(count.CacheRead),
				CacheWrite: said(count.CacheWrite), Reasoning: said(count.Reasoning),
			})
		}
	}
}

// said gives a count, or less than none where it is not known.
func said(c tokens.Count) int64 {
	if !c.Known {
		return -1
	}
	return c.N
}

// checkOTel gives the mistakes in what concerns OpenTelemetry. services is nil
// where the catalogue has mistakes of its own.
func (c *Config) checkOTel(services *catalog.Catalog) error {
	mistakes := checkServices("GATEHOUSE_TRACE_UPSTREAMS", trimmed(c.TraceUpstreams), services)
	if len(trimmed(c.TraceUpstreams)) > 0 && c.OTLP.Traces == "" {
		mistakes = append(mistakes, fault.Mistakef("set OTEL_EXPORTER_OTLP_ENDPOINT", "GATEHOUSE_TRACE_UPSTREAMS needs traces to tell of"))
	}
	return errors.Join(mistakes...)
}
