package policy

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/store"
)

// Policy is a stored policy.
type Policy struct {
	ID       string
	Owner    string // an organization, or access.InstanceOrganization: the operator's
	Revision int64  // grows with each change
	Content
	CreatedAt, UpdatedAt time.Time
	CreatedBy, UpdatedBy string
}

// Revision is one state that a policy had. Content is nil where it was deleted.
type Revision struct {
	Revision  int64
	Content   *Content
	ChangedAt time.Time
	ChangedBy string
}

// Poll is how often an instance looks whether policies were changed elsewhere.
const Poll = 500 * time.Millisecond

// ErrNotFound is answered for a policy that does not exist, or is another's.
var ErrNotFound = fault.New(fault.NotFound, "policy_not_found", "There is no such policy.")

// Load reads all policies where they changed since the last time. From its
// return on, decisions follow them.
func (l *Limits) Load(ctx context.Context) error {
	l.reloading.Lock() // so that an older state never replaces a newer one
	defer l.reloading.Unlock()
	var revision int64
	var policies []Policy
	changed := false
	err := l.db.ViewAcross(ctx, func(tx *store.Tx) error {
		policies = nil
		if err := tx.Row(ctx, `SELECT revision FROM limit_policy_state WHERE organization = $1`, access.InstanceOrganization).Scan(&revision); err != nil {
			return err
		}
		if changed = revision != l.snapshot.Load().revision; !changed {
			return nil
		}
		return tx.Each(ctx, func(scan func(...any) error) error {
			p, err := scanPolicy(scan)
			if errors.Is(err, errContent) { // one broken row must not keep all others from holding
				l.opts.Logger.ErrorContext(ctx, "a rate limit policy is skipped", "policy", p.ID, "error", err)
				return nil
			}
			policies = append(policies, p)
			return err
		}, `SELECT `+policyColumns+` FROM limit_policies ORDER BY id`)
	})
	if err != nil {
		return fmt.Errorf("the rate limit policies could not be read: %w", err)
	}
	if changed {
		l.snapshot.Store(compile(revision, policies, l.opts.IPv6Prefix))
	}
	return nil
}

// Run keeps the policies up to date until ctx ends. While the database is
// away, those that were read last hold.
func (l *Limits) Run(ctx context.Context) {
	tick := time.NewTicker(Poll)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			bounded, cancel := context.WithTimeout(ctx, 5*time.Second)
			err := l.Load(bounded)
			cancel()
			if err != nil && !failing && ctx.Err() == nil {
				l.opts.Logger.WarnContext(ctx, "rate limit policies stay as they were read last", "error", err)
			}
			failing = err != nil
		}
	}
}

const policyColumns = `organization, id, revision, content, created_at, created_by, updated_at, updated_by`

func scanPolicy(scan func(...any) error) (Policy, error) {
	var p Policy
	var text string
	var created, updated store.Time
	if err := scan(&p.Owner, &p.ID, &p.Revision, &text, &created, &p.CreatedBy, &updated, &p.UpdatedBy); err != nil {
		return p, err
	}
	var err error
	p.CreatedAt, p.UpdatedAt = created.Time, updated.Time
	p.Content, err = contentOf(text)
	return p, err
}

// The bounds of a page.
const (
	defaultPage = 50
	MaxPage     = 200
)

// Filter picks policies.
type Filter struct {
	Owner  string // for operators: only this owner's; empty picks all
	Limit  int    // 1 to MaxPage; 50 when 0
	Cursor string // NextCursor of the page before
}

// Page is one page of policies, newest first.
type Page struct {
	Policies   []Policy
	NextCursor string
}

// Policies lists policies. It needs limit:read: an operator sees all, others
// their organization's own.
func (l *Limits) Policies(ctx context.Context, caller access.Caller, f Filter) (Page, error) {
	if !caller.Operator() {
		if f.Owner != "" && f.Owner != caller.Organization {
			return Page{}, access.Denied(access.LimitRead)
		}
		f.Owner = caller.Organization
	}
	owner := f.Owner
	if owner == "" {
		owner = access.InstanceOrganization
	}
	if err := access.Allow(caller, access.LimitRead, owner); err != nil {
		return Page{}, err
	}
	before, err := f.check()
	if err != nil {
		return Page{}, err
	}
	var page Page
	err = l.view(ctx, f.Owner, func(tx *store.Tx) error {
		page = Page{}
		return tx.Each(ctx, func(scan func(...any) error) error {
			p, err := scanPolicy(scan)
			page.Policies = append(page.Policies, p)
			return err
		}, `SELECT `+policyColumns+` FROM limit_policies WHERE ($1 = '' OR organization = $1) AND ($2 = '' OR id < $2)
			ORDER BY id DESC LIMIT `+strconv.Itoa(f.Limit+1), f.Owner, before)
	})
	if err != nil {
		return Page{}, err
	}
	if len(page.Policies) > f.Limit {
		page.Policies = page.Policies[:f.Limit]
		page.NextCursor = base64.RawURLEncoding.EncodeToString([]byte(page.Policies[f.Limit-1].ID))
	}
	return page, nil
}

func (f *Filter) check() (before string, err error) {
	var wrong []fault.Field
	if f.Limit == 0 {
		f.Limit = defaultPage
	}
	if f.Limit < 1 || f.Limit > MaxPage {
		wrong = append(wrong, fault.Field{Name: "limit", Message: "must be from 1 to " + strconv.Itoa(MaxPage)})
	}
	if f.Owner != "" && f.Owner != access.InstanceOrganization && !access.ValidOrganization(f.Owner) {
		wrong = append(wrong, fault.Field{Name: "owner", Message: "must be an organization's id or _instance"})
	}
	if f.Cursor != "" {
		last, err := base64.RawURLEncoding.DecodeString(f.Cursor)
		if before = string(last); err != nil || !store.IsID("pol", before) {
			wrong = append(wrong, fault.Field{Name: "cursor", Message: "must be the nextCursor of an earlier page"})
		}
	}
	if len(wrong) > 0 {
		return "", fault.InvalidFields(wrong...)
	}
	return before, nil
}

// Policy gives one policy. It needs limit:read.
func (l *Limits) Policy(ctx context.Context, caller access.Caller, id string) (Policy, error) {
	if err := access.Allow(caller, access.LimitRead, caller.Organization); err != nil && !caller.Operator() {
		return Policy{}, err
	}
	var p Policy
	err := l.view(ctx, side(caller), func(tx *store.Tx) (err error) {
		p, err = find(ctx, tx, caller, id)
		return err
	})
	return p, err
}

// Revisions gives the states that a policy had, the newest first and at most
// [keptRevisions] of them; also those of a deleted one. It needs limit:read.
func (l *Limits) Revisions(ctx context.Context, caller access.Caller, id string) ([]Revision, error) {
	if err := access.Allow(caller, access.LimitRead, caller.Organization); err != nil && !caller.Operator() {
		return nil, err
	}
	var all []Revision
	err := l.view(ctx, side(caller), func(tx *store.Tx) error {
		owner, _, err := latest(ctx, tx, caller, id)
		if err != nil {
			return err
		}
		all = nil
		return tx.Each(ctx, func(scan func(...any) error) error {
			var r Revision
			var text *string
			var at store.Time
			if err := scan(&r.Revision, &text, &at, &r.ChangedBy); err != nil {
				return err
			}
			r.ChangedAt = at.Time
			if text != nil {
				c, err := contentOf(*text)
				if err != nil {
					return err
				}
				r.Content = &c
			}
			all = append(all, r)
			return nil
		}, `SELECT revision, content, changed_at, changed_by FROM limit_policy_revisions
			WHERE organization = $1 AND id = $2 ORDER BY revision DESC`, owner, id)
	})
	return all, err
}

// reach gives which owner's policies a caller reaches: its organization's, or
// as an operator anybody's.
func reach(caller access.Caller) (owner string, any bool) {
	return caller.Organization, caller.Operator()
}

// side says whose rows the transactions of a caller are for: its organization's,
// or as an operator everybody's, which is "".
func side(caller access.Caller) string {
	if caller.Operator() {
		return ""
	}
	return caller.Organization
}

// view reads policies of one owner, or with "" of all.
func (l *Limits) view(ctx context.Context, owner string, fn func(*store.Tx) error) error {
	if owner == "" {
		return l.db.ViewAcross(ctx, fn)
	}
	return l.db.View(ctx, owner, fn)
}

// update changes policies of one owner, or with "" of any.
func (l *Limits) update(ctx context.Context, owner string, fn func(*store.Tx) error) error {
	if owner == "" {
		return l.db.UpdateAcross(ctx, fn)
	}
	return l.db.Update(ctx, owner, fn)
}

// find gives the current state of a policy within the caller's reach.
func find(ctx context.Context, tx *store.Tx, caller access.Caller, id string) (Policy, error) {
	if !store.IsID("pol", id) {
		return Policy{}, ErrNotFound
	}
	owner, any := reach(caller)
	p, err := scanPolicy(tx.Row(ctx, `SELECT `+policyColumns+` FROM limit_policies WHERE id = $1 AND (organization = $2 OR $3)`, id, owner, any).Scan)
	if errors.Is(err, store.ErrNotFound) {
		return p, ErrNotFound
	}
	return p, err
}

// latest gives the owner and the last revision of a policy within the
// caller's reach, also of a deleted one.
func latest(ctx context.Context, tx *store.Tx, caller access.Caller, id string) (owner string, revision int64, err error) {
	if !store.IsID("pol", id) {
		return "", 0, ErrNotFound
	}
	own, any := reach(caller)
	err = tx.Row(ctx, `SELECT organization, revision FROM limit_policy_revisions WHERE id = $1 AND (organization = $2 OR $3)
		ORDER BY revision DESC LIMIT 1`, id, own, any).Scan(&owner, &revision)
	if errors.Is(err, store.ErrNotFound) {
		return "", 0, ErrNotFound
	}
	return owner, revision, err
}
