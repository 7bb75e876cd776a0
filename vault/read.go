package vault

import (
	"context"
	"encoding/base64"
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

// Filter picks credentials of the caller's organization. Empty fields pick all.
type Filter struct {
	Service string
	Status  Status
	Limit   int    // 1 to 200; 50 when 0
	Cursor  string // NextCursor of the page before
}

// The bounds of [Filter.Limit].
const (
	defaultLimit = 50
	MaxLimit     = 200
)

// Page is one page of credentials, newest first. NextCursor is empty on the last.
type Page struct {
	Credentials []Credential
	NextCursor  string
}

// List gives a page of the organization's credentials without opening any. It
// needs credential:list.
func (v *Vault) List(ctx context.Context, caller access.Caller, f Filter) (Page, error) {
	if err := access.Allow(caller, access.CredentialList, caller.Organization); err != nil {
		return Page{}, err
	}
	if f.Limit == 0 {
		f.Limit = defaultLimit
	}
	now := store.At(v.opts.Now())
	where, args, err := f.where(caller.Organization, now)
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
		}, `SELECT `+columns+fromCredentials+`WHERE `+where+` ORDER BY c.id DESC LIMIT `+strconv.Itoa(f.Limit+1), args...)
	})
	if err != nil {
		slot.Release()
		return Page{}, public(err)
	}
	if len(page.Credentials) > f.Limit {
		page.Credentials = page.Credentials[:f.Limit]
		page.NextCursor = base64.RawURLEncoding.EncodeToString([]byte(page.Credentials[f.Limit-1].ID))
	}
	slot.Record(ctx, caller, audit.Event{
		Action: audit.CredentialList, Outcome: audit.Success, Permission: access.CredentialList.String(),
		Metadata: map[string]any{"returned": len(page.Credentials)},
	})
	return page, nil
}

func (f Filter) where(organization string, now store.Time) (string, []any, error) {
	var wrong []fault.Field
	where, args := []string{"c.organization = $1"}, []any{organization}
	arg := func(value any) string {
		args = append(args, value)
		return "$" + strconv.Itoa(len(args))
	}
	if f.Service != "" {
		if len(f.Service) > 64 || !utf8.ValidString(f.Service) || strings.ContainsRune(f.Service, 0) {
			wrong = append(wrong, fault.Field{Name: "service", Message: "must be the name of a service"})
		}
		where = append(where, "c.service = "+arg(f.Service))
	}
	soon := store.At(now.Add(ExpiringWithin))
	switch f.Status {
	case "":
	case Disabled:
		where = append(where, "c.disabled = "+arg(true))
	case Expired:
		where = append(where, "c.disabled = "+arg(false), "c.expires_at <= "+arg(now))
	case Expiring:
		where = append(where, "c.disabled = "+arg(false), "c.expires_at > "+arg(now), "c.expires_at <= "+arg(soon))
	case Active:
		where = append(where, "c.disabled = "+arg(false), "(c.expires_at IS NULL OR c.expires_at > "+arg(soon)+")")
	default:
		wrong = append(wrong, fault.Field{Name: "status", Message: "must be active, expiring, expired or disabled"})
	}
	if f.Limit < 1 || f.Limit > MaxLimit {
		wrong = append(wrong, fault.Field{Name: "limit", Message: "must be from 1 to " + strconv.Itoa(MaxLimit)})
	}
	if f.Cursor != "" {
		last, err := base64.RawURLEncoding.DecodeString(f.Cursor)
		if err != nil || !store.IsID("cred", string(last)) {
			wrong = append(wrong, fault.Field{Name: "cursor", Message: "must be the nextCursor of an earlier page"})
		}
		where = append(where, "c.id < "+arg(string(last)))
	}
	if len(wrong) > 0 {
		return "", nil, fault.InvalidFields(wrong...)
	}
	return strings.Join(where, " AND "), args, nil
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

// open opens the sealed fields of c. A version that does not open is an event.
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
	if errors.Is(public(err), ErrUnreadable) {
		v.log.Security(ctx, caller, audit.Event{
			Organization: key.organization, Action: audit.CredentialUse, Outcome: audit.Failure, Reason: "seal_not_opened",
			Targets: []audit.Target{{Type: "credential", ID: c.ID, Name: c.Name}},
		})
	}
	return nil, err
}
