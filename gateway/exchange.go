package gateway

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-io/gatehouse/usage/tokens"
)

// The causes for which an exchange is cancelled from our side.
var (
	errFirstByte = errors.New("no answer within the first-byte timeout")
	errIdle      = errors.New("silent for the idle timeout")
	errStopping  = errors.New("the server is stopping")
)

// bufferSize is how much of an answer is read at once, and how long an answer
// may be to be sent in one write.
const bufferSize = 32 << 10

// What the timer of an exchange is to do when it fires.
const (
	awaitHeader int32 = iota // give up: no first byte
	awaitBody                // give up: idle
	writing                  // wait on: it is the caller who is slow, and writes have their own deadline
	ended                    // nothing
)

// exchange is one request on its way to an upstream and back. It is pooled,
// with its buffer and its timer.
type exchange struct {
	gateway *Gateway
	ctx     context.Context
	cancel  context.CancelCauseFunc
	timer   *time.Timer
	phase   atomic.Int32
	renewed time.Time // when the timer and the write deadline were last set
	buffer  []byte

	watcher  tokens.Watcher
	watching bool // watcher looks at this answer

	previous, next *exchange // in running
}

func newExchange(g *Gateway) *exchange {
	return &exchange{gateway: g, buffer: make([]byte, bufferSize)}
}

// begin starts an exchange that ends with parent, or nil when the gateway is
// stopping. The timer runs for the first byte.
func (g *Gateway) begin(parent context.Context) *exchange {
	e, _ := g.exchanges.Get().(*exchange)
	e.ctx, e.cancel = context.WithCancelCause(parent)
	e.phase.Store(awaitHeader)
	if !g.running.add(e) {
		e.cancel(nil)
		return nil
	}
	if e.timer == nil {
		e.timer = time.AfterFunc(g.limits.firstByte, e.expire)
	} else {
		e.timer.Reset(g.limits.firstByte)
	}
	return e
}

// end releases everything; e must not be used after.
func (e *exchange) end() {
	e.gateway.running.remove(e)
	e.phase.Store(ended)
	e.cancel(nil)
	// A timer that fired may still be running expire on this very exchange; it is
	// left to the collector then.
	if e.timer.Stop() {
		e.ctx, e.cancel = nil, nil
		e.gateway.exchanges.Put(e)
	}
}

func (e *exchange) expire() {
	switch e.phase.Load() {
	case awaitHeader:
		e.cancel(errFirstByte)
	case awaitBody:
		e.cancel(errIdle)
	case writing:
		e.timer.Reset(e.gateway.limits.idle)
	}
}

// renew moves the idle timer and the write deadline of the caller's connection
// on when they have become stale, so that a stream of many small chunks does not
// pay for both on each. The http.Server takes the deadline off after the answer.
func (e *exchange) renew(rc *http.ResponseController) {
	now := time.Now()
	if now.Sub(e.renewed) < e.gateway.limits.renew {
		return
	}
	e.renewed = now
	e.timer.Reset(e.gateway.limits.idle)
	_ = rc.SetWriteDeadline(now.Add(e.gateway.limits.write)) // a writer without deadlines is a test's
}

// running lists the exchanges that a stop must end.
type running struct {
	mu      sync.Mutex
	first   *exchange
	stopped bool
}

func (l *running) add(e *exchange) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		return false
	}
	e.previous, e.next = nil, l.first
	if l.first != nil {
		l.first.previous = e
	}
	l.first = e
	return true
}

func (l *running) remove(e *exchange) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.previous != nil {
		e.previous.next = e.next
	} else {
		l.first = e.next
	}
	if e.next != nil {
		e.next.previous = e.previous
	}
	e.previous, e.next = nil, nil
}

func (l *running) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	for e := l.first; e != nil; e = e.next {
		e.cancel(errStopping)
	}
}
