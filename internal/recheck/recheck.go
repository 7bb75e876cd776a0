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
// Until a look-up fails because nothing was answered in time, it may be a slow database
// that is asked, and what it says may be that a value holds no more: an old value is
// served only while it is younger than [promise], and half a second is waited first.
// After such a failure, and until any look-up of the cache is answered, the database
// counts as away: old values are served at once, and look-ups go on behind, one at a
// time for each key and at most one a second. Where none has been under way for half a
// second, and none has failed for a second, the next caller waits that half second
// again, so that a database which is back is heard before it is passed over.
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
	answered int       // how many looks were
	heard    time.Time // when a look was answered last
	begun    time.Time // when the last look began
	pending  time.Time // since when some look has always been under way
	hung     time.Time // when a look last failed for want of an answer; zero where one was answered since
}

const (
	lookTime     = 4 * time.Second         // that a look may take
	patience     = 500 * time.Millisecond  // without an answer, after which an old value will do
	promise      = 5 * time.Second         // in which a change holds everywhere while the database answers
	failurePause = time.Second             // from the beginning of a look that failed to the next one for the same value
	forgiven     = 4500 * time.Millisecond // without a look, and since one failed, after which it is forgotten that the database hung
)

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
	now = c.opts.Now() // another may have been faster since
	if len(c.looking) == 0 {
		c.pending = now
	}
	away := c.away(now) && (now.Sub(c.pending) >= patience || now.Sub(c.hung) < failurePause)
	l, running := c.looking[key]
	if !running {
		if !c.away(now) {
			c.hung = time.Time{}
		}
		l = &look[V]{done: make(chan struct{})}
		c.looking[key], c.begun = l, now
		go c.run(context.WithoutCancel(ctx), key, l, now, load)
	}
	c.mu.Unlock()
	if usable && away {
		return known.value, nil // l goes on behind
	}
	return c.wait(ctx, key, l)
}

// away reports whether the database counts as away. The lock is held.
func (c *Cache[K, V]) away(now time.Time) bool {
	return !c.hung.IsZero() && (now.Sub(c.begun) < forgiven || now.Sub(c.hung) < forgiven)
}

// wait gives what l says, or the old value where l fails or the database is silent.
func (c *Cache[K, V]) wait(ctx context.Context, key K, l *look[V]) (V, error) {
	answered, _ := c.state()
	silence := time.NewTimer(patience)
	defer silence.Stop()
	for {
		select {
		case <-l.done:
			if l.err != nil && c.silent(l.err) {
				if old, _, ok := c.usable(key); ok {
					return old, nil
				}
			}
			return l.value, l.err
		case <-ctx.Done():
			var none V
			return none, ctx.Err()
		case <-silence.C:
			now, away := c.state()
			old, age, ok := c.usable(key)
			if ok && now == answered && (away || age < promise) {
				return old, nil
			}
			answered = now // others are answered, and l will be; or it fails
			silence.Reset(patience)
		}
	}
}

// usable gives the old value of key and its age. It looks again, as the value may have been
// forgotten, or become too old, while a look went on.
func (c *Cache[K, V]) usable(key K) (value V, age time.Duration, ok bool) {
	known, ok := c.entries.Get(key)
	if age = c.opts.Now().Sub(known.at); !ok || age >= c.opts.StaleMax {
		return value, 0, false
	}
	return known.value, age, true
}

// state gives how many looks were answered, and whether the database counts as away.
func (c *Cache[K, V]) state() (answered int, away bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.answered, c.away(c.opts.Now())
}

// silent reports whether err says nothing of the value, so that an old one holds.
func (c *Cache[K, V]) silent(err error) bool { return c.opts.Stale != nil && c.opts.Stale(err) }

// run looks, from the moment at on: what changes meanwhile counts as newer.
func (c *Cache[K, V]) run(ctx context.Context, key K, l *look[V], at time.Time, load func(context.Context) (V, error)) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	l.value, l.err = load(ctx)
	c.mu.Lock()
	now := c.opts.Now()
	switch {
	case l.err == nil || !c.silent(l.err):
		c.answered++
		c.heard, c.hung = now, time.Time{}
	case now.Sub(at) >= patience && !at.Before(c.heard): // one that is refused at once, as by a broken connection, does not hang
		c.hung = now
	}
	switch {
	case l.forgotten:
	case l.err == nil:
		c.entries.Set(key, entry[V]{value: l.value, at: at})
	case !c.silent(l.err):
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
