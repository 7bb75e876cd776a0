package instance

import (
	"context"
	"sync"
	"time"
)

// cached is what metrics tell of the database, read again once every so often,
// whoever asks for it. While it cannot be read, what was read last stands.
type cached[T any] struct {
	every time.Duration
	read  func(context.Context) (T, error)

	mu   sync.Mutex
	at   time.Time
	last T
}

func (c *cached[T]) get() T {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.at) > c.every {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if value, err := c.read(ctx); err == nil {
			c.last = value
		}
		c.at = time.Now()
	}
	return c.last
}
