package audit

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/store"
)

// Filter picks events. Empty fields pick all.
type Filter struct {
	Organization string    // the caller's own when empty
	Action       string    // one action, such as credential.create
	Actor        string    // an actor's id
	Outcome      string    // success, denied, failure or partial
	From         time.Time // at or after
	To           time.Time // before
	Limit        int       // 1 to 500; 50 when 0
	Cursor       string    // NextCursor of the page before
}

// Page is one page of events, newest first. NextCursor is empty on the last.
type Page struct {
	Events     []Event
	NextCursor string
}

// The bounds of [Filter.Limit].
const (
	DefaultLimit = 50
	MaxLimit     = 500
)

var actionForm = regexp.MustCompile(`^[a-z]{1,32}\.[a-z_]{1,32}$`)

// Events gives one page of the organization's events. It needs audit:read, and
// first waits up to a second for events that are on their way to the disk, the
// repeats of denials counted so far among them.
func (l *Log) Events(ctx context.Context, caller access.Caller, f Filter) (Page, error) {
	if f.Organization == "" {
		f.Organization = caller.Organization
	}
	if err := access.Allow(caller, access.AuditRead, f.Organization); err != nil {
		return Page{}, err
	}
	query, args, err := f.build()
	if err != nil {
		return Page{}, err
	}
	l.mu.Lock()
	l.series.settle(f.Organization, l.opts.Now(), &l.queue, l.opts.Spool)
	l.mu.Unlock()
	wait, cancel := context.WithTimeout(ctx, time.Second)
	_ = l.Flush(wait) // what is late is on the next page view
	cancel()

	var page Page
	err = l.db.View(ctx, f.Organization, func(tx *store.Tx) error {
		page = Page{}
		return tx.Each(ctx, func(scan func(...any) error) error {
			var canonical []byte
			var personal *string
			if err := scan(&canonical, &personal); err != nil {
				return err
			}
			var side []byte
			if personal != nil {
				side = []byte(*personal)
			}
			e, err := decode(canonical, side)
			if err != nil {
				return err
			}
			page.Events = append(page.Events, e)
			return nil
		}, query, args...)
	})
	if err != nil {
		return Page{}, fmt.Errorf("reading the trail: %w", err)
	}
	if limit := f.limit(); len(page.Events) > limit {
		page.Events = page.Events[:limit]
		last := page.Events[limit-1]
		page.NextCursor = encodeCursor(last.OccurredAt, last.ID)
	}
	return page, nil
}

func (f Filter) limit() int {
	if f.Limit == 0 {
		return DefaultLimit
	}
	return f.Limit
}

// build gives the query over one row more than the page, or says which
// filters are wrong.
func (f Filter) build() (string, []any, error) {
	var wrong []fault.Field
	if f.Action != "" && !actionForm.MatchString(f.Action) {
		wrong = append(wrong, fault.Field{Name: "action", Message: "must be an action such as credential.create"})
	}
	switch Outcome(f.Outcome) {
	case "", Success, Denied, Failure, Partial:
	default:
		wrong = append(wrong, fault.Field{Name: "outcome", Message: "must be success, denied, failure or partial"})
	}
	if f.Limit < 0 || f.Limit > MaxLimit {
		wrong = append(wrong, fault.Field{Name: "limit", Message: "must be from 1 to " + strconv.Itoa(MaxLimit)})
	}
	if !f.From.IsZero() && !f.To.IsZero() && !f.From.Before(f.To) {
		wrong = append(wrong, fault.Field{Name: "from", Message: "must be before to"})
	}
	where := []string{"e.organization = $1"}
	args := []any{f.Organization}
	add := func(condition string, values ...any) {
		for _, v := range values {
			args = append(args, v)
			condition = strings.Replace(condition, "?", "$"+strconv.Itoa(len(args)), 1)
		}
		where = append(where, condition)
	}
	if f.Action != "" {
		add("e.action = ?", f.Action)
	}
	if f.Actor != "" {
		add("e.actor_id = ?", bounded(f.Actor, maxID))
	}
	if f.Outcome != "" {
		add("e.outcome = ?", f.Outcome)
	}
	if !f.From.IsZero() {
		add("e.occurred_at >= ?", store.At(f.From))
	}
	if !f.To.IsZero() {
		add("e.occurred_at < ?", store.At(f.To))
	}
	if f.Cursor != "" {
		at, id, err := decodeCursor(f.Cursor)
		if err != nil {
			wrong = append(wrong, fault.Field{Name: "cursor", Message: "must be the nextCursor of an earlier page"})
		}
		add("(e.occurred_at < ? OR (e.occurred_at = ? AND e.id < ?))", store.At(at), store.At(at), id)
	}
	if len(wrong) > 0 {
		return "", nil, fault.InvalidFields(wrong...)
	}
	query := `SELECT e.canonical, p.data FROM events e
		LEFT JOIN event_persons p ON p.organization = e.organization AND p.event_id = e.id
		WHERE ` + strings.Join(where, " AND ") + `
		ORDER BY e.occurred_at DESC, e.id DESC LIMIT ` + strconv.Itoa(f.limit()+1)
	return query, args, nil
}

// A cursor is the microseconds and the id of the last event of a page.
func encodeCursor(at time.Time, id string) string {
	b := binary.BigEndian.AppendUint64(nil, uint64(at.UnixMicro()))
	return base64.RawURLEncoding.EncodeToString(append(b, id...))
}

func decodeCursor(s string) (time.Time, string, error) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) < 8 || len(b) > 128 || !store.IsID("evt", string(b[8:])) {
		return time.Time{}, "", errors.New("not a cursor")
	}
	return time.UnixMicro(int64(binary.BigEndian.Uint64(b))), string(b[8:]), nil
}
