// Package auth turns a request into a caller.
//
// The token is found by [TokenOf] wherever an SDK puts a provider's key, and
// read by [Authenticator.Caller]. There are three kinds:
//
//   - A JWT that the host application signs: HS256 under JWT_SECRET, with the
//     claims sub, organizationId, roles and exp (RFC 7519).
//   - A JWT of a configured issuer ([IssuerConfig]): RS256, ES256 or EdDSA, one
//     algorithm for each issuer, under keys fetched from it ([Issuers]). Its
//     claims are mapped to a member, an organization and roles.
//   - A service token ([Tokens]), gth_..., which is looked up.
//
// Nothing of a JWT chooses how it is verified: the algorithm is the configured
// one, keys come from the configuration, and headers that would bring a key or
// other rules are refused. It is read once, by a strict reader of its own
// (strictjson.go) that takes no duplicate members, no deep nesting and no times
// but whole seconds; what is too long is refused unread. Clocks may be off by
// [Leeway].
//
// The signer's word on roles counts; an unknown role grants nothing. What the
// member holds in Gatehouse itself comes on top (package org).
//
// Errors of this package are safe to show and never hold any of the token.
package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/golang-jwt/jwt/v5"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/internal/bearer"
	"github.com/gatehouse-io/gatehouse/internal/bounded"
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
	ErrRevoked   = fault.New(fault.Unauthenticated, "token_revoked", "The token was revoked.")
	ErrTwoTokens = fault.New(fault.Malformed, "token_ambiguous", "Two different tokens were sent; send one.")
)

// Options sets up an [Authenticator].
type Options struct {
	Secret   []byte           // at least MinSecret bytes
	Issuer   string           // checked where set
	Audience string           // checked where set
	Issuers  *Issuers         // further issuers; nil: none
	Tokens   *Tokens          // service tokens; nil: none are let in
	Now      func() time.Time // time.Now when nil
}

// Authenticator makes callers of tokens.
type Authenticator struct {
	secret   []byte
	issuer   string
	audience string
	orgs     *org.Directory
	issuers  *Issuers
	tokens   *Tokens
	now      func() time.Time
	verified *bounded.Map[[sha256.Size]byte, verified]
}

// verified is what a token that was verified before says. A signature that
// held holds for as long as its key does; the times are looked at on every use.
type verified struct {
	caller access.Caller
	claimTimes

	issuer *issuer // nil: the host application
	keyID  string
	key    *verifyKey
}

// stillSigned reports whether the issuer still has the key that signed.
func (v *verified) stillSigned() bool {
	return v.issuer == nil || slices.Contains(v.issuer.known(v.keyID), v.key)
}

// maxVerified bounds how many tokens are remembered, by their SHA-256.
const maxVerified = 16384

// New gives an authenticator that asks orgs whether a caller is let in.
func New(orgs *org.Directory, opts Options) *Authenticator {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	return &Authenticator{
		secret: opts.Secret, issuer: opts.Issuer, audience: opts.Audience, orgs: orgs, issuers: opts.Issuers, tokens: opts.Tokens, now: opts.Now,
		verified: bounded.New[[sha256.Size]byte, verified](maxVerified),
	}
}

// TokenOf finds the caller's token in Authorization (Bearer; "token", as GitHub's SDKs
// write it; or the password of Basic), x-api-key, api-key or x-goog-api-key. It gives [ErrNoToken] when
// there is none and [ErrTwoTokens] when there are two that differ.
func TokenOf(h http.Header) (string, error) {
	var token string
	for _, name := range bearer.Headers {
		for _, value := range h[name] {
			switch candidate := candidateOf(name, value); {
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

func candidateOf(name, value string) string {
	if name == "Authorization" {
		return fromAuthorization(value)
	}
	return strings.TrimSpace(value)
}

func fromAuthorization(value string) string {
	scheme, rest, _ := strings.Cut(value, " ")
	if strings.EqualFold(scheme, "Bearer") || strings.EqualFold(scheme, "token") {
		return strings.TrimSpace(rest)
	}
	if strings.EqualFold(scheme, "Basic") {
		r := http.Request{Header: http.Header{"Authorization": {value}}}
		_, password, _ := r.BasicAuth()
		return password
	}
	return ""
}

// Caller makes a caller of a token: [ErrBadToken], [ErrExpired] or [ErrRevoked]
// when the token is not good, [ErrIssuerAway] when it cannot be said, the errors
// of [org.Directory.Resolve] when its organization or member is not let in. The
// caller is given with those as well where it is known, for the trail.
func (a *Authenticator) Caller(ctx context.Context, token string) (access.Caller, error) {
	if isServiceToken(token) {
		if a.tokens == nil {
			return access.Caller{}, ErrBadToken.Because(errors.New("no service tokens are let in"))
		}
		return a.tokens.caller(ctx, token)
	}
	c, err := a.verify(ctx, token)
	if err != nil {
		return access.Caller{}, err
	}
	return a.orgs.Resolve(ctx, c)
}

// verify reads a JWT without asking whether its organization is known. ctx
// bounds the wait for an issuer's keys.
func (a *Authenticator) verify(ctx context.Context, token string) (access.Caller, error) {
	if len(token) > maxToken || strings.ContainsAny(token, "\r\n") { // encoding/base64 would skip line breaks
		return access.Caller{}, ErrBadToken.Because(errors.New("it is too long, or has a line break"))
	}
	key := sha256.Sum256([]byte(token))
	if v, ok := a.verified.Get(key); ok && v.check(a.now()) == nil && v.stillSigned() {
		return v.caller, nil
	}
	v, err := a.parse(ctx, token)
	if err != nil {
		return access.Caller{}, err
	}
	a.verified.Set(key, v)
	return v.caller, nil
}

// parse reads and verifies a token. Its header only says which of two doors it
// knocks at; what opens each is fixed: JWT_SECRET with HS256, or the issuer that
// the claim iss names with its one algorithm.
func (a *Authenticator) parse(ctx context.Context, token string) (verified, error) {
	t, err := splitJWS(token)
	if err != nil {
		return verified{}, ErrBadToken.Because(err)
	}
	var v verified
	switch {
	case t.algorithm == hs256:
		v, err = a.ofHost(t)
	case a.issuers.knows(t.algorithm):
		v, err = a.ofIssuer(ctx, t)
	default:
		err = errors.New("the algorithm is not one of those configured")
	}
	if _, public := fault.As(err); err != nil && !public {
		err = ErrBadToken.Because(err)
	}
	if err == nil {
		err = v.check(a.now())
	}
	return v, err
}

// ofHost reads a token that the host application signed.
func (a *Authenticator) ofHost(t jws) (v verified, err error) {
	if !t.verifyHMAC(a.secret) {
		return v, errors.New("the signature is not of JWT_SECRET")
	}
	members, err := t.claims(make([]member, 0, 16))
	if err != nil {
		return v, err
	}
	issuer, _ := readText(find(members, "iss"))
	switch {
	case a.issuer != "" && issuer != a.issuer:
		return v, errors.New("iss is not JWT_ISSUER")
	case a.issuers.find(issuer) != nil:
		return v, errors.New("iss is an issuer of AUTH_ISSUERS, which does not sign with JWT_SECRET")
	case a.audience != "" && !hasAudience(members, a.audience):
		return v, errors.New("aud does not hold JWT_AUDIENCE")
	}
	roles, ok := readTexts(find(members, "roles"))
	if !ok {
		return v, errors.New("roles is missing or no list of names")
	}
	subject, _ := readText(find(members, "sub"))
	organization, _ := readText(find(members, "organizationId"))
	if v.caller, err = newCaller(organization, subject, rolesOf(roles), members); err != nil {
		return v, err
	}
	v.claimTimes, ok = readTimes(members)
	if !ok {
		return v, errTimes
	}
	return v, nil
}

// ofIssuer reads a token of a configured issuer. Its claims are read before its
// signature is verified only to find out whose it is.
func (a *Authenticator) ofIssuer(ctx context.Context, t jws) (v verified, err error) {
	members, err := t.claims(make([]member, 0, 32))
	if err != nil {
		return v, err
	}
	name, _ := readText(find(members, "iss"))
	i := a.issuers.find(name)
	switch {
	case i == nil:
		return v, errors.New("iss is no issuer of AUTH_ISSUERS")
	case i.Algorithm != t.algorithm:
		return v, errors.New("the issuer signs with another algorithm")
	case !hasAudience(members, i.Audience):
		return v, errors.New("aud does not hold the issuer's audience")
	}
	times, ok := readTimes(members)
	if !ok {
		return v, errTimes
	}
	keys, err := i.keysFor(ctx, t.keyID)
	if err != nil {
		return v, err
	}
	signed := slices.IndexFunc(keys, func(k *verifyKey) bool { return t.verify(i.Algorithm, k.public) })
	if signed < 0 {
		return v, errors.New("the signature is of none of the issuer's keys")
	}
	caller, err := i.caller(members)
	return verified{caller: caller, claimTimes: times, issuer: i, keyID: t.keyID, key: keys[signed]}, err
}

var errTimes = errors.New("exp is missing, or a time is no whole number of seconds")

// claims reads the payload.
func (t jws) claims(into []member) ([]member, error) {
	raw, err := decode(t.payload)
	if err != nil {
		return nil, err
	}
	return readObject(raw, into)
}

// newCaller makes a caller of what a token says.
func newCaller(organization, subject string, roles []access.Role, members []member) (access.Caller, error) {
	id, isText := readText(find(members, "jti"))
	switch {
	case subject == "" || len(subject) > maxID || strings.ContainsFunc(subject, control):
		return access.Caller{}, errors.New("the member is missing or not usable")
	case !access.ValidOrganization(organization):
		return access.Caller{}, errors.New("the organization is missing or malformed")
	case find(members, "jti") != nil && (!isText || len(id) > maxID):
		return access.Caller{}, errors.New("jti is no short text")
	}
	typ := access.User
	if len(roles) == 1 && roles[0] == access.ServiceRole {
		typ = access.Service
	}
	c := access.NewCaller(organization, typ, subject, roles...)
	c.TokenID = id
	return c, nil
}

func rolesOf(names []string) []access.Role {
	roles := make([]access.Role, len(names))
	for i, name := range names {
		roles[i] = access.Role(name)
	}
	return roles
}

func control(r rune) bool { return unicode.IsControl(r) }

// claims are what a token of the host application is made of.
type claims struct {
	OrganizationID string   `json:"organizationId"`
	Roles          []string `json:"roles"`
	jwt.RegisteredClaims
}

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
