package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// spanQueue stands before the SDK's batch processor and admits no more spans than
// that has room for. The processor drops what is too much by itself, and tells
// nobody.
type spanQueue struct {
	sdktrace.SpanProcessor
	most    int64
	waiting atomic.Int64 // ended, and not yet handed to the exporter or refused
	dropped atomic.Int64 // there was no room
}

// newSpanQueue gives the queue before exporter. OTEL_BSP_MAX_QUEUE_SIZE says how
// many spans may wait.
func newSpanQueue(exporter sdktrace.SpanExporter, report *exportReport) *spanQueue {
	q := &spanQueue{most: sdktrace.DefaultMaxQueueSize}
	if n, err := strconv.ParseInt(strings.TrimSpace(os.Getenv("OTEL_BSP_MAX_QUEUE_SIZE")), 10, 64); err == nil && n > 0 {
		q.most = n
	}
	q.SpanProcessor = sdktrace.NewBatchSpanProcessor(&countingSpans{exporter, q, report}, sdktrace.WithMaxQueueSize(int(q.most)))
	return q
}

// OnEnd implements [sdktrace.SpanProcessor]. It never waits.
func (q *spanQueue) OnEnd(s sdktrace.ReadOnlySpan) {
	if !s.SpanContext().IsSampled() {
		return
	}
	if q.waiting.Add(1) > q.most {
		q.waiting.Add(-1)
		q.dropped.Add(1)
		return
	}
	q.SpanProcessor.OnEnd(s)
}

// countingSpans makes room in the queue for what is handed to the exporter.
type countingSpans struct {
	sdktrace.SpanExporter
	queue  *spanQueue
	report *exportReport
}

// ExportSpans implements [sdktrace.SpanExporter]. It gives no error: the SDK would
// write its text, which may quote the collector, to the standard error output.
func (c *countingSpans) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := c.SpanExporter.ExportSpans(ctx, spans)
	c.queue.waiting.Add(-int64(len(spans)))
	if err != nil {
		c.queue.dropped.Add(int64(len(spans)))
		c.report.failed("traces", err)
	}
	return nil
}

// countingMetrics counts exports of metrics that failed.
type countingMetrics struct {
	sdkmetric.Exporter
	report *exportReport
}

// Export implements [sdkmetric.Exporter]. It gives no error, as ExportSpans.
func (c *countingMetrics) Export(ctx context.Context, m *metricdata.ResourceMetrics) error {
	if err := c.Exporter.Export(ctx, m); err != nil {
		c.report.failed("metrics", err)
	}
	return nil
}

// exportReport counts exports that failed and says so in the log, now and then.
type exportReport struct {
	log             *slog.Logger
	traces, metrics atomic.Int64
	said            atomic.Int64 // Unix seconds of the last line
}

// tellEvery is how often at most the log tells that exports fail.
const tellEvery = time.Minute

func (r *exportReport) failed(signal string, err error) {
	count := &r.traces
	if signal == "metrics" {
		count = &r.metrics
	}
	n := count.Add(1)
	now, said := time.Now().Unix(), r.said.Load()
	if now-said < int64(tellEvery/time.Second) || !r.said.CompareAndSwap(said, now) {
		return
	}
	r.log.Warn("telemetry cannot be exported: see to the collector of OTEL_EXPORTER_OTLP_ENDPOINT", "signal", signal, "failures", n, "why", whyNot(err))
}

// whyNot says in a few words of ours why an export failed. The text of err itself
// may quote the collector's answer, which may quote the request and the key in it.
func whyNot(err error) string {
	var number syscall.Errno
	var name *net.DNSError
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "no answer in time"
	case errors.Is(err, context.Canceled):
		return "stopped"
	case errors.As(err, &name):
		return "its name cannot be resolved"
	case errors.As(err, &number):
		return number.Error()
	}
	return "refused"
}
