package vault

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
)

// TestVersion asks the provider whether one version of a credential works, staged,
// active or in grace, and keeps the result with it. It needs credential:test.
// Errors: [ErrNotFound], [ErrNoVersion], [ErrVersionGone], [ErrNoService].
func (v *Vault) TestVersion(ctx context.Context, caller access.Caller, id string, number int64) (TestResult, error) {
	if err := access.Allow(caller, access.CredentialTest, caller.Organization); err != nil {
		return TestResult{}, err
	}
	key := rowKey{caller.Organization, id}
	cur, err := v.readCurrent(ctx, key)
	if err != nil {
		return TestResult{}, public(err)
	}
	if number == cur.Version {
		return v.TestStored(ctx, caller, id)
	}
	version, err := cur.version(number)
	if err != nil {
		return TestResult{}, err
	}
	sealed, err := v.readSealed(ctx, key, number)
	if err != nil {
		return TestResult{}, public(err)
	}
	c := cur.Credential
	c.Version, c.Fields = version.Number, version.Fields
	return v.testSealed(ctx, caller, key, c, sealed, map[string]any{"state": string(version.State)}, func(ctx context.Context, result TestResult, event audit.Event) error {
		err := v.keepTest(ctx, caller, key, number, result, event)
		if errors.Is(err, errBecameActive) {
			if c, _, err = v.read(ctx, key); err == nil {
				err = v.recordTest(ctx, caller, key, c, result)
			}
		}
		return err
	})
}

// readSealed gives the sealed fields of a version; [ErrVersionGone] where it has
// been destroyed.
func (v *Vault) readSealed(ctx context.Context, key rowKey, number int64) (seal.Sealed, error) {
	var sealed []byte
	var found bool
	err := v.db.View(ctx, key.organization, func(tx *store.Tx) error {
		found = false
		return tx.Each(ctx, func(scan func(...any) error) error {
			found = true
			return scan(&sealed)
		}, `SELECT fields_sealed FROM credential_versions WHERE organization = $1 AND credential_id = $2 AND version = $3`, key.organization, key.id, number)
	})
	if err == nil && !found {
		err = ErrVersionGone
	}
	return seal.Sealed(sealed), err
}

// errBecameActive says that a version was staged or in grace when it was read,
// and is the active one now.
var errBecameActive = errors.New("the version became the active one")

// keepTest stores the result of a test with its version, in one transaction with
// its event. Where the version has become the active one meanwhile it stores
// nothing and gives errBecameActive: the test is the credential's then.
func (v *Vault) keepTest(ctx context.Context, caller access.Caller, key rowKey, number int64, result TestResult, event audit.Event) error {
	stored, err := json.Marshal(result)
	if err != nil {
		return err
	}
	return v.db.Update(ctx, key.organization, func(tx *store.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE credential_version_history SET last_test = $1
			WHERE organization = $2 AND credential_id = $3 AND version = $4`, string(stored), key.organization, key.id, number)
		if err != nil {
			return err
		}
		var active int64
		err = tx.Row(ctx, `SELECT version FROM credentials WHERE organization = $1 AND id = $2`, key.organization, key.id).Scan(&active)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if active == number {
			return errBecameActive
		}
		return v.log.Append(ctx, tx, caller, event)
	})
}
