package seal

import "sync/atomic"

// cache is a bounded map with SIEVE eviction (Zhang et al., NSDI 2024): a hit
// sets a bit and moves nothing, so hits may run side by side under a read
// lock, and one pass over many rows does not push out what is in daily use.
// The owner holds the lock: at least for reading in get, for writing elsewhere.
type cache[K comparable, V any] struct {
	capacity int
	entries  map[K]*cacheEntry[K, V]
	newest   *cacheEntry[K, V]
	oldest   *cacheEntry[K, V]
	hand     *cacheEntry[K, V] // where the search for a victim goes on
}

type cacheEntry[K comparable, V any] struct {
	key          K
	value        V
	visited      atomic.Bool
	newer, older *cacheEntry[K, V]
}

func newCache[K comparable, V any](capacity int) *cache[K, V] {
	return &cache[K, V]{capacity: capacity, entries: make(map[K]*cacheEntry[K, V])}
}

func (c *cache[K, V]) get(key K) (V, bool) {
	entry, found := c.entries[key]
	if !found {
		var zero V
		return zero, false
	}
	if !entry.visited.Load() { // spares readers the fight over the cache line
		entry.visited.Store(true)
	}
	return entry.value, true
}

func (c *cache[K, V]) put(key K, value V) {
	if entry, found := c.entries[key]; found {
		entry.value = value
		return
	}
	if len(c.entries) >= c.capacity {
		c.evict()
	}
	entry := &cacheEntry[K, V]{key: key, value: value, older: c.newest}
	if c.newest != nil {
		c.newest.newer = entry
	} else {
		c.oldest = entry
	}
	c.newest = entry
	c.entries[key] = entry
}

// evict drops the first entry, from the hand towards the newest and around,
// that has not been visited since the hand last passed.
func (c *cache[K, V]) evict() {
	victim := c.hand
	if victim == nil {
		victim = c.oldest
	}
	for victim.visited.Swap(false) {
		if victim = victim.newer; victim == nil {
			victim = c.oldest
		}
	}
	c.hand = victim.newer
	c.remove(victim)
}

// drop removes every entry that match accepts.
func (c *cache[K, V]) drop(match func(K, V) bool) {
	for _, entry := range c.entries {
		if match(entry.key, entry.value) {
			c.remove(entry)
		}
	}
}

func (c *cache[K, V]) remove(entry *cacheEntry[K, V]) {
	if c.hand == entry {
		c.hand = entry.newer
	}
	if entry.newer != nil {
		entry.newer.older = entry.older
	} else {
		c.newest = entry.older
	}
	if entry.older != nil {
		entry.older.newer = entry.newer
	} else {
		c.oldest = entry.newer
	}
	delete(c.entries, entry.key)
}
