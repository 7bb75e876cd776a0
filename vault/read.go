package vault

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
)

// List gives a page of the organization's credentials without opening any. It
// needs credential:list. A page costs the same however many credentials there
// are, at any depth.
func (v *Vault) List(ctx context.Context, caller access.Caller, f Filter) (Page, error) {
	if err := access.Allow(caller, access.CredentialList, caller.Organization); err != nil {
		return Page{}, err
	}
	if f.Limit == 0 {
		f.Limit = defaultLimit
	}
	now := store.At(v.opts.Now())
	query, args, err := f.query(caller.Organization, now)
	if err != nil {
		return Page{}, err
	}
	slot, err := v.log.Reserve()
	if err != nil {
		return Page{}, err
	}
	var page Page
	err = v.db.View(ctx, caller.Organization, func(tx *store.Tx) error {
		page = Page{}
		return tx.Each(ctx, func(scan func(...any) error) error {
			var c Credential
			if err := scanCredential(scan, &c); err != nil {
				return err
			}
			c.Status = c.statusAt(now.Time)
			page.Credentials = append(page.Credentials, c)
			return nil
		}, query, args...)
	})
	if err != nil {
		slot.Release()
		return Page{}, public(err)
	}
	if len(page.Credentials) > f.Limit {
		page.Credentials = page.Credentials[:f.Limit]
		page.NextCursor = f.cursorAt(page.Credentials[f.Limit-1])
	}
	slot.Record(ctx, caller, audit.Event{
		Action: audit.CredentialList, Outcome: audit.Success, Permission: access.CredentialList.String(),
		Metadata: map[string]any{"returned": len(page.Credentials)},
	})
	return page, nil
}

// Get gives the metadata of one credential. It needs credential:list.
func (v *Vault) Get(ctx context.Context, caller access.Caller, id string) (Credential, error) {
	if err := access.Allow(caller, access.CredentialList, caller.Organization); err != nil {
		return Credential{}, err
	}
	slot, err := v.log.Reserve()
	if err != nil {
		return Credential{}, err
	}
	c, _, err := v.read(ctx, rowKey{caller.Organization, id})
	if err != nil {
		slot.Release()
		return Credential{}, public(err)
	}
	slot.Record(ctx, caller, audit.Event{
		Action: audit.CredentialRead, Outcome: audit.Success, Permission: access.CredentialList.String(),
		Targets: []audit.Target{{Type: "credential", ID: c.ID, Name: c.Name}},
	})
	return c, nil
}

// Reveals reports whether this instance reveals credentials at all, to whom it is permitted.
func (v *Vault) Reveals() bool { return v.opts.Reveal }

// Reveal opens a credential for a human, who says why. It needs
// credential:reveal and Options.Reveal; without the event on disk nothing is
// revealed.
func (v *Vault) Reveal(ctx context.Context, caller access.Caller, id, reason string) (Credential, seal.Fields, error) {
	if err := access.Allow(caller, access.CredentialReveal, caller.Organization); err != nil {
		return Credential{}, nil, err
	}
	if !v.opts.Reveal {
		return Credential{}, nil, ErrRevealOff
	}
	if reason = strings.TrimSpace(reason); reason == "" || utf8.RuneCountInString(reason) > maxReason || !utf8.ValidString(reason) {
		return Credential{}, nil, fault.InvalidFields(fault.Field{Name: "reason", Message: "must say why, in 1 to " + strconv.Itoa(maxReason) + " characters"})
	}
	key := rowKey{caller.Organization, id}
	c, sealed, err := v.read(ctx, key)
	if err != nil {
		return Credential{}, nil, public(err)
	}
	fields, err := v.open(ctx, caller, key, c, sealed)
	if err != nil {
		return Credential{}, nil, public(err)
	}
	err = v.db.Update(ctx, caller.Organization, func(tx *store.Tx) error {
		return v.log.Append(ctx, tx, caller, audit.Event{
			Action: audit.CredentialReveal, Outcome: audit.Success, Permission: access.CredentialReveal.String(),
			Targets:  []audit.Target{{Type: "credential", ID: c.ID, Name: c.Name}},
			Metadata: map[string]any{"service": c.Service, "version": c.Version},
			Personal: map[string]string{"reason": reason}, // free text may name people
		})
	})
	if err != nil {
		fields.Wipe()
		return Credential{}, nil, public(err)
	}
	return c, fields, nil
}

// open opens the sealed fields of c. A version that does not open is an event
// that names it.
func (v *Vault) open(ctx context.Context, caller access.Caller, key rowKey, c Credential, sealed seal.Sealed) (seal.Fields, error) {
	m, err := v.readOrganizationKeys(ctx, key.organization)
	if errors.Is(err, store.ErrNotFound) { // a row without the salt that it was sealed with
		err = ErrUnreadable.Because(err)
	}
	if err == nil {
		var fields seal.Fields
		fields, err = v.ring.OpenFields(ctx, v.credentialContext(key.organization, key.id, c.Version, c.Fields), m.salt, sealed)
		if err == nil {
			return fields, nil
		}
	}
	v.tellUnreadable(ctx, caller, key.organization, err, audit.Event{
		Reason: "seal_not_opened",
		// The version is a target, so that those of one credential are told apart.
		Targets:  []audit.Target{{Type: "credential", ID: c.ID, Name: c.Name}, {Type: "version", ID: strconv.FormatInt(c.Version, 10)}},
		Metadata: map[string]any{"service": c.Service, "version": c.Version},
	})
	return nil, err
}

// tellUnreadable records e where err says that something sealed does not open.
func (v *Vault) tellUnreadable(ctx context.Context, caller access.Caller, organization string, err error, e audit.Event) {
	if !errors.Is(public(err), ErrUnreadable) {
		return
	}
	e.Organization, e.Action, e.Outcome = organization, audit.CredentialUse, audit.Failure
	v.log.Security(audit.WithoutStatus(ctx), caller, e)
}

// tellKeyUnreadable records that nothing can be sealed for an organization, since
// its own sealed key does not open.
func (v *Vault) tellKeyUnreadable(ctx context.Context, caller access.Caller, err error) {
	v.tellUnreadable(ctx, caller, caller.Organization, err, audit.Event{
		Reason: "organization_key_not_opened", Targets: []audit.Target{{Type: "organization", ID: caller.Organization}},
	})
}
