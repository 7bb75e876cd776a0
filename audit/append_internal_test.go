package audit

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// What is written out by hand is what encoding/json gives, to the byte.
func TestAppendedIsJSON(t *testing.T) {
	text := rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-z<>&"\\/]{0,5}`), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))
	value := rapid.OneOf(rapid.Map(text, func(s string) any { return s }), rapid.Map(rapid.Int(), func(n int) any { return n }),
		rapid.Map(rapid.Int64(), func(n int64) any { return n }), rapid.Map(rapid.Bool(), func(b bool) any { return b }),
		rapid.Map(rapid.Float64(), func(f float64) any { return f }), rapid.Map(rapid.SliceOf(text), func(s []string) any { return s }), rapid.Just[any](nil))
	rapid.Check(t, func(t *rapid.T) {
		draw := func(label string) string { return text.Draw(t, label) }
		c := canonicalEvent{
			Version: rapid.Int().Draw(t, "version"), ID: draw("id"), OccurredAt: draw("at"), RecordedAt: draw("recorded"), Severity: Severity(draw("severity")), Organization: draw("organization"), Class: Class(draw("class")),
			Action: Action(draw("action")), Outcome: Outcome(draw("outcome")), Reason: draw("reason"),
			Actor:      Actor{Type: draw("type"), ID: draw("actor"), TokenID: draw("token"), Roles: rapid.SliceOf(text).Draw(t, "roles")},
			Permission: draw("permission"), Count: rapid.Int64().Draw(t, "count"), Metadata: rapid.MapOf(text, value).Draw(t, "metadata"), Personal: draw("personal"),
		}
		for range rapid.IntRange(0, 3).Draw(t, "targets") {
			c.Targets = append(c.Targets, canonicalTarget{draw("target type"), draw("target id")})
		}
		if rapid.Bool().Draw(t, "request") {
			c.Request = &canonicalRequest{ID: draw("request id"), Method: draw("method"), Route: draw("route"), Status: rapid.IntRange(0, 599).Draw(t, "status")}
		}
		same(t, &c, c.append)
		p := personalData{IP: draw("ip"), UserAgent: draw("agent"), Names: rapid.SliceOf(text).Draw(t, "names"), More: rapid.MapOf(text, text).Draw(t, "more")}
		same(t, &p, p.append)
	})
}

func same(t *rapid.T, v any, appendTo func([]byte) ([]byte, error)) {
	want, wantErr := marshal(v)
	got, err := appendTo(nil)
	if diff := cmp.Diff(string(want), string(got)); diff != "" || (err == nil) != (wantErr == nil) {
		t.Fatalf("errors %v and %v (-encoding/json +appended):\n%s", wantErr, err, diff)
	}
}

func TestAppendedIsTheTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		micros := rapid.OneOf(rapid.Int64(), rapid.Int64Range(-70_000_000_000_000_000, 260_000_000_000_000_000)).Draw(t, "microseconds")
		at := time.UnixMicro(micros).In(time.FixedZone("", rapid.IntRange(-50_000, 50_000).Draw(t, "zone")))
		if got, want := string(appendTime([]byte("x"), at)), "x"+at.UTC().Format(canonicalTime); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}
