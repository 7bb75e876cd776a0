package telemetry

import "github.com/prometheus/client_golang/prometheus"

// upstream counts what happens to requests on their way to a service.
type upstream struct {
	retries, failovers, scrubbed, breakers *prometheus.CounterVec
}

func newUpstream(r *prometheus.Registry) upstream {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		r.MustRegister(v)
		return v
	}
	return upstream{
		retries:   counter("gatehouse_upstream_retries_total", "Requests that were sent to a service once more, by service.", "service"),
		failovers: counter("gatehouse_credential_failovers_total", "Requests that another credential served because the provider answered 401, 402 or 429, by service.", "service"),
		scrubbed:  counter("gatehouse_credentials_cut_out_total", "Times that a service said the injected credential again in a header or an error, by service.", "service"),
		breakers:  counter("gatehouse_breaker_changes_total", "Turns of breakers, by the state that they turned to.", "to"),
	}
}

// Retried counts one request that was sent once more. service is of the catalogue.
func (m *Metrics) Retried(service string) {
	if m != nil {
		m.upstream.retries.WithLabelValues(service).Inc()
	}
}

// FailedOver counts one request that another credential served. service is of the
// catalogue.
func (m *Metrics) FailedOver(service string) {
	if m != nil {
		m.upstream.failovers.WithLabelValues(service).Inc()
	}
}

// Scrubbed counts n values that were cut out of an answer. service is of the
// catalogue.
func (m *Metrics) Scrubbed(service string, n int) {
	if m != nil {
		m.upstream.scrubbed.WithLabelValues(service).Add(float64(n))
	}
}

// BreakerTurned counts one turn of a breaker: to closed, half-open or open.
func (m *Metrics) BreakerTurned(to string) {
	if m != nil {
		m.upstream.breakers.WithLabelValues(to).Inc()
	}
}
