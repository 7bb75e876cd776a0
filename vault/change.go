package vault

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
)

// Change is what to change of a credential; nil fields stay as they are.
type Change struct {
	Name      *string
	Fields    map[string]*string // a field that is absent stays, nil removes it
	ExpiresAt *time.Time         // the zero time takes the expiry away
	Disabled  *bool
	Scope     **catalog.Scope // to nil: the service's default again
	Failover  *[]string
}

func (ch Change) empty() bool {
	return ch.Name == nil && len(ch.Fields) == 0 && ch.ExpiresAt == nil && ch.Disabled == nil && ch.Scope == nil && ch.Failover == nil
}

// Update changes a credential. It needs credential:update. New values make a
// new version, and the one that they replace is destroyed at once. Errors:
// Invalid, [ErrNotFound], [ErrExists] for the new name, [ErrStale].
func (v *Vault) Update(ctx context.Context, caller access.Caller, id string, match store.Match, ch Change) (Credential, []catalog.Problem, error) {
	if err := access.Allow(caller, access.CredentialUpdate, caller.Organization); err != nil {
		return Credential{}, nil, err
	}
	d := deed{audit.CredentialUpdate, access.CredentialUpdate}
	cur, warnings, err := v.change(ctx, caller, id, match, d, func(cur current) (*transition, []catalog.Problem, error) {
		if ch.empty() {
			return nil, nil, nil
		}
		return v.apply(ctx, caller, cur, ch)
	})
	return cur.Credential, warnings, err
}

// Rotation is what a credential is rotated to.
type Rotation struct {
	Fields map[string]string // the new values; a field that is absent stays
	Grace  time.Duration     // how long the version that is replaced can still be used; 0: it is destroyed at once; at most [MaxGrace]
	Reason string            // optional; in the history and the trail
}

// Rotate puts new values in place of the old: the new version is active at once,
// the old one destroyed or, for Grace, retiring. It needs credential:rotate. A
// field that is absent stays, so that a token can be rotated without repeating
// the account it belongs to. An expiry that has passed is taken away, and what
// it held for is destroyed. Errors: Invalid, [ErrNotFound], [ErrStale],
// [ErrTooManyVersions].
func (v *Vault) Rotate(ctx context.Context, caller access.Caller, id string, match store.Match, r Rotation) (Credential, []catalog.Problem, error) {
	if err := access.Allow(caller, access.CredentialRotate, caller.Organization); err != nil {
		return Credential{}, nil, err
	}
	if wrong := r.check(); len(wrong) > 0 {
		return Credential{}, nil, fault.InvalidFields(wrong...)
	}
	d := deed{audit.CredentialRotate, access.CredentialRotate}
	cur, warnings, err := v.change(ctx, caller, id, match, d, func(cur current) (*transition, []catalog.Problem, error) {
		t, warnings, err := v.apply(ctx, caller, cur, Change{Fields: pointers(r.Fields)})
		if err != nil {
			return nil, nil, err
		}
		t.reason = r.Reason
		return t, warnings, t.replace(cur, r.Grace, v.opts.Now())
	})
	return cur.Credential, warnings, err
}

func (r Rotation) check() []fault.Field {
	var wrong []fault.Field
	if len(r.Fields) == 0 {
		wrong = append(wrong, fault.Field{Name: "credentials", Message: "must hold the new values"})
	}
	return append(append(wrong, checkGrace(r.Grace)...), checkReason(r.Reason)...)
}

// pointers gives fields as a change has them.
func pointers(fields map[string]string) map[string]*string {
	all := make(map[string]*string, len(fields))
	for name, value := range fields {
		all[name] = &value
	}
	return all
}

// apply plans a change of a credential; new values are an active version that
// replaces the old one at once.
func (v *Vault) apply(ctx context.Context, caller access.Caller, cur current, ch Change) (*transition, []catalog.Problem, error) {
	t := &transition{next: cur.Credential}
	var wrong []fault.Field
	if ch.Name != nil {
		t.next.Name = *ch.Name
		wrong = append(wrong, checkName(t.next.Name)...)
	}
	if ch.ExpiresAt != nil {
		t.next.ExpiresAt = *ch.ExpiresAt
		wrong = append(wrong, checkExpiry(t.next.ExpiresAt, v.opts.Now())...)
	}
	if ch.Disabled != nil {
		t.next.disabled = *ch.Disabled
	}
	if ch.Scope != nil {
		t.next.Scope = *ch.Scope
	}
	if ch.Failover != nil {
		t.next.Failover = *ch.Failover
	}
	if ch.Scope != nil || ch.Failover != nil || ch.Name != nil {
		wrong = append(wrong, t.next.check(t.next.Name)...)
	}
	if len(ch.Fields) == 0 {
		if len(wrong) > 0 {
			return nil, nil, fault.InvalidFields(wrong...)
		}
		return t, nil, nil
	}
	made, warnings, moreWrong, err := v.sealNext(ctx, caller, cur, ch.Fields)
	if err != nil {
		return nil, nil, err
	}
	if wrong = append(wrong, moreWrong...); len(wrong) > 0 {
		return nil, nil, fault.InvalidFields(wrong...)
	}
	t.made, t.next.Version = made, cur.latest+1
	return t, warnings, nil
}

// sealNext seals the active version's fields with changes on top as the version
// after the latest.
func (v *Vault) sealNext(ctx context.Context, caller access.Caller, cur current, changes map[string]*string) (made *sealedVersion, warnings []catalog.Problem, wrong []fault.Field, err error) {
	key := rowKey{caller.Organization, cur.ID}
	service, known := v.services.Service(cur.Service)
	if !known {
		return nil, nil, []fault.Field{{Name: "credentials", Message: "the service of this credential is not in the catalogue of this instance any more"}}, nil
	}
	// Also a name that is only taken away must be one of the service's.
	if problems := service.CheckNames(slices.Collect(maps.Keys(changes))); len(problems) > 0 {
		return nil, nil, asFields(problems), nil
	}
	merged, moved, err := v.merge(ctx, caller, key, cur.Credential, cur.sealed, service, changes)
	if err != nil || len(moved) > 0 {
		return nil, nil, moved, err
	}
	problems, warnings := service.Check(merged)
	if len(problems) > 0 {
		return nil, nil, asFields(problems), nil
	}
	sealed, err := v.sealVersion(ctx, key, cur.latest+1, service, merged)
	if err != nil {
		v.tellKeyUnreadable(ctx, caller, err)
		return nil, nil, nil, err
	}
	return &sealed, warnings, nil, nil
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
		merged = fields.ExposeSecrets()
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

// Delete destroys a credential and its sealed bytes; the trail remains. It
// needs credential:delete.
func (v *Vault) Delete(ctx context.Context, caller access.Caller, id string, match store.Match) error {
	if err := access.Allow(caller, access.CredentialDelete, caller.Organization); err != nil {
		return err
	}
	key := rowKey{caller.Organization, id}
	for range changeAttempts {
		old, _, err := v.read(ctx, key)
		if err != nil {
			return public(err)
		}
		if !match.Allows(old.Revision) {
			return ErrStale
		}
		err = v.db.Update(ctx, key.organization, func(tx *store.Tx) error {
			tx.Destroys()
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
		v.previous.ForgetWhere(func(version versionKey) bool { return version.rowKey == key })
		return public(err)
	}
	return ErrStale
}
