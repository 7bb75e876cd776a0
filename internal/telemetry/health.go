package telemetry

import "github.com/prometheus/client_golang/prometheus"

// health counts what looks after stored credentials.
type health struct {
	tests    *prometheus.CounterVec
	findings *prometheus.CounterVec
	attempts *prometheus.CounterVec
}

func newHealth(registry *prometheus.Registry) health {
	h := health{
		tests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_credential_tests_total", Help: "Tests of stored credentials on the schedule, by result."}, []string{"result"}),
		findings: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_credential_findings_total", Help: "New findings about stored credentials, by kind."}, []string{"kind"}),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_webhook_attempts_total", Help: "Attempts to deliver to webhooks, by outcome: delivered, retried or failed for good."}, []string{"outcome"}),
	}
	registry.MustRegister(h.tests, h.findings, h.attempts)
	return h
}

// CredentialTested counts one test on the schedule.
func (m *Metrics) CredentialTested(result string) {
	if m == nil {
		return
	}
	m.health.tests.WithLabelValues(result).Inc()
}

// CredentialFound counts one new finding.
func (m *Metrics) CredentialFound(kind string) {
	if m == nil {
		return
	}
	m.health.findings.WithLabelValues(kind).Inc()
}

// WebhookAttempted counts one attempt to deliver.
func (m *Metrics) WebhookAttempted(outcome string) {
	if m == nil {
		return
	}
	m.health.attempts.WithLabelValues(outcome).Inc()
}
