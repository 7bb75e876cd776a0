package retention

import (
	"context"
	"errors"
	"strconv"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/ledger"
	"github.com/gatehouse-io/gatehouse/store"
)

// memberPlace is how far a run has come with members.
type memberPlace struct {
	id     string
	middle bool // not all of its events were looked at yet
	at     audit.PersonPlace
	kept   bool // something of it is held
}

// members erases personal data in the trail of one member that was deleted long
// enough ago: of the events that name it, but those that a hold keeps. The events
// themselves stay, to the byte. A member is done when nothing is left; where a hold
// keeps something, it is looked at again by each run.
func (s *step) members(ctx context.Context) error {
	q := membersTable().dueRows(s.organization, s.before, s.holds)
	q.args = append(q.args, s.member.id)
	here := " AND t.id > $" + strconv.Itoa(len(q.args))
	if s.member.middle {
		here = " AND t.id = $" + strconv.Itoa(len(q.args))
	}
	m := s.member
	var deleted store.Time
	err := s.tx.Row(ctx, `SELECT t.id, t.deleted_at FROM members t WHERE `+q.where+here+` ORDER BY t.id LIMIT 1`, q.args...).Scan(&m.id, &deleted)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if !s.member.middle {
		m = memberPlace{id: m.id}
	}
	active, err := activeHolds(ctx, s.tx, s.organization, s.now)
	if err != nil {
		return err
	}
	all, next, more, err := audit.EventsOfPerson(ctx, s.tx, s.organization, m.id, m.at, s.opts.Batch)
	if err != nil {
		return err
	}
	var erase []string
	for _, e := range all {
		switch {
		case !e.Personal:
		case heldAnyhow(active, e):
			m.kept = true
		default:
			erase = append(erase, e.ID)
		}
	}
	if err := audit.RemovePersons(ctx, s.tx, s.organization, erase); err != nil {
		return err
	}
	m.at, m.middle, s.more = next, more, true
	s.member = m
	if !more && !m.kept {
		_, err := s.tx.Exec(ctx, `INSERT INTO retention_erasures (organization, member, deleted_at, erased_at) VALUES ($1, $2, $3, $4)
			ON CONFLICT (organization, member) DO UPDATE SET deleted_at = excluded.deleted_at, erased_at = excluded.erased_at`,
			s.organization, m.id, deleted, store.At(s.now))
		if err != nil {
			return err
		}
	}
	if len(erase) == 0 {
		return nil
	}
	s.removed = int64(len(erase))
	return s.attest(ctx, span{n: s.removed, oldest: deleted.Time, newest: deleted.Time})
}

// heldAnyhow reports whether a hold keeps an event, and so its personal data.
func heldAnyhow(active []Hold, e audit.EventOfPerson) bool {
	read, err := audit.Read(e.Canonical, nil)
	if err != nil {
		return true
	}
	h := of(Class(e.Class), active)
	return h.whole() || h.event(&ledger.Candidate{
		ID: e.ID, Action: string(read.Action), Actor: read.Actor.ID, OccurredAt: read.OccurredAt, Canonical: e.Canonical,
	})
}
