package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// What is written out by hand is what slog's own handler gives, to the byte.
func TestLinesAreSlogs(t *testing.T) {
	text := rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-z<>&"\\/\x7f\n]{0,5}`), rapid.StringMatching(`[a-zA-Z0-9_.-]{1,20}`))
	rapid.Check(t, func(t *rapid.T) {
		at := rapid.SampledFrom([]time.Time{{}, time.Unix(1_700_000_000, 123_456_789).UTC(), time.Unix(1, 0), time.Now(),
			time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC), time.Unix(1_700_000_000, 0).In(time.FixedZone("x", -5400))}).Draw(t, "time")
		r := slog.NewRecord(at, slog.Level(rapid.IntRange(-8, 12).Draw(t, "level")), text.Draw(t, "message"), 0)
		for range rapid.IntRange(0, 8).Draw(t, "attributes") {
			value := rapid.OneOf(
				rapid.Map(text, slog.StringValue), rapid.Map(rapid.Int64(), slog.Int64Value), rapid.Map(rapid.Bool(), slog.BoolValue),
				rapid.Map(rapid.Float64(), slog.Float64Value), rapid.Map(rapid.Float64Range(-1000, 1000), slog.Float64Value),
				rapid.SampledFrom([]slog.Value{slog.Float64Value(math.Inf(1)), slog.Float64Value(math.NaN()), slog.AnyValue(nil), slog.DurationValue(5),
					slog.AnyValue(errors.New("x")), slog.GroupValue(slog.Int("a", 1)), slog.TimeValue(at), slog.AnyValue(json.RawMessage(`{}`))}),
			).Draw(t, "value")
			r.AddAttrs(slog.Attr{Key: text.Draw(t, "key"), Value: value})
		}
		var got, want bytes.Buffer
		err := newJSONLines(&got, slog.LevelInfo).Handle(context.Background(), r)
		wantErr := slog.NewJSONHandler(&want, nil).Handle(context.Background(), r)
		if got.String() != want.String() || (err == nil) != (wantErr == nil) {
			t.Fatalf("got  %q, %v\nwant %q, %v", got.String(), err, want.String(), wantErr)
		}
	})
}
