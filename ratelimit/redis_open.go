package ratelimit

import (
	"errors"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// OpenRedis returns a limiter on a connection of its own, to one Redis server
// that need not be there yet: calls fail with [ErrUnavailable] until it is. It
// returns at once. rueidis.ParseURL makes the option from a URL.
//
// What the option leaves open is set for many small, quick calls: no client-side
// caching, small buffers, two seconds to connect and for a connection to prove
// that it is alive. Close closes the connection.
func OpenRedis(option rueidis.ClientOption, options RedisOptions) *Redis {
	if option.Dialer.Timeout == 0 {
		option.Dialer.Timeout = 2 * time.Second
	}
	if option.ConnWriteTimeout == 0 {
		option.ConnWriteTimeout = 2 * time.Second
	}
	if option.ReadBufferEachConn == 0 {
		option.ReadBufferEachConn = 32 << 10
	}
	if option.WriteBufferEachConn == 0 {
		option.WriteBufferEachConn = 32 << 10
	}
	option.DisableCache = true
	option.ForceSingleClient = true // also: the client is returned before it is connected

	o := &opener{option: option}
	go func() { _, _ = o.connect() }() // the first call meets the same error
	return newRedis(o.connect, o.close, options)
}

// opener makes a client once. The client connects again by itself.
type opener struct {
	option rueidis.ClientOption

	mu     sync.Mutex
	client rueidis.Client
	err    error
	closed bool
}

var errClosed = errors.New("closed")

func (o *opener) connect() (rueidis.Client, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil, errClosed
	}
	if o.client == nil && o.err == nil {
		client, err := rueidis.NewClient(o.option)
		if client == nil {
			o.err = err // the option is wrong: trying again would not help
			return nil, err
		}
		o.client = client
	}
	return o.client, o.err
}

func (o *opener) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	if o.client != nil {
		o.client.Close()
	}
}
