package vault

import (
	"context"

	"github.com/gatehouse-io/gatehouse/seal"
)

// WebhookSecrets seals the signing secrets of webhooks under their
// organization's keys, for package webhook. What it seals stands in
// webhook_secrets.secret_sealed and is bound to organization, webhook and
// version.
type WebhookSecrets struct{ vault *Vault }

// WebhookSecrets gives the sealer for signing secrets of webhooks.
func (v *Vault) WebhookSecrets() WebhookSecrets { return WebhookSecrets{v} }

// Seal seals version n of the secret of a webhook. Errors: those of sealing a
// credential.
func (s WebhookSecrets) Seal(ctx context.Context, organization, id string, version int64, secret seal.Secret) (seal.Sealed, error) {
	m, err := s.vault.organizationKeys(ctx, organization)
	if err != nil {
		return nil, public(err)
	}
	sealed, err := s.vault.ring.Seal(ctx, webhookSecretContext(s.vault.opts.Environment, organization, id, version), m.salt, secret.ExposeSecretBytes())
	return sealed, public(err)
}

// Open opens version n of the secret of a webhook.
func (s WebhookSecrets) Open(ctx context.Context, organization, id string, version int64, sealed seal.Sealed) (seal.Secret, error) {
	m, err := s.vault.readOrganizationKeys(ctx, organization)
	if err != nil {
		return seal.Secret{}, public(err)
	}
	secret, err := s.vault.ring.Open(ctx, webhookSecretContext(s.vault.opts.Environment, organization, id, version), m.salt, sealed)
	return secret, public(err)
}

// webhookSecretContext is what webhook_secrets.secret_sealed is bound to.
func webhookSecretContext(environment, organization, webhookID string, version int64) seal.Context {
	return seal.Context{Environment: environment, Organization: organization, Kind: "webhook-secret", ID: webhookID, Version: version}
}
