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
	e.sends++
	conn := info.Conn
	if secured, ok := conn.(*tls.Conn); ok {
		if e.sends > 1 && e.giveUp != nil && secured.ConnectionState().NegotiatedProtocol == "h2" {
			e.giveUp(errRefused) // nothing of it is written then; the connection is others' too, and stays
			return
		}
		conn = secured.NetConn()
	}
	if !info.Reused { // the last one: the transport sends nothing again that failed on a new connection
		return
	}
	if e.sends > maxSends && e.giveUp != nil {
		e.giveUp(errResends)
		_ = conn.Close() // or its first bytes could still be written
		return
	}
	if w, ok := conn.(*wire); ok {
		e.wire, e.heard = w, w.heard.Load()
	}
}

// maxSends is how often one attempt may be sent on connections that were kept, and how often it is
// sent once more over HTTP/2 where the upstream refused it before it looked at it. By itself
// [http.Transport] sends a request that may be done twice once more on the next of them, and so
// on, while the upstream closes each without an answer: one request for every idle connection
// to it, and none is left for others. Over HTTP/2 it does so eight times, and waits for a minute in all.
const maxSends = 2

// The causes for which an attempt is taken back that the transport was about to send again.
var (
	errResends = errors.New("the upstream closes kept connections without an answer")
	errRefused = errors.New("the upstream refuses the request unread (HTTP/2)")
)

// resendable gives a context for an attempt that the transport might send again. It ends with
// e, and not with the attempt: the answer is read under it.
func (e *exchange) resendable() (ctx context.Context) {
	ctx, e.giveUp = context.WithCancelCause(e.ctx)
	return ctx
}

// roundTrip sends out and gives the answer to it, and to nothing else.
func (e *exchange) roundTrip(out *http.Request) (*http.Response, error) {
	e.wire, e.sends = nil, 0
	answer, err := e.gateway.transport.RoundTrip(out)
	for resent := 0; err != nil && errors.Is(context.Cause(out.Context()), errRefused); resent++ {
		if resent == maxSends {
			return nil, errRefused
		}
		if out, err = e.again(out, e.resendable()); err != nil {
			return nil, err
		}
		e.sends = 0
		answer, err = e.gateway.transport.RoundTrip(out)
	}
	if err != nil && errors.Is(context.Cause(out.Context()), errResends) {
		return e.sendFresh(out)
	}
	if err != nil || e.wire == nil || answer.ProtoMajor != 1 || e.wire.heard.Load() != e.heard {
		return answer, err
	}
	_ = e.wire.Close()
	_ = answer.Body.Close()
	return nil, errUnasked
}

// sendFresh sends a request once more, on a connection of its own, which is where the transport
// would have ended.
func (e *exchange) sendFresh(out *http.Request) (*http.Response, error) {
	e.wire, e.giveUp = nil, nil
	again, err := e.again(out, e.ctx)
	if err != nil {
		return nil, err
	}
	return e.gateway.fresh.RoundTrip(again)
}

// again gives the request once more, with its body from the start.
func (e *exchange) again(out *http.Request, ctx context.Context) (*http.Request, error) {
	again := out.WithContext(httptrace.WithClientTrace(ctx, &e.trace))
	if out.GetBody != nil {
		body, err := out.GetBody()
		if err != nil {
			return nil, err
		}
		again.Body = body
	}
	return again, nil
}
