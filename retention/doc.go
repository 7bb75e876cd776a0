// Package retention decides how long each organization's data is kept, and removes
// what is past that: policies, legal holds and the sweeper.
//
//	r := retention.New(db, trail, ledger, retention.Options{})
//	go r.Run(ctx)
//	p, err := r.Put(ctx, caller, "", store.Match{}, retention.Draft{Preset: "pci-dss"})
//	preview, err := r.Preview(ctx, caller, "", nil)
//
// # Classes and lengths
//
// Data is parted into the classes of [Classes]: the four of events, and what else
// grows old. An organization says how long it keeps each ([Retention.Put]); what it
// does not name is kept for its default. The operator's [Bounds] hold over all:
// where a policy was made before a bound, the bound wins at the next sweep.
//
// An event's age counts from when its block was sealed, a time that is signed; that
// of a row from when it ended. Nothing unsealed is ever removed.
//
// # Holds
//
// A legal hold keeps what it names, whatever policies say ([Retention.Hold]). An
// event that is held does not stop the sweep of its log: it is set aside with its
// proof ([ledger.HeldEvent]), and goes with the first sweep after the hold's end. A
// hold on a whole class stops that class instead.
//
// # Sweeping
//
// One instance, by lease, goes over all organizations each [Options.Every], in steps
// of [Options.Batch] rows, each a transaction of its own: SQLite's writer is never
// held for long, and what is broken off is gone on with. The lease saves work only;
// two sweepers at once do no harm. Events leave their log from its head, behind a
// signed record ([ledger.Ledger.Remove]), so that the log still verifies. Each run
// and class has a [Certificate], signed, and each run an event retention.sweep.
//
// One query finds what is due; [Retention.Preview] runs it without the deletion.
//
// # Clocks
//
// A clock that jumps would delete everything. So the database keeps the latest time
// that is believed, and a look that comes more than [Options.MaxJump] after it is
// doubted: nothing is swept until somebody says that the clock is right
// ([Retention.AcceptClock]), or until it has stood for [Options.MaxJump]. The first
// time that is believed is that of the last block of the trail before any such jump. On
// PostgreSQL a clock that differs from the server's by more than an hour is refused
// at once, and cannot be accepted ([ErrClockSkewed]).
package retention

import (
	"log/slog"
	"strconv"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/internal/lease"
	"github.com/gatehouse-io/gatehouse/ledger"
	"github.com/gatehouse-io/gatehouse/store"
)

// The errors that callers meet, each safe to show.
var (
	ErrStale        = fault.New(fault.Stale, "stale", "It was changed since; read it again and send the new ETag.")
	ErrHoldNotFound = fault.New(fault.NotFound, "hold_not_found", "There is no such hold.")
	ErrTooManyHolds = fault.New(fault.Conflict, "too_many_holds", "There may be at most "+strconv.Itoa(MaxHolds)+" holds at a time; release one first.")
	ErrClock        = fault.New(fault.Unavailable, "clock_doubted",
		"This machine's clock is far from the time that was believed last, so nothing is removed; where it is right, run `gatehouse retention sweep --accept-clock`.")
	ErrClockSkewed = fault.New(fault.Unavailable, "clock_skewed",
		"This machine's clock is not the database server's, so nothing is removed: set it right, or let another instance sweep. It cannot be accepted.")
)

// Options sets up a [Retention]. The zero value is ready to use.
type Options struct {
	Every   time.Duration // between two runs over all organizations; 1 h when 0
	Batch   int           // rows that one transaction removes at most; 500 when 0
	Pause   time.Duration // between two transactions; 50 ms when 0
	Lease   time.Duration // after how long without a word another instance sweeps; 2 min when 0
	MaxJump time.Duration // how far the clock may come forward unseen; 7 days when 0

	Now    func() time.Time
	Swept  func(class string, rows int64) // is told of what was removed; nil: nobody
	Logger *slog.Logger
}

// Retention keeps policies and holds, and sweeps. Its methods may be called by
// several goroutines at once.
type Retention struct {
	db     *store.DB
	trail  *audit.Log
	ledger *ledger.Ledger
	server store.ServerClock
	opts   Options
	lease  *lease.Lease // of the one that sweeps
}

// New gives the retention of what is in db. Its events go to trail, and its records
// are signed by l.
func New(db *store.DB, trail *audit.Log, l *ledger.Ledger, opts Options) *Retention {
	if opts.Every == 0 {
		opts.Every = time.Hour
	}
	if opts.Batch == 0 {
		opts.Batch = 500
	}
	if opts.Pause == 0 {
		opts.Pause = 50 * time.Millisecond
	}
	if opts.Lease == 0 {
		opts.Lease = 2 * time.Minute
	}
	if opts.MaxJump == 0 {
		opts.MaxJump = 7 * day
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Swept == nil {
		opts.Swept = func(string, int64) {}
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return &Retention{db: db, trail: trail, ledger: l, server: db.Now, opts: opts,
		lease: lease.New(db, lease.Options{Table: lease.Sweeper, For: opts.Lease, Now: opts.Now})}
}

// ownOr gives the organization that is asked for, the caller's own where none is.
func ownOr(caller access.Caller, organization string) string {
	if organization == "" {
		return caller.Organization
	}
	return organization
}
