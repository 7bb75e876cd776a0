package vault

import (
	"context"
	"errors"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
)

// testImport asks the provider about fields and reports whether they may be
// stored.
func (v *Vault) testImport(ctx context.Context, caller access.Caller, service *catalog.Service, fields map[string]string, r *ServiceImport) bool {
	slot, err := v.log.Reserve()
	if err != nil {
		r.fail(err)
		return false
	}
	result := v.probe(ctx, caller, service, fields, true)
	slot.Record(ctx, caller, testEvent(result))
	r.Test = &result
	if result.Result == catalog.Invalid {
		r.Result = ImportRefused
		return false
	}
	return true
}

// keepImportTest stores the test of what was imported, with the expiry that the
// provider told. Its event is written already; where it cannot be kept, the
// next test of the credential is.
func (v *Vault) keepImportTest(ctx context.Context, caller access.Caller, c Credential, r *ServiceImport) {
	kept, expires := fillExpiry(c, *r.Test)
	if err := v.writeTest(ctx, caller, rowKey{caller.Organization, c.ID}, c, kept, expires, nil); err != nil {
		v.opts.Logger.WarnContext(ctx, "the test of an imported credential could not be kept", "service", c.Service, "error", err)
		return
	}
	v.forget(caller.Organization, c.Service, c.Name)
	c.ExpiresAt = expires
	r.Status = c.statusAt(v.opts.Now())
}

// verifyTimeout bounds reading back what was stored, undoing it where it is not what
// was meant, and keeping its test.
const verifyTimeout = 15 * time.Second

// verifyImport reads a credential back that was just made, and deletes it where
// it does not hold exactly fields.
func (v *Vault) verifyImport(ctx context.Context, caller access.Caller, made Credential, fields map[string]string) error {
	key := rowKey{caller.Organization, made.ID}
	c, sealed, err := v.read(ctx, key)
	if err == nil && c.Revision != made.Revision {
		return errChanged
	}
	if err == nil {
		var opened seal.Fields
		opened, err = v.open(ctx, caller, key, c, sealed)
		defer opened.Wipe()
		if err == nil && len(opened) == len(fields) && holds(opened, fields) {
			return nil
		}
	}
	undo := v.db.Update(ctx, key.organization, func(tx *store.Tx) error {
		tx.Destroys()
		gone, err := tx.Exec(ctx, `DELETE FROM credentials WHERE organization = $1 AND id = $2 AND revision = $3`,
			key.organization, key.id, made.Revision) // its version goes with it
		if err != nil || gone == 0 {
			return err
		}
		return v.log.Append(ctx, tx, caller, audit.Event{
			Action: audit.CredentialImport, Outcome: audit.Failure, Reason: "read_back_failed",
			Permission: access.CredentialCreate.String(),
			Targets:    []audit.Target{{Type: "credential", ID: key.id, Name: made.Name}},
			Metadata:   map[string]any{"service": made.Service, "version": made.Version, "fingerprint": made.Fingerprint},
		})
	})
	v.forget(key.organization, made.Service, made.Name)
	if undo != nil {
		return errNotUndone.Because(errors.Join(err, undo))
	}
	return errNotEqual.Because(err)
}
