package policy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/ratelimit"
	"github.com/gatehouse-io/gatehouse/store"
)

// How many policies there may be, and how many of a policy's states are kept.
const (
	MaxOperatorPolicies     = 10_000
	MaxOrganizationPolicies = 100
	keptRevisions           = 100
)

// ErrStale is answered when the policy is not in a state that the change was
// meant for.
var ErrStale = fault.New(fault.Stale, "stale", "The policy was changed meanwhile; read it again.")

// CreatePolicy stores a policy: the operator's where the caller is one,
// otherwise the caller's organization's own. It needs limit:update. It holds on
// this instance at once, on others within [Poll] and the time to read it.
func (l *Limits) CreatePolicy(ctx context.Context, caller access.Caller, d Draft) (Policy, error) {
	owner := caller.Organization
	if caller.Operator() {
		owner = access.InstanceOrganization
	}
	if err := access.Allow(caller, access.LimitUpdate, owner); err != nil {
		return Policy{}, err
	}
	c, err := l.check(owner, &d)
	if err != nil {
		return Policy{}, err
	}
	id := store.NewID("pol")
	p := Policy{ID: id, Owner: owner, Revision: 1, Content: c, CreatedBy: caller.ID}
	return l.commit(ctx, caller, audit.PolicyCreate, "", func(*store.Tx) (*Policy, *Policy, error) {
		next := p
		return nil, &next, nil
	})
}

// UpdatePolicy puts d in place of what a policy says. It needs limit:update.
// Errors: Invalid, [ErrNotFound], [ErrStale].
func (l *Limits) UpdatePolicy(ctx context.Context, caller access.Caller, id string, match store.Match, d Draft) (Policy, error) {
	if err := mayChange(caller); err != nil {
		return Policy{}, err
	}
	return l.commit(ctx, caller, audit.PolicyUpdate, "", func(tx *store.Tx) (*Policy, *Policy, error) {
		old, err := find(ctx, tx, caller, id)
		if err != nil {
			return nil, nil, err
		}
		if !match.Allows(old.Revision) {
			return nil, nil, ErrStale
		}
		draft := d
		c, err := l.check(old.Owner, &draft)
		if err != nil {
			return nil, nil, err
		}
		next := old
		next.Content, next.Revision = c, old.Revision+1
		return &old, &next, nil
	})
}

// DeletePolicy removes a policy; its revisions remain, and it can be rolled
// back. It needs limit:update.
func (l *Limits) DeletePolicy(ctx context.Context, caller access.Caller, id string, match store.Match) error {
	if err := mayChange(caller); err != nil {
		return err
	}
	_, err := l.commit(ctx, caller, audit.PolicyDelete, "", func(tx *store.Tx) (*Policy, *Policy, error) {
		old, err := find(ctx, tx, caller, id)
		if err != nil {
			return nil, nil, err
		}
		if !match.Allows(old.Revision) {
			return nil, nil, ErrStale
		}
		return &old, nil, nil
	})
	return err
}

// RollBack brings a policy back to what it said at a revision, also a deleted
// one, as a new revision. What does not hold any more (an expiry that has
// passed, a scope that another policy has now) is Invalid. It needs limit:update.
func (l *Limits) RollBack(ctx context.Context, caller access.Caller, id string, match store.Match, revision int64) (Policy, error) {
	if err := mayChange(caller); err != nil {
		return Policy{}, err
	}
	return l.commit(ctx, caller, audit.PolicyUpdate, "rolled_back", func(tx *store.Tx) (*Policy, *Policy, error) {
		owner, last, err := latest(ctx, tx, caller, id)
		if err != nil {
			return nil, nil, err
		}
		if !match.Allows(last) {
			return nil, nil, ErrStale
		}
		var text *string
		err = tx.Row(ctx, `SELECT content FROM limit_policy_revisions WHERE organization = $1 AND id = $2 AND revision = $3`, owner, id, revision).Scan(&text)
		if errors.Is(err, store.ErrNotFound) || err == nil && text == nil {
			return nil, nil, fault.InvalidFields(fault.Field{Name: "revision", Message: "must be a kept revision at which the policy existed"})
		}
		if err != nil {
			return nil, nil, err
		}
		was, err := contentOf(*text)
		if err != nil {
			return nil, nil, err
		}
		d := was.draft()
		c, err := l.check(owner, &d)
		if err != nil {
			return nil, nil, err
		}
		old, err := find(ctx, tx, caller, id)
		if errors.Is(err, ErrNotFound) {
			return nil, &Policy{ID: id, Owner: owner, Revision: last + 1, Content: c, CreatedBy: caller.ID}, nil
		}
		if err != nil {
			return nil, nil, err
		}
		next := old
		next.Content, next.Revision = c, last+1
		return &old, &next, nil
	})
}

// mayChange is the first look; commit decides on the policy's owner.
func mayChange(caller access.Caller) error {
	if caller.Operator() {
		return nil
	}
	return access.Allow(caller, access.LimitUpdate, caller.Organization)
}

// check reads a draft for an owner: an organization's own policy holds for it
// alone and only takes away.
func (l *Limits) check(owner string, d *Draft) (Content, error) {
	tenant := owner != access.InstanceOrganization
	var wrong []fault.Field
	if tenant {
		if d.Organization != "" && d.Organization != owner {
			wrong = append(wrong, fault.Field{Name: "organization", Message: "must be your own organization, or left out"})
		}
		d.Organization = owner
		if Effect(d.Effect) == Exempt {
			wrong = append(wrong, fault.Field{Name: "effect", Message: "must be limit or block: only the operator exempts"})
		}
	}
	c, mistakes := d.Check(l.now(), l.opts.KnownService)
	if wrong = append(wrong, mistakes...); len(wrong) > 0 {
		return c, fault.InvalidFields(wrong...)
	}
	if tenant && c.Effect == Limit {
		if wrong = l.looser(&c); len(wrong) > 0 {
			return c, fault.InvalidFields(wrong...)
		}
	}
	return c, nil
}

// looser names the windows of an organization's own policy that would never be
// reached, because the operator's limit over its scope admits less.
func (l *Limits) looser(c *Content) (wrong []fault.Field) {
	over := l.operatorLimits(c)
	for i, own := range c.Limits {
		for _, theirs := range over {
			windows := (own.Window + theirs.Window - 1) / theirs.Window
			if int64(own.Requests) > int64(theirs.Requests)*int64(windows) {
				wrong = append(wrong, fault.Field{Name: fmt.Sprintf("limits[%d]", i),
					Message: "must not admit more than the operator's limit, which is " + theirs.String()})
				break
			}
		}
	}
	return wrong
}

// operatorLimits gives the operator's limits over the whole of a scope: those of
// the most specific rule that covers it.
func (l *Limits) operatorLimits(c *Content) []ratelimit.Limit {
	k, defaults := kindOrganization, l.defaults.Organization
	if c.Subject == IP {
		k, defaults = kindIP, l.defaults.IP
	}
	sets, now, inner := &l.snapshot.Load().operator[enforced][k], l.now().UnixMilli(), compilePattern(c.Path)
	covers := func(r *rule) bool {
		o := r.content
		return (r.expires == 0 || now < r.expires) &&
			(o.Service == "" || o.Service == c.Service && (o.Path == "" || r.pattern.covers(&inner)))
	}
	for _, set := range []*prefixSet{sets.byOrganization[c.Organization], sets.any} {
		if set == nil {
			continue
		}
		if c.CIDR.IsValid() {
			for bits := c.CIDR.Bits(); bits >= 0; bits-- {
				p, err := c.CIDR.Addr().Prefix(bits)
				if err != nil {
					break
				}
				for _, r := range set.byPrefix[p] {
					if covers(r) {
						return r.content.Limits
					}
				}
			}
		}
		for _, r := range set.any {
			if covers(r) {
				return r.content.Limits
			}
		}
	}
	return defaults
}

// commit works out a change and writes it with its revision, its event and the
// news of it in one transaction. change gives the states before and after, nil
// for none; it may be run again.
func (l *Limits) commit(ctx context.Context, caller access.Caller, action audit.Action, reason string,
	change func(tx *store.Tx) (old, next *Policy, err error)) (Policy, error) {
	var result Policy
	now := store.At(l.now())
	work := func(tx *store.Tx) error {
		old, next, err := change(tx)
		if err != nil {
			return err
		}
		owner, id, revision := "", "", int64(0)
		if next != nil {
			owner, id, revision = next.Owner, next.ID, next.Revision
		} else {
			owner, id, revision = old.Owner, old.ID, old.Revision+1
		}
		if err := access.Allow(caller, access.LimitUpdate, owner); err != nil {
			return err
		}
		if err := write(ctx, tx, old, next, now, caller.ID); err != nil {
			return err
		}
		if err := keepRevision(ctx, tx, owner, id, revision, next, now, caller.ID); err != nil {
			return err
		}
		if err := tell(ctx, tx); err != nil {
			return err
		}
		if next != nil {
			result = *next
		}
		return l.log.Append(ctx, tx, caller, changeEvent(owner, id, action, reason, old, next))
	}
	if err := l.update(ctx, side(caller), work); err != nil {
		return Policy{}, err
	}
	if err := l.Load(ctx); err != nil { // the poll will do it
		l.opts.Logger.WarnContext(ctx, "a changed rate limit policy waits for the next look", "error", err)
	}
	return result, nil
}

// Destroy deletes an organization's own policies and what they said before, and gives how many
// there were. It is part of the deletion of the organization.
func Destroy(ctx context.Context, tx *store.Tx, organization string) (rows int64, err error) {
	if _, err := tx.Exec(ctx, `DELETE FROM limit_policy_revisions WHERE organization = $1`, organization); err != nil {
		return 0, err
	}
	if rows, err = tx.Exec(ctx, `DELETE FROM limit_policies WHERE organization = $1`, organization); err != nil {
		return 0, err
	}
	return rows, tell(ctx, tx)
}

// tell has every instance read the policies again: the news of any owner's change is the
// instance's.
func tell(ctx context.Context, tx *store.Tx) error {
	return tx.Across(ctx, func() error {
		_, err := tx.Exec(ctx, `UPDATE limit_policy_state SET revision = revision + 1 WHERE organization = $1`, access.InstanceOrganization)
		return err
	})
}

// write puts next in place of old.
func write(ctx context.Context, tx *store.Tx, old, next *Policy, now store.Time, by string) error {
	if next == nil {
		_, err := tx.Exec(ctx, `DELETE FROM limit_policies WHERE organization = $1 AND id = $2`, old.Owner, old.ID)
		return err
	}
	if err := scopeFree(ctx, tx, next); err != nil {
		return err
	}
	text, err := next.text()
	if err != nil {
		return err
	}
	next.UpdatedAt, next.UpdatedBy = now.Time, by
	if old != nil {
		_, err = tx.Exec(ctx, `UPDATE limit_policies SET scope = $1, revision = $2, content = $3, updated_at = $4, updated_by = $5
			WHERE organization = $6 AND id = $7`, next.scope(), next.Revision, text, now, by, next.Owner, next.ID)
		return err
	}
	next.CreatedAt, next.CreatedBy = now.Time, by
	_, err = tx.Exec(ctx, `INSERT INTO limit_policies (`+policyColumns+`, scope) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		next.Owner, next.ID, next.Revision, text, now, by, now, by, next.scope())
	return err
}

// scopeFree says whether next is the only policy of its scope, and whether its
// owner may have one more.
func scopeFree(ctx context.Context, tx *store.Tx, next *Policy) error {
	var same, others int64
	err := tx.Row(ctx, `SELECT count(CASE WHEN scope = $3 THEN 1 END), count(*) FROM limit_policies WHERE organization = $1 AND id <> $2`,
		next.Owner, next.ID, next.scope()).Scan(&same, &others)
	if err != nil {
		return err
	}
	if same > 0 {
		return fault.InvalidFields(fault.Field{Name: next.scopeField(), Message: "contradicts a policy that holds for the same requests (an expired one too); change or delete that one"})
	}
	most := int64(MaxOrganizationPolicies)
	if next.Owner == access.InstanceOrganization {
		most = MaxOperatorPolicies
	}
	if others >= most {
		return fault.New(fault.Conflict, "too_many_policies", "There may be at most "+strconv.FormatInt(most, 10)+" policies; delete one first.")
	}
	return nil
}

func keepRevision(ctx context.Context, tx *store.Tx, owner, id string, revision int64, next *Policy, now store.Time, by string) error {
	var text *string
	if next != nil {
		t, err := next.text()
		if err != nil {
			return err
		}
		text = &t
	}
	_, err := tx.Exec(ctx, `INSERT INTO limit_policy_revisions (organization, id, revision, content, changed_at, changed_by)
		VALUES ($1, $2, $3, $4, $5, $6)`, owner, id, revision, text, now, by)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `DELETE FROM limit_policy_revisions WHERE organization = $1 AND id = $2 AND revision <= $3`, owner, id, revision-keptRevisions)
	return err
}

// changeEvent tells what a policy said before and after. An address range and
// the reason, in people's own words, can be personal data: they stand on the
// erasable row.
func changeEvent(owner, id string, action audit.Action, reason string, old, next *Policy) audit.Event {
	e := audit.Event{
		Organization: owner, Action: action, Outcome: audit.Success, Reason: reason, Permission: access.LimitUpdate.String(),
		Targets: []audit.Target{{Type: "policy", ID: id}}, Metadata: map[string]any{}, Personal: map[string]string{},
	}
	put := func(when string, p *Policy) {
		if p == nil {
			return
		}
		d := p.draft()
		m := map[string]any{"effect": d.Effect, "mode": d.Mode, "revision": p.Revision}
		for name, value := range map[string]string{"subject": d.Subject, "organization": d.Organization, "service": d.Service, "path": d.Path} {
			if value != "" {
				m[name] = value
			}
		}
		if len(d.Limits) > 0 {
			m["limits"] = d.Limits
		}
		if d.ExpiresAt != nil {
			m["expiresAt"] = d.ExpiresAt
		}
		if text, err := json.Marshal(m); err == nil {
			e.Metadata[when] = string(text)
		}
		e.Personal[when+"Reason"] = d.Reason
		if d.CIDR != "" {
			e.Personal[when+"Cidr"] = d.CIDR
		}
	}
	put("before", old)
	put("after", next)
	return e
}
