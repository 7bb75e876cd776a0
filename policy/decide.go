package policy

import (
	"context"
	"net/netip"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// Outcome is how a decision ended.
type Outcome string

// The outcomes.
const (
	Admitted Outcome = "admitted" // counted, may pass
	Denied   Outcome = "denied"   // over a limit
	Exempted Outcome = "exempt"   // not counted, may pass
	Blocked  Outcome = "blocked"  // refused whatever the counts
)

// ErrBlocked is answered to a request that a policy blocks. It names neither
// the policy nor its reason, which are the operator's.
var ErrBlocked = fault.New(fault.Denied, "blocked", "Requests like this one are blocked by a policy. Waiting does not help; ask whoever runs this service.")

// Visit is where a request comes from and goes to.
type Visit struct {
	Addr    netip.Addr
	Service string // as the catalogue names it; "" for none
	Path    string // after the service, as it stands on the request line
}

// maxSubjects is how many subjects one request has: address and organization,
// under the operator's limits and under the organization's own, for a path that
// can be read in two ways twice. One that can be read in more ways has as many of
// its limits at most.
const maxSubjects = ratelimit.MaxSubjects

// counted says what one subject of a request is.
type counted struct {
	class int    // IPIndex or OrganizationIndex
	key   string // of the subject, without what tells counters apart
	by    *rule  // whose limits they are; nil: the defaults
	again bool   // it stands here already, for another reading of the path
}

// Request is what a decision is about, and its answer. It may be used again.
type Request struct {
	Outcome  Outcome
	Decision ratelimit.Decision

	organization string // whose trail a denial stands in
	named        bool   // by somebody else: there may be no such organization
	subjects     []ratelimit.Subject
	counted      [maxSubjects]counted
	snapshot     *snapshot
	question     question
	block        *rule
	exemption    *rule
}

// Prepare fills r for a caller's visit at now.
func (l *Limits) Prepare(r *Request, caller access.Caller, v Visit, now time.Time) {
	l.prepare(r, caller.Organization, v, now, true, true)
}

// prepare fills r for the wanted ones of an address and an organization.
func (l *Limits) prepare(r *Request, organization string, v Visit, now time.Time, address, tenant bool) {
	s := l.snapshot.Load()
	r.snapshot, r.block, r.exemption, r.Outcome, r.named = s, nil, nil, "", false
	r.organization = access.InstanceOrganization
	if tenant {
		r.organization = organization
	}
	r.subjects, r.Decision.Statuses = r.subjects[:0], r.Decision.Statuses[:0]
	if s.rules == 0 {
		if address {
			r.add(IPIndex, l.IPKey(v.Addr), nil, l.defaults.IP)
		}
		if tenant {
			r.add(OrganizationIndex, organization, nil, l.defaults.Organization)
		}
		return
	}
	r.question = questionOf(organization, v, now)
	q := &r.question
	if r.block = s.operator[enforced][kindBlock].find(q); r.block == nil {
		r.block = s.own[enforced][kindBlock].find(q)
	}
	r.exemption = s.operator[enforced][kindExempt].find(q)
	for i := range q.closed {
		r.alsoAs(s, q.reading(i))
	}
	ipKey := ""
	if address {
		ipKey = l.IPKey(v.Addr)
	}
	add := func(sets *[kinds]ruleSet, q *question, defaults Defaults) {
		if address {
			r.addRule(IPIndex, ipKey, sets[kindIP].find(q), defaults.IP)
		}
		if tenant {
			r.addRule(OrganizationIndex, organization, sets[kindOrganization].find(q), defaults.Organization)
		}
	}
	// An organization's own limits stand beside the operator's, and where there is no room for all of them
	// behind those: so they can only tighten, whatever they say.
	add(&s.operator[enforced], q, l.defaults)
	first := len(r.subjects)
	for i := range q.closed {
		add(&s.operator[enforced], q.reading(i), l.defaults)
	}
	own := len(r.subjects)
	add(&s.own[enforced], q, Defaults{})
	for i := range q.closed {
		add(&s.own[enforced], q.reading(i), Defaults{})
	}
	for i := first; i < own; i++ {
		r.counted[i].again = true
	}
}

// alsoAs is blocked by what blocks any reading of a path, and exempt where all are.
func (r *Request) alsoAs(s *snapshot, other *question) {
	if r.block == nil {
		r.block = s.operator[enforced][kindBlock].find(other)
	}
	if r.block == nil {
		r.block = s.own[enforced][kindBlock].find(other)
	}
	if s.operator[enforced][kindExempt].find(other) == nil {
		r.exemption = nil
	}
}

// addRule adds the limits of by, or the defaults where it is nil and there are any, unless they are there
// already for another reading of the path.
func (r *Request) addRule(class int, key string, by *rule, defaults []ratelimit.Limit) {
	if by != nil {
		defaults = by.content.Limits
	}
	if defaults != nil && r.lacks(class, by) {
		r.add(class, key, by, defaults)
	}
}

// lacks reports whether the limits of by are not counted yet, and there is room for them.
func (r *Request) lacks(class int, by *rule) bool {
	for _, c := range r.counted[:len(r.subjects)] {
		if c.class == class && c.by == by {
			return false
		}
	}
	return len(r.subjects) < maxSubjects
}

func (r *Request) add(class int, key string, by *rule, limits []ratelimit.Limit) {
	s := ratelimit.Subject{Type: typeOf(class), Key: key, Limits: limits}
	if by != nil && by.suffix != "" {
		s.Key += by.suffix
	}
	r.counted[len(r.subjects)] = counted{class: class, key: key, by: by}
	r.subjects = append(r.subjects, s)
}

func typeOf(class int) string {
	if class == IPIndex {
		return IP
	}
	return Organization
}

// Take decides on a prepared request and counts it where it is admitted. A
// denial or a block is a security event. The answer is r.Outcome and
// r.Decision; a block is [ErrBlocked] as well.
func (l *Limits) Take(ctx context.Context, caller access.Caller, now time.Time, r *Request) error {
	switch {
	case r.block != nil:
		r.without(now, Blocked)
		l.blocked(ctx, caller, now, r)
		return ErrBlocked
	case r.exemption != nil:
		r.without(now, Exempted)
		l.observe(ctx, caller, now, r)
		return nil
	}
	if err := l.limiter.Take(ctx, now, r.subjects, &r.Decision); err != nil {
		return asFault(err)
	}
	if !r.Decision.Admitted {
		r.Outcome = Denied
		trail := l.trailFor(ctx, r)
		for class := range classes {
			// Once, however many of its limits are full: of those the tightest tells.
			if i := r.tightest(class); i >= 0 && r.Decision.Statuses[i].Full {
				c := &r.counted[i]
				l.top.Count(now, typeOf(class), c.key)
				e := exceeded(typeOf(class), c.key, r.Decision.Statuses[i], r.Decision.Store, c.by)
				e.Organization = trail
				l.log.Security(ctx, caller, e)
			}
		}
		return nil
	}
	r.Outcome = Admitted
	l.observe(ctx, caller, now, r)
	return nil
}

// Peek gives where the subjects of a prepared request stand, without counting
// and without a look at blocks and exemptions.
func (l *Limits) Peek(ctx context.Context, now time.Time, r *Request) error {
	return asFault(l.limiter.Peek(ctx, now, r.subjects, &r.Decision))
}

// without fills in the answer of a request that no count decides on. An exempt
// one has all of its limits left, as it always will. A blocked one has nothing
// left until the block expires; without an expiry a window is as good a guess
// as any.
func (r *Request) without(now time.Time, o Outcome) {
	d := &r.Decision
	r.Outcome = o
	d.Admitted, d.RetryAfter, d.Store, d.Degraded = o == Exempted, 0, "", false
	d.Now = now.UTC().Truncate(time.Millisecond)
	d.Statuses = d.Statuses[:0]
	for i := range r.subjects {
		s := ratelimit.Status{Limit: r.subjects[i].Limits[0], Reset: d.Now}
		if o == Exempted {
			s.Remaining = s.Limit.Requests
		} else {
			s.Full, s.Reset = true, d.Now.Add(s.Limit.Window)
			if r.block.expires != 0 {
				s.Reset = time.UnixMilli(r.block.expires).UTC()
			}
			s.RetryAfter = s.Reset.Sub(d.Now)
		}
		d.Statuses = append(d.Statuses, s)
	}
}

// Standing gives where the address ([IPIndex]) or the organization
// ([OrganizationIndex]) stands: of several limits on it, the tightest. It is nil
// where the limiter did not answer or the request has no such subject.
func (r *Request) Standing(class int) *ratelimit.Status {
	if i := r.tightest(class); i >= 0 {
		return &r.Decision.Statuses[i]
	}
	return nil
}

// tightest gives where the tightest status of the address or the organization is, or -1.
func (r *Request) tightest(class int) int {
	tightest := -1
	for i := range r.Decision.Statuses {
		if r.counted[i].class != class {
			continue
		}
		if s, than := &r.Decision.Statuses[i], &r.Decision.Statuses[max(tightest, 0)]; tightest < 0 ||
			s.Remaining < than.Remaining || s.Remaining == than.Remaining && s.Reset.After(than.Reset) {
			tightest = i
		}
	}
	return tightest
}

// Limits calls fn for each limit that holds for the request, the operator's
// before the organization's own.
func (r *Request) Limits(fn func(class int, l ratelimit.Limit)) {
	for i := range r.subjects {
		for _, l := range r.subjects[i].Limits {
			fn(r.counted[i].class, l)
		}
	}
}

// Blocks reports whether a policy blocks the prepared request.
func (r *Request) Blocks() bool { return r.block != nil }

func (l *Limits) blocked(ctx context.Context, caller access.Caller, now time.Time, r *Request) {
	for class := range classes {
		if i := r.tightest(class); i >= 0 { // every limit stands as used up
			l.top.Count(now, typeOf(class), r.counted[i].key)
		}
	}
	e := audit.Event{
		Organization: l.trailFor(ctx, r), Action: audit.AccessDeny, Reason: ErrBlocked.Code, Permission: access.CredentialUse.String(),
		Targets:  []audit.Target{{Type: "policy", ID: r.block.id}},
		Metadata: map[string]any{"policy": r.block.id},
	}
	if r.block.content.Service != "" {
		e.Metadata["service"] = r.block.content.Service
	}
	l.log.Security(ctx, caller, e)
}

// counters gives the keys of all counters of a subject that policies of now
// may have made, its own first.
func (l *Limits) counters(typ, key string) []string {
	s, keys := l.snapshot.Load(), []string{key}
	note := func(r *rule) {
		if r.suffix != "" {
			keys = append(keys, key+r.suffix)
		}
	}
	for _, sets := range []*[kinds]ruleSet{&s.operator[enforced], &s.own[enforced]} {
		if typ == Organization {
			sets[kindOrganization].each(key, note)
			continue
		}
		for organization := range sets[kindIP].byOrganization {
			sets[kindIP].byOrganization[organization].each(note)
		}
		if sets[kindIP].any != nil {
			sets[kindIP].any.each(note)
		}
	}
	return keys
}

// Full reports whether a limit on the address or the organization is used up.
func (r *Request) Full(class int) bool {
	for i := range r.Decision.Statuses {
		if r.counted[i].class == class && r.Decision.Statuses[i].Full {
			return true
		}
	}
	return false
}
