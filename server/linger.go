package server

import (
	"io"
	"net/http"
	"time"
)

// linger reads on what a client sends behind its refusal, and throws it away.
// Closing a connection with unread bytes resets it, and the reset overtakes the
// answer: clients that read nothing before they have sent everything, as Python's
// do, would never see why.
type linger struct {
	slots chan struct{} // one for each client at once; whoever finds none is cut off at once
	time  time.Duration
	bytes int64
}

func newLinger() linger {
	return linger{slots: make(chan struct{}, 64), time: 5 * time.Second, bytes: 64 << 20}
}

// unread is how much of a body net/http reads by itself behind an answer.
const unread = 256 << 10

// isLong reports whether the body of r may be longer than what net/http reads.
func isLong(r *http.Request) bool { return r.ContentLength < 0 || r.ContentLength >= unread }

// unclosed is a body that can be read on after huma, which closes it, has refused it.
// net/http closes its own.
type unclosed struct{ io.Reader }

func (unclosed) Close() error { return nil }

// after is called when the answer to r is written. What is refused as malformed is
// none of this: it came too slowly, or nobody knows where it ends.
func (l *linger) after(w http.ResponseWriter, r *http.Request, status int) {
	if status <= http.StatusBadRequest || r.ProtoMajor != 1 || !isLong(r) || r.Header["Expect"] != nil {
		return
	}
	select {
	case l.slots <- struct{}{}:
		defer func() { <-l.slots }()
	default:
		return
	}
	rc := http.NewResponseController(w)
	if rc.Flush() == nil && rc.SetReadDeadline(time.Now().Add(l.time)) == nil {
		_, _ = io.CopyN(io.Discard, r.Body, l.bytes)
	}
}
