package gateway

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/gatehouse-io/gatehouse/internal/fault"
)

var (
	errBodyTooLarge   = fault.New(fault.TooLarge, "body_too_large", "The request body is larger than what is passed on.")
	errBodyIncomplete = fault.New(fault.Malformed, "body_incomplete",
		"The request body ended before it was complete. Send it again.")
	errBodySlow = fault.New(fault.Malformed, "body_timeout",
		"The request body did not arrive in time. Send it again.")
	errBusy = fault.New(fault.Unavailable, "too_busy",
		"Too many large requests are being read at once. Try again in a moment.").After(time.Second)
	errNoSpool = fault.New(fault.Unavailable, "spool_unavailable",
		"The server cannot keep large requests at the moment: its disk is full, or refuses to be written to. Its log says why, for whoever runs it. Smaller requests are served.").After(10 * time.Second)
)

// firstRead is how much memory a request body is given before any of it has
// arrived: a Content-Length is a claim, and the rest is given as it comes true.
const firstRead = 64 << 10

// readBody takes the whole body of the request: into memory, or past
// [Options.MemoryBody] and where memory is short into the spool. What it gives is
// to be settled, also after an error, after which the connection is of no more use
// to the caller.
func (t *transfer) readBody() (*payload, error) {
	p := new(payload)
	r, g := t.r, t.gateway
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return p, nil
	}
	if r.ContentLength > t.bounds.MaxBody {
		return p, tooLarge(t.bounds.MaxBody)
	}
	rc := http.NewResponseController(t.w)
	from := &patience{from: r.Body, rc: rc, begin: time.Now(), grace: g.limits.bodyTime}
	from.extend()
	defer context.AfterFunc(g.stop, from.stop)()
	if err := t.receive(p, from); err != nil {
		// The deadline stays: the server must not wait for the rest either.
		switch {
		case errors.Is(err, errBodyTooLarge):
			err = tooLarge(t.bounds.MaxBody)
		case g.stop.Err() != nil && (errors.Is(err, errBodySlow) || errors.Is(err, errBodyIncomplete)):
			err = errStopped
		}
		return p, err
	}
	from.end()
	return p, nil
}

// tooLarge says how many bytes a body may have.
func tooLarge(most int64) error {
	return fault.New(errBodyTooLarge.Kind, errBodyTooLarge.Code, "The request body is larger than the "+sizeOf(most)+
		" that are taken here. Send less in one request, or have the bound of this service raised (REQUEST_BODY_MIB, or its body-mib).")
}

func sizeOf(bytes int64) string {
	if bytes%(1<<20) != 0 {
		return strconv.FormatInt(bytes, 10) + " bytes"
	}
	return strconv.FormatInt(bytes>>20, 10) + " MiB"
}

// crowded says whether a body is on disk only since memory was short: nobody has
// looked into it, and soon somebody might.
func (t *transfer) crowded(p *payload) bool {
	return p.spooled() && p.size <= t.gateway.limits.memory
}

// errNoRoom says that a body has to go elsewhere than into memory.
var errNoRoom = errors.New("no room in memory")

func (t *transfer) receive(p *payload, from io.Reader) error {
	g, length, most, organization := t.gateway, t.r.ContentLength, t.bounds.MaxBody, t.visit.Caller.Organization
	p.held = charge{buffers: &g.buffered, organization: organization}
	memory := min(g.limits.memory, most)
	var body []byte
	err := errNoRoom
	if length <= memory {
		body, err = readAll(from, length, memory, &p.held)
	}
	switch {
	case err == nil:
		p.memory, p.size = body, int64(len(body))
		return nil
	case !errors.Is(err, errNoRoom):
		return err
	case g.spool == nil && (length > memory || int64(len(body)) > memory):
		return errBodyTooLarge
	case g.spool == nil:
		return errBusy
	}
	err = g.spool.take(p, organization, body, from, length, most)
	switch {
	case errors.Is(err, errSpoolWrite):
		if !g.spool.refused.Swap(true) {
			g.log.WarnContext(t.r.Context(), "request bodies cannot be spooled", "request", t.visit.RequestID, "error", err)
		}
		return errNoSpool
	case err == nil && g.spool.refused.Swap(false):
		g.log.InfoContext(t.r.Context(), "request bodies are spooled again")
	}
	return err
}

// readAll reads length bytes, or until the end where length is negative, but no
// more than most. With errNoRoom it gives what it has read so far.
func readAll(from io.Reader, length, most int64, c *charge) (body []byte, err error) {
	size := int64(firstRead)
	if length >= 0 {
		size = min(length, size)
	} else {
		size = min(4<<10, most+1)
	}
	body = make([]byte, 0, size)
	for {
		if len(body) == cap(body) {
			// Past its length or the bound by one byte, so that more is noticed.
			grown := min(2*int64(cap(body)), most+1)
			if length >= 0 {
				grown = min(grown, length)
			}
			if grown > firstRead && !c.grow(grown) {
				return body, errNoRoom
			}
			body = append(make([]byte, 0, grown), body...)
		}
		n, err := from.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		switch {
		case int64(len(body)) > most:
			return body, errNoRoom
		case int64(len(body)) == length:
			return body, nil
		case err == io.EOF && length < 0:
			return body, nil
		case err != nil:
			return nil, bodyError(err)
		}
	}
}

// patience reads a request's body under a deadline that moves on with what has
// come: a large body may take long, one that trickles may not. A stop ends it.
type patience struct {
	from  io.Reader
	rc    *http.ResponseController
	begin time.Time
	grace time.Duration // for the first byte and any small body
	read  int64
	next  int64 // when so much is read the deadline moves on

	mu    sync.Mutex // is held while rc is given a deadline
	ended bool       // the deadline moves on no more
}

// slowestBody is how many bytes of a body must come in a second, on the whole.
const slowestBody = 128 << 10

func (p *patience) extend() {
	p.next = p.read + slowestBody
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		_ = p.rc.SetReadDeadline(p.begin.Add(p.grace + time.Duration(p.read/slowestBody)*time.Second)) // a body without deadlines is a test's
	}
}

// stop ends the reading, also where it waits; not after end.
func (p *patience) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		p.ended = true
		_ = p.rc.SetReadDeadline(time.Now())
	}
}

// end takes the deadline off.
func (p *patience) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	_ = p.rc.SetReadDeadline(time.Time{})
}

// Read implements [io.Reader].
func (p *patience) Read(b []byte) (int, error) {
	n, err := p.from.Read(b)
	if p.read += int64(n); p.read >= p.next {
		p.extend()
	}
	return n, err
}

// refuseBody answers for a body that could not be read whole. What is left of it
// is in the way of another request, so the connection ends. The server reads on what
// still comes, so that the caller gets to read the answer.
func (t *transfer) refuseBody(err error) {
	if t.r.ProtoMajor == 1 { // over HTTP/2 the stream alone is reset
		t.w.Header().Set("Connection", "close")
	}
	t.answer(err) // not fail: a caller who closed its side may still read ours
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
