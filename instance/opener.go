package instance

import (
	"context"
	"errors"
	"net/url"
	"strings"

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
func (o opener) OpenForUse(ctx context.Context, caller access.Caller, service *catalog.Service, name string) (gateway.Credential, error) {
	active, err := o.vault.OpenForUse(ctx, caller, service, name)
	if decoded := decodedName(name); decoded != "" && errors.Is(err, vault.ErrNoneNamed) {
		active, err = o.vault.OpenForUse(ctx, caller, service, decoded)
	}
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

// decodedName gives the name that another may be the percent-encoded UTF-8 of, "" for none.
// Many clients send a header in Latin-1, and some nothing beyond it. A credential that has the
// name as it came is meant by it.
func decodedName(name string) string {
	if !strings.Contains(name, "%") {
		return ""
	}
	decoded, err := url.PathUnescape(name)
	if err != nil {
		return ""
	}
	return decoded // the vault refuses what is no UTF-8
}
