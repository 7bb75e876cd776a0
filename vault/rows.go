package vault

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/gatehouse-io/gatehouse/masterkey"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
)

// rowKey names a credential for the database: never an id alone.
type rowKey struct{ organization, id string }

// columns of a credential with its active version, as scanCredential reads them.
const columns = `c.id, c.service, c.name, c.version, c.revision, c.disabled, c.expires_at, c.last_used_at, c.last_test,
	c.created_at, c.created_by, c.updated_at, v.fields, v.hints, v.fingerprint`

const fromCredentials = ` FROM credentials c JOIN credential_versions v
	ON v.organization = c.organization AND v.credential_id = c.id AND v.version = c.version `

func scanCredential(scan func(...any) error, c *Credential, more ...any) error {
	var expires, used, created, updated store.Time
	var test *string
	var fields, hints string
	dest := append([]any{&c.ID, &c.Service, &c.Name, &c.Version, &c.Revision, &c.disabled, &expires, &used, &test,
		&created, &c.CreatedBy, &updated, &fields, &hints, &c.Fingerprint}, more...)
	if err := scan(dest...); err != nil {
		return err
	}
	c.ExpiresAt, c.LastUsedAt, c.CreatedAt, c.UpdatedAt = expires.Time, used.Time, created.Time, updated.Time
	if test != nil {
		c.LastTest = json.RawMessage(*test)
	}
	// Neither column is bound by itself. One that was altered must not hide the
	// credential: without its field names the seal does not open.
	if json.Unmarshal([]byte(fields), &c.Fields) != nil {
		c.Fields = nil
	}
	if json.Unmarshal([]byte(hints), &c.Hints) != nil {
		c.Hints = nil
	}
	return nil
}

// read gives one credential and its sealed fields; [store.ErrNotFound] for an
// id that is malformed, unknown or another organization's.
func (v *Vault) read(ctx context.Context, key rowKey) (Credential, seal.Sealed, error) {
	if !store.IsID("cred", key.id) {
		return Credential{}, nil, store.ErrNotFound
	}
	var c Credential
	var sealed []byte
	err := v.db.View(ctx, key.organization, func(tx *store.Tx) error {
		return scanCredential(tx.Row(ctx, `SELECT `+columns+`, v.fields_sealed`+fromCredentials+
			`WHERE c.organization = $1 AND c.id = $2`, key.organization, key.id).Scan, &c, &sealed)
	})
	if err != nil {
		return Credential{}, nil, err
	}
	c.Status = c.statusAt(v.opts.Now())
	return c, seal.Sealed(sealed), nil
}

// sealedVersion is a version that is ready to be written.
type sealedVersion struct {
	fields, hints, fingerprint string
	sealed                     seal.Sealed
}

// insertVersion writes version number n of the credential.
func insertVersion(ctx context.Context, tx *store.Tx, key rowKey, n int64, s sealedVersion, at store.Time, by string) error {
	_, err := tx.Exec(ctx, `INSERT INTO credential_versions
		(organization, credential_id, version, fields, hints, fingerprint, fields_sealed, created_at, created_by)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		key.organization, key.id, n, s.fields, s.hints, s.fingerprint, s.sealed, at, by)
	if err != nil {
		return err
	}
	return masterkey.Admit(ctx, tx, key.organization, s.sealed)
}

// destroyVersions deletes every version of the credential but keep; the sealed
// bytes are gone with the rows.
func destroyVersions(ctx context.Context, tx *store.Tx, key rowKey, keep int64) error {
	_, err := tx.Exec(ctx, `DELETE FROM credential_versions WHERE organization = $1 AND credential_id = $2 AND version <> $3`,
		key.organization, key.id, keep)
	return err
}

// names gives the field names in the order that they are stored and sealed in.
func names(fields map[string]string) []string {
	all := make([]string, 0, len(fields))
	for name := range fields {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}
