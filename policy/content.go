package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// Effect is what a policy does to the requests in its scope.
type Effect string

// The effects.
const (
	Limit  Effect = "limit"  // its windows stand in place of less specific ones
	Exempt Effect = "exempt" // they pass, and nothing is counted
	Block  Effect = "block"  // they are refused with 403
)

// Mode says whether a policy acts.
type Mode string

// The modes.
const (
	Enforce Mode = "enforce"
	Observe Mode = "observe" // what it would have refused is counted and reported, and passes
)

// The bounds of a policy.
const (
	MaxWindows = 4   // limits of one policy
	maxReason  = 200 // characters
	maxPattern = 256 // bytes
)

// Content is what a policy says. Empty parts of its scope (Organization, CIDR,
// Service, Path) hold for all.
type Content struct {
	Effect       Effect            `json:"effect"`
	Mode         Mode              `json:"mode"`
	Subject      string            `json:"subject,omitempty"` // IP or Organization, of a Limit only
	Organization string            `json:"organization,omitempty"`
	CIDR         netip.Prefix      `json:"cidr,omitzero"`
	Service      string            `json:"service,omitempty"`
	Path         string            `json:"path,omitempty"` // a pattern, see the package comment
	Limits       []ratelimit.Limit `json:"limits,omitempty"`
	Reason       string            `json:"reason"`
	ExpiresAt    time.Time         `json:"expiresAt,omitzero"`
}

// Draft is a policy as it comes from outside, to be checked.
type Draft struct {
	Effect       string
	Mode         string // Enforce when empty
	Subject      string
	Organization string
	CIDR         string // an address or a range
	Service      string
	Path         string
	Limits       []string // such as 20/1s
	Reason       string
	ExpiresAt    *time.Time
}

// Check reads a draft. Every mistake is in the fields, none with its value.
// known says whether a service exists; nil takes any name.
func (d *Draft) Check(now time.Time, known func(service string) bool) (Content, []fault.Field) {
	c := Content{
		Effect: Effect(d.Effect), Mode: Mode(d.Mode), Subject: d.Subject, Organization: d.Organization,
		Service: d.Service, Reason: strings.TrimSpace(d.Reason),
	}
	wrong := append(d.checkEffect(&c), d.checkRequests(&c, known)...)
	if c.Reason == "" || utf8.RuneCountInString(c.Reason) > maxReason || !utf8.ValidString(c.Reason) || strings.ContainsFunc(c.Reason, unicode.IsControl) {
		wrong = append(wrong, fault.Field{Name: "reason", Message: "must say why, in 1 to " + strconv.Itoa(maxReason) + " characters on one line"})
	}
	if d.ExpiresAt != nil {
		if c.ExpiresAt = d.ExpiresAt.UTC().Truncate(time.Millisecond); !c.ExpiresAt.After(now) || c.ExpiresAt.Year() > 9999 {
			wrong = append(wrong, fault.Field{Name: "expiresAt", Message: "must be in the future"})
		}
	}
	return c, wrong
}

// checkEffect reads what the policy does.
func (d *Draft) checkEffect(c *Content) (wrong []fault.Field) {
	bad := func(field, message string) { wrong = append(wrong, fault.Field{Name: field, Message: message}) }
	if c.Mode == "" {
		c.Mode = Enforce
	}
	if c.Mode != Enforce && c.Mode != Observe {
		bad("mode", "must be enforce or observe")
	}
	switch c.Effect {
	case Limit:
		if c.Subject == "organization" {
			c.Subject = Organization
		}
		if c.Subject != IP && c.Subject != Organization {
			bad("subject", "must be ip or org: whose requests the windows count")
		}
		var mistakes []fault.Field
		c.Limits, mistakes = checkLimits(d.Limits)
		wrong = append(wrong, mistakes...)
	case Exempt, Block:
		if c.Subject != "" {
			bad("subject", "is for the effect limit only")
		}
		if len(d.Limits) > 0 {
			bad("limits", "are for the effect limit only")
		}
		if c.Effect == Exempt && c.Mode == Observe {
			bad("mode", "must be enforce: an exemption that is only observed does nothing")
		}
	default:
		bad("effect", "must be limit, exempt or block")
	}
	return wrong
}

// checkRequests reads which requests the policy is about.
func (d *Draft) checkRequests(c *Content, known func(service string) bool) (wrong []fault.Field) {
	bad := func(field, message string) { wrong = append(wrong, fault.Field{Name: field, Message: message}) }
	if d.Organization != "" && !access.ValidOrganization(d.Organization) {
		bad("organization", "must be an organization's id")
	}
	if d.CIDR != "" {
		var problem string
		if c.CIDR, problem = parseCIDR(d.CIDR); problem != "" {
			bad("cidr", problem)
		}
	}
	if everywhere := d.CIDR == "" || c.CIDR.IsValid() && c.CIDR.Bits() == 0; everywhere && d.Organization == "" && d.Service == "" && (c.Effect == Exempt || c.Effect == Block) {
		bad("organization", "or service or a cidr of fewer addresses must be named: this would hold for everybody")
	}
	if d.Service != "" && (len(d.Service) > 64 || known != nil && !known(d.Service)) {
		bad("service", "must be the name of a service")
	}
	if d.Path != "" {
		var problem string
		if c.Path, problem = parsePattern(d.Path); problem != "" {
			bad("path", problem)
		}
		if d.Service == "" {
			bad("service", "is required where path is given")
		}
	}
	return wrong
}

func checkLimits(texts []string) (limits []ratelimit.Limit, wrong []fault.Field) {
	if len(texts) == 0 || len(texts) > MaxWindows {
		return nil, []fault.Field{{Name: "limits", Message: fmt.Sprintf("must hold 1 to %d windows, such as 20/1s", MaxWindows)}}
	}
	windows := make(map[time.Duration]bool)
	for i, text := range texts {
		name := fmt.Sprintf("limits[%d]", i)
		l, err := ratelimit.ParseLimit(text)
		switch {
		case err != nil:
			message := strings.TrimPrefix(err.Error(), ratelimit.ErrInvalidLimit.Error()+": ")
			wrong = append(wrong, fault.Field{Name: name, Message: "is no limit such as 20/1s: " + message})
		case windows[l.Window]:
			wrong = append(wrong, fault.Field{Name: name, Message: "has the window of an earlier one"})
		}
		windows[l.Window] = true
		limits = append(limits, l)
	}
	return limits, wrong
}

// parseCIDR reads a range or a single address. Mapped IPv4 becomes IPv4.
func parseCIDR(s string) (p netip.Prefix, problem string) {
	const form = "must be an address or a CIDR range, such as 203.0.113.0/24 or 2001:db8::/32"
	if len(s) > 64 {
		return p, form
	}
	if addr, err := netip.ParseAddr(s); err == nil {
		if addr.Zone() != "" {
			return p, form
		}
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), ""
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, form
	}
	if p.Addr().Is4In6() {
		if p.Bits() < 96 {
			return netip.Prefix{}, form
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	if p != p.Masked() {
		return netip.Prefix{}, "must have no bits set past its length"
	}
	return p, ""
}

// scope is what no two policies of one owner may share. A block and an
// exemption of the same requests contradict each other, so they share it.
func (c *Content) scope() string {
	kind := "access"
	if c.Effect == Limit {
		kind = "limit-" + c.Subject
	}
	return kind + "|" + string(c.Mode) + c.counter()
}

// counter tells the counters of scopes apart.
func (c *Content) counter() string {
	cidr := ""
	if c.CIDR.IsValid() {
		cidr = c.CIDR.String()
	}
	return "|" + c.Organization + "|" + cidr + "|" + c.Service + "|" + c.Path
}

// scopeField names the narrowest part of the scope, for an error about it.
func (c *Content) scopeField() string {
	switch {
	case c.Path != "":
		return "path"
	case c.Service != "":
		return "service"
	case c.CIDR.IsValid():
		return "cidr"
	case c.Organization != "":
		return "organization"
	case c.Effect == Limit:
		return "subject"
	}
	return "effect"
}

// draft gives the content as it could have come from outside.
func (c *Content) draft() Draft {
	d := Draft{
		Effect: string(c.Effect), Mode: string(c.Mode), Subject: c.Subject, Organization: c.Organization,
		Service: c.Service, Path: c.Path, Reason: c.Reason,
	}
	if c.CIDR.IsValid() {
		d.CIDR = c.CIDR.String()
	}
	for _, l := range c.Limits {
		d.Limits = append(d.Limits, l.String())
	}
	if !c.ExpiresAt.IsZero() {
		d.ExpiresAt = &c.ExpiresAt
	}
	return d
}

var errContent = errors.New("a stored policy cannot be read")

func (c *Content) text() (string, error) {
	b, err := json.Marshal(c)
	return string(b), err
}

func contentOf(text string) (Content, error) {
	var c Content
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return c, errors.Join(errContent, err)
	}
	return c, nil
}
