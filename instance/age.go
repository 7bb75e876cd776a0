package instance

import (
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/internal/netguard"
	"github.com/gatehouse-io/gatehouse/vault"
	"github.com/gatehouse-io/gatehouse/webhook"
)

// Age is a duration that may be given in days, such as 90d, or as Go writes
// durations, such as 36h. 0 switches off what it is the age of.
type Age time.Duration

// maxAge keeps ages away from the ends of time.
const maxAge = 100 * 365 * 24 * time.Hour

var errAge = errors.New("must be days, such as 90d, or a duration, such as 36h; 0 switches it off")

// UnmarshalText implements [encoding.TextUnmarshaler].
func (a *Age) UnmarshalText(text []byte) error {
	var d time.Duration
	if days, ok := strings.CutSuffix(string(text), "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return errAge
		}
		d = time.Duration(n) * 24 * time.Hour
	} else {
		var err error
		if d, err = time.ParseDuration(string(text)); err != nil {
			return errAge
		}
	}
	if d < 0 || d > maxAge {
		return errAge
	}
	*a = Age(d)
	return nil
}

// String gives the age as it can be set.
func (a Age) String() string { return vault.Days(time.Duration(a)) }

// checkOptions gives the vault's checker its settings.
func (c *Config) checkOptions() vault.CheckOptions {
	o := vault.CheckOptions{
		TestEvery: time.Duration(c.CredentialTestEvery), UnusedAfter: time.Duration(c.CredentialUnusedAfter),
		RotateAfter: time.Duration(c.CredentialRotateAfter),
	}
	for _, w := range c.ExpiryWarnings {
		if w > 0 { // EXPIRY_WARNINGS=0 switches them off
			o.Warnings = append(o.Warnings, time.Duration(w))
		}
	}
	slices.Sort(o.Warnings)
	o.Warnings = slices.Compact(o.Warnings)
	return o
}

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

func (c *Config) checkHealth() error {
	var mistakes []error
	if c.CredentialTestEvery != 0 && c.CredentialTestEvery < Age(time.Second) {
		mistakes = append(mistakes, errors.New("CREDENTIAL_TEST_EVERY must be at least 1s, or 0 for never"))
	}
	if len(c.ExpiryWarnings) > 10 {
		mistakes = append(mistakes, errors.New("EXPIRY_WARNINGS must be at most 10 times, such as 30d,7d,1d"))
	}
	if _, err := netguard.NewClient(netguard.Options{AllowedOrigins: c.webhookOrigins()}); err != nil {
		mistakes = append(mistakes, errors.New("WEBHOOK_HOSTS must be origins separated by commas, such as https://hooks.internal:8443"))
	}
	return errors.Join(mistakes...)
}
