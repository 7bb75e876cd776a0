package auth

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/internal/recheck"
	"github.com/gatehouse-io/gatehouse/org"
	"github.com/gatehouse-io/gatehouse/store"
)

// The bounds of service tokens.
const (
	MaxTokenLife   = 366 * 24 * time.Hour // how far away an expiry may be
	minTokenLife   = time.Minute
	maxTokens      = 1000 // of one organization that are neither expired nor revoked
	maxTokenName   = 100  // characters
	maxCredentials = 50   // that one token is restricted to
)

// The states of a service token.
const (
	TokenActive  = "active"
	TokenExpired = "expired"
	TokenRevoked = "revoked"
)

// Token is a service token as it is kept: everything but the token.
type Token struct {
	ID          string
	Name        string
	Permissions access.Set    // the most it may ever do
	Roles       []access.Role // it does no more than these grant either, where there are any
	Credentials []string      // the only ones it may use; nil: all
	CreatedAt   time.Time
	CreatedBy   string // it does no more than this member either
	ExpiresAt   time.Time
	RevokedAt   time.Time // zero: not
	RevokedBy   string
	LastUsedAt  time.Time // to within a minute
}

// Status gives the token's state at now.
func (t Token) Status(now time.Time) string {
	switch {
	case !t.RevokedAt.IsZero():
		return TokenRevoked
	case !now.Before(t.ExpiresAt):
		return TokenExpired
	}
	return TokenActive
}

// TokenInput is what people decide of a service token. Permissions or Roles are
// required; with both it may do what is in both.
type TokenInput struct {
	Name        string
	Permissions []string // names out of the closed list
	Roles       []string // names of roles of the organization
	Credentials []string // ids of the only credentials it may use; nil: all. Only for tokens that do nothing else with credentials
	ExpiresAt   time.Time
}

// Tokens keeps service tokens.
//
// A token acts in one organization, as itself, and may do what is in all of
// these: the permissions it was made with, what its roles grant now, and what
// its maker holds now. The maker's part is what the maker's own token said when
// it made this one, with the organization's own roles as they are now, and the
// roles it has here now. A maker that is disabled or deleted takes its tokens
// with it. A token makes no tokens.
type Tokens struct {
	db    *store.DB
	log   *audit.Log
	orgs  *org.Directory
	opts  TokensOptions
	known *recheck.Cache[[sha256.Size]byte, *kept]
	uses  store.LastUses
}

// kept is a row: the token and whose.
type kept struct {
	Token
	organization string
	maker        access.Caller // as its own token said
}

// TokensOptions sets up [Tokens].
type TokensOptions struct {
	StaleMax time.Duration    // how long a token that is known is believed while the database is away; 60 s when 0
	Now      func() time.Time // time.Now when nil
	Logger   *slog.Logger     // nothing is logged when nil
}

// NewTokens gives the service tokens kept in db.
func NewTokens(db *store.DB, log *audit.Log, orgs *org.Directory, opts TokensOptions) *Tokens {
	if opts.StaleMax == 0 {
		opts.StaleMax = time.Minute
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return &Tokens{
		db: db, log: log, orgs: orgs, opts: opts,
		known: recheck.New[[sha256.Size]byte, *kept](recheck.Options{
			Size: 50_000, Fresh: org.Fresh, StaleMax: opts.StaleMax, Now: opts.Now,
			Stale: func(err error) bool {
				return errors.Is(err, store.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)
			},
		}),
	}
}

// The errors of service tokens that callers meet.
var (
	errTokenNotFound = fault.New(fault.NotFound, "token_not_found", "There is no such token.")
	errTooManyTokens = fault.New(fault.Conflict, "too_many_tokens", fmt.Sprintf("An organization may have %d tokens that are in use; revoke one first.", maxTokens))
	errTokenMaker    = fault.New(fault.Denied, "token_makes_no_token", "A service token cannot make tokens; make them as a member.")
)

// Create makes a service token of the caller's organization and gives it; it is
// kept nowhere. It needs token:manage, and every permission that the token is to
// have. Its expiry is required, at most [MaxTokenLife] away.
func (t *Tokens) Create(ctx context.Context, caller access.Caller, in TokenInput) (Token, string, error) {
	if err := access.Allow(caller, access.TokenManage, caller.Organization); err != nil {
		return Token{}, "", err
	}
	if store.IsID("tok", caller.ID) {
		return Token{}, "", errTokenMaker
	}
	now := store.At(t.opts.Now())
	scope, wrong := t.check(in, now.Time)
	if len(wrong) > 0 {
		return Token{}, "", fault.InvalidFields(wrong...)
	}
	roles := rolesOf(in.Roles)
	if len(roles) > 0 {
		granted, err := t.orgs.Grants(ctx, caller.Organization, roles)
		if err != nil {
			return Token{}, "", err
		}
		if granted &= forTokens(); len(in.Permissions) == 0 {
			scope = granted
		}
		if scope &= granted; scope == 0 {
			return Token{}, "", fault.InvalidFields(fault.Field{Name: "roles", Message: "grant nothing, or nothing of the permissions; GET /api/roles lists the roles that there are"})
		}
	}
	if err := caller.MayGive(scope); err != nil {
		return Token{}, "", err
	}
	named, err := t.nameable(ctx, caller, roles)
	if err != nil {
		return Token{}, "", err
	}
	if len(named) < len(roles) {
		return Token{}, "", fault.InvalidFields(fault.Field{Name: "roles", Message: "must each be one that you have, or whose permissions you hold all: a role is also a name, by which scopes and your application tell callers apart"})
	}
	token := newServiceToken()
	hash := hashOf(token)
	k := Token{
		ID: store.NewID("tok"), Name: in.Name, Permissions: scope, Roles: roles, Credentials: in.Credentials,
		CreatedAt: now.Time, CreatedBy: caller.ID, ExpiresAt: store.At(in.ExpiresAt).Time,
	}
	err = t.db.Update(ctx, caller.Organization, func(tx *store.Tx) error {
		if err := t.insert(ctx, tx, caller, k, hash[:]); err != nil {
			return err
		}
		return t.log.Append(ctx, tx, caller, audit.Event{
			Organization: caller.Organization, Action: audit.TokenCreate, Outcome: audit.Success, Permission: access.TokenManage.String(),
			Targets:  []audit.Target{{Type: "token", ID: k.ID, Name: k.Name}},
			Metadata: map[string]any{"permissions": strings.Join(scope.Names(), " "), "expiresAt": k.ExpiresAt.Format(time.RFC3339)},
		})
	})
	if err != nil {
		return Token{}, "", err
	}
	return k, token, nil
}

// nameable gives those of roles that a token of this maker may have by name: scopes of
// credentials and the operator's application go by names, whatever a token's permissions are.
// They are the maker's own, and those that grant nothing beyond what it holds.
func (t *Tokens) nameable(ctx context.Context, maker access.Caller, roles []access.Role) ([]access.Role, error) {
	var named []access.Role
	for _, r := range roles {
		if !slices.Contains(maker.Roles, r) {
			granted, err := t.orgs.Grants(ctx, maker.Organization, []access.Role{r})
			if err != nil {
				return nil, err
			}
			if granted == 0 || maker.MayGive(granted) != nil {
				continue
			}
		}
		named = append(named, r)
	}
	return named, nil
}

// forTokens are the permissions that a service token may have, by whatever role: it makes and
// ends no tokens.
func forTokens() access.Set { return access.Tenant() &^ access.SetOf(access.TokenManage) }

func (t *Tokens) insert(ctx context.Context, tx *store.Tx, caller access.Caller, k Token, hash []byte) error {
	var n int64
	err := tx.Row(ctx, `SELECT count(*) FROM service_tokens WHERE organization = $1 AND revoked_at IS NULL AND expires_at > $2`,
		caller.Organization, store.At(k.CreatedAt)).Scan(&n)
	if err != nil {
		return err
	}
	if n >= maxTokens {
		return errTooManyTokens
	}
	_, err = tx.Exec(ctx, `INSERT INTO service_tokens
		(organization, id, hash, name, permissions, roles, credentials, maker_type, maker, maker_roles, created_at, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
		caller.Organization, k.ID, hash, k.Name, list(k.Permissions.Names()), list(k.Roles), list(k.Credentials),
		string(caller.Type), caller.ID, list(caller.Said()), store.At(k.CreatedAt), store.At(k.ExpiresAt))
	return err
}

// check reads what people decide of a token; a rejected value is not repeated.
func (t *Tokens) check(in TokenInput, now time.Time) (scope access.Set, wrong []fault.Field) {
	bad := func(name, message string) { wrong = append(wrong, fault.Field{Name: name, Message: message}) }
	if in.Name == "" || !utf8.ValidString(in.Name) || utf8.RuneCountInString(in.Name) > maxTokenName || strings.ContainsFunc(in.Name, control) {
		bad("name", fmt.Sprintf("must be 1 to %d characters without control characters", maxTokenName))
	}
	switch life := in.ExpiresAt.Sub(now); {
	case in.ExpiresAt.IsZero():
		bad("expiresAt", "is required: a token that nobody thinks of any more must end by itself")
	case life < minTokenLife || life > MaxTokenLife:
		bad("expiresAt", "must be from one minute to 366 days away")
	}
	if len(in.Permissions) == 0 && len(in.Roles) == 0 {
		bad("permissions", "or roles must say what the token may do")
	}
	if len(in.Permissions) > 0 {
		var mistakes []fault.Field
		scope, mistakes = org.ParsePermissions(in.Permissions)
		wrong = append(wrong, mistakes...)
	}
	if scope.Has(access.TokenManage) {
		bad("permissions", "must not hold token:manage: a token makes no tokens")
	}
	if len(in.Roles) > 10 || slices.Contains(in.Roles, string(access.Operator)) || slices.ContainsFunc(in.Roles, func(r string) bool { return r == "" || len(r) > 64 }) {
		bad("roles", "must hold at most 10 roles of the organization, not the operator's")
	}
	if in.Credentials != nil && len(in.Credentials) == 0 {
		bad("credentials", "must hold something, or be left out") // it would read as "none" and mean "all"
	}
	if len(in.Credentials) > 0 {
		others := access.SetOf(access.CredentialUse, access.LimitRead, access.UsageOwn)
		if len(in.Credentials) > maxCredentials {
			bad("credentials", fmt.Sprintf("must hold at most %d ids of credentials", maxCredentials))
		} else if malformed := malformedCredentials(in.Credentials); len(malformed) > 0 {
			bad("credentials", "must hold ids of credentials, such as cred_01936f3e-7c5a-7b0e-9d52-3b1f6a3c9e10; no id is entry "+strings.Join(malformed, ", "))
		}
		if len(in.Roles) > 0 || scope&^others != 0 {
			bad("credentials", "can be given to tokens with the permissions credential:use, limit:read and usage:own alone")
		}
	}
	return scope, wrong
}

// malformedCredentials gives which of ids, counted from 1, have not the form of a
// credential's id.
func malformedCredentials(ids []string) (entries []string) {
	for i, id := range ids {
		if !store.IsID("cred", id) {
			entries = append(entries, strconv.Itoa(i+1))
		}
	}
	return entries
}

// TokenFilter narrows a list of tokens.
type TokenFilter struct {
	Status string // active, expired or revoked; all when empty
	Limit  int    // 1 to 200; 50 when 0
	Cursor string // [TokenPage.NextCursor] of the page before
}

// TokenPage is one page of tokens, newest first.
type TokenPage struct {
	Tokens     []Token
	NextCursor string
}

// List gives a page of the caller's organization's tokens. It needs token:read.
func (t *Tokens) List(ctx context.Context, caller access.Caller, f TokenFilter) (TokenPage, error) {
	if err := access.Allow(caller, access.TokenRead, caller.Organization); err != nil {
		return TokenPage{}, err
	}
	where, args, err := t.filter(caller, &f)
	if err != nil {
		return TokenPage{}, err
	}
	var p TokenPage
	err = t.db.View(ctx, caller.Organization, func(tx *store.Tx) error {
		p = TokenPage{}
		rows, err := readTokens(ctx, tx, where, args...)
		for _, k := range rows {
			p.Tokens = append(p.Tokens, k.Token)
		}
		return err
	})
	if len(p.Tokens) > f.Limit {
		p.Tokens = p.Tokens[:f.Limit]
		p.NextCursor = p.Tokens[f.Limit-1].ID
	}
	return p, err
}

func (t *Tokens) filter(caller access.Caller, f *TokenFilter) (where string, args []any, err error) {
	if f.Limit == 0 {
		f.Limit = 50
	}
	var wrong []fault.Field
	if f.Limit < 1 || f.Limit > 200 {
		wrong = append(wrong, fault.Field{Name: "limit", Message: "must be from 1 to 200"})
	}
	if f.Cursor != "" && !store.IsID("tok", f.Cursor) {
		wrong = append(wrong, fault.Field{Name: "cursor", Message: "must be the nextCursor of an earlier page"})
	}
	cursor := f.Cursor
	if cursor == "" {
		cursor = "tok_g" // after every id
	}
	where, args = `organization = $1 AND id < $2`, []any{caller.Organization, cursor, f.Limit + 1}
	now := store.At(t.opts.Now())
	switch f.Status {
	case "":
	case TokenActive:
		where, args = where+` AND revoked_at IS NULL AND expires_at > $4`, append(args, now)
	case TokenExpired:
		where, args = where+` AND revoked_at IS NULL AND expires_at <= $4`, append(args, now)
	case TokenRevoked:
		where += ` AND revoked_at IS NOT NULL`
	default:
		wrong = append(wrong, fault.Field{Name: "status", Message: "must be active, expired or revoked"})
	}
	if len(wrong) > 0 {
		return "", nil, fault.InvalidFields(wrong...)
	}
	return where + ` ORDER BY id DESC LIMIT $3`, args, nil
}

// Get gives one token of the caller's organization. It needs token:read.
func (t *Tokens) Get(ctx context.Context, caller access.Caller, id string) (Token, error) {
	if err := access.Allow(caller, access.TokenRead, caller.Organization); err != nil {
		return Token{}, err
	}
	if !store.IsID("tok", id) {
		return Token{}, errTokenNotFound
	}
	var rows []kept
	err := t.db.View(ctx, caller.Organization, func(tx *store.Tx) (err error) {
		rows, err = readTokens(ctx, tx, `organization = $1 AND id = $2`, caller.Organization, id)
		return err
	})
	if err == nil && len(rows) == 0 {
		err = errTokenNotFound
	}
	if err != nil {
		return Token{}, err
	}
	return rows[0].Token, nil
}

func list[T ~string](all []T) string {
	if all == nil {
		return "[]"
	}
	b, _ := json.Marshal(all) // strings always marshal
	return string(b)
}
