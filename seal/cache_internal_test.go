package seal

import (
	"testing"

	"pgregory.net/rapid"
)

// TestCache compares a cache with a map: what it has is what was put last, it
// never holds more than its capacity, and its list holds what its map holds.
func TestCache(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		capacity := rapid.IntRange(1, 6).Draw(t, "capacity")
		c := newCache[int, int](capacity)
		model := make(map[int]int)
		key := rapid.IntRange(0, 9)
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				k, v := key.Draw(t, "key"), rapid.Int().Draw(t, "value")
				c.put(k, v)
				model[k] = v
				if got, found := c.get(k); !found || got != v {
					t.Fatalf("%d was put and is not there", k)
				}
			},
			"get": func(t *rapid.T) {
				k := key.Draw(t, "key")
				if got, found := c.get(k); found && got != model[k] {
					t.Fatalf("%d is %d, want %d", k, got, model[k])
				}
			},
			"drop": func(t *rapid.T) {
				odd := key.Draw(t, "key") % 2
				c.drop(func(k, _ int) bool { return k%2 == odd })
				for k := range c.entries {
					if k%2 == odd {
						t.Fatalf("%d was dropped and is there", k)
					}
				}
			},
			"": func(t *rapid.T) {
				if len(c.entries) > capacity {
					t.Fatalf("%d entries", len(c.entries))
				}
				var older *cacheEntry[int, int]
				n, handFound := 0, c.hand == nil
				for e := c.oldest; e != nil; older, e = e, e.newer {
					n++
					handFound = handFound || e == c.hand
					if e.older != older || c.entries[e.key] != e {
						t.Fatal("the list is broken")
					}
				}
				if c.newest != older || n != len(c.entries) || !handFound {
					t.Fatal("the list is broken")
				}
			},
		})
	})
}

// TestCacheKeepsWhatIsUsed sends many keys that are seen once past a few that
// are used all the time.
func TestCacheKeepsWhatIsUsed(t *testing.T) {
	c := newCache[int, int](10)
	for k := range 5 {
		c.put(k, k)
	}
	for once := 100; once < 1000; once++ {
		for k := range 5 {
			if _, found := c.get(k); !found {
				t.Fatalf("%d was pushed out at %d", k, once)
			}
		}
		c.put(once, once)
	}
}
