package vault

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
)

// rowKey names a credential for the database: never an id alone.
type rowKey struct{ organization, id string }

// columns of a credential with its active version, as scanCredential reads them.
const columns = `c.id, c.service, c.name, c.version, c.revision, c.disabled, c.expires_at, c.last_used_at, c.last_test,
	c.fallback_at, c.scope, c.failover, c.created_at, c.created_by, c.updated_at, v.fields, v.hints, v.fingerprint`

const joinVersion = `JOIN credential_versions v
	ON v.organization = c.organization AND v.credential_id = c.id AND v.version = c.version`

const fromCredentials = ` FROM credentials c ` + joinVersion + ` `

func scanCredential(scan func(...any) error, c *Credential, more ...any) error {
	var expires, used, fallback, created, updated store.Time
	var test, scope, failover *string
	var fields, hints string
	dest := append([]any{&c.ID, &c.Service, &c.Name, &c.Version, &c.Revision, &c.disabled, &expires, &used, &test,
		&fallback, &scope, &failover, &created, &c.CreatedBy, &updated, &fields, &hints, &c.Fingerprint}, more...)
	if err := scan(dest...); err != nil {
		return err
	}
	c.ExpiresAt, c.LastUsedAt, c.CreatedAt, c.UpdatedAt = expires.Time, used.Time, created.Time, updated.Time
	c.FallbackAt = fallback.Time
	c.Bounds = readBounds(scope, failover)
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
	return v.readWith(ctx, key, nil)
}

// readWith reads as read does, and more of the same state by more.
func (v *Vault) readWith(ctx context.Context, key rowKey, more func(*store.Tx, *Credential) error) (Credential, seal.Sealed, error) {
	if !store.IsID("cred", key.id) {
		return Credential{}, nil, store.ErrNotFound
	}
	var c Credential
	var sealed []byte
	err := v.db.View(ctx, key.organization, func(tx *store.Tx) error {
		c = Credential{}
		err := scanCredential(tx.Row(ctx, `SELECT `+columns+`, v.fields_sealed`+fromCredentials+
			`WHERE c.organization = $1 AND c.id = $2`, key.organization, key.id).Scan, &c, &sealed)
		if err != nil || more == nil {
			return err
		}
		return more(tx, &c)
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

// names gives the field names in the order that they are stored and sealed in.
func names(fields map[string]string) []string {
	all := make([]string, 0, len(fields))
	for name := range fields {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}
