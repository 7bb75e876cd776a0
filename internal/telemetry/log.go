// Package telemetry sets up how an instance tells what it does: for people on
// a terminal, as JSON lines elsewhere, each line of a request with its id
// ([NewLogger]); as counters for Prometheus ([Metrics]); and as traces and metrics
// by OpenTelemetry ([OTel]), where the standard variables name a collector.
//
//	otlp, err := telemetry.ReadOTLP(environ)
//	otel, err := telemetry.NewOTel(ctx, telemetry.OTelOptions{OTLP: otlp, Metrics: metrics}) // nil where it is off
//	ctx, span := otel.StartServer(ctx, r.Header, r.Method, "https", start)
//	out := otel.StartClient(ctx, telemetry.ClientRequest{Service: "openai", Provider: "openai", Operation: "chat", Model: "gpt-5"})
//	out.End(telemetry.ClientAnswer{Status: 200, Input: 12, Output: 340})
//	span.End(telemetry.ServerAnswer{Route: route, Status: 200})
//	err = otel.Shutdown(ctx)
//
// Names are those of the OpenTelemetry semantic conventions 1.41.0, the last release
// that holds those for generative AI; docs/observability.md lists them. What is put
// in comes from the program itself or was checked before: route templates, names of
// services and models, ids, counts. Nothing here takes a path, a query, a header's
// value but traceparent, or a body. Attributes of metrics have bounded values.
//
// Nothing waits for a collector. Spans past the queue are dropped and counted
// ([OTel.Dropped]), and what a collector answers reaches no log. A nil *Metrics and
// a nil *OTel do nothing.
package telemetry

import (
	"context"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/lmittmann/tint"
	"golang.org/x/term"
)

// NewLogger gives a logger that writes to w: coloured lines when w is a
// terminal, JSON otherwise. requestID finds the id of the request that a
// context belongs to; "" adds nothing.
//
// Lines below warning level that go to a file or a pipe are written together,
// at most flushEvery late; flush writes what is left, and ends that.
func NewLogger(w io.Writer, level slog.Level, requestID func(context.Context) string) (log *slog.Logger, flush func()) {
	f, isFile := w.(*os.File)
	if isFile && term.IsTerminal(int(f.Fd())) {
		h := tint.NewTextHandler(w, &tint.Options{Level: level, TimeFormat: time.TimeOnly})
		return slog.New(&withRequest{h, requestID, func() {}}), func() {}
	}
	if !isFile {
		h := slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})
		return slog.New(&withRequest{h, requestID, func() {}}), func() {}
	}
	lines := newLineBuffer(w)
	return slog.New(&withRequest{newJSONLines(lines, level), requestID, lines.flush}), lines.close
}

// withRequest adds the request's id to every record logged under its context,
// and sees to it that warnings and errors are written at once.
type withRequest struct {
	slog.Handler
	requestID func(context.Context) string
	flush     func()
}

// Handle implements [slog.Handler].
func (h *withRequest) Handle(ctx context.Context, r slog.Record) error {
	if id := h.requestID(ctx); id != "" {
		r.AddAttrs(slog.String("requestId", id))
	}
	err := h.Handler.Handle(ctx, r)
	if r.Level >= slog.LevelWarn {
		h.flush()
	}
	return err
}

// WithAttrs implements [slog.Handler].
func (h *withRequest) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &withRequest{h.Handler.WithAttrs(attrs), h.requestID, h.flush}
}

// WithGroup implements [slog.Handler].
func (h *withRequest) WithGroup(name string) slog.Handler {
	return &withRequest{h.Handler.WithGroup(name), h.requestID, h.flush}
}
