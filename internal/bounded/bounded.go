// Package bounded is a map for several goroutines that holds so many entries and no
// more: when it is full, what is used least goes (otter's W-TinyLFU).
//
// It is otter with one pair of types behind it, any and any. Otter's own generic
// type, instantiated for each pair, is compiled again for each in every package that
// sees it: it made up most of the time that building Gatehouse took. What this costs
// is the allocation of a key for each call, some 20 ns.
package bounded

import (
	"iter"

	"github.com/maypok86/otter/v2"
)

// Map holds values by key. The zero Map is not usable; [New] makes one.
type Map[K comparable, V any] struct{ inner *inner }

// New gives an empty map of at most size entries, which must be positive.
func New[K comparable, V any](size int) *Map[K, V] { return &Map[K, V]{newInner(size)} }

// Get gives the value of key, and whether there is one.
func (m *Map[K, V]) Get(key K) (value V, ok bool) {
	found, ok := m.inner.get(key)
	if !ok {
		return value, false
	}
	value, ok = found.(V)
	return value, ok
}

// Set makes value the value of key.
func (m *Map[K, V]) Set(key K, value V) { m.inner.set(key, value) }

// Delete takes key out.
func (m *Map[K, V]) Delete(key K) { m.inner.remove(key) }

// Keys gives the keys, in no order. Entries may come and go meanwhile.
func (m *Map[K, V]) Keys() iter.Seq[K] {
	return func(yield func(K) bool) {
		m.inner.keys(func(key any) bool {
			k, ok := key.(K)
			return ok && yield(k)
		})
	}
}

// inner keeps otter's types out of other packages: its methods are not copied into
// their callers.
type inner struct{ cache *otter.Cache[any, any] }

//go:noinline
func newInner(size int) *inner {
	return &inner{otter.Must(&otter.Options[any, any]{MaximumSize: size})}
}

//go:noinline
func (i *inner) get(key any) (any, bool) { return i.cache.GetIfPresent(key) }

//go:noinline
func (i *inner) set(key, value any) { i.cache.Set(key, value) }

//go:noinline
func (i *inner) remove(key any) { i.cache.Invalidate(key) }

//go:noinline
func (i *inner) keys(yield func(any) bool) {
	for key := range i.cache.Keys() {
		if !yield(key) {
			return
		}
	}
}
