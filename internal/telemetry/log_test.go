package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/internal/telemetry"
)

type idKey struct{}

func idOf(ctx context.Context) string {
	id, _ := ctx.Value(idKey{}).(string)
	return id
}

// Every line of a request carries its id, is one JSON object, and stays one
// whatever stands in it.
func TestLines(t *testing.T) {
	var out bytes.Buffer
	log, flush := telemetry.NewLogger(&out, slog.LevelInfo, idOf)
	ctx := context.WithValue(t.Context(), idKey{}, "req_1")
	hostile := "a\n{\"level\":\"ERROR\"}\r\x1b[31m\u2028\x00\xff"
	log.InfoContext(ctx, hostile, hostile, hostile)
	log.With("a", 1).InfoContext(ctx, "with")
	log.WithGroup("g").With("b", 2).InfoContext(ctx, "group", "c", 3)
	log.Info("outside")
	log.DebugContext(ctx, "below the level")
	flush()

	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) != 4 {
		t.Fatalf("%d lines, want 4: %q", len(lines), lines)
	}
	for i, line := range lines {
		var v map[string]any
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Errorf("%q: %v", line, err)
		}
		if strings.Contains(line, `"requestId":"req_1"`) != (i < 3) {
			t.Errorf("the request id of line %d: %s", i, line)
		}
		if v["level"] != "INFO" {
			t.Errorf("the level of line %d: %v", i, v["level"])
		}
	}
}

// A nil *Metrics counts nothing.
func TestNoMetrics(t *testing.T) {
	var none *telemetry.Metrics
	none.Request("/x", 200, 0)
	none.Decision("admitted", "memory")
	none.Switched("redis")
	none.Tokens("openai", "input", 1)
}

// Lines that go to a file wait for company, a warning and the end do not.
func TestLinesToAFile(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "log")
	if err != nil {
		t.Fatal(err)
	}
	lines := func() int {
		b, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Count(b, []byte("\n"))
	}
	log, flush := telemetry.NewLogger(f, slog.LevelInfo, idOf)
	log.Info("one")
	log.Warn("two")
	if n := lines(); n != 2 {
		t.Errorf("%d lines after a warning, want 2", n)
	}
	log.Info("three")
	for end := time.Now().Add(10 * time.Second); lines() != 3; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a line was not written by itself")
		}
	}
	log.Info("four")
	flush()
	log.Info("five")
	if n := lines(); n != 5 {
		t.Errorf("%d lines after the end, want 5", n)
	}
}
