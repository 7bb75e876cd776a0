package instance

import (
	"context"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/gateway"
	"github.com/gatehouse-io/gatehouse/internal/telemetry"
	"github.com/gatehouse-io/gatehouse/vault"
)

// opener lets the gateway open credentials without knowing the vault.
type opener struct {
	vault   *vault.Vault
	metrics *telemetry.Metrics
}

// OpenForUse implements [gateway.Opener].
func (o opener) OpenForUse(ctx context.Context, caller access.Caller, service *catalog.Service, name string, asSent bool) (gateway.Credential, error) {
	open := o.vault.OpenForUse
	if asSent {
		open = o.vault.OpenAsSent
	}
	active, err := open(ctx, caller, service, name)
	if err != nil {
		return gateway.Credential{}, err
	}
	c := credentialOf(active)
	if active.Previous == 0 {
		return c, nil
	}
	var used vault.Opened
	c.Previous = func(ctx context.Context) (gateway.Credential, error) {
		var err error
		used, err = o.vault.OpenPrevious(ctx, caller, service, active)
		return credentialOf(used), err
	}
	c.Fallback = func(ctx context.Context) {
		o.metrics.Fallback(service.Name)
		o.vault.NoteFallback(ctx, caller, service, active, used)
	}
	return c, nil
}

func credentialOf(o vault.Opened) gateway.Credential {
	return gateway.Credential{
		ID: o.ID, Name: o.Name, Version: o.Version, Scope: o.Scope, Failover: o.Failover, Injection: o.Injection, Open: o.Open,
	}
}
