package policy

import (
	"context"
	"net/netip"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
)

// Check asks for the decision on a request that goes past Gatehouse. At least
// one of Addr and Organization is set.
type Check struct {
	Addr         netip.Addr
	Organization string
	Service      string
	Path         string
	Consume      bool // count it, as a request through Gatehouse is; otherwise only look
}

// MayCheck says whether caller, at the address own, may ask for c. An operator
// may ask about anybody. Others may ask about their organization and their own
// address, and to count something takes the right to send such a request,
// credential:use: what they may use up by asking they could use up anyway, if only as fast
// as their address may send. A check does not count for that, since a gateway of
// somebody's own asks for everybody from one.
func (l *Limits) MayCheck(caller access.Caller, own netip.Addr, c Check) error {
	if caller.Operator() {
		return nil
	}
	if c.Organization != "" {
		if err := access.Allow(caller, access.LimitRead, c.Organization); err != nil {
			return err
		}
	}
	if c.Addr.IsValid() && l.IPKey(c.Addr) != l.IPKey(own) {
		return access.Allow(caller, access.LimitRead, access.InstanceOrganization)
	}
	if err := access.Allow(caller, access.LimitRead, caller.Organization); err != nil {
		return err
	}
	if c.Consume {
		return access.Allow(caller, access.CredentialUse, caller.Organization)
	}
	return nil
}

// Check decides on c at now; the answer is r.Outcome and r.Decision. own is the
// caller's address; see [Limits.MayCheck] for who may. A block is no error here.
func (l *Limits) Check(ctx context.Context, caller access.Caller, own netip.Addr, c Check, now time.Time, r *Request) error {
	if err := l.MayCheck(caller, own, c); err != nil {
		return err
	}
	l.prepare(r, c.Organization, Visit{Addr: c.Addr, Service: c.Service, Path: c.Path}, now, c.Addr.IsValid(), c.Organization != "")
	r.named = c.Organization != "" && c.Organization != caller.Organization
	if c.Consume {
		if err := l.Take(ctx, caller, now, r); err != nil && r.Outcome != Blocked {
			return err
		}
		return nil
	}
	switch {
	case r.block != nil:
		r.without(now, Blocked)
		return nil
	case r.exemption != nil:
		r.without(now, Exempted)
		return nil
	}
	if err := l.Peek(ctx, now, r); err != nil {
		return err
	}
	r.Outcome = Denied
	if r.Decision.Admitted {
		r.Outcome = Admitted
	}
	return nil
}
