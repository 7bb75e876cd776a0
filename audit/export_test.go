package audit

import (
	"context"
	"time"

	"github.com/gatehouse-io/gatehouse/store"
)

// What the fuzz and golden tests look at.
var (
	Decode = decode
)

const (
	TailBacklog  = tailBacklog
	TailEvery    = tailEvery
	MaxSeries    = maxSeries
	MaxSeriesOf  = maxSeriesOf
	MaxCanonical = maxCanonical
)

// Encode gives the canonical bytes, the salt and the side row of an event.
func Encode(e Event) (canonical, salt, personal []byte, err error) {
	r, err := encode(e.normal(), e.RecordedAt)
	return r.canonical, r.salt, r.personal, err
}

// EncodeCursor gives the cursor behind an event, for the organization and the
// filters of f.
func (f Filter) EncodeCursor(at time.Time, id string) string {
	s := search{tag: f.tag()}
	return s.encodeCursor(place{store.Time{Time: at}, id})
}

// DecodeCursor gives what a cursor of f holds.
func (f Filter) DecodeCursor(text string) (time.Time, string, error) {
	s := search{tag: f.tag()}
	p, err := s.decodeCursor(text)
	return p.at.Time, p.id, err
}

// Insert writes events as they are, in one transaction.
func Insert(ctx context.Context, db *store.DB, events []Event) error {
	rows := make([]row, len(events))
	for i, e := range events {
		if e.ID == "" {
			e.ID = store.NewID("evt")
		}
		var err error
		if rows[i], err = encode(e.normal(), e.OccurredAt); err != nil {
			return err
		}
	}
	return db.UpdateAcross(ctx, func(tx *store.Tx) error { return insert(ctx, tx, rows) })
}

// Feed reads for an organization's followers at once.
func (l *Log) Feed(ctx context.Context, organization string) {
	l.tails.mu.Lock()
	at := l.tails.of[organization].at
	l.tails.mu.Unlock()
	l.feedOne(ctx, organization, at)
}

// Series gives how many series of denials are told apart just now.
func (l *Log) Series() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.series.open)
}

// AppendNothing has Append leave out writing the event, for the benchmark of what
// that costs.
func (l *Log) AppendNothing() {
	l.insert = func(context.Context, *store.Tx, []row) error { return nil }
}

// RequestOf gives the request that a context carries.
func RequestOf(ctx context.Context) Request { return requestOf(ctx) }
