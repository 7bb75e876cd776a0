// Package recheck caches what a database says, for a bounded time, and says
// how old an answer may get.
//
// A value is served from memory while it is younger than Fresh. After that the
// next caller looks it up again; others wait for that one look-up. While
// look-ups fail for a reason that Stale accepts (the database is away), the old
// value is served until it is StaleMax old, then the error is; for a second
// after such a failure there is no other look. Any other error is an answer
// (there is no such thing any more) and ends the old value.
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

	mu      sync.Mutex
	looking map[K]*look[V]
}

// failurePause is how long an old value is served without a look after a look
// for it failed, so that a database that hangs does not hold up every request.
const failurePause = time.Second

type entry[V any] struct {
	value  V
	at     time.Time
	failed time.Time // when a later look failed for a reason that Stale accepts
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
	if since := now.Sub(known.failed); ok && since >= 0 && since < failurePause && now.Sub(known.at) < c.opts.StaleMax {
		return known.value, nil // a look has just failed: waiting for another would not help
	}
	c.mu.Lock()
	l, running := c.looking[key]
	if !running {
		l = &look[V]{done: make(chan struct{})}
		c.looking[key] = l
		go c.run(context.WithoutCancel(ctx), key, l, load)
	}
	c.mu.Unlock()
	var none V
	select {
	case <-l.done:
	case <-ctx.Done():
		return none, ctx.Err()
	}
	if l.err != nil && c.away(l.err) {
		// Looked for again: it may have been forgotten while the look went on.
		if known, ok := c.entries.Get(key); ok && c.opts.Now().Sub(known.at) < c.opts.StaleMax {
			return known.value, nil
		}
	}
	return l.value, l.err
}

// away reports whether err says nothing of the value, so that an old one holds.
func (c *Cache[K, V]) away(err error) bool { return c.opts.Stale != nil && c.opts.Stale(err) }

func (c *Cache[K, V]) run(ctx context.Context, key K, l *look[V], load func(context.Context) (V, error)) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	at := c.opts.Now() // before the look: what changes meanwhile counts as newer
	l.value, l.err = load(ctx)
	c.mu.Lock()
	switch {
	case l.forgotten:
	case l.err == nil:
		c.entries.Set(key, entry[V]{value: l.value, at: at})
	case !c.away(l.err):
		c.entries.Delete(key) // the old value is known to be wrong: it must not come back once look-ups fail
	default:
		if known, ok := c.entries.Get(key); ok {
			known.failed = c.opts.Now()
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
