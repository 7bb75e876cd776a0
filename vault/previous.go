package vault

import (
	"context"
	"maps"
	"strconv"
	"sync"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
)

// versionKey names one version of a credential.
type versionKey struct {
	rowKey
	version int64
}

// inGrace gives the version that was replaced last and is still in grace, and
// when its grace ends; 0 where there is none.
func inGrace(ctx context.Context, tx *store.Tx, key rowKey) (version int64, until time.Time, err error) {
	err = tx.Each(ctx, func(scan func(...any) error) error {
		var at store.Time
		err := scan(&version, &at)
		until = at.Time
		return err
	}, `SELECT h.version, h.destroy_at FROM credential_versions v JOIN credential_version_history h
		ON h.organization = v.organization AND h.credential_id = v.credential_id AND h.version = v.version
		WHERE v.organization = $1 AND v.credential_id = $2 AND h.state = 'retiring'
		ORDER BY h.retired_at DESC, h.version DESC LIMIT 1`, key.organization, key.id)
	return version, until, err
}

// OpenPrevious gives the version of o's credential that is in grace, for one more
// try of a request whose provider refused o. It needs credential:use. Errors:
// [ErrNone] where there is none or its grace is over, and those of
// [Vault.OpenForUse].
func (v *Vault) OpenPrevious(ctx context.Context, caller access.Caller, service *catalog.Service, o Opened) (Opened, error) {
	if err := access.Allow(caller, access.CredentialUse, caller.Organization); err != nil {
		return Opened{}, err
	}
	if !caller.MayUse(o.ID) {
		return Opened{}, ErrOutOfScope
	}
	if o.Previous == 0 {
		return Opened{}, ErrNone
	}
	key := versionKey{rowKey{caller.Organization, o.ID}, o.Previous}
	p, err := v.previous.Get(ctx, key, func(ctx context.Context) (*opened, error) { return v.loadPrevious(ctx, caller, service, key) })
	if err != nil {
		return Opened{}, public(err)
	}
	if !v.opts.Now().Before(p.until) {
		return Opened{}, ErrNone
	}
	return p.Opened, nil
}

// loadPrevious opens a version that is in grace.
func (v *Vault) loadPrevious(ctx context.Context, caller access.Caller, service *catalog.Service, key versionKey) (*opened, error) {
	var previous Version
	var sealed []byte
	c, _, err := v.readWith(ctx, key.rowKey, func(tx *store.Tx, _ *Credential) error {
		row := tx.Row(ctx, `SELECT `+versionColumns+`, v.fields_sealed`+fromHistory+`JOIN credential_versions v
			ON v.organization = h.organization AND v.credential_id = h.credential_id AND v.version = h.version
			WHERE v.organization = $1 AND v.credential_id = $2 AND v.version = $3 AND h.state = 'retiring'`, key.organization, key.id, key.version)
		var err error
		previous, err = scanVersion(func(dest ...any) error { return row.Scan(append(dest, &sealed)...) })
		return err
	})
	if err != nil {
		return nil, err
	}
	c.Version, c.Fields = previous.Number, previous.Fields
	o := &opened{Opened: Opened{ID: c.ID, Name: c.Name, Version: c.Version}, until: previous.DestroyAt}
	o.Injection, err = v.prepare(ctx, caller, key.rowKey, c, seal.Sealed(sealed), service)
	return o, err
}

// fallbacks collects when providers last refused an active version while the one
// in grace served, so that a request costs no write.
type fallbacks struct {
	mu   sync.Mutex
	last map[versionKey]time.Time // by the refused version
}

// NoteFallback tells that the provider refused o and that the version in grace,
// used, served the request in its place: a security event, coalesced with an
// exact count for each refused version, and a mark on the credential.
func (v *Vault) NoteFallback(ctx context.Context, caller access.Caller, service *catalog.Service, o, used Opened) {
	now := v.opts.Now()
	v.refused.note(versionKey{rowKey{caller.Organization, o.ID}, o.Version}, now)
	// The alarm is about the credential, whoever's request it was: one series for all.
	ctx = audit.WithRequest(ctx, &audit.Request{})
	gate := access.SystemCaller(caller.Organization)
	v.log.Security(ctx, gate, audit.Event{
		Action: audit.CredentialFallback, Outcome: audit.Failure, Reason: "active_version_refused",
		Targets:  []audit.Target{{Type: "credential", ID: o.ID, Name: o.Name}, {Type: "version", ID: strconv.FormatInt(o.Version, 10)}},
		Metadata: map[string]any{"service": service.Name, "version": o.Version, "served": used.Version},
	})
}

func (f *fallbacks) note(key versionKey, at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if at.After(f.last[key]) {
		f.last[key] = at
	}
}

// recordFallbacks puts the marks on the credentials. A mark is not put on a
// credential whose active version is another by now.
func (v *Vault) recordFallbacks(ctx context.Context) {
	v.refused.mu.Lock()
	last := maps.Clone(v.refused.last)
	clear(v.refused.last)
	v.refused.mu.Unlock()
	for key, at := range last {
		err := v.db.Update(ctx, key.organization, func(tx *store.Tx) error {
			// The checker looks at it next, so that its webhooks hear of it.
			_, err := tx.Exec(ctx, `UPDATE credentials SET fallback_at = $1,
				check_due_at = CASE WHEN fallback_at IS NULL OR fallback_at < $5 THEN 0 ELSE check_due_at END
				WHERE organization = $2 AND id = $3 AND version = $4 AND (fallback_at IS NULL OR fallback_at < $1)`,
				store.At(at), key.organization, key.id, key.version, store.At(at.Add(-fallbackShown)))
			return err
		})
		if err != nil {
			v.refused.note(key, at) // kept for the next turn: somebody has to see it
			v.opts.Logger.WarnContext(ctx, "a fallback could not be put on its credential", "organization", key.organization, "credential", key.id, "error", err)
		}
	}
}
