package instance

import (
	"errors"
	"slices"
	"time"

	"github.com/gatehouse-io/gatehouse/internal/netguard"
	"github.com/gatehouse-io/gatehouse/vault"
)

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

// checkHealth gives the mistakes in what looks after credentials and tells of them.
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
