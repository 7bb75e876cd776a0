package vault

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
)

// The bounds of a credential's name and of a reveal's reason, in characters.
const (
	maxName   = 100
	maxReason = 500
)

// NewCredential is what a credential is made of.
type NewCredential struct {
	Service   string
	Name      string // DefaultName when empty
	Fields    map[string]string
	ExpiresAt time.Time // zero: never
	Bounds
}

// Create stores a credential. It needs credential:create. Errors: Invalid with
// the fields that are wrong, [ErrExists]. The warnings name values that do not
// look like the provider's usual form.
func (v *Vault) Create(ctx context.Context, caller access.Caller, n NewCredential) (c Credential, warnings []catalog.Problem, err error) {
	if err := access.Allow(caller, access.CredentialCreate, caller.Organization); err != nil {
		return Credential{}, nil, err
	}
	return v.create(ctx, caller, n, audit.CredentialCreate)
}

// create stores a credential with an event of the action.
func (v *Vault) create(ctx context.Context, caller access.Caller, n NewCredential, action audit.Action) (c Credential, warnings []catalog.Problem, err error) {
	now := store.At(v.opts.Now())
	service, warnings, err := v.checkNew(&n, now.Time)
	if err != nil {
		return Credential{}, nil, err
	}
	scope, failover, err := n.columns()
	if err != nil {
		return Credential{}, nil, err
	}
	metadata := map[string]any{"service": n.Service, "version": 1}
	personal := tellBounds(Bounds{}, n.Bounds, metadata)
	key := rowKey{caller.Organization, store.NewID("cred")}
	sealed, err := v.sealVersion(ctx, key, 1, service, n.Fields)
	if err != nil {
		v.tellKeyUnreadable(ctx, caller, err)
		return Credential{}, nil, public(err)
	}
	metadata["fingerprint"] = sealed.fingerprint
	err = v.db.Update(ctx, key.organization, func(tx *store.Tx) error {
		w := versionWriter{ctx: ctx, tx: tx, key: key, at: now, by: caller.ID}
		if err := w.insertCredential(n, scope, failover); err != nil {
			return err
		}
		if err := w.insert(1, sealed, StateActive, ""); err != nil {
			return err
		}
		return v.log.Append(ctx, tx, caller, audit.Event{
			Action: action, Outcome: audit.Success, Permission: access.CredentialCreate.String(),
			Targets:  []audit.Target{{Type: "credential", ID: key.id, Name: n.Name}},
			Metadata: metadata, Personal: personal,
		})
	})
	if err != nil {
		return Credential{}, nil, public(err)
	}
	v.forget(key.organization, n.Service, n.Name)
	// It is stored: a caller that leaves now does not make that untrue.
	ctx, cancel := afterwards(ctx)
	defer cancel()
	c, _, err = v.read(ctx, key)
	return c, warnings, public(err)
}

// checkNew gives n its default name, and says what is wrong with it and what looks
// unusual.
func (v *Vault) checkNew(n *NewCredential, now time.Time) (service *catalog.Service, warnings []catalog.Problem, err error) {
	if n.Name == "" {
		n.Name = DefaultName
	}
	var wrong []fault.Field
	service, known := v.services.Service(n.Service)
	if known && service.NeedsCredential() {
		var problems []catalog.Problem
		problems, warnings = service.Check(n.Fields)
		wrong = append(wrong, asFields(problems)...)
	} else {
		wrong = append(wrong, fault.Field{Name: "service", Message: "must be one of " + v.serviceNames()})
	}
	wrong = append(wrong, checkName(n.Name)...)
	wrong = append(wrong, checkExpiry(n.ExpiresAt, now)...)
	wrong = append(wrong, n.check(n.Name)...)
	if len(wrong) > 0 {
		return nil, nil, fault.InvalidFields(wrong...)
	}
	return service, warnings, nil
}

// insertCredential writes the row of a new credential, whose version 1 is to follow.
func (w *versionWriter) insertCredential(n NewCredential, scope, failover *string) error {
	_, err := w.tx.Exec(w.ctx, `INSERT INTO credentials
		(organization, id, service, name, version, revision, disabled, expires_at, created_at, created_by, updated_at, scope, failover)
		VALUES ($1, $2, $3, $4, 1, 1, $5, $6, $7, $8, $7, $9, $10)`,
		w.key.organization, w.key.id, n.Service, n.Name, false, store.At(n.ExpiresAt), w.at, w.by, scope, failover)
	return err
}

// sealVersion seals the fields as version n of the credential.
func (v *Vault) sealVersion(ctx context.Context, key rowKey, n int64, service *catalog.Service, fields map[string]string) (sealedVersion, error) {
	m, err := v.organizationKeys(ctx, key.organization)
	if err != nil {
		return sealedVersion{}, err
	}
	plain := make(seal.Fields, len(fields))
	hints := make(map[string]string, len(fields))
	for name, value := range fields {
		plain[name] = seal.NewSecret(value)
		hints[name] = service.Mask(name, value)
	}
	defer plain.Wipe()
	sealed, err := v.ring.SealFields(ctx, v.credentialContext(key.organization, key.id, n, nil), m.salt, plain)
	if err != nil {
		return sealedVersion{}, err
	}
	fieldsJSON, err := json.Marshal(names(fields))
	if err != nil {
		return sealedVersion{}, err
	}
	hintsJSON, err := json.Marshal(hints)
	if err != nil {
		return sealedVersion{}, err
	}
	return sealedVersion{
		fields: string(fieldsJSON), hints: string(hintsJSON),
		fingerprint: m.fingerprintOf(service, fields), sealed: sealed,
	}, nil
}

func (v *Vault) serviceNames() string {
	var all []string
	for _, s := range v.services.Services() {
		if s.NeedsCredential() {
			all = append(all, s.Name)
		}
	}
	return strings.Join(all, ", ")
}

// asFields turns the catalogue's findings into those of a request.
func asFields(problems []catalog.Problem) []fault.Field {
	fields := make([]fault.Field, len(problems))
	for i, p := range problems {
		fields[i] = fault.Field{Name: "credentials", Message: p.Message}
		if p.Field != "" {
			fields[i].Name = "credentials." + p.Field
		}
	}
	return fields
}

func checkName(name string) []fault.Field {
	if name == "" || !utf8.ValidString(name) || utf8.RuneCountInString(name) > maxName ||
		strings.TrimSpace(name) != name || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return []fault.Field{{Name: "name", Message: fmt.Sprintf("must be 1 to %d printable characters without spaces at the ends", maxName)}}
	}
	return nil
}

func checkExpiry(at, now time.Time) []fault.Field {
	if !at.IsZero() && !at.After(now) {
		return []fault.Field{{Name: "expiresAt", Message: "must be in the future"}}
	}
	if at.Year() > 9999 {
		return []fault.Field{{Name: "expiresAt", Message: "must be before the year 10000"}}
	}
	return nil
}
