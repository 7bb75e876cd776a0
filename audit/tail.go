package audit

import (
	"context"
	"sync"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/internal/fault"
)

// The bounds of following live.
const (
	MaxFollowers = 16 // of one organization, on one instance

	tailEvery   = 500 * time.Millisecond
	tailBatch   = 500 // events that the poller reads of an organization at once
	tailBacklog = 32  // batches that may wait for one follower
)

// The errors of following live.
var (
	ErrFollowers = fault.New(fault.Limited, "too_many_tails", "As many clients as may follow this trail live already; end one first.").After(10 * time.Second)
	// ErrSlow ends a follower that does not keep up; it can go on from where it was.
	ErrSlow = fault.New(fault.Unavailable, "tail_too_slow", "The client reads slower than events come; connect again to go on from the last event.")
	// ErrAhead refuses a place that the trail has not come to: events would be left out silently.
	ErrAhead = fault.New(fault.Conflict, "trail_is_older",
		"The trail has not come as far as the event that the client saw last: the database was put back to an older state. Read what came since with GET /api/audit/events, and follow without Last-Event-ID.")
)

// tails is who follows live on this instance. One goroutine of [Log.Run] reads for all.
type tails struct {
	mu sync.Mutex
	of map[string]*tailed
}

type tailed struct {
	at        Positions
	followers map[*Follower]bool
}

// Follower follows the trail of one organization live. It is for one goroutine.
type Follower struct {
	log          *Log
	organization string
	at           Positions
	join         Positions // from here on batches come from the poller
	behind       bool
	batches      chan []Sealed
}

// Follow begins to follow an organization's trail (the caller's own when empty)
// live, from a place on, or from now on where from is nil. It needs audit:read.
// Events come once they are sealed, which takes about a second, as long as [Log.Run]
// is running. Close the follower when it is done with. Errors: [ErrFollowers],
// [ErrAhead].
func (l *Log) Follow(ctx context.Context, caller access.Caller, organization string, from *Positions) (*Follower, error) {
	if organization == "" {
		organization = caller.Organization
	}
	if err := access.Allow(caller, access.AuditRead, organization); err != nil {
		return nil, err
	}
	end, err := l.End(ctx, organization)
	if err != nil {
		return nil, err
	}
	if from != nil && end.before(*from) {
		return nil, ErrAhead
	}
	t := &l.tails
	t.mu.Lock()
	defer t.mu.Unlock()
	of := t.of[organization]
	if of == nil {
		of = &tailed{at: end, followers: make(map[*Follower]bool)}
		if t.of == nil {
			t.of = make(map[string]*tailed)
		}
		t.of[organization] = of
	}
	if len(of.followers) >= MaxFollowers {
		return nil, ErrFollowers
	}
	f := &Follower{log: l, organization: organization, at: of.at, join: of.at, batches: make(chan []Sealed, tailBacklog)}
	if from != nil {
		f.at, f.behind = *from, from.before(of.at)
	}
	of.followers[f] = true
	return f, nil
}

// Close ends the follower.
func (f *Follower) Close() {
	t := &f.log.tails
	t.mu.Lock()
	defer t.mu.Unlock()
	if of := t.of[f.organization]; of != nil {
		delete(of.followers, f)
		if len(of.followers) == 0 {
			delete(t.of, f.organization)
		}
	}
}

// Next waits for events and gives some, oldest first within each class. Errors:
// [ErrSlow], and what ended ctx.
func (f *Follower) Next(ctx context.Context) ([]Sealed, error) {
	for f.behind {
		some, err := f.log.Following(ctx, f.organization, f.at, &f.join, tailBatch)
		if err != nil {
			return nil, err
		}
		if f.behind = len(some) == tailBatch; len(some) > 0 {
			f.at = some[len(some)-1].After
			return some, nil
		}
	}
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case some, open := <-f.batches:
			if !open {
				return nil, ErrSlow
			}
			f.at = some[len(some)-1].After
			return some, nil
		}
	}
}

// feed reads for all followers until ctx ends.
func (l *Log) feed(ctx context.Context) {
	tick := time.NewTicker(tailEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		l.tails.mu.Lock()
		at := make(map[string]Positions, len(l.tails.of))
		for organization, of := range l.tails.of {
			at[organization] = of.at
		}
		l.tails.mu.Unlock()
		for organization, from := range at {
			l.feedOne(ctx, organization, from)
		}
	}
}

func (l *Log) feedOne(ctx context.Context, organization string, from Positions) {
	for {
		reading, cancel := context.WithTimeout(ctx, 5*time.Second)
		some, err := l.Following(reading, organization, from, nil, tailBatch)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			l.opts.Logger.WarnContext(ctx, "clients that follow the trail wait for the database", "error", err)
			return
		}
		if len(some) == 0 {
			return
		}
		l.tails.mu.Lock()
		of := l.tails.of[organization]
		if of == nil || of.at != from { // all left meanwhile, and somebody came
			l.tails.mu.Unlock()
			return
		}
		from = some[len(some)-1].After
		of.at = from
		for f := range of.followers {
			select {
			case f.batches <- some:
			default:
				delete(of.followers, f)
				close(f.batches)
			}
		}
		l.tails.mu.Unlock()
		if len(some) < tailBatch {
			return
		}
	}
}
