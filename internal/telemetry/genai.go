package telemetry

import (
	"context"
	"errors"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
)

// answered appends what is known of a model's answer.
func answered(to []attribute.KeyValue, a ClientAnswer) []attribute.KeyValue {
	to = add(to, semconv.GenAIResponseModelKey, a.Model)
	for _, n := range []struct {
		key   attribute.Key
		count int64
	}{
		{semconv.GenAIUsageInputTokensKey, a.Input}, {semconv.GenAIUsageOutputTokensKey, a.Output},
		{semconv.GenAIUsageCacheReadInputTokensKey, a.CacheRead}, {semconv.GenAIUsageCacheCreationInputTokensKey, a.CacheWrite},
		{semconv.GenAIUsageReasoningOutputTokensKey, a.Reasoning},
	} {
		if n.count >= 0 {
			to = append(to, n.key.Int64(n.count))
		}
	}
	if a.FirstChunk > 0 {
		to = append(to, semconv.GenAIResponseTimeToFirstChunkKey.Float64(a.FirstChunk.Seconds()))
	}
	return to
}

// instruments are the metrics of the conventions. Those of Gatehouse's own are the
// counters of [Metrics].
type instruments struct {
	server, client             metric.Float64Histogram
	operations, firstChunk     metric.Float64Histogram
	tokens                     metric.Int64Histogram
	requestModels, answerModel *labels
}

// The boundaries that the conventions advise.
var (
	httpSeconds  = []float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}
	modelSeconds = []float64{0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92}
	chunkSeconds = []float64{0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}
	tokenCounts  = []float64{1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864}
)

func newInstruments(m metric.Meter) (instruments, error) {
	i := instruments{requestModels: new(labels), answerModel: new(labels)}
	var mistakes [5]error
	seconds := func(name, text string, bounds []float64) (metric.Float64Histogram, error) {
		return m.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(text), metric.WithExplicitBucketBoundaries(bounds...))
	}
	i.server, mistakes[0] = seconds("http.server.request.duration", "Time to answer a request, streams until their end.", httpSeconds)
	i.client, mistakes[1] = seconds("http.client.request.duration", "Time of a request to an upstream, streams until their end.", httpSeconds)
	i.operations, mistakes[2] = seconds("gen_ai.client.operation.duration", "Time of a request to a model, streams until their end.", modelSeconds)
	i.firstChunk, mistakes[3] = seconds("gen_ai.client.operation.time_to_first_chunk", "Time until the first bytes of a streamed answer.", chunkSeconds)
	i.tokens, mistakes[4] = m.Int64Histogram("gen_ai.client.token.usage", metric.WithUnit("{token}"),
		metric.WithDescription("Tokens of a request to a model, as the provider says."), metric.WithExplicitBucketBoundaries(tokenCounts...))
	return i, errors.Join(mistakes[:]...)
}

// count puts a request to an upstream into the metrics. Attributes that callers or
// tenants have a say in are bounded: hosts are left out, since tenants choose
// some; models are those that providers answered for.
func (s *ClientSpan) count(a ClientAnswer, kind string, took time.Duration) {
	ctx, i, r := context.Background(), s.otel.instruments, s.request
	set := make([]attribute.KeyValue, 0, 8)
	set = append(set, semconv.HTTPRequestMethodKey.String(r.Method), semconv.URLScheme(r.Scheme), serviceKey.String(r.Service))
	if a.Status != 0 {
		set = append(set, semconv.HTTPResponseStatusCode(a.Status))
	}
	i.client.Record(ctx, took.Seconds(), metric.WithAttributes(add(set, semconv.ErrorTypeKey, kind)...))
	if r.Operation == "" {
		return
	}
	worked := a.Status != 0 && a.Status < http.StatusBadRequest
	set = append(set[:0:0], semconv.GenAIOperationNameKey.String(r.Operation), semconv.GenAIProviderNameKey.String(r.Provider))
	set = add(set, semconv.GenAIRequestModelKey, i.requestModels.bounded(r.Model, worked))
	set = add(set, semconv.GenAIResponseModelKey, i.answerModel.bounded(a.Model, worked))
	if a.FirstChunk > 0 && r.Stream {
		i.firstChunk.Record(ctx, a.FirstChunk.Seconds(), metric.WithAttributes(set...))
	}
	for _, n := range []struct {
		kind  string
		count int64
	}{{"input", a.Input}, {"output", a.Output}} {
		if n.count >= 0 {
			i.tokens.Record(ctx, n.count, metric.WithAttributes(append(set[:len(set):len(set)], semconv.GenAITokenTypeKey.String(n.kind))...))
		}
	}
	i.operations.Record(ctx, took.Seconds(), metric.WithAttributes(add(set, semconv.ErrorTypeKey, kind)...))
}
