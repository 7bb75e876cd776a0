package gateway

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-io/gatehouse/usage/tokens"
)

// The causes for which an exchange is cancelled from our side.
var (
	errFirstByte = errors.New("no answer within the first-byte timeout")
	errIdle      = errors.New("silent for the idle timeout")
	errTotal     = errors.New("not complete within the total timeout")
	errHeartbeat = errors.New("the caller does not take a heartbeat")
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

// exchange is one request on its way to an upstream and back. It is never used again:
// its timer may have fired just as it ended.
type exchange struct {
	*workspace
	gateway *Gateway
	ctx     context.Context
	cancel  context.CancelCauseFunc
	timer   *time.Timer
	phase   atomic.Int32
	bounds  Bounds    // of its service
	until   time.Time // when the total timeout is over
	renewed time.Time // when the timer and the write deadline were last set
	trace   httptrace.ClientTrace
	wire    *wire  // the connection of the last attempt, where it had served others; nil otherwise
	heard   uint64 // what wire had heard before it was asked

	connected bool // an attempt had a connection: the service may have done something
	watching  bool // watcher looks at this answer

	previous, next *exchange // in running
}

// workspace is what exchanges use one after the other.
type workspace struct {
	buffer  [bufferSize]byte
	watcher tokens.Watcher
}

// begin starts an exchange that ends with parent, or nil when the gateway is
// stopping. The timer runs for the first byte, and for as long as size bytes of
// body may take to send.
func (g *Gateway) begin(parent context.Context, bounds Bounds, size int64) *exchange {
	e := &exchange{gateway: g, bounds: bounds, until: time.Now().Add(bounds.Total)}
	e.trace.GotConn = e.gotConn
	e.ctx, e.cancel = context.WithCancelCause(parent)
	if !g.running.add(e) {
		e.cancel(nil)
		return nil
	}
	e.workspace, _ = g.workspaces.Get().(*workspace)
	e.timer = time.AfterFunc(min(bounds.FirstByte+time.Duration(size/slowestUpload)*time.Second, bounds.Total), e.expire)
	return e
}

// slowestUpload is how many bytes of a body an upstream must take in a second, on
// the whole, for the time to the first byte not to run out over it.
const slowestUpload = 1 << 20

// wait lets the timer fire after d, or when the total timeout is over.
func (e *exchange) wait(d time.Duration, now time.Time) {
	e.timer.Reset(min(d, e.until.Sub(now)))
}

// awaited is a body of an upstream that may be silent before each read for the idle timeout.
type awaited struct {
	*exchange
	io.Reader
}

func (e awaited) Read(p []byte) (int, error) {
	e.phase.Store(awaitBody)
	e.wait(e.bounds.Idle, time.Now())
	return e.Reader.Read(p)
}

// end releases everything; e must not be used after.
func (e *exchange) end() {
	e.gateway.running.remove(e)
	e.phase.Store(ended)
	e.cancel(nil)
	e.timer.Stop()
	e.gateway.workspaces.Put(e.workspace)
	e.workspace = nil
}

func (e *exchange) expire() {
	phase, now := e.phase.Load(), time.Now()
	switch {
	case phase == ended:
	case !now.Before(e.until):
		e.cancel(errTotal)
	case phase == awaitHeader:
		e.cancel(errFirstByte)
	case phase == awaitBody:
		e.cancel(errIdle)
	case phase == writing:
		e.wait(e.bounds.Idle, now)
	}
}

// renew moves the idle timer and the write deadline of the caller's connection
// on when they have become stale, so that a stream of many small chunks does not
// pay for both on each. The http.Server takes the deadline off after the answer.
func (e *exchange) renew(rc *http.ResponseController) {
	now := time.Now()
	if now.Sub(e.renewed) < min(e.bounds.Idle, e.gateway.limits.write)/4 {
		return
	}
	e.renewed = now
	e.wait(e.bounds.Idle, now)
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
