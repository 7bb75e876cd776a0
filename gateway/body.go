package gateway

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/gatehouse-io/gatehouse/internal/fault"
)

var (
	errBodyTooLarge = fault.New(fault.TooLarge, "body_too_large",
		"The request body is larger than what is passed on. Send less in one request.")
	errBodyIncomplete = fault.New(fault.Malformed, "body_incomplete",
		"The request body ended before it was complete. Send it again.")
	errBodySlow = fault.New(fault.Malformed, "body_timeout",
		"The request body did not arrive in time. Send it again.")
	errBusy = fault.New(fault.Unavailable, "too_busy",
		"Too many large requests are being read at once. Try again in a moment.").After(time.Second)
)

// firstRead is how much memory a request body is given before any of it has
// arrived: a Content-Length is a claim, and the rest is given as it comes true.
const firstRead = 64 << 10

// readBody reads the whole body of r. What it counts against the memory for all
// bodies is in c, to be released when the body is done with, also on an error.
// After an error the connection is of no more use to the caller.
func (g *Gateway) readBody(w http.ResponseWriter, r *http.Request, c *charge) (body []byte, err error) {
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return nil, nil
	}
	if r.ContentLength > g.limits.body {
		return nil, errBodyTooLarge
	}
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(g.limits.bodyTime))
	body, err = g.readAll(r.Body, r.ContentLength, c)
	if err != nil {
		// The deadline stays: the server must not wait for the rest either.
		return nil, err
	}
	_ = rc.SetReadDeadline(time.Time{})
	return body, nil
}

// readAll reads length bytes, or until the end where length is negative.
func (g *Gateway) readAll(from io.Reader, length int64, c *charge) (body []byte, err error) {
	size := int64(firstRead)
	if length >= 0 {
		size = min(length, size)
	} else {
		size = min(4<<10, g.limits.body+1)
	}
	body = make([]byte, 0, size)
	for {
		if len(body) == cap(body) {
			// Past its length or the bound by one byte, so that more is noticed.
			grown := min(2*int64(cap(body)), g.limits.body+1)
			if length >= 0 {
				grown = min(grown, length)
			}
			if grown > firstRead && !c.grow(grown) {
				return nil, errBusy
			}
			body = append(make([]byte, 0, grown), body...)
		}
		n, err := from.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		switch {
		case int64(len(body)) > g.limits.body:
			return nil, errBodyTooLarge
		case int64(len(body)) == length:
			return body, nil
		case err == io.EOF && length < 0:
			return body, nil
		case err != nil:
			return nil, bodyError(err)
		}
	}
}

// buffers counts the memory that large request bodies take: of all, and of
// each organization, so that none takes it from the others.
type buffers struct {
	mu    sync.Mutex
	total int64
	of    map[string]int64

	max, share int64 // of all, and of one organization
}

// charge is what one request's body counts. Its owner releases it.
type charge struct {
	buffers      *buffers
	organization string
	bytes        int64
}

// grow counts a body that has grown to size bytes, and reports whether there is
// room for it.
func (c *charge) grow(size int64) bool {
	b := c.buffers
	b.mu.Lock()
	defer b.mu.Unlock()
	more := size - c.bytes
	if b.total+more > b.max || b.of[c.organization]+more > b.share {
		return false
	}
	b.total += more
	b.of[c.organization] += more
	c.bytes = size
	return true
}

// release gives back what was counted.
func (c *charge) release() {
	if c.bytes == 0 {
		return
	}
	b := c.buffers
	b.mu.Lock()
	defer b.mu.Unlock()
	b.total -= c.bytes
	if b.of[c.organization] -= c.bytes; b.of[c.organization] == 0 {
		delete(b.of, c.organization)
	}
	c.bytes = 0
}

// linger is how long a refused body is still read, and thrown away, so that the
// caller gets to read the refusal: closing a connection with unread bytes resets
// it, and the reset overtakes the answer.
const linger = time.Second

// refuseBody answers for a body that could not be read whole. What is left of it
// is in the way of another request, so the connection ends.
func (t *transfer) refuseBody(err error) {
	if t.r.ProtoMajor != 1 {
		t.answer(err) // the stream alone is reset
		return
	}
	t.w.Header().Set("Connection", "close")
	// Not fail: a caller who closed its side may still read ours.
	t.answer(err)
	kind := fault.KindOf(err)
	if kind != fault.TooLarge && kind != fault.Unavailable || t.r.Header["Expect"] != nil {
		return // nothing more is coming
	}
	rc := http.NewResponseController(t.w)
	if flush(rc) == nil && rc.SetReadDeadline(time.Now().Add(linger)) == nil {
		_, _ = io.Copy(io.Discard, t.r.Body)
	}
}

func bodyError(err error) error {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return errBodyTooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errBodySlow.Because(err)
	default:
		return errBodyIncomplete.Because(err)
	}
}
