package instance

import (
	"errors"
	"net/url"
	"strings"

	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/webhook"
)

// webhookOrigins reads WEBHOOK_HOSTS.
func (c *Config) webhookOrigins() []string {
	var origins []string
	for _, origin := range c.WebhookHosts {
		origins = append(origins, strings.TrimSuffix(strings.TrimSpace(origin), "/"))
	}
	return origins
}

// operatorSink reads AUDIT_SINK_URL and AUDIT_SINK_SECRET. Its errors hold neither.
func (c *Config) operatorSink() (webhook.OperatorSink, error) {
	if c.AuditSinkURL == "" && c.AuditSinkSecret == "" {
		return webhook.OperatorSink{}, nil
	}
	u, err := url.Parse(c.AuditSinkURL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.Fragment != "" {
		return webhook.OperatorSink{}, errors.New("AUDIT_SINK_URL must be a URL, such as https://siem.example.com/gatehouse")
	}
	secret, err := webhook.ParseSecret(c.AuditSinkSecret)
	if err != nil {
		return webhook.OperatorSink{}, fault.Mistakef("make one with `echo whsec_$(openssl rand -base64 32)`", "AUDIT_SINK_SECRET must be whsec_ and the base64 of 24 to 64 random bytes")
	}
	return webhook.OperatorSink{URL: c.AuditSinkURL, Secret: secret}, nil
}
