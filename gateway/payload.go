package gateway

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
)

// payload is the body of one request once it has come whole, in memory or in a
// file of the spool. Its bytes are given back as soon as nobody can ask for them
// again: see [payload.settle].
type payload struct {
	size int64
	held charge // what it counts against the memory for bodies, or against the spool

	mu      sync.Mutex
	memory  []byte     // nil where the body is empty, spooled or gone
	file    *spoolFile // nil where the body is in memory or gone
	open    int        // readers that are not closed
	settled bool       // no further reader is asked for
	once    bool       // nor is one after a reader was read to its end
	sent    bool       // one was
}

// errBodyGone says that a request was to be repeated whose body is given back.
var errBodyGone = errors.New("the request's body has been sent and is not kept")

// inMemory gives the body's bytes, nil where they are in a file or there are none.
func (p *payload) inMemory() []byte { return p.memory }

// spooled reports whether the body came to lie on disk.
func (p *payload) spooled() bool { return p.file != nil }

// put makes the request carry the body, as often as the transport asks for it.
func (p *payload) put(out *http.Request) error {
	if p.size == 0 {
		return nil
	}
	out.ContentLength = p.size
	if p.size <= firstRead && p.file == nil {
		// The transport knows this very type and sends it with the header in one
		// packet. So little counts for nothing and may stay until the answer's end.
		memory := p.memory
		out.Body = io.NopCloser(bytes.NewReader(memory))
		out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(memory)), nil }
		return nil
	}
	var err error
	out.Body, err = p.reader()
	out.GetBody = p.reader
	return err
}

// reader reads the body from its start. It must be closed.
func (p *payload) reader() (io.ReadCloser, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := &payloadReader{payload: p}
	switch {
	case p.memory != nil:
		r.from = bytes.NewReader(p.memory)
	case p.file != nil:
		r.from = p.file.reader(p.size)
	default:
		return nil, errBodyGone
	}
	r.left.Store(p.size)
	p.open++
	return r, nil
}

// sendOnce says that the body is not asked for again once all of it was sent.
func (p *payload) sendOnce(once bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.once = once
	p.giveBack()
}

// settle says that no further reader will be asked for. Memory or file are given
// back now, or when the transport has closed the readers it has: it may still be
// sending when the answer has begun, and must not find the end of a body that has
// more.
func (p *payload) settle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.settled = true
	p.giveBack()
}

func (p *payload) giveBack() {
	if p.open > 0 || !p.settled && (!p.once || !p.sent) {
		return
	}
	p.memory = nil
	if p.file != nil {
		p.file.close()
		p.file = nil
	}
	p.held.release()
}

// payloadReader is one reading of a payload. The transport may close it while it
// reads.
type payloadReader struct {
	payload *payload
	from    io.Reader
	left    atomic.Int64
	closed  atomic.Bool
}

// Read implements [io.Reader].
func (r *payloadReader) Read(b []byte) (int, error) {
	if r.closed.Load() {
		return 0, errBodyGone
	}
	n, err := r.from.Read(b)
	if r.left.Add(-int64(n)) > 0 && err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Close implements [io.Closer].
func (r *payloadReader) Close() error {
	if r.closed.Swap(true) {
		return nil
	}
	p := r.payload
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open--
	p.sent = p.sent || r.left.Load() == 0
	p.giveBack()
	return nil
}
