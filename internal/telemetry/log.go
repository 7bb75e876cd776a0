// Package telemetry sets up how an instance tells what it does: for people on
// a terminal, as JSON lines elsewhere, each line of a request with its id; and
// as counters for Prometheus.
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
func NewLogger(w io.Writer, level slog.Level, requestID func(context.Context) string) *slog.Logger {
	var h slog.Handler = slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		h = tint.NewTextHandler(w, &tint.Options{Level: level, TimeFormat: time.TimeOnly})
	}
	return slog.New(&withRequest{h, requestID})
}

// withRequest adds the request's id to every record logged under its context.
type withRequest struct {
	slog.Handler
	requestID func(context.Context) string
}

// Handle implements [slog.Handler].
func (h *withRequest) Handle(ctx context.Context, r slog.Record) error {
	if id := h.requestID(ctx); id != "" {
		r.AddAttrs(slog.String("requestId", id))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements [slog.Handler].
func (h *withRequest) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &withRequest{h.Handler.WithAttrs(attrs), h.requestID}
}

// WithGroup implements [slog.Handler].
func (h *withRequest) WithGroup(name string) slog.Handler {
	return &withRequest{h.Handler.WithGroup(name), h.requestID}
}
