package telemetry_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/internal/telemetry"
)

// A type of subject that was not announced does not become a label: there is no end
// of what could stand there.
func TestLimitMetricsAreBounded(t *testing.T) {
	m := telemetry.NewMetrics()
	l := m.NewLimitMetrics("ip")
	l.Subject("ip", telemetry.LimitDenied)
	l.Subject("203.0.113.7", telemetry.LimitAdmitted)
	l.Decided("redis", 300*time.Microsecond)
	l.Failed()
	m.Counter("gatehouse_test_total", "A count.", func() float64 { return 7 })
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	text := w.Body.String()
	for _, want := range []string{
		`gatehouse_limit_subjects_total{outcome="denied",type="ip"} 1`,
		`gatehouse_limit_subjects_total{outcome="admitted",type="other"} 1`,
		`gatehouse_limit_decision_seconds_bucket{store="redis",le="0.0005"} 1`,
		`gatehouse_limit_decision_seconds_bucket{store="redis",le="0.00025"} 0`,
		"gatehouse_limit_errors_total 1", "gatehouse_test_total 7",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
	if strings.Contains(text, "203.0.113.7") {
		t.Error("a subject became a label")
	}
}
