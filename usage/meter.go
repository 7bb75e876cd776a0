package usage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/store"
)

// Options sets up a [Meter]. Dir is required; the rest has defaults, which a number
// below 0 means too.
type Options struct {
	Dir        string        // folder of the spool, for this instance alone or for several on one machine
	MaxSpool   int64         // bytes that may wait for the database; 64 MiB when 0
	WriteEvery time.Duration // how long a record may wait for the spool; 250 ms when 0
	ApplyEvery time.Duration // how long one may wait for the database; 1 s when 0
	Now        func() time.Time
	Logger     *slog.Logger
}

// ErrFull is answered when as much waits for the database as may: visits that
// could not be recorded are not let in.
var ErrFull = fault.New(fault.Unavailable, "usage_unavailable",
	"The record of usage cannot take further visits at the moment; try again shortly.").After(time.Second)

// Meter records and reads usage. [Meter.Run] must be running for records to
// leave memory. It is safe for concurrent use.
type Meter struct {
	db    *store.DB
	opts  Options
	spool *spool

	mu     sync.Mutex
	queue  []Record // what is not in the spool yet, in order of arrival
	held   *held    // what was taken out of the queue past a disk that refuses; nil: nothing
	spills sync.Mutex

	models map[organizationHour]map[string]bool // known to be in the table; of the applier alone

	flushes chan chan struct{}
	queued  atomic.Int64 // records in queue and held
	spooled atomic.Int64 // bytes in the spool that wait
	lost    atomic.Int64
	refused atomic.Bool // the disk did not take the last write, and the log says so

	pause time.Duration // between two tries of a disk that refuses; guarded by spills, as is tryAt
	tryAt time.Time     // when the next is due

	unwritten atomic.Int64 // records that the stop gave up

	failing bool // the last attempt failed, and the log says so; of the applier alone
}

// New gives a meter over db and takes over what dead processes left in its spool. A
// folder that this process may not write to is an error; on a disk that is full the
// meter lets no visit in until there is room.
func New(db *store.DB, opts Options) (*Meter, error) {
	if opts.MaxSpool <= 0 {
		opts.MaxSpool = 64 << 20
	}
	if opts.WriteEvery <= 0 {
		opts.WriteEvery = 250 * time.Millisecond
	}
	if opts.ApplyEvery <= 0 {
		opts.ApplyEvery = time.Second
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	s, err := openSpool(opts.Dir)
	if err != nil {
		return nil, err
	}
	m := &Meter{db: db, opts: opts, spool: s, models: make(map[organizationHour]map[string]bool), flushes: make(chan chan struct{})}
	m.spooled.Store(s.waiting())
	switch err := s.try(); {
	case errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS):
		return nil, errors.Join(fmt.Errorf("the folder of the usage spool cannot be written to; give it to the user of this process: %w", err), s.close())
	case err != nil:
		m.refuse(context.Background(), err)
	}
	return m, nil
}

// recordSize is what a record in memory counts of MaxSpool, about what it takes
// as a line.
const recordSize = 256

// Ready gives [ErrFull] when no further visit may begin: as much waits as may, or
// the disk refuses what is written.
func (m *Meter) Ready() error {
	if m.refused.Load() || m.spooled.Load()+m.queued.Load()*recordSize >= m.opts.MaxSpool {
		return ErrFull
	}
	return nil
}

// Record takes a visit that has ended. It does not wait for anything.
func (m *Meter) Record(r Record) {
	if r.At.IsZero() {
		r.At = m.opts.Now()
	}
	r = r.normal()
	m.mu.Lock()
	m.queue = append(m.queue, r)
	m.mu.Unlock()
	m.queued.Add(1)
}

// Backlog is what has not reached the database.
type Backlog struct {
	Queued  int64 // records in memory, on their way to the spool
	Bytes   int64 // in the spool
	Lost    int64 // records, since the start, that were damaged on disk or refused by the database
	Refused bool  // the disk refuses what is written to the spool
}

// Backlog gives what waits now.
func (m *Meter) Backlog() Backlog {
	return Backlog{Queued: m.queued.Load(), Bytes: m.spooled.Load(), Lost: m.lost.Load(), Refused: m.refused.Load()}
}

// Flush waits until every record handed in before the call is in the database,
// or ctx ends. It needs a running [Meter.Run].
func (m *Meter) Flush(ctx context.Context) error {
	done := make(chan struct{})
	select {
	case m.flushes <- done:
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

// Run moves records into the spool and on into the database until ctx ends, then
// does so a last time, for five seconds at most, and returns. What the database
// has not taken by then stays in the spool for the next start. Records that the disk
// refuses go into the database past it; what neither takes is lost, and
// [Meter.Unwritten] says afterwards how many that are.
func (m *Meter) Run(ctx context.Context) {
	var writer sync.WaitGroup
	writer.Go(func() { // of its own, so that no database holds up the disk
		tick := time.NewTicker(m.opts.WriteEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				m.spill(ctx)
			}
		}
	})
	m.apply(ctx)
	writer.Wait()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	m.spills.Lock()
	m.pause, m.tryAt = 0, time.Time{} // now or never
	m.spills.Unlock()
	for !m.spill(ctx) && (!m.straight(ctx) || m.spool.unsettled() > 0 && !m.drain(ctx)) && ctx.Err() == nil {
		time.Sleep(100 * time.Millisecond)
	}
	m.drain(ctx)
	if n := m.queued.Load() + m.spool.unsettled(); n > 0 {
		m.unwritten.Store(n)
		m.opts.Logger.ErrorContext(ctx, "usage could not be written before the stop", "records", n)
	}
	if err := m.spool.close(); err != nil {
		m.opts.Logger.ErrorContext(ctx, "a file of the usage spool could not be closed", "error", err)
	}
}

// Unwritten gives how many records [Meter.Run] gave up at its end: they are lost.
func (m *Meter) Unwritten() int64 { return m.unwritten.Load() }

// Close gives the files of the spool to a later process, as [Meter.Run] does at its
// end. It is for a meter that never ran; after Run it does nothing.
func (m *Meter) Close() error { return m.spool.close() }

// apply drains the spool from time to time until ctx ends.
func (m *Meter) apply(ctx context.Context) {
	tick := time.NewTicker(m.opts.ApplyEvery)
	defer tick.Stop()
	m.forgetSpools(ctx)
	var waiting []chan struct{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case done := <-m.flushes:
			waiting = append(waiting, done)
		}
		spilled := len(waiting) == 0 || m.spill(ctx)
		if m.refused.Load() {
			spilled = m.straight(ctx)
		}
		if m.drain(ctx) && spilled {
			for _, done := range waiting {
				close(done)
			}
			waiting = nil
		}
	}
}

// spill writes what is in memory to the spool and reports whether nothing is left of
// it. Once a write has failed, the disk must have room for more than the next records
// before it counts as one that takes them.
func (m *Meter) spill(ctx context.Context) bool {
	m.spills.Lock()
	defer m.spills.Unlock()
	if m.refused.Load() && !m.tries() {
		return false
	}
	nothingHeld, err := m.spillHeld()
	if err != nil {
		m.refuse(ctx, err)
		return false
	}
	m.mu.Lock()
	records := m.queue
	m.queue = nil
	m.mu.Unlock()
	if len(records) > 0 {
		lines := make([]byte, 0, len(records)*recordSize)
		for _, r := range records {
			var err error
			if lines, err = appendLine(lines, r); err != nil { // strings and numbers always marshal
				m.lose(ctx, err)
			}
		}
		kept, err := m.spool.write(lines)
		if err != nil {
			m.refuse(ctx, err)
		}
		if err != nil && !kept {
			m.mu.Lock()
			m.queue = append(records, m.queue...)
			m.mu.Unlock()
			return false
		}
		m.spooled.Add(int64(len(lines)))
		m.queued.Add(-int64(len(records)))
		if err != nil {
			return false
		}
	}
	if m.refused.Swap(false) {
		m.pause, m.tryAt = 0, time.Time{}
		m.opts.Logger.InfoContext(ctx, "usage goes to the disk again")
	}
	return nothingHeld
}

// How long a disk that refuses is left alone between two tries, each of which writes
// [trySize] where there is hardly room.
const (
	firstPause = 250 * time.Millisecond
	maxPause   = 4 * time.Second
)

// tries reports whether the disk takes a write again, and with it what the spool could
// not write. Its caller holds spills.
func (m *Meter) tries() bool {
	now := time.Now()
	if now.Before(m.tryAt) {
		return false
	}
	m.pause = min(max(2*m.pause, firstPause), maxPause)
	m.tryAt = now.Add(m.pause) // unless all goes well
	return m.spool.try() == nil && m.spool.settle() == nil
}

// refuse notes that the disk took no write, and tells it once.
func (m *Meter) refuse(ctx context.Context, err error) {
	if !m.refused.Swap(true) {
		m.opts.Logger.ErrorContext(ctx, "the disk does not take usage: until it does, requests to services are refused", "error", err)
	}
}

func (m *Meter) lose(ctx context.Context, err error) {
	m.lost.Add(1)
	m.opts.Logger.ErrorContext(ctx, "a record of usage is lost", "error", err)
}
