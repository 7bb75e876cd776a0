package ratelimit

import (
	"errors"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// OpenRedis returns a limiter on a connection of its own, to a Redis that need not
// be there yet: calls fail with [ErrUnavailable] until it is. It returns at once.
//
// rueidis.ParseURL makes the option from a URL: redis://host:6379 or, over TLS,
// rediss://; with an ACL user as redis://user:password@host; a cluster by one or
// more of its nodes, as redis://a:6379?addr=b:6379&addr=c:6379; behind Sentinels as
// redis://sentinel:26379?master_set=name. Whether a single address is of a cluster is
// found out when connecting.
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

	o := &opener{option: option}
	go func() { _, _ = o.connect() }() // the first call meets the same error
	return newRedis(o.connect, o.close, options)
}

// connectAgain is how long after a failed attempt the next one is made.
const connectAgain = 250 * time.Millisecond

// opener makes a client once. The client connects again by itself.
type opener struct {
	option rueidis.ClientOption

	mu     sync.Mutex
	client rueidis.Client
	err    error     // of the last attempt
	tried  time.Time // when it ended
	closed bool
}

var errClosed = errors.New("closed")

func (o *opener) connect() (rueidis.Client, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil, errClosed
	}
	if o.client != nil {
		return o.client, nil
	}
	if o.err == nil || time.Since(o.tried) > connectAgain {
		client, err := rueidis.NewClient(o.option)
		if err != nil && client != nil {
			client.Close()
		}
		if o.err = err; err == nil {
			o.client = client
		}
		o.tried = time.Now()
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
