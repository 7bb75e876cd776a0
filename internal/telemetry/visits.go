package telemetry

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// visits counts what becomes of requests on chat and proxy routes.
type visits struct {
	requests  *prometheus.CounterVec
	seconds   *prometheus.HistogramVec
	firstByte *prometheus.HistogramVec
	known     sync.Map // service to *visitSeries
}

// visitSeries are the series of one service, found once.
type visitSeries struct{ seconds, firstByte prometheus.Observer }

func newVisits(registry *prometheus.Registry) *visits {
	buckets := []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300}
	v := &visits{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_gateway_requests_total", Help: "Requests on chat and proxy routes that the limits let through, by service, outcome (success, failure, denied, partial) and reason; none for a success."},
			[]string{"service", "outcome", "reason"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "gatehouse_gateway_request_seconds", Help: "Time from a request's body to the end of its answer, by service; streams until their end.", Buckets: buckets}, []string{"service"}),
		firstByte: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "gatehouse_upstream_first_byte_seconds", Help: "Time from the first request to an upstream, repeats included, to the header of its answer, by service.", Buckets: buckets}, []string{"service"}),
	}
	registry.MustRegister(v.requests, v.seconds, v.firstByte)
	return v
}

// Visit counts one request that a service, or Gatehouse in its place, answered.
// service is of the catalogue, app or unknown; outcome and reason are stable words
// of the program's own. firstByte is 0 where no answer of an upstream began.
func (m *Metrics) Visit(service, outcome, reason string, took, firstByte time.Duration) {
	if m == nil {
		return
	}
	if reason == "" {
		reason = "none"
	}
	m.visits.requests.WithLabelValues(service, outcome, reason).Inc()
	found, ok := m.visits.known.Load(service)
	if !ok {
		found, _ = m.visits.known.LoadOrStore(service, &visitSeries{m.visits.seconds.WithLabelValues(service), m.visits.firstByte.WithLabelValues(service)})
	}
	series := found.(*visitSeries)
	series.seconds.Observe(took.Seconds())
	if firstByte > 0 {
		series.firstByte.Observe(firstByte.Seconds())
	}
}
