package audit

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/store"
)

// Options sets up a [Log]. The zero value is ready to use.
type Options struct {
	Spool      int           // access and security events waiting for the disk at most; 65,536 when 0
	FlushEvery time.Duration // how long an event may wait for company; 200 ms when 0
	Coalesce   time.Duration // how long repeats of a denial are counted before they are written; 10 s when 0
	Now        func() time.Time
	Logger     *slog.Logger
}

// ErrFull is answered when the spool holds as many events as it may: visits
// that could not be recorded are not let in.
var ErrFull = fault.New(fault.Unavailable, "audit_unavailable",
	"The audit trail cannot take further events at the moment; try again shortly.").After(time.Second)

// Log writes and reads the trail. [Log.Run] must be running for access and
// security events to reach the disk, and for those who follow live.
type Log struct {
	db     *store.DB
	opts   Options
	insert func(context.Context, *store.Tx, []row) error // how events are written: a benchmark measures changes without

	mu       sync.Mutex
	queue    queue
	reserved int // slots handed out and not yet used
	series   seriesTable
	untold   map[string]int64 // events that could not be recorded, by organization

	tails   tails
	exports exports
	wake    chan struct{}
	flushes chan chan struct{}
	lost    atomic.Int64
	given   atomic.Int64 // events that the stop gave up
	away    bool         // the last write failed, and the log says so; of Run alone
}

// New gives a log over db.
func New(db *store.DB, opts Options) *Log {
	if opts.Spool == 0 {
		opts.Spool = 65536
	}
	if opts.FlushEvery == 0 {
		opts.FlushEvery = 200 * time.Millisecond
	}
	if opts.Coalesce == 0 {
		opts.Coalesce = 10 * time.Second
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return &Log{
		db: db, opts: opts, insert: insert,
		series: seriesTable{open: make(map[seriesKey]*series), of: make(map[string]int), targets: make(map[seriesKey]int)},
		wake:   make(chan struct{}, 1), flushes: make(chan chan struct{}),
	}
}

// Append writes a control event inside tx, as caller's. The caller's change
// must fail when Append does; on PostgreSQL the event goes with the commit, which
// then is what fails. Organization, Actor and Request are filled from
// caller and ctx where e leaves them empty.
func (l *Log) Append(ctx context.Context, tx *store.Tx, caller access.Caller, e Event) error {
	e.Class = Control
	l.fill(ctx, caller, &e)
	r, err := encode(e.normal(), l.opts.Now())
	if err != nil {
		return err
	}
	return l.insert(ctx, tx, []row{r})
}

func (l *Log) fill(ctx context.Context, caller access.Caller, e *Event) {
	if e.ID == "" {
		e.ID = store.NewID("evt")
	}
	if e.OccurredAt.IsZero() {
		e.OccurredAt = l.opts.Now()
	}
	if e.Organization == "" {
		e.Organization = caller.Organization
	}
	if e.Organization == "" {
		e.Organization = access.InstanceOrganization
	}
	if e.Actor.Type == "" {
		e.Actor = actorOf(caller)
	}
	if e.Actor.Type == "" {
		e.Actor = anonymous()
	}
	if e.Request == (Request{}) {
		e.Request = requestOf(ctx)
	}
}

// Slot is room for one access event in the spool.
type Slot struct{ log *Log }

// Reserve takes room for one access event, or gives [ErrFull]. Each slot must
// be ended by Record or Release.
func (l *Log) Reserve() (Slot, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.queue.length+l.reserved >= l.opts.Spool {
		return Slot{}, ErrFull
	}
	l.reserved++
	return Slot{l}, nil
}

// Record hands the visit's event to the writer.
func (s Slot) Record(ctx context.Context, caller access.Caller, e Event) {
	e.Class = Access
	s.log.fill(ctx, caller, &e)
	e = e.normal() // what waits in the spool is bounded too
	s.log.mu.Lock()
	s.log.reserved--
	s.log.queue.push(e)
	full := s.log.queue.length >= batchSize
	s.log.mu.Unlock()
	if full {
		s.log.poke()
	}
}

// Release gives the slot back unused.
func (s Slot) Release() {
	s.log.mu.Lock()
	s.log.reserved--
	s.log.mu.Unlock()
}

// Security records a denial (or what Outcome says), as caller's. Events alike in organization,
// action, actor, reason, address and target are one series; see [Event.TargetAsked].
func (l *Log) Security(ctx context.Context, caller access.Caller, e Event) {
	e.Class = Security
	if e.Outcome == "" {
		e.Outcome = Denied
	}
	l.fill(ctx, caller, &e)
	e = e.normal()
	l.mu.Lock()
	first := l.series.count(e, l.queue.length < l.opts.Spool)
	if first {
		l.queue.push(e)
	}
	l.mu.Unlock()
	if first {
		l.poke()
	}
}

func (l *Log) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Backlog gives how many events wait for the disk, and how many could not be
// written at all since the start because the database refused their content.
func (l *Log) Backlog() (waiting int, lost int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.queue.length, l.lost.Load()
}

// Unwritten gives how many events [Log.Run] gave up at its end: they are lost.
func (l *Log) Unwritten() int64 { return l.given.Load() }

// Full reports whether visits are not let in, since the spool holds as many events
// as it may.
func (l *Log) Full() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.queue.length+l.reserved >= l.opts.Spool
}

// Flush waits until every event handed in before the call is on disk, or ctx
// ends. It needs a running [Log.Run].
func (l *Log) Flush(ctx context.Context) error {
	done := make(chan struct{})
	select {
	case l.flushes <- done:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// batchSize is how many events one transaction writes at most.
const batchSize = 1024

// Run writes events and reads for followers until ctx ends, then writes what is left, with
// open series ended, and returns. Events that cannot be written while the database is away
// are kept and tried again; what is left ten seconds after ctx ended is given up, with a log
// line that says how many.
func (l *Log) Run(ctx context.Context) {
	tick := time.NewTicker(l.opts.FlushEvery)
	defer tick.Stop()
	var readers sync.WaitGroup
	defer readers.Wait() // the database may be closed once this returns
	readers.Go(func() { l.addMissingTerms(ctx) })
	readers.Go(func() { l.feed(ctx) })
	writing, end := outliving(ctx, maxFinish)
	defer end()
	var waiting []chan struct{} // who called Flush and has not been answered
	drain := func() {
		if l.drain(writing) {
			for _, done := range waiting {
				close(done)
			}
			waiting = nil
		}
	}
	for {
		select {
		case <-ctx.Done():
			l.finish(writing)
			return
		case <-tick.C:
			l.mu.Lock()
			l.series.due(l.opts.Now(), l.opts.Coalesce, &l.queue, l.opts.Spool)
			l.mu.Unlock()
			drain()
		case <-l.wake:
			if !l.away { // however many come meanwhile, a tick is soon enough
				drain()
			}
		case done := <-l.flushes:
			waiting = append(waiting, done)
			drain()
		}
	}
}

// maxFinish is how long writing goes on after a stop.
const maxFinish = 10 * time.Second

// outliving gives a context that ends some time after ctx does. What is under way at a stop
// is not cut off: PostgreSQL would wait for the rest of a statement that came half, for up
// to fifteen seconds (pgconn.asyncClose), and whoever writes the same events again would wait for it.
func outliving(ctx context.Context, by time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	forget := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(by, cancel)
		context.AfterFunc(longer, func() { timer.Stop() })
	})
	return longer, func() {
		forget()
		cancel()
	}
}

func (l *Log) finish(ctx context.Context) {
	l.mu.Lock()
	l.series.end(&l.queue)
	l.mu.Unlock()
	for !l.drain(ctx) {
		if ctx.Err() != nil {
			waiting, _ := l.Backlog()
			l.given.Store(int64(waiting))
			l.opts.Logger.ErrorContext(ctx, "audit events could not be written before the stop", "events", waiting)
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// drain writes the queue, oldest first, and reports whether it is empty.
func (l *Log) drain(ctx context.Context) bool {
	for {
		l.mu.Lock()
		batch := l.queue.first()
		if len(batch) == 0 { // writing works again
			l.tellLost()
			batch = l.queue.first()
		}
		l.mu.Unlock()
		if len(batch) == 0 {
			return true
		}
		if err := l.writeBatch(ctx, batch); err != nil {
			if !l.away {
				l.opts.Logger.ErrorContext(ctx, "audit events wait for the database", "events", len(batch), "error", err)
			}
			l.away = true
			return false
		}
		if l.away {
			l.opts.Logger.InfoContext(ctx, "audit events are written again")
		}
		l.away = false
		l.mu.Lock()
		l.queue.drop(len(batch))
		l.mu.Unlock()
	}
}

// refusal is an event that the database does not take, whenever it is tried.
type refusal struct {
	event Event
	err   error
}

// writeBatch writes the events in one transaction. An error means that all should be
// kept and tried again, and that none was counted as lost. An event whose content the
// database refuses is written alone, or counted as lost, so that it holds up no other.
func (l *Log) writeBatch(ctx context.Context, batch []Event) error {
	var refused []refusal
	rows, recorded := make([]row, 0, len(batch)), l.opts.Now()
	for _, e := range batch {
		r, err := encode(e, recorded) // what waits is normal already
		if err != nil {
			refused = append(refused, refusal{e, err})
			continue
		}
		rows = append(rows, r)
	}
	err := l.insertAll(ctx, rows)
	if errors.Is(err, store.ErrRefused) || errors.Is(err, store.ErrExists) {
		var more []refusal
		more, err = l.insertEach(ctx, rows)
		refused = append(refused, more...)
	}
	if err != nil {
		return err // nothing that the events are to blame for
	}
	for _, r := range refused {
		l.lose(ctx, r.event, r.err)
	}
	return nil
}

// insertEach writes each event in a transaction of its own, and gives those that the database refuses.
func (l *Log) insertEach(ctx context.Context, rows []row) (refused []refusal, err error) {
	for _, r := range rows {
		err := l.insertAll(ctx, []row{r})
		switch {
		case err == nil, errors.Is(err, store.ErrExists): // written by the try before
		case errors.Is(err, store.ErrRefused):
			refused = append(refused, refusal{r.event, err})
		default:
			return nil, err
		}
	}
	return refused, nil
}

func (l *Log) lose(ctx context.Context, e Event, err error) {
	l.lost.Add(1)
	if e.Action != AuditLose { // what tells of the lost ones is told of in the log only
		l.mu.Lock()
		if l.untold == nil {
			l.untold = make(map[string]int64)
		}
		l.untold[e.Organization] += max(1, e.Count)
		l.mu.Unlock()
	}
	l.opts.Logger.ErrorContext(ctx, "an audit event could not be stored",
		"id", e.ID, "organization", e.Organization, "action", e.Action, "error", err)
}

// tellLost makes events of what could not be recorded. Its caller holds the lock.
func (l *Log) tellLost() {
	for organization, n := range l.untold {
		l.queue.push(Event{
			ID: store.NewID("evt"), OccurredAt: l.opts.Now(), Organization: organization, Class: System, Action: AuditLose, Outcome: Failure,
			Reason: "event_refused", Actor: actorOf(access.SystemCaller(organization)), Count: n,
		})
	}
	clear(l.untold)
}

// maxWrite bounds one write, so that a database that hangs is tried again.
const maxWrite = 15 * time.Second

func (l *Log) insertAll(ctx context.Context, rows []row) error {
	ctx, cancel := context.WithTimeout(ctx, maxWrite)
	defer cancel()
	// A batch holds several organizations' events.
	return l.db.UpdateAcross(ctx, func(tx *store.Tx) error {
		return l.insert(ctx, tx, rows)
	})
}
