package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"os"
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
	buffer  *[bufferSize]byte // see space; nil: was not needed yet
	gateway *Gateway
	ctx     context.Context
	cancel  context.CancelCauseFunc
	timer   *time.Timer
	phase   atomic.Int32
	bounds  Bounds       // of its service
	begun   time.Time    // the request's body and the credential were there
	until   time.Time    // when the total timeout is over
	silent  atomic.Int64 // since when the upstream is waited for in awaitBody, in nanoseconds after begun
	renewed time.Time    // when the write deadline was last set by renew
	rc      *http.ResponseController
	writes  sync.Mutex // is held while rc is given a write deadline
	last    time.Time  // no deadline is later; zero: the server is not stopping
	trace   httptrace.ClientTrace
	wire    *wire                   // the connection of the last attempt, where it had served others; nil otherwise
	heard   uint64                  // what wire had heard before it was asked
	sends   int                     // how often the last attempt had a connection to be written to
	giveUp  context.CancelCauseFunc // ends the last attempt alone; nil: the transport does not send it again

	connected bool // an attempt had a connection: the service may have done something
	watching  bool // watcher looks at this answer

	previous, next *exchange // in running
}

// workspace is what exchanges use one after the other. It is small, since each request that
// waits for a slow upstream has one.
type workspace struct {
	first   [firstPiece]byte // of a body
	watcher tokens.Watcher
}

// firstPiece is how much of a body is read at most before its header is passed on.
const firstPiece = 4 << 10

// begin starts an exchange that ends with parent, or nil when the gateway is
// stopping. The timer runs for the first byte, and for as long as size bytes of
// body may take to send.
func (g *Gateway) begin(parent context.Context, w http.ResponseWriter, bounds Bounds, size int64) *exchange {
	now := time.Now()
	e := &exchange{gateway: g, bounds: bounds, begun: now, until: now.Add(bounds.Total), rc: http.NewResponseController(w)}
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
	now := time.Now()
	e.listen(now)
	e.wait(e.bounds.Idle, now)
	return e.Reader.Read(p)
}

// firstBytes waits for the first bytes of a body, and gives a reader of it with them. The
// end of an empty one is no error.
func (e *exchange) firstBytes(body io.Reader) (io.Reader, error) {
	for {
		n, err := awaited{e, body}.Read(e.first[:])
		if n == 0 && err == nil { // it came, and is held back: what may become a secret
			continue
		}
		if errors.Is(err, io.EOF) {
			err = nil
		}
		if n > 0 { // what else there is to say is said again behind them
			return io.MultiReader(bytes.NewReader(e.first[:n]), body), nil
		}
		return body, err
	}
}

// listen notes that the upstream is waited for from now on. A timer that fires
// earlier than after the idle timeout waits for the rest of it, so that a stream of
// many small chunks does not pay for a timer on each.
func (e *exchange) listen(now time.Time) {
	e.silent.Store(int64(now.Sub(e.begun))) // first: who sees the phase sees it
	e.phase.Store(awaitBody)
}

// end releases everything; e must not be used after.
func (e *exchange) end() {
	e.gateway.running.remove(e)
	e.phase.Store(ended)
	e.cancel(nil)
	e.timer.Stop()
	e.gateway.workspaces.Put(e.workspace)
	e.workspace = nil
	if e.buffer != nil {
		e.gateway.answers.Put(e.buffer)
		e.buffer = nil
	}
}

// space gives n bytes of the exchange's own, bufferSize at most: the same ones each time for
// the same n.
func (e *exchange) space(n int64) []byte {
	if n <= firstPiece {
		return e.first[:n]
	}
	if e.buffer == nil {
		e.buffer, _ = e.gateway.answers.Get().(*[bufferSize]byte)
	}
	return e.buffer[:n]
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
		if left := e.bounds.Idle - (now.Sub(e.begun) - time.Duration(e.silent.Load())); left > 0 {
			e.wait(left, now)
			return
		}
		e.cancel(errIdle)
	case phase == writing:
		e.wait(e.bounds.Idle, now)
	}
}

// renew moves the write deadline of the caller's connection on when it has become
// stale, so that a stream of many small chunks does not pay for it on each. The
// http.Server takes the deadline off after the answer.
func (e *exchange) renew() {
	now := time.Now()
	if now.Sub(e.renewed) < e.gateway.limits.write/renewalsOfWrite {
		return
	}
	e.renewed = now
	e.allow(now, e.longWrite())
}

// renewalsOfWrite is how often the deadline is set again within the time for a write.
const renewalsOfWrite = 4

// longWrite gives the time for the writes that begin before renew sets another: the
// last of them has the whole, too.
func (e *exchange) longWrite() time.Duration {
	return e.gateway.limits.write + e.gateway.limits.write/renewalsOfWrite
}

// allow gives the writes to the caller from now on the time d, or what a stop leaves.
func (e *exchange) allow(now time.Time, d time.Duration) {
	e.writes.Lock()
	defer e.writes.Unlock()
	by := now.Add(d)
	if !e.last.IsZero() && e.last.Before(by) {
		by = e.last
	}
	_ = e.rc.SetWriteDeadline(by) // a writer without deadlines is a test's
}

// lastWrites is what a stop leaves of the time for writes: enough for an event that
// says so, and no wait for a caller that does not read.
const lastWrites = 500 * time.Millisecond

// stop ends the exchange, also where a write to the caller hangs. It is running.
func (e *exchange) stop() {
	e.cancel(errStopping)
	now := time.Now()
	e.writes.Lock()
	e.last = now.Add(lastWrites)
	e.writes.Unlock()
	e.allow(now, lastWrites)
}

// writeReason says why a write to the caller failed with err.
func (e *exchange) writeReason(err error) string {
	if errors.Is(context.Cause(e.ctx), errStopping) {
		return "server_stopping"
	}
	return writeReason(err)
}

func writeReason(err error) string {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return "client_slow"
	}
	return "client_closed"
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
		e.stop()
	}
}
