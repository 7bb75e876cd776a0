// Package auth turns a request into a caller.
//
// The token is found by [TokenOf] wherever an SDK puts a provider's key, and
// read by [Authenticator.Caller]. It is a JWT, HS256 under the secret that the
// host application signs with, with the claims sub, organizationId, roles and
// exp (RFC 7519); nothing but the configured algorithm is accepted, whatever
// the token's header says. The host's word on roles counts; an unknown role
// grants nothing.
//
// Errors of this package are safe to show and never hold any of the token.
package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/maypok86/otter/v2"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/org"
)

// MinSecret is the least length of the signing secret in bytes (RFC 7518,
// section 3.2: a key of the hash's size or larger).
const MinSecret = 32

// maxToken bounds a token in bytes before anything of it is parsed.
const maxToken = 8 << 10

// The reasons for which no caller could be made of a request.
var (
	ErrNoToken   = fault.New(fault.Unauthenticated, "token_missing", "Send a token: Authorization: Bearer TOKEN.")
	ErrBadToken  = fault.New(fault.Unauthenticated, "token_invalid", "The token is not valid.")
	ErrExpired   = fault.New(fault.Unauthenticated, "token_expired", "The token has expired.")
	ErrTwoTokens = fault.New(fault.Malformed, "token_ambiguous", "Two different tokens were sent; send one.")
)

// Options sets up an [Authenticator].
type Options struct {
	Secret   []byte // at least MinSecret bytes
	Issuer   string // checked where set
	Audience string // checked where set
	Now      func() time.Time
}

// Authenticator makes callers of tokens.
type Authenticator struct {
	secret   []byte
	parser   *jwt.Parser
	orgs     *org.Directory
	now      func() time.Time
	verified *otter.Cache[[sha256.Size]byte, verified]
}

// verified is what a token that was verified before says. A signature that
// held holds for good; the times are looked at on every use.
type verified struct {
	caller    access.Caller
	expires   time.Time
	notBefore time.Time // zero: at any time
}

// maxVerified bounds how many tokens are remembered, by their SHA-256.
const maxVerified = 16384

// New gives an authenticator that asks orgs whether a caller is let in.
func New(orgs *org.Directory, opts Options) *Authenticator {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	checks := []jwt.ParserOption{
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}),
		jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithStrictDecoding(), jwt.WithTimeFunc(opts.Now),
	}
	if opts.Issuer != "" {
		checks = append(checks, jwt.WithIssuer(opts.Issuer))
	}
	if opts.Audience != "" {
		checks = append(checks, jwt.WithAudience(opts.Audience))
	}
	return &Authenticator{
		secret: opts.Secret, parser: jwt.NewParser(checks...), orgs: orgs, now: opts.Now,
		verified: otter.Must(&otter.Options[[sha256.Size]byte, verified]{MaximumSize: maxVerified}),
	}
}

// TokenOf finds the caller's token in Authorization (Bearer, or the password
// of Basic), x-api-key, api-key or x-goog-api-key. It gives [ErrNoToken] when
// there is none and [ErrTwoTokens] when there are two that differ.
func TokenOf(h http.Header) (string, error) {
	var token string
	for _, name := range []string{"Authorization", "X-Api-Key", "Api-Key", "X-Goog-Api-Key"} {
		for _, value := range h[name] {
			candidate := strings.TrimSpace(value)
			if name == "Authorization" {
				candidate = fromAuthorization(value)
			}
			switch {
			case candidate == "" || candidate == token:
			case token != "":
				return "", ErrTwoTokens
			default:
				token = candidate
			}
		}
	}
	if token == "" {
		return "", ErrNoToken
	}
	return token, nil
}

func fromAuthorization(value string) string {
	scheme, rest, _ := strings.Cut(value, " ")
	if strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(rest)
	}
	if strings.EqualFold(scheme, "Basic") {
		r := http.Request{Header: http.Header{"Authorization": {value}}}
		_, password, _ := r.BasicAuth()
		return password
	}
	return ""
}

// claims are what a token is made of.
type claims struct {
	OrganizationID string   `json:"organizationId"`
	Roles          []string `json:"roles"`
	jwt.RegisteredClaims
}

// Caller makes a caller of a token: [ErrBadToken] or [ErrExpired] when the
// token is not good, the errors of [org.Directory.Admit] when its organization
// or member is not let in; the caller is given with those as well, for the
// trail.
func (a *Authenticator) Caller(ctx context.Context, token string) (access.Caller, error) {
	c, err := a.Verify(token)
	if err != nil {
		return access.Caller{}, err
	}
	return c, a.orgs.Admit(ctx, c)
}

// Verify reads a token without asking whether its organization is known.
func (a *Authenticator) Verify(token string) (access.Caller, error) {
	if len(token) > maxToken || strings.ContainsAny(token, "\r\n") { // encoding/base64 would skip line breaks
		return access.Caller{}, ErrBadToken
	}
	key := sha256.Sum256([]byte(token))
	if v, ok := a.verified.GetIfPresent(key); ok {
		if now := a.now(); now.Before(v.expires) && !now.Before(v.notBefore) {
			return v.caller, nil
		}
	}
	v, err := a.parse(token)
	if err == nil {
		a.verified.Set(key, v)
	}
	return v.caller, err
}

func (a *Authenticator) parse(token string) (verified, error) {
	c := jwt.MapClaims{} // not a struct: encoding/json would take "ROLES" for "roles"
	_, err := a.parser.ParseWithClaims(token, c, func(t *jwt.Token) (any, error) {
		// RFC 7515, section 4.1.11: extensions that are marked critical and not understood.
		if _, ok := t.Header["crit"]; ok {
			return nil, errors.New("crit is not supported")
		}
		return a.secret, nil
	})
	switch {
	case errors.Is(err, jwt.ErrTokenExpired) && !errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return verified{}, ErrExpired.Because(err)
	case err != nil:
		return verified{}, ErrBadToken.Because(err)
	}
	subject, _ := c["sub"].(string)
	organization, _ := c["organizationId"].(string)
	roles, ok := rolesOf(c["roles"])
	id, isText := c["jti"].(string)
	switch {
	case subject == "" || len(subject) > 256 || strings.ContainsFunc(subject, control):
		return verified{}, ErrBadToken.Because(errors.New("sub is missing or not usable"))
	case !org.ValidID(organization):
		return verified{}, ErrBadToken.Because(errors.New("organizationId is missing or malformed"))
	case !ok:
		return verified{}, ErrBadToken.Because(errors.New("roles is missing or no list of names"))
	case c["jti"] != nil && !isText:
		return verified{}, ErrBadToken.Because(errors.New("jti is no text"))
	}
	typ := access.User
	if len(roles) == 1 && roles[0] == access.ServiceRole {
		typ = access.Service
	}
	v := verified{caller: access.NewCaller(organization, typ, subject, roles...)}
	v.caller.TokenID = id
	if at, err := c.GetExpirationTime(); err == nil && at != nil {
		v.expires = at.Time
	}
	if at, err := c.GetNotBefore(); err == nil && at != nil {
		v.notBefore = at.Time
	}
	return v, nil
}

// rolesOf reads the claim roles, a list of text that may be empty.
func rolesOf(claim any) ([]access.Role, bool) {
	list, ok := claim.([]any)
	roles := make([]access.Role, len(list))
	for i, r := range list {
		name, isText := r.(string)
		roles[i], ok = access.Role(name), ok && isText
	}
	return roles, ok
}

func control(r rune) bool { return r < ' ' || r == 0x7f }

// Sign makes a token for the caller that expires ttl after now, as the host
// application would. issuer and audience are left out where they are empty.
func Sign(secret []byte, c access.Caller, issuer, audience string, now time.Time, ttl time.Duration) (string, error) {
	registered := jwt.RegisteredClaims{
		Subject: c.ID, Issuer: issuer, ID: c.TokenID,
		IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(ttl)),
	}
	if audience != "" {
		registered.Audience = jwt.ClaimStrings{audience}
	}
	return jwt.NewWithClaims(jwt.SigningMethodHS256, claims{c.Organization, c.RoleNames(), registered}).SignedString(secret)
}
