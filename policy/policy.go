package policy

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/internal/recheck"
	"github.com/gatehouse-io/gatehouse/ratelimit"
	"github.com/gatehouse-io/gatehouse/store"
)

// The types of subject, as they stand in the API.
const (
	IP           = "ip"
	Organization = "org"

	// CredentialTests is what an organization's tests of credentials count
	// against: a test tells whether a stolen key works.
	CredentialTests = "test"
)

// Where the subjects of a request stand in a decision's statuses.
const (
	IPIndex           = 0
	OrganizationIndex = 1

	classes = 2 // how many there are
)

// ErrFull is answered when so many limited subjects are remembered that no
// further one can be.
var ErrFull = fault.New(fault.Unavailable, "limiter_full",
	"The rate limiter cannot take further clients at the moment; try again shortly.").After(time.Second)

// Defaults are the limits that hold where nothing else is said.
type Defaults struct {
	IP           []ratelimit.Limit
	Organization []ratelimit.Limit
	Tests        []ratelimit.Limit // of credentials, for each organization
}

// Options sets up [Limits]. The zero value is ready to use.
type Options struct {
	KnownService func(name string) bool // which services a policy may name; nil: any
	Observed     func(effect string)    // told of each request that an observed policy would have refused
	IPv6Prefix   int                    // how long the prefix is by which IPv6 clients are told apart; 64 when 0
	Now          func() time.Time
	Logger       *slog.Logger
}

// Limits decides, shows, resets, and keeps the policies. Its methods may be
// called by several goroutines.
type Limits struct {
	limiter  ratelimit.Limiter
	defaults Defaults
	db       *store.DB
	log      *audit.Log
	opts     Options
	now      func() time.Time

	trails *recheck.Cache[string, string] // what trailOf said of an organization that was named

	snapshot  atomic.Pointer[snapshot]
	reloading sync.Mutex
	top       *ratelimit.Offenders
}

// New gives the policy over a limiter, with the defaults alone. [Limits.Load]
// reads the stored policies, and [Limits.Run] keeps them up to date.
func New(limiter ratelimit.Limiter, db *store.DB, log *audit.Log, defaults Defaults, opts Options) *Limits {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.IPv6Prefix == 0 {
		opts.IPv6Prefix = 64
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	l := &Limits{limiter: limiter, defaults: defaults, db: db, log: log, opts: opts, now: opts.Now, top: ratelimit.NewOffenders(topSpan, topCounters)}
	l.trails = recheck.New[string, string](recheck.Options{
		Size: 10_000, Fresh: trailFresh, StaleMax: time.Minute, Now: opts.Now,
		Stale: func(err error) bool {
			return errors.Is(err, store.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)
		},
	})
	l.snapshot.Store(compile(0, nil, opts.IPv6Prefix))
	return l
}

// IPKey gives the key of an address: itself for IPv4 (mapped forms included),
// the first address of its network for IPv6, see Options.IPv6Prefix.
func (l *Limits) IPKey(addr netip.Addr) string {
	return ratelimit.AddressKey(addr, l.opts.IPv6Prefix)
}

// TakeTest counts one test of a credential against the caller's organization,
// or gives a Limited fault that says how long to wait.
func (l *Limits) TakeTest(ctx context.Context, caller access.Caller) error {
	subjects := []ratelimit.Subject{{Type: CredentialTests, Key: caller.Organization, Limits: l.defaults.Tests}}
	var d ratelimit.Decision
	if err := l.limiter.Take(ctx, l.now(), subjects, &d); err != nil {
		return asFault(err)
	}
	if d.Admitted {
		return nil
	}
	l.log.Security(ctx, caller, exceeded(subjects[0].Type, subjects[0].Key, d.Statuses[0], d.Store, nil))
	return fault.New(fault.Limited, "test_limit_exceeded",
		"Your organization has tested as many credentials as it may for now; Retry-After says when the next test is admitted.").After(d.RetryAfter)
}

// exceeded tells that a subject was over its limit; by is the policy that the
// limit is of, nil for a default.
func exceeded(typ, key string, s ratelimit.Status, from string, by *rule) audit.Event {
	e := audit.Event{
		Action: audit.LimitExceed, Reason: "limit_exceeded", Permission: access.CredentialUse.String(),
		Metadata: map[string]any{
			"type": typ, "limit": s.Limit.Requests, "windowSeconds": s.Limit.Window.Seconds(), "store": from,
		},
	}
	if by != nil {
		e.Metadata["policy"] = by.id
	}
	name(&e, typ, key)
	return e
}

// name makes the subject the event's target.
func name(e *audit.Event, typ, key string) {
	if typ == IP { // an address is personal data: it stands on the erasable row
		e.Targets = []audit.Target{{Type: IP, ID: IP, Name: key}}
		e.Personal = map[string]string{"key": key}
		return
	}
	e.Targets = []audit.Target{{Type: "organization", ID: key}}
	e.Metadata["key"] = key
}

func asFault(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ratelimit.ErrFull):
		return ErrFull.Because(err)
	case errors.Is(err, ratelimit.ErrUnavailable):
		return fault.New(fault.Unavailable, "limiter_unavailable", "The rate limiter does not answer; try again shortly.").After(time.Second).Because(err)
	}
	return err
}

// Subject is a subject and where it stands.
type Subject struct {
	Type, Key string
	ratelimit.Status
}

// Own gives where the caller's address and organization stand, without
// counting: under the policies that name no service. Any caller may ask.
func (l *Limits) Own(ctx context.Context, caller access.Caller, addr netip.Addr) (ip, organization Subject, d ratelimit.Decision, err error) {
	var r Request
	now := l.now()
	l.Prepare(&r, caller, Visit{Addr: addr}, now)
	if err := l.Peek(ctx, now, &r); err != nil {
		return ip, organization, d, err
	}
	ip = Subject{IP, l.IPKey(addr), *r.Standing(IPIndex)}
	organization = Subject{Organization, caller.Organization, *r.Standing(OrganizationIndex)}
	return ip, organization, r.Decision, nil
}

// Status gives where any subject stands, under the policies that name no service: of several
// limits the tightest. It needs limit:read on the organization; an address is the operator's
// to look at, and policies of one organization do not count for it.
func (l *Limits) Status(ctx context.Context, caller access.Caller, typ, key string) (Subject, error) {
	k, err := l.keyOf(typ, key)
	if err != nil {
		return Subject{}, err
	}
	if err := access.Allow(caller, access.LimitRead, k.owner); err != nil {
		return Subject{}, err
	}
	return l.standing(ctx, k)
}

// standing asks where a subject stands.
func (l *Limits) standing(ctx context.Context, k subjectKey) (Subject, error) {
	var r Request
	now, class := l.now(), OrganizationIndex
	if k.typ == IP {
		class = IPIndex
		l.prepare(&r, "", Visit{Addr: k.addr}, now, true, false)
	} else {
		l.prepare(&r, k.key, Visit{}, now, false, true)
	}
	if err := l.Peek(ctx, now, &r); err != nil {
		return Subject{}, err
	}
	return Subject{k.typ, k.key, *r.Standing(class)}, nil
}

// Reset forgets what was counted for a subject, also under the policies of now that count
// for themselves, and gives its new status. It needs limit:reset. The event is on disk before
// anything is forgotten.
func (l *Limits) Reset(ctx context.Context, caller access.Caller, typ, key string) (Subject, error) {
	if err := access.Allow(caller, access.LimitReset, access.InstanceOrganization); err != nil {
		return Subject{}, err
	}
	k, err := l.keyOf(typ, key)
	if err != nil {
		return Subject{}, err
	}
	trail, err := l.trailOf(ctx, k.owner)
	if err != nil {
		return Subject{}, err
	}
	event := audit.Event{
		Organization: trail, Action: audit.LimitReset, Outcome: audit.Success, Permission: access.LimitReset.String(),
		Metadata: map[string]any{"type": k.typ},
	}
	name(&event, k.typ, k.key)
	if err := l.append(ctx, caller, event); err != nil {
		return Subject{}, err
	}
	for _, key := range l.counters(k.typ, k.key) {
		if err := l.limiter.Reset(ctx, k.typ, key); err != nil {
			event.Outcome, event.Reason = audit.Failure, "limiter_unavailable"
			return Subject{}, errors.Join(asFault(err), l.append(audit.WithoutStatus(ctx), caller, event))
		}
	}
	return l.standing(ctx, k)
}

// trailOf says in whose trail an event about an organization belongs: in that of the
// instance where there is no such organization, or a later one of that name would
// begin with what is not its own.
func (l *Limits) trailOf(ctx context.Context, organization string) (string, error) {
	err := l.db.View(ctx, organization, func(tx *store.Tx) error {
		var id string
		return tx.Row(ctx, `SELECT id FROM organizations WHERE id = $1`, organization).Scan(&id)
	})
	if errors.Is(err, store.ErrNotFound) {
		return access.InstanceOrganization, nil
	}
	return organization, err
}

// How long it is taken for true that there is such an organization, or none, and how long a
// refusal waits to know.
const (
	trailFresh    = 3 * time.Second
	trailPatience = 500 * time.Millisecond
)

// trailFor says in whose trail a refusal of r belongs, as [Limits.trailOf] does: one that
// cannot be asked in time stands in that of the instance.
func (l *Limits) trailFor(ctx context.Context, r *Request) string {
	organization := r.organization // a look goes on after the request, which is used again
	if !r.named {
		return organization
	}
	ctx, cancel := context.WithTimeout(ctx, trailPatience)
	defer cancel()
	trail, err := l.trails.Get(ctx, organization, func(ctx context.Context) (string, error) { return l.trailOf(ctx, organization) })
	if err != nil {
		return access.InstanceOrganization
	}
	return trail
}

func (l *Limits) append(ctx context.Context, caller access.Caller, e audit.Event) error {
	return l.db.Update(ctx, e.Organization, func(tx *store.Tx) error { return l.log.Append(ctx, tx, caller, e) })
}

// subjectKey is a subject that was named from outside.
type subjectKey struct {
	typ, key string
	addr     netip.Addr // of an address
	owner    string     // whose it is: an address is the instance's
}

func (l *Limits) keyOf(typ, key string) (subjectKey, error) {
	switch typ {
	case IP:
		addr, err := netip.ParseAddr(key)
		if err != nil {
			return subjectKey{}, fault.InvalidFields(fault.Field{Name: "key", Message: "must be an IPv4 or IPv6 address, without a prefix length"})
		}
		return subjectKey{IP, l.IPKey(addr), addr, access.InstanceOrganization}, nil
	case Organization, "organization":
		if !access.ValidOrganization(key) {
			return subjectKey{}, fault.InvalidFields(fault.Field{Name: "key", Message: "must be an organization's id"})
		}
		return subjectKey{typ: Organization, key: key, owner: key}, nil
	}
	return subjectKey{}, fault.InvalidFields(fault.Field{Name: "type", Message: "must be ip or org"})
}
