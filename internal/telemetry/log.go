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
	h := slog.NewJSONHandler(lines, &slog.HandlerOptions{Level: level})
	return slog.New(&withRequest{h, requestID, lines.flush}), lines.close
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
