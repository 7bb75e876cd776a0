package gateway

import (
	"bytes"
	"io"
	"sync"
	"time"
)

// heartbeat writes comments into an event stream while its upstream is silent,
// between events only: some clients cut a stream at empty lines before they look
// at what a line is.
type heartbeat struct {
	every time.Duration
	e     *exchange

	mu      sync.Mutex // is held for each write to the caller
	timer   *time.Timer
	last    time.Time // of the last write
	between bool      // the last event is whole
	ended   bool
	written int64
	broken  error // of a heartbeat; the stream ends with it
}

// comment is a whole event of nothing: a line that clients skip, and its end.
const comment = ": \n\n"

func (h *heartbeat) start(w io.Writer) {
	h.last, h.between = time.Now(), true
	h.mu.Lock()
	defer h.mu.Unlock()
	h.timer = time.AfterFunc(h.every, func() { h.beat(w) })
}

func (h *heartbeat) beat(w io.Writer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		return
	}
	now := time.Now()
	if silent := now.Sub(h.last); silent < h.every {
		h.timer.Reset(h.every - silent)
		return
	}
	h.timer.Reset(h.every)
	if !h.between {
		return
	}
	h.e.allow(now, h.e.longWrite())
	n, err := io.WriteString(w, comment)
	h.written += int64(n)
	if err == nil {
		err = flush(h.e.rc)
	}
	if err != nil {
		h.broken, h.ended = err, true
		h.e.cancel(errHeartbeat) // wakes who waits for the upstream
	}
	h.last = now
}

// note tells of bytes that go to the caller now; h.mu is held.
func (h *heartbeat) note(b []byte, midLine bool) {
	h.last = time.Now()
	if b[len(b)-1] != '\n' && b[len(b)-1] != '\r' {
		h.between = false
		return
	}
	alone := !midLine && (string(b) == "\n" || string(b) == "\r\n" || string(b) == "\r") // the line before came earlier
	h.between = alone || bytes.HasSuffix(b, []byte("\n\n")) || bytes.HasSuffix(b, []byte("\r\n\r\n")) || bytes.HasSuffix(b, []byte("\r\r"))
}

// end stops the heartbeats and waits for one that is being written.
func (h *heartbeat) end() (written int64, broken error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = true
	h.timer.Stop()
	return h.written, h.broken
}
