package telemetry

import "github.com/prometheus/client_golang/prometheus"

func newRemoved(registry *prometheus.Registry) *prometheus.CounterVec {
	removed := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gatehouse_retention_removed_total", Help: "Rows that this instance removed because they were past their time, by class of data."}, []string{"class"})
	registry.MustRegister(removed)
	return removed
}

// Removed counts rows that retention removed. class is of package retention.
func (m *Metrics) Removed(class string, rows int64) {
	if m == nil {
		return
	}
	m.removed.WithLabelValues(class).Add(float64(rows))
}
