package instance

import (
	"errors"
	"fmt"
	"strings"

	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/gateway"
	"github.com/gatehouse-io/gatehouse/internal/telemetry"
)

// checkUpstream gives the mistakes in how requests go out. services is nil where
// the catalogue has mistakes of its own.
func (c *Config) checkUpstream(services *catalog.Catalog) error {
	var mistakes []error
	if c.UpstreamRetries < 0 || c.UpstreamRetries > 5 {
		mistakes = append(mistakes, errors.New("UPSTREAM_RETRIES must be from 0 to 5"))
	}
	if c.BreakerFailures < 0 || c.BreakerFailures > 1_000_000 {
		mistakes = append(mistakes, errors.New("UPSTREAM_BREAKER_FAILURES must be from 0 to 1000000"))
	}
	mistakes = append(mistakes, checkServices("UPSTREAM_FORWARD_CLIENT_IP", trimmed(c.ForwardClientIPs), services)...)
	return errors.Join(mistakes...)
}

// forwardHeaders reads UPSTREAM_FORWARD_HEADERS by service. Every mistake is in
// the error.
func (c *Config) forwardHeaders() (map[string][]string, error) {
	headers := make(map[string][]string)
	var mistakes []error
	for i, entry := range c.ForwardHeaders {
		if entry = strings.TrimSpace(entry); entry == "" {
			continue
		}
		service, header, ok := strings.Cut(entry, "=")
		if !ok {
			mistakes = append(mistakes, fmt.Errorf("UPSTREAM_FORWARD_HEADERS: entry %d must be service=Header, such as stripe=X-Trace-Id", i+1))
			continue
		}
		service = strings.TrimSpace(service)
		headers[service] = append(headers[service], strings.TrimSpace(header))
	}
	return headers, errors.Join(mistakes...)
}

// observer counts what happens to requests on their way out.
func observer(m *telemetry.Metrics) gateway.Observer {
	return gateway.Observer{Retried: m.Retried, FailedOver: m.FailedOver, Scrubbed: m.Scrubbed, BreakerTurned: m.BreakerTurned}
}
