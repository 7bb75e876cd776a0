package gateway

import "sync"

// buffers counts the bytes that large request bodies take, of memory or of the
// spool: of all, and of each organization, so that none takes them from the others.
type buffers struct {
	mu    sync.Mutex
	total int64
	of    map[string]int64

	max, share int64 // of all, and of one organization
}

// bufferShares are the shares of the room for bodies, of which one organization may take one.
const bufferShares = 4

// init gives b room for most bytes, and for one body of the largest size at least.
func (b *buffers) init(most, largest int64) {
	b.of = make(map[string]int64)
	b.max = max(most, largest+1)
	b.share = max(b.max/bufferShares, largest+1)
}

func (b *buffers) taken() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.total
}

// charge is what one request's body counts. Its owner releases it.
type charge struct {
	buffers      *buffers
	organization string
	bytes        int64
}

// grow counts a body that has grown, or shrunk, to size bytes, and reports whether
// there is room for it.
func (c *charge) grow(size int64) bool {
	b := c.buffers
	b.mu.Lock()
	defer b.mu.Unlock()
	more := size - c.bytes
	if more > 0 && (b.total+more > b.max || b.of[c.organization]+more > b.share) {
		return false
	}
	b.total += more
	b.of[c.organization] += more
	c.bytes = size
	return true
}

// release gives back what was counted.
func (c *charge) release() {
	if c.bytes == 0 {
		return
	}
	b := c.buffers
	b.mu.Lock()
	defer b.mu.Unlock()
	b.total -= c.bytes
	if b.of[c.organization] -= c.bytes; b.of[c.organization] == 0 {
		delete(b.of, c.organization)
	}
	c.bytes = 0
}
