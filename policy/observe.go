package policy

import (
	"context"
	"slices"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// observe asks the observed policies what they would have done with a request that passes,
// were they in force: a block does so also of one that is exempt. Each limit keeps counts of its own, of what it would have admitted, and
// none can refuse: neither a denial nor a limiter that is away matters.
func (l *Limits) observe(ctx context.Context, caller access.Caller, now time.Time, r *Request) {
	s := r.snapshot
	if !s.observes {
		return
	}
	var d ratelimit.Decision
	for _, sets := range []*[2][kinds]ruleSet{&s.operator, &s.own} {
		if blocks := r.observedRules(sets, kindBlock); len(blocks) > 0 {
			l.wouldRefuse(ctx, caller, r, blocks[0], nil)
		}
		if r.Outcome == Exempted { // from limits, whatever they are
			continue
		}
		for i := range r.subjects {
			c := &r.counted[i]
			if c.again || c.by != nil && c.by.owner != access.InstanceOrganization {
				continue // the same address and organization once more
			}
			k := kindOrganization
			if c.class == IPIndex {
				k = kindIP
			}
			for _, by := range r.observedRules(sets, k) {
				subjects := [1]ratelimit.Subject{{Type: observedPrefix + typeOf(c.class), Key: c.key + "|" + by.id, Limits: by.content.Limits}}
				if err := l.limiter.Take(ctx, now, subjects[:], &d); err == nil && !d.Admitted {
					l.wouldRefuse(ctx, caller, r, by, &d.Statuses[0])
				}
			}
		}
	}
}

// observedRules gives the observed rules of a kind that would hold for the request, one for each
// reading of its path: not those that stand behind a more specific one that is in
// force, which would hold beside them too.
func (r *Request) observedRules(sets *[2][kinds]ruleSet, k kind) (all []*rule) {
	ask := func(q *question) {
		by := sets[observed][k].find(q)
		if by == nil || slices.Contains(all, by) {
			return
		}
		if k != kindBlock { // all blocks hold
			if now := sets[enforced][k].find(q); now != nil && now.compare(by) < 0 {
				return
			}
		}
		all = append(all, by)
	}
	ask(&r.question)
	for i := range r.question.closed {
		ask(r.question.reading(i))
	}
	return all
}

// wouldRefuse tells that by would have refused r: repeats are counted by the organization that r is of,
// which need not be that of whoever asks.
func (l *Limits) wouldRefuse(ctx context.Context, caller access.Caller, r *Request, by *rule, s *ratelimit.Status) {
	e := audit.Event{
		Organization: by.owner, // who made the policy reads what it would do
		Action:       audit.LimitObserve, Outcome: audit.Success, Reason: "would_be_blocked", Permission: access.CredentialUse.String(),
		Targets:  []audit.Target{{Type: "policy", ID: by.id}},
		Metadata: map[string]any{"policy": by.id},
	}
	if r.organization != access.InstanceOrganization { // otherwise it is of an address alone
		e.Targets = append(e.Targets, audit.Target{Type: "organization", ID: r.organization})
		e.Metadata["organization"] = r.organization
	}
	if s != nil {
		e.Reason = "would_be_limited"
		e.Metadata["type"], e.Metadata["limit"], e.Metadata["windowSeconds"] = by.content.Subject, s.Limit.Requests, s.Limit.Window.Seconds()
	}
	l.log.Security(ctx, caller, e)
	if l.opts.Observed != nil {
		l.opts.Observed(string(by.content.Effect))
	}
}
