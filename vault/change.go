package vault

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
)

// Match says which state of a credential a change is meant for. The zero Match
// is any state.
type Match struct{ Revisions []int64 }

// Any reports whether m takes every state.
func (m Match) Any() bool { return m.Revisions == nil }

func (m Match) takes(revision int64) bool {
	if m.Any() {
		return true
	}
	for _, r := range m.Revisions {
		if r == revision {
			return true
		}
	}
	return false
}

// Change is what to change of a credential; nil fields stay as they are.
type Change struct {
	Name      *string
	Fields    map[string]*string // a field that is absent stays, nil removes it
	ExpiresAt *time.Time         // the zero time takes the expiry away
	Disabled  *bool

	renew bool // an expiry that has passed was that of the old values
}

func (ch Change) empty() bool {
	return ch.Name == nil && len(ch.Fields) == 0 && ch.ExpiresAt == nil && ch.Disabled == nil
}

// Update changes a credential. It needs credential:update. New values make a
// new version and destroy the old one. Errors: Invalid, [ErrNotFound],
// [ErrExists] for the new name, [ErrStale].
func (v *Vault) Update(ctx context.Context, caller access.Caller, id string, match Match, ch Change) (Credential, []catalog.Problem, error) {
	if err := access.Allow(caller, access.CredentialUpdate, caller.Organization); err != nil {
		return Credential{}, nil, err
	}
	return v.change(ctx, caller, id, match, ch, audit.CredentialUpdate, access.CredentialUpdate)
}

// Rotate puts new values in place of the old: the new version is active at
// once, the old one destroyed. It needs credential:rotate. A field that is
// absent stays, so that a token can be rotated without repeating the account
// it belongs to. An expiry that has passed is taken away.
func (v *Vault) Rotate(ctx context.Context, caller access.Caller, id string, match Match, fields map[string]string) (Credential, []catalog.Problem, error) {
	if err := access.Allow(caller, access.CredentialRotate, caller.Organization); err != nil {
		return Credential{}, nil, err
	}
	if len(fields) == 0 {
		return Credential{}, nil, fault.InvalidFields(fault.Field{Name: "credentials", Message: "must hold the new values"})
	}
	ch := Change{Fields: make(map[string]*string, len(fields)), renew: true}
	for name, value := range fields {
		ch.Fields[name] = &value
	}
	return v.change(ctx, caller, id, match, ch, audit.CredentialRotate, access.CredentialRotate)
}

// errRaced says that the credential changed between reading and writing.
var errRaced = errors.New("the credential was changed meanwhile")

// changeAttempts bounds how often a change that lost a race is worked out
// again over the newer state.
const changeAttempts = 64

// yield lets other changes of a credential end before the next attempt.
func yield(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(rand.N(20 * time.Millisecond)):
		return nil
	}
}

func (v *Vault) change(ctx context.Context, caller access.Caller, id string, match Match, ch Change, action audit.Action, p access.Permission) (Credential, []catalog.Problem, error) {
	key := rowKey{caller.Organization, id}
	for range changeAttempts {
		old, sealed, err := v.read(ctx, key)
		if err != nil {
			return Credential{}, nil, public(err)
		}
		if !match.takes(old.Revision) {
			return Credential{}, nil, ErrStale
		}
		if ch.empty() {
			return old, nil, nil // nothing changes, so nothing is told
		}
		next, version, warnings, err := v.apply(ctx, caller, key, old, sealed, ch)
		if err != nil {
			return Credential{}, nil, public(err)
		}
		err = v.write(ctx, caller, key, old, next, version, action, p)
		if errors.Is(err, errRaced) {
			if err := yield(ctx); err != nil {
				return Credential{}, nil, err
			}
			continue
		}
		if err != nil {
			return Credential{}, nil, public(err)
		}
		v.forget(key.organization, old.Service, old.Name)
		v.forget(key.organization, old.Service, next.Name)
		c, _, err := v.read(ctx, key)
		return c, warnings, public(err)
	}
	return Credential{}, nil, ErrStale
}

// apply works out the next state of old, and the version to write where the
// values change.
func (v *Vault) apply(ctx context.Context, caller access.Caller, key rowKey, old Credential, sealed seal.Sealed, ch Change) (next Credential, version *sealedVersion, warnings []catalog.Problem, err error) {
	next = old
	var wrong []fault.Field
	if ch.Name != nil {
		next.Name = *ch.Name
		wrong = append(wrong, checkName(next.Name)...)
	}
	if ch.ExpiresAt != nil {
		next.ExpiresAt = *ch.ExpiresAt
		wrong = append(wrong, checkExpiry(next.ExpiresAt, v.opts.Now())...)
	}
	if ch.Disabled != nil {
		next.disabled = *ch.Disabled
	}
	if ch.renew && old.Status == Expired {
		next.ExpiresAt = time.Time{}
	}
	if len(ch.Fields) == 0 {
		if len(wrong) > 0 {
			err = fault.InvalidFields(wrong...)
		}
		return next, nil, nil, err
	}
	service, known := v.services.Service(old.Service)
	if !known {
		return next, nil, nil, fault.InvalidFields(fault.Field{Name: "credentials", Message: "the service of this credential is not in the catalogue of this instance any more"})
	}
	// Also a name that is only taken away must be one of the service's.
	if problems := service.CheckNames(slices.Collect(maps.Keys(ch.Fields))); len(problems) > 0 {
		return next, nil, nil, fault.InvalidFields(append(wrong, asFields(problems)...)...)
	}
	merged, moved, err := v.merge(ctx, caller, key, old, sealed, service, ch.Fields)
	if err != nil {
		return next, nil, nil, err
	}
	if len(moved) > 0 {
		return next, nil, nil, fault.InvalidFields(append(wrong, moved...)...)
	}
	problems, warnings := service.Check(merged)
	if wrong = append(wrong, asFields(problems)...); len(wrong) > 0 {
		return next, nil, nil, fault.InvalidFields(wrong...)
	}
	next.Version++
	sv, err := v.sealVersion(ctx, key, next.Version, service, merged)
	return next, &sv, warnings, err
}

// merge gives the fields of old with changes on top. It opens the old version
// only where one of its fields stays. A secret that would stay while the place
// it is sent to changes is refused in moved: whoever may change a credential
// could otherwise have the secret sent to a host of their own.
func (v *Vault) merge(ctx context.Context, caller access.Caller, key rowKey, old Credential, sealed seal.Sealed, service *catalog.Service, changes map[string]*string) (merged map[string]string, moved []fault.Field, err error) {
	merged = make(map[string]string, len(old.Fields)+len(changes))
	stays := false
	for _, name := range old.Fields {
		if _, changed := changes[name]; !changed {
			stays = true
		}
	}
	if stays {
		fields, err := v.open(ctx, caller, key, old, sealed)
		if err != nil {
			return nil, nil, err
		}
		defer fields.Wipe()
		for name, value := range fields {
			merged[name] = value.ExposeSecret()
		}
		moved = movedSecrets(service, merged, changes)
	}
	for name, value := range changes {
		if value == nil {
			delete(merged, name)
		} else {
			merged[name] = *value
		}
	}
	return merged, moved, nil
}

// movedSecrets names the secrets of stored that changes would keep while they
// change where the credential is sent.
func movedSecrets(service *catalog.Service, stored map[string]string, changes map[string]*string) []fault.Field {
	elsewhere := false
	for name, value := range changes {
		f, known := service.Field(name)
		if known && f.Destination() && (value == nil || *value != stored[name]) {
			elsewhere = true
		}
	}
	var moved []fault.Field
	for _, f := range service.Fields {
		_, kept := stored[f.Name]
		_, given := changes[f.Name]
		if elsewhere && f.Secret && kept && !given {
			moved = append(moved, fault.Field{Name: "credentials." + f.Name, Message: "must be sent again with a change of where it is sent to"})
		}
	}
	return moved
}

// write puts next in place of old in one transaction with its event, or gives
// errRaced when old is not the current state any more.
func (v *Vault) write(ctx context.Context, caller access.Caller, key rowKey, old, next Credential, version *sealedVersion, action audit.Action, p access.Permission) error {
	now := store.At(v.opts.Now())
	return v.db.Update(ctx, key.organization, func(tx *store.Tx) error {
		changed, err := tx.Exec(ctx, `UPDATE credentials SET name = $1, disabled = $2, expires_at = $3, version = $4,
			revision = $5, updated_at = $6 WHERE organization = $7 AND id = $8 AND revision = $9`,
			next.Name, next.disabled, store.At(next.ExpiresAt), next.Version, old.Revision+1, now,
			key.organization, key.id, old.Revision)
		if err != nil {
			return err
		}
		if changed == 0 {
			return errRaced
		}
		metadata := map[string]any{"service": old.Service, "version": next.Version}
		maps.Copy(metadata, differences(old, next))
		if version != nil {
			if err := insertVersion(ctx, tx, key, next.Version, *version, now, caller.ID); err != nil {
				return err
			}
			if err := destroyVersions(ctx, tx, key, next.Version); err != nil {
				return err
			}
			// A test of the old values says nothing of the new ones.
			if _, err := tx.Exec(ctx, `UPDATE credentials SET last_test = NULL WHERE organization = $1 AND id = $2`, key.organization, key.id); err != nil {
				return err
			}
			metadata["fingerprint"] = version.fingerprint
			metadata["valuesChanged"] = true
		}
		return v.log.Append(ctx, tx, caller, audit.Event{
			Action: action, Outcome: audit.Success, Permission: p.String(),
			Targets: []audit.Target{{Type: "credential", ID: key.id, Name: next.Name}}, Metadata: metadata,
		})
	})
}

// differences tells what changed beside the values, for the event.
func differences(old, next Credential) map[string]any {
	d := make(map[string]any)
	if old.Name != next.Name {
		d["renamed"] = true // names are personal data and stand on the target
	}
	if old.disabled != next.disabled {
		d["disabled"] = next.disabled
	}
	if !old.ExpiresAt.Equal(next.ExpiresAt) {
		d["expiresAt"] = "never"
		if !next.ExpiresAt.IsZero() {
			d["expiresAt"] = next.ExpiresAt.UTC().Format(time.RFC3339)
		}
	}
	return d
}

// Delete destroys a credential and its sealed bytes; the trail remains. It
// needs credential:delete.
func (v *Vault) Delete(ctx context.Context, caller access.Caller, id string, match Match) error {
	if err := access.Allow(caller, access.CredentialDelete, caller.Organization); err != nil {
		return err
	}
	key := rowKey{caller.Organization, id}
	for range changeAttempts {
		old, _, err := v.read(ctx, key)
		if err != nil {
			return public(err)
		}
		if !match.takes(old.Revision) {
			return ErrStale
		}
		err = v.db.Update(ctx, key.organization, func(tx *store.Tx) error {
			gone, err := tx.Exec(ctx, `DELETE FROM credentials WHERE organization = $1 AND id = $2 AND revision = $3`,
				key.organization, key.id, old.Revision) // its versions go with it
			if err != nil {
				return err
			}
			if gone == 0 {
				return errRaced
			}
			return v.log.Append(ctx, tx, caller, audit.Event{
				Action: audit.CredentialDelete, Outcome: audit.Success, Permission: access.CredentialDelete.String(),
				Targets:  []audit.Target{{Type: "credential", ID: key.id, Name: old.Name}},
				Metadata: map[string]any{"service": old.Service, "version": old.Version, "fingerprint": old.Fingerprint},
			})
		})
		if errors.Is(err, errRaced) {
			if err := yield(ctx); err != nil {
				return err
			}
			continue
		}
		v.forget(key.organization, old.Service, old.Name)
		return public(err)
	}
	return ErrStale
}
