package vault

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"

	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/internal/recheck"
	"github.com/gatehouse-io/gatehouse/masterkey"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
)

// material is what an organization's seals hang on.
type material struct {
	salt        seal.OrganizationSalt
	fingerprint seal.Secret
}

// organizationKeys gives the organization's salt and fingerprint key, and makes
// them when they are asked for the first time. Those of a deleted organization
// are gone for good: [store.ErrNotFound].
func (v *Vault) organizationKeys(ctx context.Context, organization string) (material, error) {
	m, err := v.readOrganizationKeys(ctx, organization)
	if !errors.Is(err, store.ErrNotFound) {
		return m, err
	}
	salt := seal.NewOrganizationSalt()
	key := make([]byte, 32)
	rand.Read(key) // never fails (crypto/rand)
	sealed, err := v.ring.Seal(ctx, v.fingerprintContext(organization), salt, key)
	if err != nil {
		return material{}, err
	}
	err = v.db.Update(ctx, organization, func(tx *store.Tx) error {
		var id string
		if err := tx.Row(ctx, `SELECT id FROM organizations WHERE id = $1 AND deleted_at IS NULL`, organization).Scan(&id); err != nil {
			return err
		}
		// Another instance may have been first; its row is the one that counts.
		_, err := tx.Exec(ctx, `INSERT INTO organization_keys (organization, salt, fingerprint_key_sealed, created_at)
			VALUES ($1, $2, $3, $4) ON CONFLICT (organization) DO NOTHING`, organization, salt, sealed, store.At(v.opts.Now()))
		if err != nil {
			return err
		}
		return masterkey.Admit(ctx, tx, organization, sealed)
	})
	if err != nil {
		return material{}, err
	}
	return v.readOrganizationKeys(ctx, organization)
}

func (v *Vault) readOrganizationKeys(ctx context.Context, organization string) (material, error) {
	var m material
	var sealed seal.Sealed
	err := v.db.View(ctx, organization, func(tx *store.Tx) error {
		return tx.Row(ctx, `SELECT salt, fingerprint_key_sealed FROM organization_keys WHERE organization = $1`, organization).
			Scan(&m.salt, &sealed)
	})
	if err != nil {
		return material{}, err
	}
	m.fingerprint, err = v.ring.Open(ctx, v.fingerprintContext(organization), m.salt, sealed)
	var unknown seal.UnknownKeyError
	if errors.As(err, &unknown) {
		return v.replaceFingerprintKey(ctx, organization, m.salt, sealed, err)
	}
	return m, err
}

// replaceFingerprintKey makes the organization a new fingerprint key where the one
// that it has was given up with a lost master key, so that what else it has opens
// and it can store credentials again; their fingerprints are others than before.
// Otherwise it gives notOpened.
func (v *Vault) replaceFingerprintKey(ctx context.Context, organization string, salt seal.OrganizationSalt, lost seal.Sealed, notOpened error) (material, error) {
	var givenUp bool
	err := v.db.View(ctx, organization, func(tx *store.Tx) (err error) {
		givenUp, err = masterkey.GivenUp(ctx, tx, lost)
		return err
	})
	if err != nil || !givenUp {
		return material{}, cmp.Or(err, notOpened)
	}
	key := make([]byte, 32)
	rand.Read(key) // never fails (crypto/rand)
	sealed, err := v.ring.Seal(ctx, v.fingerprintContext(organization), salt, key)
	if err != nil {
		return material{}, err
	}
	raced := false
	err = v.db.Update(ctx, organization, func(tx *store.Tx) error {
		changed, err := tx.Exec(ctx, `UPDATE organization_keys SET fingerprint_key_sealed = $1 WHERE organization = $2 AND fingerprint_key_sealed = $3`,
			sealed, organization, lost)
		if raced = changed == 0; err != nil || raced {
			return err
		}
		return masterkey.Admit(ctx, tx, organization, sealed)
	})
	if err != nil {
		return material{}, err
	}
	if raced { // another has just made one, or the organization was deleted
		return v.readOrganizationKeys(ctx, organization)
	}
	v.opts.Logger.WarnContext(ctx, "an organization's fingerprint key was lost with its master key; a new one was made", "organization", organization)
	return material{salt, seal.NewSecret(key)}, nil
}

func (v *Vault) fingerprintContext(organization string) seal.Context {
	return fingerprintContext(v.opts.Environment, organization)
}

func (v *Vault) credentialContext(organization, id string, version int64, fields []string) seal.Context {
	return credentialContext(v.opts.Environment, organization, id, version, fields)
}

func fingerprintContext(environment, organization string) seal.Context {
	return seal.Context{Environment: environment, Organization: organization, Kind: "fingerprint-key", ID: organization, Version: 1}
}

func credentialContext(environment, organization, id string, version int64, fields []string) seal.Context {
	return seal.Context{Environment: environment, Organization: organization, Kind: "credential", ID: id, Version: version, Fields: fields}
}

// SealedColumns gives every column that holds what this package seals.
func SealedColumns() []masterkey.Column {
	return []masterkey.Column{
		{
			Table: "organization_keys", Name: "fingerprint_key_sealed", Key: []string{"organization"},
			Context: func(environment string, r masterkey.Row) seal.Context {
				return fingerprintContext(environment, r.Text("organization"))
			},
		},
		{
			Table: "credential_versions", Name: "fields_sealed", Key: []string{"organization", "credential_id", "version"}, With: []string{"fields"},
			Context: func(environment string, r masterkey.Row) seal.Context {
				var fields []string
				if json.Unmarshal([]byte(r.Text("fields")), &fields) != nil {
					fields = nil // then the seal does not open
				}
				return credentialContext(environment, r.Text("organization"), r.Text("credential_id"), r.Int("version"), fields)
			},
		},
		{ // sealed here, for package webhook
			Table: "webhook_secrets", Name: "secret_sealed", Key: []string{"organization", "webhook_id", "version"},
			Context: func(environment string, r masterkey.Row) seal.Context {
				return webhookSecretContext(environment, r.Text("organization"), r.Text("webhook_id"), r.Int("version"))
			},
		},
		signingKeyColumn(), // sealed here, for package ledger
	}
}

// Destroy deletes what is kept of an organization's credentials beside their
// sealed versions, and gives how many rows that were. It is part of the deletion
// of the organization.
func Destroy(ctx context.Context, tx *store.Tx, organization string) (rows int64, err error) {
	return tx.Exec(ctx, `DELETE FROM credentials WHERE organization = $1`, organization)
}

// Forget drops from memory what was opened of an organization, and its keys.
func (v *Vault) Forget(organization string) {
	for _, kept := range []*recheck.Cache[useKey, *opened]{v.opened, v.encoded} {
		kept.ForgetWhere(func(key useKey) bool { return key.organization == organization })
	}
	v.previous.ForgetWhere(func(key versionKey) bool { return key.organization == organization })
	v.ring.Forget(organization)
}

// fingerprintOf names the secret values of a credential without giving them
// away: HMAC-SHA256 under the organization's own key, cut to 128 bits.
func (m material) fingerprintOf(service *catalog.Service, fields map[string]string) string {
	h := hmac.New(sha256.New, m.fingerprint.ExposeSecretBytes())
	write := func(s string) {
		_ = binary.Write(h, binary.BigEndian, uint32(len(s))) // a hash takes every write
		h.Write([]byte(s))
	}
	write(service.Name)
	for _, f := range service.Fields { // in the catalogue's order
		if value, ok := fields[f.Name]; ok && f.Secret {
			write(f.Name)
			write(value)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}
