package gatehousetest

import (
	"sync"
	"time"
)

// Clock is a time that stands still until a test moves it. Its methods may be called by
// several goroutines.
type Clock struct {
	mu sync.Mutex
	at time.Time
}

// NewClock gives a clock that stands at an instant.
func NewClock(at time.Time) *Clock { return &Clock{at: at} }

// Now gives where the clock stands.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

// Pass puts the clock forward, or back where d is negative.
func (c *Clock) Pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}
