package telemetry

import (
	"context"
	"io"
	"log/slog"
	"math"
	"strconv"
	"sync"
	"time"
)

// jsonLines writes what [slog.JSONHandler] would, which takes a record over where
// its values are not plain: text without anything to escape, numbers and booleans,
// at the top level. The line of a request is, and every request pays for one.
type jsonLines struct {
	slog.Handler // the JSON handler over w
	level        slog.Level
	w            io.Writer // takes whole lines, from several goroutines
	buffers      *sync.Pool
}

func newJSONLines(w io.Writer, level slog.Level) *jsonLines {
	return &jsonLines{
		Handler: slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level}), level: level, w: w,
		buffers: &sync.Pool{New: func() any { b := make([]byte, 0, 1024); return &b }},
	}
}

// Enabled implements [slog.Handler].
func (h *jsonLines) Enabled(_ context.Context, level slog.Level) bool { return level >= h.level }

// Handle implements [slog.Handler].
func (h *jsonLines) Handle(ctx context.Context, r slog.Record) error {
	buffer := h.buffers.Get().(*[]byte)
	defer h.buffers.Put(buffer)
	b, ok := appendRecord((*buffer)[:0], &r)
	if !ok {
		return h.Handler.Handle(ctx, r)
	}
	*buffer = b
	_, err := h.w.Write(b)
	return err
}

// appendRecord adds the line of r, and reports whether all of it is plain.
func appendRecord(b []byte, r *slog.Record) ([]byte, bool) {
	if r.Time.IsZero() || r.Time.Year() < 0 || r.Time.Year() > 9999 {
		return b, false
	}
	// As slog.JSONHandler does: without the reading of the monotonic clock.
	b = r.Time.AppendFormat(append(b, `{"time":"`...), time.RFC3339Nano)
	b, ok := appendPlain(append(b, `","level":`...), r.Level.String())
	if !ok {
		return b, false
	}
	if b, ok = appendPlain(append(b, `,"msg":`...), r.Message); !ok {
		return b, false
	}
	r.Attrs(func(a slog.Attr) bool {
		if ok = a.Key != ""; !ok {
			return false
		}
		if b, ok = appendPlain(append(b, ','), a.Key); !ok {
			return false
		}
		b, ok = appendValue(append(b, ':'), a.Value)
		return ok
	})
	return append(b, "}\n"...), ok
}

func appendValue(b []byte, v slog.Value) ([]byte, bool) {
	switch v.Kind() {
	case slog.KindString:
		return appendPlain(b, v.String())
	case slog.KindInt64:
		return strconv.AppendInt(b, v.Int64(), 10), true
	case slog.KindBool:
		return strconv.AppendBool(b, v.Bool()), true
	case slog.KindFloat64:
		f := v.Float64()
		if size := math.Abs(f); f != 0 && !(size >= 1e-6 && size < 1e21) { // encoding/json has an exponent there
			return b, false
		}
		return strconv.AppendFloat(b, f, 'f', -1, 64), true
	}
	return b, false
}

// appendPlain adds text as a JSON string where nothing in it is to be escaped.
func appendPlain(b []byte, text string) ([]byte, bool) {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return b, false
		}
	}
	return append(append(append(b, '"'), text...), '"'), true
}
