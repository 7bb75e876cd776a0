package usage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/google/uuid"
)

// spool is the folder of files that records wait in.
type spool struct {
	dir string

	mu      sync.Mutex
	current *segment   // what is written to; nil until there is something to write
	closed  []*segment // what is complete, the oldest first
}

// segment is one file. One process writes it, and holds its lock as long as it
// has it; a later process may finish it.
type segment struct {
	id      string
	file    file
	written int64  // bytes of whole lines
	tail    []byte // lines that follow, of which the disk holds nobody knows how much; see [spool.keep]
	applied int64  // bytes that are in the database
}

// file is an [os.File] that is open.
type file interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Name() string
	Sync() error
	Truncate(size int64) error
}

// end is where the last line of g ends.
func (g *segment) end() int64 { return g.written + int64(len(g.tail)) }

const (
	suffix = ".spool"
	// A file that has grown to segmentSize is closed, and one that is empty in
	// effect already at segmentSmall, so that what was applied is soon deleted.
	segmentSize  = 4 << 20
	segmentSmall = 256 << 10
)

// openSpool makes the folder, and takes over what dead processes left in it.
func openSpool(dir string) (*spool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("the folder of the usage spool cannot be made: %w", err)
	}
	s := &spool{dir: dir}
	names, err := filepath.Glob(filepath.Join(dir, "*"+suffix)) // by name, which is by time
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		g, err := takeOver(name)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("a file of the usage spool cannot be opened: %w", err), s.close())
		}
		if g != nil {
			s.closed = append(s.closed, g)
		}
	}
	return s, nil
}

// takeOver opens a file that is there, or gives nil where another process has it.
func takeOver(name string) (*segment, error) {
	id := strings.TrimSuffix(filepath.Base(name), suffix)
	if ours := uuid.Validate(id) == nil; !ours {
		return nil, nil
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) { // another has just finished it
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !lock(f) {
		return nil, f.Close()
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &segment{id: id, file: f, written: size}, nil
}

// create makes a file that this process holds.
func (s *spool) create(id string) (*segment, error) {
	f, err := os.OpenFile(filepath.Join(s.dir, id+suffix), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if !lock(f) {
		return nil, errors.Join(errors.New("a new file of the usage spool is locked"), f.Close())
	}
	return &segment{id: id, file: f}, nil
}

// adopt makes a file of that id that holds lines. After an error there is none.
func (s *spool) adopt(id string, lines []byte) error {
	g, err := s.create(id)
	if err != nil {
		return err
	}
	if _, err = g.file.WriteAt(lines, 0); err == nil {
		err = g.file.Sync()
	}
	if err != nil {
		return errors.Join(err, os.Remove(g.file.Name()), g.file.Close())
	}
	g.written = int64(len(lines))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = append(s.closed, g)
	return nil
}

// trySize is how much room there must be for a disk to count as one that takes writes:
// more than a write needs, so that one with hardly any does not come and go.
const trySize = 256 << 10

// try writes a file and removes it, to see whether the disk takes what is written. Its
// name is always the same, so that none is left of a killed process for long.
func (s *spool) try() error {
	name := filepath.Join(s.dir, "try.tmp")
	f, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.Write(make([]byte, trySize)); err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if gone := os.Remove(name); gone != nil && !errors.Is(gone, fs.ErrNotExist) { // another process tried too
		err = errors.Join(err, gone)
	}
	return err
}

// write appends lines and syncs them. After an error none of them is there, unless kept:
// then the spool has them all, in memory for now.
func (s *spool) write(lines []byte) (kept bool, err error) {
	s.mu.Lock() // all the while: the file must not be closed meanwhile
	defer s.mu.Unlock()
	g := s.current
	if g == nil {
		var err error
		if g, err = s.create(uuid.Must(uuid.NewV7()).String()); err != nil {
			return false, err
		}
	}
	s.current = g
	n, err := g.file.WriteAt(lines, g.written)
	if err == nil {
		err = g.file.Sync()
	}
	if err == nil {
		g.written += int64(len(lines))
		return false, nil
	}
	if n == 0 {
		return false, err
	}
	if cut := g.file.Truncate(g.written); cut != nil {
		s.keep(g, lines)
		return true, errors.Join(err, cut)
	}
	return false, err
}

// next gives the oldest file with records that are not applied yet, how far
// it reaches, and its tail behind that; nil where there is none.
func (s *spool) next() (g *segment, written int64, tail []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.closed {
		if g.applied < g.end() {
			return g, g.written, g.tail
		}
	}
	if s.current != nil && s.current.applied < s.current.written {
		return s.current, s.current.written, nil
	}
	return nil, 0, nil
}

// advance says that g is applied up to that byte, and deletes files that are done with.
func (s *spool) advance(g *segment, applied int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	g.applied = applied
	return s.tidy(segmentSmall)
}

// tidy closes the current file where it is large enough, and deletes closed ones
// of which all is applied. Its caller holds mu.
func (s *spool) tidy(small int64) error {
	if g := s.current; g != nil && (g.written >= segmentSize || g.applied == g.written && g.written >= small) {
		s.closed, s.current = append(s.closed, g), nil
	}
	var left []*segment
	var errs []error
	for _, g := range s.closed {
		if g.applied < g.end() {
			left = append(left, g)
			continue
		}
		errs = append(errs, os.Remove(g.file.Name()), g.file.Close())
	}
	s.closed = left
	return errors.Join(errs...)
}

// exists reports whether there is, or may be, a file of that id, of whatever process.
func (s *spool) exists(id string) bool {
	_, err := os.Lstat(filepath.Join(s.dir, filepath.Base(id)+suffix))
	return !errors.Is(err, fs.ErrNotExist)
}

// waiting gives how many bytes are not applied yet.
func (s *spool) waiting() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var n int64
	for _, g := range s.closed {
		n += g.end() - g.applied
	}
	if s.current != nil {
		n += s.current.written - s.current.applied
	}
	return n
}

// close deletes what is done with and leaves the rest to a later process.
func (s *spool) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	errs := []error{s.tidy(0)}
	if s.current != nil {
		s.closed, s.current = append(s.closed, s.current), nil
	}
	for _, g := range s.closed {
		errs = append(errs, g.file.Close())
	}
	s.closed = nil
	return errors.Join(errs...)
}
