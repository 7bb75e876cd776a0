package usage

import (
	"context"

	"github.com/google/uuid"
)

// held is what goes from memory into the database, past a disk that refuses it. It is
// counted as a file of that name would be, so that it is counted once when the answer
// to its commit is lost, also where it becomes that file after all.
type held struct {
	id    string
	lines []byte
	batch []spooled
	busy  bool // it is being applied; guarded by Meter.mu
}

// maxHeld is how many records go past the disk in one transaction.
const maxHeld = batchSize / recordSize

// straight moves what is in memory into the database, and reports whether nothing is
// left of it. Only one goroutine at a time calls it.
func (m *Meter) straight(ctx context.Context) bool {
	for {
		h := m.hold(ctx)
		if h == nil {
			return true
		}
		err := m.applyBatch(ctx, h.id, h.batch, int64(len(h.lines)))
		if m.told(ctx, err); !m.done(h, err) {
			return false
		}
	}
}

// hold gives what is to be applied next, nil for nothing: what a try before left, or
// else the oldest of the queue.
func (m *Meter) hold(ctx context.Context) *held {
	m.spills.Lock() // what is on its way to the disk is in the spool or in the queue again
	defer m.spills.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.held == nil {
		n := min(len(m.queue), maxHeld)
		if n == 0 {
			return nil
		}
		h := &held{id: uuid.Must(uuid.NewV7()).String()}
		for _, r := range m.queue[:n] {
			lines, err := appendLine(h.lines, r)
			if err != nil { // strings and numbers always marshal
				m.lose(ctx, err)
				m.queued.Add(-1)
				continue
			}
			h.lines = lines
			h.batch = append(h.batch, spooled{r, int64(len(lines))})
		}
		if m.queue = m.queue[n:]; len(m.queue) == 0 {
			m.queue = nil
		}
		m.held = h
	}
	m.held.busy = true
	return m.held
}

// spillHeld writes what is held to the spool, unless it is just being applied, and
// reports whether nothing is held. Its caller holds spills.
func (m *Meter) spillHeld() (bool, error) {
	m.mu.Lock()
	h := m.held
	busy := h != nil && h.busy
	m.mu.Unlock()
	if h == nil || busy {
		return h == nil, nil
	}
	if err := m.spool.adopt(h.id, h.lines); !m.done(h, err) {
		return false, err
	}
	m.spooled.Add(int64(len(h.lines)))
	return true, nil
}

// done ends the work on h, and reports whether it is where it belongs.
func (m *Meter) done(h *held, err error) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	h.busy = false
	if err == nil {
		m.held = nil
		m.queued.Add(-int64(len(h.batch)))
	}
	return err == nil
}
