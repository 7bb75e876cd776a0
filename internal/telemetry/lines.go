package telemetry

import (
	"bytes"
	"io"
	"sync"
	"time"
)

// flushEvery is how late a line may be, and flushAt how many bytes are held.
const (
	flushEvery = 50 * time.Millisecond
	flushAt    = 32 << 10
)

// lineBuffer gathers lines, so that a busy server does not make a system call
// for each request.
type lineBuffer struct {
	mu    sync.Mutex
	w     io.Writer
	lines bytes.Buffer
	timer *time.Timer // runs while there are lines
	done  bool        // from now on every line is written at once
}

func newLineBuffer(w io.Writer) *lineBuffer {
	b := &lineBuffer{w: w}
	b.timer = time.AfterFunc(time.Hour, b.flush)
	b.timer.Stop()
	return b
}

// Write takes one or more whole lines.
func (b *lineBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lines.Len() == 0 {
		b.timer.Reset(flushEvery)
	}
	b.lines.Write(p)
	if b.done || b.lines.Len() >= flushAt {
		return len(p), b.writeOut()
	}
	return len(p), nil
}

func (b *lineBuffer) writeOut() error {
	if b.lines.Len() == 0 {
		return nil
	}
	b.timer.Stop()
	_, err := b.w.Write(b.lines.Bytes())
	b.lines.Reset()
	return err
}

func (b *lineBuffer) flush() {
	b.mu.Lock()
	defer b.mu.Unlock()
	_ = b.writeOut() // a log that cannot be written has nowhere to say so
}

func (b *lineBuffer) close() {
	b.flush()
	b.mu.Lock()
	b.done = true
	b.mu.Unlock()
}
