package vault

import (
	"context"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/masterkey"
	"github.com/gatehouse-io/gatehouse/seal"
)

// SigningKeys seals and opens the keys that sign the trail's logs, for package
// ledger. They belong to the instance: [access.InstanceOrganization].
type SigningKeys struct{ v *Vault }

// SigningKeys gives what seals and opens signing keys.
func (v *Vault) SigningKeys() SigningKeys { return SigningKeys{v} }

// Seal seals the signing key with this id. The instance's salt is made where there
// is none yet.
func (k SigningKeys) Seal(ctx context.Context, id string, key []byte) (seal.Sealed, error) {
	m, err := k.v.organizationKeys(ctx, access.InstanceOrganization)
	if err != nil {
		return nil, err
	}
	return k.v.ring.Seal(ctx, signingKeyContext(k.v.opts.Environment, id), m.salt, key)
}

// Open opens what [SigningKeys.Seal] gave for this id.
func (k SigningKeys) Open(ctx context.Context, id string, sealed seal.Sealed) (seal.Secret, error) {
	m, err := k.v.readOrganizationKeys(ctx, access.InstanceOrganization)
	if err != nil {
		return seal.Secret{}, err
	}
	return k.v.ring.Open(ctx, signingKeyContext(k.v.opts.Environment, id), m.salt, sealed)
}

func signingKeyContext(environment, id string) seal.Context {
	return seal.Context{Environment: environment, Organization: access.InstanceOrganization, Kind: "signing-key", ID: id, Version: 1}
}

// signingKeyColumn is the column that holds them.
func signingKeyColumn() masterkey.Column {
	return masterkey.Column{
		Table: "ledger_keys", Name: "key_sealed", Key: []string{"organization", "id"},
		Context: func(environment string, r masterkey.Row) seal.Context {
			return signingKeyContext(environment, r.Text("id"))
		},
	}
}
