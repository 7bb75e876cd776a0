package policy

import (
	"context"
	"fmt"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// Stored is a policy out of a file, with its owner: an organization, or the
// operator where it is empty or access.InstanceOrganization.
type Stored struct {
	Owner string
	Draft
}

// Trial decides by policies that are in force nowhere, with counts of its own in
// memory: to see what they would do with recorded traffic. It is for one
// goroutine.
type Trial struct {
	limits  *Limits
	request Request
}

// NewTrial gives a trial of defaults and policies, or Invalid with every mistake
// in the policies: each field's name begins with its policy, as in
// policies[3].cidr. Services are not looked up.
func NewTrial(defaults Defaults, policies []Stored) (*Trial, error) {
	l := New(ratelimit.NewMemory(ratelimit.MemoryOptions{MaxKeys: 1 << 30}), nil, nil, defaults, Options{})
	var compiled []Policy
	var wrong []fault.Field
	scopes := make(map[string]bool)
	for i := range policies {
		p, at := policies[i], fmt.Sprintf("policies[%d].", i)
		bad := func(f fault.Field) { wrong = append(wrong, fault.Field{Name: at + f.Name, Message: f.Message}) }
		if p.Owner == "" {
			p.Owner = access.InstanceOrganization
		}
		tenant := p.Owner != access.InstanceOrganization
		switch {
		case tenant && !access.ValidOrganization(p.Owner):
			bad(fault.Field{Name: "owner", Message: "must be an organization's id or _instance"})
		case tenant && p.Organization != "" && p.Organization != p.Owner:
			bad(fault.Field{Name: "organization", Message: "must be the owner's"})
		case tenant && Effect(p.Effect) == Exempt:
			bad(fault.Field{Name: "effect", Message: "must be limit or block: only the operator exempts"})
		case tenant:
			p.Organization = p.Owner
		}
		c, mistakes := p.Check(time.Time{}, nil)
		for _, f := range mistakes {
			bad(f)
		}
		if len(mistakes) > 0 {
			continue
		}
		scope := p.Owner + "|" + c.scope()
		if scopes[scope] {
			bad(fault.Field{Name: c.scopeField(), Message: "contradicts an earlier policy that holds for the same requests"})
		}
		scopes[scope] = true
		compiled = append(compiled, Policy{ID: fmt.Sprintf("policies[%d]", i), Owner: p.Owner, Content: c})
	}
	if len(wrong) > 0 {
		return nil, fault.InvalidFields(wrong...)
	}
	l.snapshot.Store(compile(1, compiled, l.opts.IPv6Prefix))
	return &Trial{limits: l}, nil
}

// Decide decides on a visit at an instant; instants may not go back. Without an
// address or an organization nothing counts for it. Observed policies do nothing.
func (t *Trial) Decide(at time.Time, organization string, v Visit) (Outcome, error) {
	r := &t.request
	t.limits.prepare(r, organization, v, at, v.Addr.IsValid(), organization != "")
	switch {
	case r.block != nil:
		return Blocked, nil
	case r.exemption != nil:
		return Exempted, nil
	}
	if err := t.limits.limiter.Take(context.Background(), at, r.subjects, &r.Decision); err != nil {
		return "", err
	}
	if r.Decision.Admitted {
		return Admitted, nil
	}
	return Denied, nil
}
