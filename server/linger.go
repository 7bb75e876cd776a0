package server

import (
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// linger reads on what a client sends behind its refusal, and throws it away.
// Closing a connection with unread bytes resets it, and the reset overtakes the
// answer: clients that read nothing before they have sent everything, as Python's
// do, would never see why.
type linger struct {
	slots   chan struct{} // one for each client at once; whoever finds none is cut off at once
	time    time.Duration
	silence time.Duration // after which nothing more is waited for
	bytes   int64
}

func newLinger() linger {
	return linger{slots: make(chan struct{}, 64), time: 5 * time.Second, silence: time.Second, bytes: 64 << 20}
}

// unread is how much of a body net/http reads by itself behind an answer.
const unread = 256 << 10

// isLong reports whether the body of r may be longer than what net/http reads.
func isLong(r *http.Request) bool { return r.ContentLength < 0 || r.ContentLength >= unread }

// unclosed is a body that can be read on after huma, which closes it, has refused it.
// net/http closes its own.
type unclosed struct{ io.Reader }

func (unclosed) Close() error { return nil }

// invited is the body of a client that asked whether to send it (Expect: 100-continue). It was
// told to once the body was read.
type invited struct {
	io.ReadCloser
	begun atomic.Bool
}

// Read implements [io.Reader].
func (b *invited) Read(p []byte) (int, error) {
	b.begun.Store(true)
	return b.ReadCloser.Read(p)
}

// comes reports whether the client sends the body of r without having been told to, or was.
func comes(r *http.Request) bool {
	if r.Header["Expect"] == nil {
		return true
	}
	body := io.Reader(r.Body)
	if held, ok := body.(unclosed); ok {
		body = held.Reader
	}
	asked, ok := body.(*invited)
	return ok && asked.begun.Load()
}

// refusals holds a refusal back until it is whole, so that its length is known when it goes
// out before the client's body has come.
type refusals struct {
	http.ResponseWriter
	status int // of the refusal; 0: none
	body   []byte
}

func (w *refusals) WriteHeader(status int) {
	if w.status = 0; status > http.StatusBadRequest {
		w.status = status
		return
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *refusals) Write(p []byte) (int, error) {
	if w.status == 0 {
		return w.ResponseWriter.Write(p)
	}
	w.body = append(w.body, p...)
	return len(p), nil
}

// FlushError serves [http.ResponseController].
func (w *refusals) FlushError() error {
	if w.status != 0 {
		return nil
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap serves [http.ResponseController].
func (w *refusals) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// end writes the refusal, where there is one.
func (w *refusals) end() {
	if w.status == 0 {
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(w.body)))
	w.ResponseWriter.WriteHeader(w.status)
	_, _ = w.ResponseWriter.Write(w.body) // a client that is gone needs no answer
}

// after is called when the answer to r is written. What is refused as malformed is
// none of this: it came too slowly, or nobody knows where it ends.
func (l *linger) after(w http.ResponseWriter, r *http.Request, status int) {
	if status <= http.StatusBadRequest || r.ProtoMajor != 1 || !isLong(r) || !comes(r) {
		return
	}
	select {
	case l.slots <- struct{}{}:
		defer func() { <-l.slots }()
	default:
		return
	}
	rc := http.NewResponseController(w)
	if rc.Flush() != nil {
		return
	}
	end, buffer := time.Now().Add(l.time), make([]byte, 32<<10)
	for left := l.bytes; left > 0; {
		by := time.Now().Add(l.silence) // whoever has read the answer and sends no more is not waited for
		if end.Before(by) {
			by = end
		}
		if rc.SetReadDeadline(by) != nil {
			return
		}
		n, err := r.Body.Read(buffer)
		if left -= int64(n); err != nil {
			return
		}
	}
}
