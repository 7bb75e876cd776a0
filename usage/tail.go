package usage

import "bytes"

// keep closes g, whose file may hold lines behind what is written, whole or in part, and
// cannot be cut off there. A later process takes what it finds for records, so they are
// counted under this file's id and place, from memory, and under no other. Its caller
// holds mu.
func (s *spool) keep(g *segment, lines []byte) {
	g.tail = lines
	s.closed, s.current = append(s.closed, g), nil
}

// settle writes what is only known to be in memory to the files where it belongs.
func (s *spool) settle() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.closed {
		if len(g.tail) == 0 {
			continue
		}
		if _, err := g.file.WriteAt(g.tail, g.written); err != nil {
			return err
		}
		if err := g.file.Sync(); err != nil {
			return err
		}
		g.written, g.tail = g.end(), nil
	}
	return nil
}

// unsettled gives how many records are only known to be in memory.
func (s *spool) unsettled() (records int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.closed {
		left := g.tail[min(max(g.applied-g.written, 0), int64(len(g.tail))):]
		records += int64(bytes.Count(left, []byte{'\n'}))
	}
	return records
}
