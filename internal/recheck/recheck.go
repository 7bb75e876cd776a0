// Package recheck caches what a database says, for a bounded time, and says
// how old an answer may get.
//
// A value is served from memory while it is younger than Fresh. After that the
// next caller looks it up again; others wait for that one look-up. While
// look-ups fail for a reason that Stale accepts (the database is away), the old
// value is served until it is StaleMax old, then the error is. Any other error is
// an answer (there is no such thing any more) and ends the old value.
//
// # A database that hangs
//
// Nobody waits long for a look-up while there is an old value that may be used. Where
// no look-up of the cache was answered for [patience], the database counts as away:
// old values are served at once, and look-ups go on behind, one at a time for each key
// and at most one a second. That holds for [window] after the last of them began, so
// that no value is served that was changed five seconds ago, where the database has
// answered since.
package recheck

import (
	"context"
	"sync"
	"time"

	"github.com/gatehouse-io/gatehouse/internal/bounded"
)

// Options bounds a [Cache].
type Options struct {
	Size     int                  // entries at most
	Fresh    time.Duration        // how long an answer holds without a look
	StaleMax time.Duration        // how old an answer may be while looks fail
	Stale    func(err error) bool // whether a failed look allows an old answer
	Now      func() time.Time     // time.Now when nil
}

// Cache holds values by key. Its methods may be called by several goroutines.
type Cache[K comparable, V any] struct {
	opts    Options
	entries *bounded.Map[K, entry[V]]

	mu       sync.Mutex
	looking  map[K]*look[V]
	answered int    // how many looks were
	silent   series // of looks that were not
}

const (
	lookTime     = 4 * time.Second         // that a look may take
	patience     = 500 * time.Millisecond  // without an answer, after which an old value will do
	window       = 4500 * time.Millisecond // with patience no more than the five seconds in which a change holds everywhere
	failurePause = time.Second             // from the beginning of a look that failed to the next one for the same value
)

// series is of looks since the last answer, each begun within window of the one before.
// The zero series is of none.
type series struct {
	first, last time.Time // when they began
}

func (s *series) begin(now time.Time) {
	if since := now.Sub(s.last); s.first.IsZero() || since < 0 || since >= window {
		*s = series{first: now}
	}
	s.last = now
}

// away reports whether the looks say that no other would be answered at the moment.
func (s *series) away(now time.Time) bool {
	since := now.Sub(s.last)
	return !s.first.IsZero() && since >= 0 && since < window && now.Sub(s.first) >= patience
}

type entry[V any] struct {
	value  V
	at     time.Time
	failed time.Time // when a later look began that failed for a reason that Stale accepts
}

type look[V any] struct {
	done      chan struct{}
	forgotten bool // Forget was called while the look was under way
	value     V
	err       error
}

// New gives an empty cache.
func New[K comparable, V any](opts Options) *Cache[K, V] {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	return &Cache[K, V]{
		opts:    opts,
		entries: bounded.New[K, entry[V]](opts.Size),
		looking: make(map[K]*look[V]),
	}
}

// Get gives the value of key, from memory or by load. load runs detached from
// ctx's end, so that a caller that leaves does not fail the others.
func (c *Cache[K, V]) Get(ctx context.Context, key K, load func(context.Context) (V, error)) (V, error) {
	now := c.opts.Now()
	known, ok := c.entries.Get(key)
	if ok && now.Sub(known.at) < c.opts.Fresh {
		return known.value, nil
	}
	usable := ok && now.Sub(known.at) < c.opts.StaleMax
	if since := now.Sub(known.failed); usable && since >= 0 && since < failurePause {
		return known.value, nil // a look has just failed: another would not help
	}
	c.mu.Lock()
	l, running := c.looking[key]
	if !running {
		l = &look[V]{done: make(chan struct{})}
		c.looking[key] = l
		c.silent.begin(now)
		go c.run(context.WithoutCancel(ctx), key, l, now, load)
	}
	away := c.silent.away(now)
	c.mu.Unlock()
	if usable && away {
		return known.value, nil // l goes on behind
	}
	return c.wait(ctx, key, l)
}

// wait gives what l says, or the old value where l fails or the database is silent.
func (c *Cache[K, V]) wait(ctx context.Context, key K, l *look[V]) (V, error) {
	answered := c.answers()
	silence := time.NewTimer(patience)
	defer silence.Stop()
	for {
		select {
		case <-l.done:
			if l.err != nil && c.away(l.err) {
				if old, ok := c.usable(key); ok {
					return old, nil
				}
			}
			return l.value, l.err
		case <-ctx.Done():
			var none V
			return none, ctx.Err()
		case <-silence.C:
			now := c.answers()
			if old, ok := c.usable(key); ok && now == answered {
				return old, nil
			}
			answered = now // others are answered: l will be
			silence.Reset(patience)
		}
	}
}

// usable gives the old value of key. It looks again, as the value may have been
// forgotten, or become too old, while a look went on.
func (c *Cache[K, V]) usable(key K) (value V, ok bool) {
	known, ok := c.entries.Get(key)
	if !ok || c.opts.Now().Sub(known.at) >= c.opts.StaleMax {
		return value, false
	}
	return known.value, true
}

func (c *Cache[K, V]) answers() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.answered
}

// away reports whether err says nothing of the value, so that an old one holds.
func (c *Cache[K, V]) away(err error) bool { return c.opts.Stale != nil && c.opts.Stale(err) }

// run looks, from the moment at on: what changes meanwhile counts as newer.
func (c *Cache[K, V]) run(ctx context.Context, key K, l *look[V], at time.Time, load func(context.Context) (V, error)) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	l.value, l.err = load(ctx)
	c.mu.Lock()
	if l.err == nil || !c.away(l.err) {
		c.answered++
		c.silent = series{}
	} else if at.Equal(c.silent.first) && c.opts.Now().Sub(at) < patience {
		c.silent = series{} // refused at once, as one broken connection is: nothing hangs
	}
	switch {
	case l.forgotten:
	case l.err == nil:
		c.entries.Set(key, entry[V]{value: l.value, at: at})
	case !c.away(l.err):
		c.entries.Delete(key) // the old value is known to be wrong: it must not come back once look-ups fail
	default:
		if known, ok := c.entries.Get(key); ok {
			known.failed = at
			c.entries.Set(key, known)
		}
	}
	if c.looking[key] == l {
		delete(c.looking, key)
	}
	c.mu.Unlock()
	close(l.done)
}

// Forget drops the value of key. A look-up under way does not bring it back.
func (c *Cache[K, V]) Forget(key K) {
	c.mu.Lock()
	if l, ok := c.looking[key]; ok {
		l.forgotten = true
		delete(c.looking, key)
	}
	c.entries.Delete(key)
	c.mu.Unlock()
}

// ForgetWhere drops every key that match accepts, as [Cache.Forget] does.
func (c *Cache[K, V]) ForgetWhere(match func(K) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, l := range c.looking {
		if match(key) {
			l.forgotten = true
			delete(c.looking, key)
		}
	}
	for key := range c.entries.Keys() {
		if match(key) {
			c.entries.Delete(key)
		}
	}
}
