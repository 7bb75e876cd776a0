package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
)

// errUnasked is an answer that was there before its request: an upstream sent more
// than it had announced on a connection that served another request before.
// [http.Transport] looks for that only while a connection is idle, and gives it to
// the next request where that comes first.
var errUnasked = errors.New("the upstream had answered before it was asked")

// wire is a connection to an upstream, below TLS, that tells whether anything came
// since it was asked. It counts, since an answer without a body may give it to
// another request before its own has looked.
type wire struct {
	net.Conn
	heard atomic.Uint64 // reads that gave something
}

// Read implements [io.Reader].
func (w *wire) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	if n > 0 {
		w.heard.Add(1)
	}
	return n, err
}

// wired lets dial give wires.
func wired(dial func(ctx context.Context, network, address string) (net.Conn, error)) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &wire{Conn: conn}, nil
	}
}

// gotConn is told of the connection that a request is about to be written to; of a
// retry of the transport's own, too.
func (e *exchange) gotConn(info httptrace.GotConnInfo) {
	e.wire, e.connected = nil, true
	conn, shared := info.Conn, false
	if secured, ok := conn.(*tls.Conn); ok {
		conn, shared = secured.NetConn(), secured.ConnectionState().NegotiatedProtocol == "h2"
	}
	if e.sends++; e.sends > maxSends && e.giveUp != nil {
		e.giveUp(errResends)
		if !shared { // or its first bytes could still be written
			_ = conn.Close()
		}
		return
	}
	if !info.Reused {
		return
	}
	if w, ok := conn.(*wire); ok {
		e.wire, e.heard = w, w.heard.Load()
	}
}

// maxSends is how often one attempt may be sent. By itself [http.Transport] sends what may be
// done twice again on the next connection that it has kept, and again, for as long as the
// upstream closes each without an answer: once for every connection to it, of all callers.
const maxSends = 2

var errResends = errors.New("the upstream closed several kept connections without an answer")

// resendable gives a context for an attempt that the transport might send again.
func (e *exchange) resendable() (ctx context.Context) {
	ctx, e.giveUp = context.WithCancelCause(e.ctx) // which ends with e: an answer that comes back to is still read
	return ctx
}

// roundTrip sends out and gives the answer to it, and to nothing else.
func (e *exchange) roundTrip(out *http.Request) (*http.Response, error) {
	e.wire, e.sends = nil, 0
	answer, err := e.gateway.transport.RoundTrip(out)
	if err != nil || e.wire == nil || answer.ProtoMajor != 1 || e.wire.heard.Load() != e.heard {
		return answer, err
	}
	_ = e.wire.Close()
	_ = answer.Body.Close()
	return nil, errUnasked
}
