package gateway

import "sync"

// bounded is a map that holds at most max values, each made when it is first
// asked for. Past that, values that may go make room: what is remembered of one
// tenant must not take the memory of all.
type bounded[K comparable, V any] struct {
	mu   sync.Mutex
	of   map[K]V
	max  int
	new  func(K) V
	idle func(V) bool // whether a value may go; nil: any
}

func (b *bounded[K, V]) get(key K) V {
	b.mu.Lock()
	defer b.mu.Unlock()
	v, ok := b.of[key]
	if ok {
		return v
	}
	if len(b.of) >= b.max {
		b.evict()
	}
	if b.of == nil {
		b.of = make(map[K]V)
	}
	v = b.new(key)
	b.of[key] = v
	return v
}

// evict takes out one value that may go, of the first few that are met in the
// map's random order, or the last of these.
func (b *bounded[K, V]) evict() {
	tries := 0
	for key, v := range b.of {
		if tries++; tries >= 16 || b.idle == nil || b.idle(v) {
			delete(b.of, key)
			return
		}
	}
}

func (b *bounded[K, V]) count(is func(V) bool) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, v := range b.of {
		if is(v) {
			n++
		}
	}
	return n
}
