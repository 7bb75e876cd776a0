package telemetry

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics counts what an instance does, for Prometheus. No label holds an
// organization, an address or anything else without a bound. The zero value
// and a nil *Metrics count nothing.
type Metrics struct {
	registry  *prometheus.Registry
	requests  *prometheus.CounterVec
	durations *prometheus.HistogramVec
	decisions *prometheus.CounterVec
	switches  *prometheus.CounterVec
	observed  *prometheus.CounterVec
	fallbacks *prometheus.CounterVec
	health    health
	upstream  upstream
	tokens    *prometheus.CounterVec
	visits    *visits
	removed   *prometheus.CounterVec
}

// NewMetrics gives counters at zero, with those of the Go runtime and the process.
func NewMetrics() *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_requests_total", Help: "Requests answered, by route template and status class."}, []string{"route", "class"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "gatehouse_request_seconds", Help: "Time to answer, by route template; streams until their end.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 9)}, []string{"route"}),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_limit_decisions_total", Help: "Decisions on chat and proxy requests, by outcome and the store that made them."}, []string{"outcome", "store"}),
		switches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_limit_switches_total", Help: "How often decisions went over to a store."}, []string{"to"}),
		observed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_limit_observed_total", Help: "Requests that a policy in the mode observe would have refused, by its effect."}, []string{"effect"}),
		fallbacks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_credential_fallbacks_total", Help: "Requests that a credential's version in grace served because the provider refused the active one, by service."}, []string{"service"}),
		tokens: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_usage_tokens_total", Help: "Tokens that providers said, by service; cache_read and cache_write are parts of input, reasoning of output."}, []string{"service", "kind"}),
	}
	m.health, m.removed = newHealth(m.registry), newRemoved(m.registry)
	m.upstream = newUpstream(m.registry)
	m.visits = newVisits(m.registry)
	m.registry.MustRegister(m.requests, m.durations, m.decisions, m.switches, m.observed, m.fallbacks, m.tokens,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Gauge adds a value that is asked for at each scrape.
func (m *Metrics) Gauge(name, help string, value func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
}

// Request counts one answered request. route is a template.
func (m *Metrics) Request(route string, status int, took time.Duration) {
	if m == nil {
		return
	}
	m.requests.WithLabelValues(route, strconv.Itoa(status/100)+"xx").Inc()
	m.durations.WithLabelValues(route).Observe(took.Seconds())
}

// Decision counts one decision on a request: admitted or denied by a store,
// exempt or blocked by none.
func (m *Metrics) Decision(outcome, store string) {
	if m == nil {
		return
	}
	if store == "" {
		store = "none"
	}
	m.decisions.WithLabelValues(outcome, store).Inc()
}

// Observed counts one request that an observed policy would have refused.
func (m *Metrics) Observed(effect string) {
	if m == nil {
		return
	}
	m.observed.WithLabelValues(effect).Inc()
}

// Tokens counts tokens of one kind. service is a name of the catalogue's.
func (m *Metrics) Tokens(service, kind string, n int64) {
	if m == nil || n <= 0 {
		return
	}
	m.tokens.WithLabelValues(service, kind).Add(float64(n))
}

// Switched counts that the limiter went over to a store.
func (m *Metrics) Switched(to string) {
	if m == nil {
		return
	}
	m.switches.WithLabelValues(to).Inc()
}

// Fallback counts one request that a credential's version in grace served
// because the provider refused the active one. service is of the catalogue.
func (m *Metrics) Fallback(service string) {
	if m == nil {
		return
	}
	m.fallbacks.WithLabelValues(service).Inc()
}

// Handler serves the counters in Prometheus's format.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}
