package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// LimitMetrics counts what a limiter decides, for Prometheus. No label holds what
// is limited: types of subjects that are not among those named to
// [Metrics.NewLimitMetrics] are "other".
type LimitMetrics struct {
	subjects map[string]map[string]prometheus.Counter // by type and outcome
	seconds  *prometheus.HistogramVec
	failures prometheus.Counter
}

// The outcomes of a decision for one of its subjects.
const (
	LimitAdmitted = "admitted" // and counted
	LimitDenied   = "denied"   // the subject was full
	LimitSpared   = "spared"   // another subject was full: nothing was counted
)

const otherType = "other"

// NewLimitMetrics adds a limiter's counters, for subjects of some types.
func (m *Metrics) NewLimitMetrics(types ...string) *LimitMetrics {
	subjects := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gatehouse_limit_subjects_total", Help: "Subjects of decisions, by their type and what the decision was for them."}, []string{"type", "outcome"})
	l := &LimitMetrics{
		subjects: map[string]map[string]prometheus.Counter{},
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "gatehouse_limit_decision_seconds", Help: "Time that a decision took, by the store that made it.",
			Buckets: []float64{1e-6, 5e-6, 25e-6, 1e-4, 25e-5, 5e-4, 1e-3, 25e-4, 5e-3, 1e-2, 25e-3, 5e-2, 1e-1, 1}}, []string{"store"}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gatehouse_limit_errors_total", Help: "Requests on which no decision could be made."}),
	}
	for _, kind := range append(types, otherType) {
		l.subjects[kind] = map[string]prometheus.Counter{}
		for _, outcome := range []string{LimitAdmitted, LimitDenied, LimitSpared} {
			l.subjects[kind][outcome] = subjects.WithLabelValues(kind, outcome)
		}
	}
	m.registry.MustRegister(subjects, l.seconds, l.failures)
	return l
}

// Decided counts one decision of a store and the time that it took.
func (l *LimitMetrics) Decided(store string, took time.Duration) {
	l.seconds.WithLabelValues(store).Observe(took.Seconds())
}

// Subject counts one subject of a decision by its outcome, one of those above.
func (l *LimitMetrics) Subject(kind, outcome string) {
	outcomes, ok := l.subjects[kind]
	if !ok {
		outcomes = l.subjects[otherType]
	}
	outcomes[outcome].Inc()
}

// Failed counts one request on which no decision could be made.
func (l *LimitMetrics) Failed() { l.failures.Inc() }

// Counter adds a count that is asked for at each scrape and never falls.
func (m *Metrics) Counter(name, help string, value func() float64) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, value))
}
