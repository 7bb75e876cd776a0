package auth

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/store"
)

// usesEvery is how often last uses are written: a request costs no write.
const usesEvery = 30 * time.Second

// caller makes a caller of a service token. A mistyped one is refused by its
// checksum; another is looked up, and its answer is at most [org.Fresh] old.
func (t *Tokens) caller(ctx context.Context, token string) (access.Caller, error) {
	if !checkServiceToken(token) {
		return access.Caller{}, ErrBadToken.Because(errors.New("the checksum of the service token is wrong"))
	}
	hash := hashOf(token)
	k, err := t.known.Get(ctx, hash, func(ctx context.Context) (*kept, error) { return t.look(ctx, hash[:]) })
	if err != nil {
		if fault.KindOf(err) == fault.Unauthenticated {
			return access.Caller{}, err
		}
		return access.Caller{}, fault.DatabaseAway.Because(err)
	}
	c := access.NewCaller(k.organization, access.Service, k.ID)
	c.TokenID = k.ID
	now := t.opts.Now()
	switch k.Status(now) {
	case TokenRevoked:
		return c, ErrRevoked
	case TokenExpired:
		return c, ErrExpired
	}
	maker, err := t.orgs.Resolve(ctx, k.maker)
	if err != nil {
		return c, err
	}
	limit := k.Permissions & maker.Granted() & forTokens()
	if len(k.Roles) > 0 {
		granted, err := t.orgs.Grants(ctx, k.organization, k.Roles)
		if err != nil {
			return c, err
		}
		limit &= granted
	}
	named, err := t.nameable(ctx, maker, k.Roles)
	if err != nil {
		return c, err
	}
	c = c.With(named, limit).Within(limit)
	c.Credentials = k.Credentials
	t.uses.Note(k.organization, k.ID, now)
	return c, nil
}

// look finds a token by its hash. It says nothing of its organization, so that
// all are looked at; the hash of 256 random bits finds one row or none.
func (t *Tokens) look(ctx context.Context, hash []byte) (*kept, error) {
	var rows []kept
	err := t.db.ViewAcross(ctx, func(tx *store.Tx) (err error) {
		rows, err = readTokens(ctx, tx, `hash = $1`, hash)
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, ErrBadToken.Because(errors.New("no service token has this hash"))
	}
	return &rows[0], nil
}

// Revoke ends a token of the caller's organization; to end an ended one is no
// error. It needs token:manage. It holds on this instance at once, on others
// within [org.Fresh].
func (t *Tokens) Revoke(ctx context.Context, caller access.Caller, id string) error {
	if err := access.Allow(caller, access.TokenManage, caller.Organization); err != nil {
		return err
	}
	if !store.IsID("tok", id) {
		return errTokenNotFound
	}
	var hash []byte
	err := t.db.Update(ctx, caller.Organization, func(tx *store.Tx) error {
		var revoked store.Time
		var name string
		err := tx.Row(ctx, `SELECT hash, name, revoked_at FROM service_tokens WHERE organization = $1 AND id = $2`, caller.Organization, id).Scan(&hash, &name, &revoked)
		if errors.Is(err, store.ErrNotFound) {
			return errTokenNotFound
		}
		if err != nil || !revoked.IsZero() {
			return err
		}
		return t.revoke(ctx, tx, caller, caller.Organization, id, name, access.TokenManage)
	})
	if len(hash) > 0 {
		t.known.Forget([32]byte(hash))
	}
	return err
}

func (t *Tokens) revoke(ctx context.Context, tx *store.Tx, by access.Caller, organization, id, name string, p access.Permission) error {
	_, err := tx.Exec(ctx, `UPDATE service_tokens SET revoked_at = $1, revoked_by = $2 WHERE organization = $3 AND id = $4`,
		store.At(t.opts.Now()), by.ID, organization, id)
	if err != nil {
		return err
	}
	return t.log.Append(ctx, tx, by, audit.Event{
		Organization: organization, Action: audit.TokenRevoke, Outcome: audit.Success, Permission: p.String(),
		Targets: []audit.Target{{Type: "token", ID: id, Name: name}},
	})
}

// RevokeMade ends every token that a member made, within the transaction that
// deletes the member.
func (t *Tokens) RevokeMade(ctx context.Context, tx *store.Tx, by access.Caller, organization, maker string) error {
	type made struct{ id, name string }
	var all []made
	err := tx.Each(ctx, func(scan func(...any) error) error {
		var m made
		if err := scan(&m.id, &m.name); err != nil {
			return err
		}
		all = append(all, m)
		return nil
	}, `SELECT id, name FROM service_tokens WHERE organization = $1 AND maker = $2 AND revoked_at IS NULL ORDER BY id`, organization, maker)
	if err != nil {
		return err
	}
	for _, m := range all {
		if err := t.revoke(ctx, tx, by, organization, m.id, m.name, access.MemberManage); err != nil {
			return err
		}
	}
	return nil
}

// DestroyTokens deletes every token of an organization that is deleted, in the
// transaction that deletes it, and gives how many there were.
func DestroyTokens(ctx context.Context, tx *store.Tx, organization string) (rows int64, err error) {
	return tx.Exec(ctx, `DELETE FROM service_tokens WHERE organization = $1`, organization)
}

// Run writes last uses until ctx ends, and then once more.
func (t *Tokens) Run(ctx context.Context) {
	tick := time.NewTicker(usesEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			t.recordUses(ctx)
		case <-ctx.Done():
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			t.recordUses(ctx)
			return
		}
	}
}

func (t *Tokens) recordUses(ctx context.Context) {
	t.uses.Record(ctx, t.db, "service_tokens", func(organization string, err error) {
		t.opts.Logger.WarnContext(ctx, "last uses of tokens could not be recorded", "organization", organization, "error", err)
	})
}

func readTokens(ctx context.Context, tx *store.Tx, where string, args ...any) (rows []kept, err error) {
	err = tx.Each(ctx, func(scan func(...any) error) error {
		var k kept
		var permissions, roles, credentials, makerType, makerRoles string
		var created, expires, revoked, used store.Time
		var revokedBy *string
		if err := scan(&k.organization, &k.ID, &k.Name, &permissions, &roles, &credentials, &makerType, &k.CreatedBy, &makerRoles,
			&created, &expires, &revoked, &revokedBy, &used); err != nil {
			return err
		}
		var names []string
		var said []access.Role
		if err := errors.Join(json.Unmarshal([]byte(permissions), &names), json.Unmarshal([]byte(roles), &k.Roles),
			json.Unmarshal([]byte(credentials), &k.Credentials), json.Unmarshal([]byte(makerRoles), &said)); err != nil {
			return err
		}
		for _, name := range names {
			p, _ := access.ParsePermission(name) // one that is no more grants nothing
			k.Permissions |= access.SetOf(p)
		}
		if len(k.Credentials) == 0 {
			k.Credentials = nil
		}
		k.CreatedAt, k.ExpiresAt, k.RevokedAt, k.LastUsedAt = created.Time, expires.Time, revoked.Time, used.Time
		if revokedBy != nil {
			k.RevokedBy = *revokedBy
		}
		k.maker = access.NewCaller(k.organization, access.CallerType(makerType), k.CreatedBy, said...)
		rows = append(rows, k)
		return nil
	}, `SELECT organization, id, name, permissions, roles, credentials, maker_type, maker, maker_roles, created_at, expires_at, revoked_at, revoked_by, last_used_at
		FROM service_tokens WHERE `+where, args...)
	return rows, err
}
