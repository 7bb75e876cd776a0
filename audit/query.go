package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/store"
)

// Filter picks events. Empty fields pick all. Of an action, an actor and a target
// a * at the end asks for all that begin like it; no other character means
// anything but itself.
type Filter struct {
	Organization string    // the caller's own when empty
	Class        string    // control, access, security or system
	Action       string    // an action, such as credential.create or credential.*
	Actor        string    // an actor's id
	Target       string    // the id of one of the targets
	Outcome      string    // success, denied, failure or partial
	From         time.Time // at or after
	To           time.Time // before
	Limit        int       // 1 to 500; 50 when 0
	Cursor       string    // NextCursor of the page before, of the same organization and filter
	Count        bool      // count what the filter picks, on this page and on all others
}

// Page is one page of events, newest first.
//
// NextCursor is empty on the last page only. A page may hold fewer events than
// were asked for, and even none, and still have a NextCursor: what one page looks
// through is bounded, however rare what it looks for is.
type Page struct {
	Events     []Event
	NextCursor string

	Count       int64 // with [Filter.Count]: how many there are
	CountCapped bool  // there are at least as many as Count
}

// The bounds of [Filter.Limit], and what is counted at most.
const (
	DefaultLimit = 50
	MaxLimit     = 500
	MaxCount     = 10_000
)

// Events gives one page of the organization's events. It needs audit:read, and
// first waits up to a second for events that are on their way to the disk, the
// repeats of denials counted so far among them. Errors: Invalid, which names the
// wrong fields.
func (l *Log) Events(ctx context.Context, caller access.Caller, f Filter) (Page, error) {
	if f.Organization == "" {
		f.Organization = caller.Organization
	}
	if err := access.Allow(caller, access.AuditRead, f.Organization); err != nil {
		return Page{}, err
	}
	s, err := f.search()
	if err != nil {
		return Page{}, err
	}
	l.settle(ctx, f.Organization)
	return l.page(ctx, s)
}

// settle brings what was recorded so far to the disk, as far as that takes no
// longer than a second: what is late is on the next page view.
func (l *Log) settle(ctx context.Context, organization string) {
	l.mu.Lock()
	l.series.settle(organization, l.opts.Now(), &l.queue, l.opts.Spool)
	l.mu.Unlock()
	wait, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_ = l.Flush(wait)
}

func (l *Log) page(ctx context.Context, s search) (Page, error) {
	var page Page
	if s.actions != nil && len(s.actions) == 0 { // no action begins so
		return page, nil
	}
	err := l.db.View(ctx, s.organization, func(tx *store.Tx) error {
		page = Page{}
		streams, err := s.plan(ctx, tx)
		if err != nil {
			return err
		}
		found, next, err := streams.read(ctx, tx)
		if err != nil {
			return err
		}
		page.Events = found
		if next != nil {
			page.NextCursor = s.encodeCursor(*next)
		}
		if s.count {
			page.Count, page.CountCapped, err = streams.count(ctx, tx)
		}
		return err
	})
	if err != nil {
		return Page{}, fmt.Errorf("reading the trail: %w", err)
	}
	return page, nil
}

// columns of an event, as scanEvent reads them, from events e and event_persons p.
const (
	columns = `e.id, e.occurred_at, e.recorded_at, e.class, e.action, e.outcome, e.actor_id, e.canonical, p.salt, p.data`
	persons = ` LEFT JOIN event_persons p ON p.organization = e.organization AND p.event_id = e.id`
)

// looseTime is a column with a time, in which SQLite keeps whatever somebody wrote there.
type looseTime struct {
	store.Time
	none bool // it is no time
}

// Scan implements [database/sql.Scanner].
func (t *looseTime) Scan(src any) error {
	t.none = t.Time.Scan(src) != nil
	return nil
}

var errColumns = errors.New("the columns of the row are not those of its canonical bytes")

// scanEvent reads a row. One that was altered is not an error: it is given as its
// columns have it, and said to be damaged. more are further columns after these.
func scanEvent(organization string, scan func(...any) error, more ...any) (Event, error) {
	var (
		row             = Event{Organization: organization, Damaged: true}
		at, recorded    looseTime
		canonical, salt []byte
		side            *string
	)
	err := scan(append([]any{&row.ID, &at, &recorded, &row.Class, &row.Action, &row.Outcome, &row.Actor.ID, &canonical, &salt, &side}, more...)...)
	if err != nil {
		return row, err
	}
	row.OccurredAt, row.RecordedAt = at.Time.Time, recorded.Time.Time
	row.Severity = Critical
	var personal []byte
	if side != nil {
		personal = []byte(*side)
	}
	e, err := decode(canonical, personal)
	if err == nil && (at.none || recorded.none || e.ID != row.ID || e.Organization != organization || e.Class != row.Class || e.Action != row.Action ||
		e.Outcome != row.Outcome || e.Actor.ID != row.Actor.ID || !e.OccurredAt.Equal(row.OccurredAt) ||
		!e.RecordedAt.IsZero() && !e.RecordedAt.Equal(row.RecordedAt)) {
		err = errColumns
	}
	if err != nil {
		return row, nil //nolint:nilerr // shown as damaged
	}
	if e.RecordedAt.IsZero() { // version 1
		e.RecordedAt = row.RecordedAt
	}
	if side != nil && (len(salt) != saltSize || !bytes.Contains(canonical, []byte(`"personal":"`+commitment(salt, personal)+`"`))) {
		e.Request.IP, e.Request.UserAgent, e.Personal, e.Damaged = "", "", nil, true
		for i := range e.Targets {
			e.Targets[i].Name = ""
		}
	}
	return e, nil
}
