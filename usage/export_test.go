package usage

import (
	"errors"
	"sync/atomic"
	"time"
)

// For fuzzing what a spool file may hold.
var (
	AppendLine = appendLine
	ParseLine  = parseLine
)

// Dimensions lists what usage can be asked by.
func Dimensions() []Dimension { return dimensions() }

// sticky is a file whose disk takes what is written, and then fails to sync it and to cut it off.
type sticky struct {
	file
	mended atomic.Bool
}

func (s *sticky) Sync() error {
	if s.mended.Load() {
		return s.file.Sync()
	}
	return errors.New("input/output error")
}

func (s *sticky) Truncate(size int64) error {
	if s.mended.Load() {
		return s.file.Truncate(size)
	}
	return errors.New("input/output error")
}

// Stick makes the file that is written to such a one.
func (m *Meter) Stick() (mend func()) {
	m.spool.mu.Lock()
	defer m.spool.mu.Unlock()
	s := &sticky{file: m.spool.current.file}
	m.spool.current.file = s
	return func() { s.mended.Store(true) }
}

// Pause is how long a disk that refuses is left alone now.
func (m *Meter) Pause() time.Duration {
	m.spills.Lock()
	defer m.spills.Unlock()
	return m.pause
}
