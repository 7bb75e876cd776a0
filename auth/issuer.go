package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/internal/fault"
)

// IssuerConfig is an issuer of JWTs whose keys are fetched from it (JWKS, RFC
// 7517): an OpenID Connect provider, or anybody who publishes keys that way.
//
// A claim is named by its name, or by a JSON Pointer (RFC 6901) where it begins
// with "/": "/realm_access/roles", "/https:~1~1example.com~1roles".
type IssuerConfig struct {
	Issuer    string `json:"issuer"`    // what the claim iss must be, byte for byte
	JWKS      string `json:"jwks"`      // where its keys are: https
	Algorithm string `json:"algorithm"` // RS256, ES256 or EdDSA, and no other
	Audience  string `json:"audience"`  // what the claim aud must hold

	Member       string `json:"member"`       // the claim that names the member; sub when left out
	MemberPrefix string `json:"memberPrefix"` // put before it, to keep issuers' members apart
	Organization string `json:"organization"` // the claim that names the organization; organizationId when left out
	Fixed        string `json:"fixedOrganization"`

	Roles   string              `json:"roles"`   // the claim that lists roles; roles when left out
	RoleMap map[string][]string `json:"roleMap"` // from its names to roles here; where it is given, other names count for nothing
}

// MaxIssuersFile bounds the configuration of issuers, in bytes.
const MaxIssuersFile = 64 << 10

// maxIssuers bounds how many there are.
const maxIssuers = 32

// ParseIssuers reads the configuration of issuers, a JSON array. Every mistake
// is in the error, one a line, each with the mend. plain lets keys come over
// plain http from this machine, for development.
func ParseIssuers(data []byte, plain bool) ([]IssuerConfig, error) {
	if len(data) > MaxIssuersFile {
		return nil, fmt.Errorf("must be at most %d bytes", MaxIssuersFile)
	}
	var all []IssuerConfig
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&all); err != nil {
		if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
			return nil, fault.Mistakef("see docs/access.md", "%s is no field of an issuer", name)
		}
		return nil, fault.Mistakef("see docs/access.md", "must be a JSON array of issuers")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("must hold nothing after the array")
	}
	var mistakes []error
	if len(all) > maxIssuers {
		mistakes = append(mistakes, fmt.Errorf("must hold at most %d issuers", maxIssuers))
	}
	for i := range all {
		all[i].fill()
		for _, m := range all[i].check(plain) {
			mistakes = append(mistakes, fmt.Errorf("issuer %d: %s", i+1, m))
		}
		if slices.ContainsFunc(all[:i], func(c IssuerConfig) bool { return c.Issuer == all[i].Issuer }) {
			mistakes = append(mistakes, fmt.Errorf("issuer %d: issuer is named twice", i+1))
		}
	}
	return all, errors.Join(mistakes...)
}

func (c *IssuerConfig) fill() {
	if c.Member == "" {
		c.Member = "sub"
	}
	if c.Organization == "" && c.Fixed == "" {
		c.Organization = "organizationId"
	}
	if c.Roles == "" {
		c.Roles = "roles"
	}
}

func (c *IssuerConfig) check(plain bool) (mistakes []string) {
	add := func(ok bool, mistake string) {
		if !ok {
			mistakes = append(mistakes, mistake)
		}
	}
	add(c.Issuer != "" && len(c.Issuer) <= 512, "issuer must be what its tokens have as iss")
	add(checkKeysURL(c.JWKS, plain), "jwks must be an https address without user or fragment, such as https://login.example.com/.well-known/jwks.json (plain http only to this machine, with GATEHOUSE_ENV=development)")
	add(c.Algorithm == rs256 || c.Algorithm == es256 || c.Algorithm == eddsa, "algorithm must be RS256, ES256 or EdDSA, the one that it signs with")
	add(c.Audience != "", "audience must be what its tokens have as aud for Gatehouse; without it a token that was made for another application would do")
	add(c.Fixed == "" || access.ValidOrganization(c.Fixed), "fixedOrganization must be an organization's id")
	add(c.Fixed == "" || c.Organization == "", "give organization (a claim) or fixedOrganization, not both")
	add(len(c.MemberPrefix) <= 64 && !strings.ContainsFunc(c.MemberPrefix, control), "memberPrefix must be at most 64 bytes without control characters")
	for _, claim := range []struct{ field, path string }{{"member", c.Member}, {"organization", c.Organization}, {"roles", c.Roles}} {
		add(strings.Count(claim.path, "/") <= maxDepth || !strings.HasPrefix(claim.path, "/"), claim.field+" must be a claim's name or a JSON Pointer at most 8 deep")
	}
	return mistakes
}

// checkKeysURL reports whether keys may be fetched from address.
func checkKeysURL(address string, plain bool) bool {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" || u.User != nil || u.Fragment != "" {
		return false
	}
	if u.Scheme == "https" {
		return true
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return plain && u.Scheme == "http" && (u.Hostname() == "localhost" || err == nil && ip.IsLoopback())
}

// claim gives the value that a name or a JSON Pointer leads to, nil where there
// is none.
func claim(members []member, path string) []byte {
	if !strings.HasPrefix(path, "/") {
		return find(members, path)
	}
	unescape := strings.NewReplacer("~1", "/", "~0", "~")
	var value []byte
	for i, step := range strings.Split(path[1:], "/") {
		if i > 0 {
			var err error
			if members, err = readObject(value, nil); err != nil {
				return nil
			}
		}
		if value = find(members, unescape.Replace(step)); value == nil {
			return nil
		}
	}
	return value
}

// caller makes a caller of an issuer's claims.
func (c *IssuerConfig) caller(members []member) (access.Caller, error) {
	subject, _ := readText(claim(members, c.Member))
	if subject == "" {
		return access.Caller{}, errors.New("the member's claim is missing or no text")
	}
	organization := c.Fixed
	if organization == "" {
		organization, _ = readText(claim(members, c.Organization))
	}
	var names []string
	if value := claim(members, c.Roles); value != nil {
		var ok bool
		if names, ok = readTexts(value); !ok {
			one, isText := readText(value)
			if !isText {
				return access.Caller{}, errors.New("the roles' claim is neither a text nor a list of texts")
			}
			names = []string{one}
		}
	}
	return newCaller(organization, c.MemberPrefix+subject, c.rolesOf(names), members)
}

// rolesOf maps an issuer's names to roles here. Whoever manages groups there
// does not operate this instance: the operator's role comes by the map alone.
func (c *IssuerConfig) rolesOf(names []string) []access.Role {
	var roles []access.Role
	add := func(name string) {
		if r := access.Role(name); !slices.Contains(roles, r) {
			roles = append(roles, r)
		}
	}
	for _, name := range names {
		if c.RoleMap == nil {
			if name != string(access.Operator) {
				add(name)
			}
			continue
		}
		for _, mapped := range c.RoleMap[name] {
			add(mapped)
		}
	}
	return roles
}
