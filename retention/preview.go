package retention

import (
	"context"
	"maps"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/ledger"
	"github.com/gatehouse-io/gatehouse/store"
)

// ClassPreview says what a sweep would do to one class.
type ClassPreview struct {
	Length
	Before         time.Time // what is older is due; zero where nothing ever is
	Due            int64     // rows that would go; of events those that are set aside are not among them
	Held           int64     // rows that would go but for a hold
	Capped         bool      // there may be more than was counted
	Stopped        bool      // a hold on the whole class stops it
	Oldest, Newest time.Time // of what is due, held or not
}

// What a preview counts at most, of each class, and how many events it looks at
// one by one where there are holds.
const (
	maxCounted = 1_000_000
	maxMatched = 50_000

	// Of deleted members, how many are looked at, and how many of their events at once.
	maxMembers   = 2_000
	previewBatch = 500
)

// Preview runs the query of the sweep without its deletion, for an organization,
// the caller's own where it is empty. With d it tells what that policy would do
// instead of the present one; bounds hold over it. It needs retention:read.
func (r *Retention) Preview(ctx context.Context, caller access.Caller, organization string, d *Draft) (all []ClassPreview, err error) {
	organization = ownOr(caller, organization)
	if err := access.Allow(caller, access.RetentionRead, organization); err != nil {
		return nil, err
	}
	var keep Lengths
	if d != nil {
		if keep, err = d.lengths(); err != nil {
			return nil, err
		}
	}
	now := r.opts.Now()
	err = r.db.View(ctx, organization, func(tx *store.Tx) error {
		all = nil
		p, err := readPolicy(ctx, tx, organization)
		if err != nil {
			return err
		}
		if d != nil {
			p.Keep = keep
		}
		active, err := activeHolds(ctx, tx, organization, now)
		if err != nil {
			return err
		}
		for _, c := range Classes() {
			one, err := previewClass(ctx, tx, organization, p.of(c), active, now)
			if err != nil {
				return err
			}
			all = append(all, one)
		}
		return nil
	})
	return all, err
}

// lengths gives what the draft says, or what is wrong with it.
func (d *Draft) lengths() (Lengths, error) {
	own, wrong := lengths("keep", d.Keep)
	keep := Lengths{}
	if d.Preset != "" {
		preset, ok := presetOf(d.Preset)
		if !ok {
			wrong = append(wrong, fault.Field{Name: "preset", Message: "must be the name of a preset; GET /api/retention/presets lists them"})
		}
		maps.Copy(keep, preset.Lengths)
	}
	if len(wrong) > 0 {
		return nil, fault.InvalidFields(wrong...)
	}
	maps.Copy(keep, own)
	return keep, nil
}

func previewClass(ctx context.Context, tx *store.Tx, organization string, l Length, active []Hold, now time.Time) (ClassPreview, error) {
	holds := of(l.Class, active)
	p := ClassPreview{Length: l, Stopped: holds.whole()}
	before, ok := l.Keep.before(now)
	if !ok {
		return p, nil
	}
	p.Before = before
	switch {
	case l.Class.Events():
		return p, p.events(ctx, tx, organization, holds, now)
	case l.Class == DeletedMembers:
		return p, p.members(ctx, tx, organization, holds, active)
	}
	q := tables()[l.Class]
	due, err := q.dueRows(organization, before, holdsOf{class: l.Class}).count(ctx, tx, maxCounted)
	if err != nil {
		return p, err
	}
	p.Due, p.Oldest, p.Newest, p.Capped = due.n, due.oldest, due.newest, due.n == maxCounted
	switch {
	case p.Stopped:
		p.Due, p.Held = 0, due.n
	case len(holds.all) > 0:
		free, err := q.dueRows(organization, before, holds).count(ctx, tx, maxCounted)
		if err != nil {
			return p, err
		}
		p.Due, p.Held = free.n, due.n-free.n
	}
	return p, nil
}

func (p *ClassPreview) events(ctx context.Context, tx *store.Tx, organization string, holds holdsOf, now time.Time) error {
	due, err := dueEvents(ctx, tx, organization, p.Class, p.Before, now, maxCounted)
	if err != nil {
		return err
	}
	p.Due, p.Oldest, p.Newest = due.To-due.From, due.Oldest, due.Newest
	p.Capped = p.Due == maxCounted
	if p.Stopped {
		p.Due, p.Held = 0, p.Due
		return nil
	}
	if len(holds.all) == 0 {
		return nil
	}
	to := min(due.To, due.From+maxMatched)
	p.Capped = p.Capped || to < due.To
	err = ledger.EachEvent(ctx, tx, organization, string(p.Class), due.From, to, func(c *ledger.Candidate) {
		if holds.event(c) {
			p.Held++
		}
	})
	p.Due -= p.Held
	return err
}

// members counts the personal data of deleted members, as the sweep erases it: event by
// event. What another class's sweep would take along first is counted here too.
func (p *ClassPreview) members(ctx context.Context, tx *store.Tx, organization string, holds holdsOf, active []Hold) error {
	due := func(holds holdsOf, tell func(id string, deleted time.Time)) error {
		q := membersTable().dueRows(organization, p.Before, holds)
		return tx.Each(ctx, func(scan func(...any) error) error {
			var id string
			var deleted store.Time
			err := scan(&id, &deleted)
			tell(id, deleted.Time)
			return err
		}, q.first("t.id, t.deleted_at", maxMembers), q.args...)
	}
	type member struct {
		id      string
		deleted time.Time
	}
	var members []member
	err := due(holdsOf{class: p.Class}, func(id string, deleted time.Time) { members = append(members, member{id, deleted}) })
	if err != nil {
		return err
	}
	free := make(map[string]bool)
	if err := due(holds, func(id string, _ time.Time) { free[id] = true }); err != nil {
		return err
	}
	p.Capped = len(members) == maxMembers
	seen := make(map[string]bool) // who is actor and target of an event has one row for it
	for _, m := range members {
		for at, more := (audit.PersonPlace{}), true; more; {
			if len(seen) >= maxMatched {
				p.Capped = true
				return nil
			}
			var events []audit.EventOfPerson
			if events, at, more, err = audit.EventsOfPerson(ctx, tx, organization, m.id, at, previewBatch); err != nil {
				return err
			}
			for _, e := range events {
				if !e.Personal || seen[e.ID] {
					continue
				}
				switch {
				case p.Stopped || !free[m.id] || heldAnyhow(active, e):
					p.Held++
				default:
					p.Due++
				}
				seen[e.ID] = true
				if p.Newest = m.deleted; p.Oldest.IsZero() {
					p.Oldest = m.deleted
				}
			}
		}
	}
	return nil
}
