package gateway

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
)

// spoolPrefix begins the names of the spool's files.
const spoolPrefix = "body-"

// spool keeps request bodies that are too large for memory in files until they
// have been sent. A file has no name from the moment it is made, so that it ends
// with this process however that ends, and what is in it is encrypted under a key
// that is nowhere but in memory.
type spool struct {
	dir     string
	room    buffers
	refused atomic.Bool // the disk did not take the last body, and the log says so
}

// newSpool makes the folder, and removes what an instance left there that ended
// between making a file and taking its name off.
func newSpool(dir string, size, largest int64) (*spool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("gateway: the spool's folder cannot be made: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("gateway: the spool's folder cannot be read: %w", err)
	}
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), spoolPrefix) {
			continue
		}
		if err := os.Remove(filepath.Join(dir, entry.Name())); err != nil && !errors.Is(err, os.ErrNotExist) { // another instance removes its own
			return nil, fmt.Errorf("gateway: the spool cannot be emptied: %w", err)
		}
	}
	s := &spool{dir: dir}
	s.room.init(size, largest)
	return s, nil
}

// spoolFile is one body on disk: AES-256 in counter mode under a key of its own.
type spoolFile struct {
	file  *os.File
	named bool // the file could not be removed while it is open
	block cipher.Block
}

func (s *spool) create() (*spoolFile, error) {
	var key [32]byte
	_, _ = rand.Read(key[:]) // never fails
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	file, err := os.CreateTemp(s.dir, spoolPrefix) // 0600
	if errors.Is(err, os.ErrNotExist) {            // somebody tidied up
		_ = os.Mkdir(s.dir, 0o700) // the next line says if it could not be made
		file, err = os.CreateTemp(s.dir, spoolPrefix)
	}
	if err != nil {
		return nil, err
	}
	return &spoolFile{file: file, named: os.Remove(file.Name()) != nil, block: block}, nil
}

// stream is the key stream from the body's start. The counter begins at zero in
// each file, whose key is used for nothing else.
func (f *spoolFile) stream() cipher.Stream {
	return cipher.NewCTR(f.block, make([]byte, aes.BlockSize))
}

func (f *spoolFile) reader(size int64) io.Reader {
	return cipher.StreamReader{S: f.stream(), R: io.NewSectionReader(f.file, 0, size)}
}

func (f *spoolFile) close() {
	_ = f.file.Close() // it was read whole, or is not wanted
	if f.named {
		_ = os.Remove(f.file.Name()) // or the next start does
	}
}

// errSpoolWrite says that the disk did not take a body; the log has the cause.
var errSpoolWrite = errors.New("the spool cannot be written")

// take moves head and the rest of a body, of which no more than most bytes are
// taken, into a file of p's. length is what the caller promised, or negative.
func (s *spool) take(p *payload, organization string, head []byte, from io.Reader, length, most int64) error {
	p.held.release()
	p.held = charge{buffers: &s.room, organization: organization}
	file, err := s.create()
	if err != nil {
		return errors.Join(errSpoolWrite, err)
	}
	p.file = file
	hide := file.stream()
	part := head
	var ended error
	buffer := make([]byte, firstRead)
	for {
		if p.size += int64(len(part)); p.size > most {
			return errBodyTooLarge
		}
		if p.size > p.held.bytes && !p.held.grow(min(p.size+spoolStep, most)) {
			return errBusy
		}
		hide.XORKeyStream(part, part)
		if _, err := file.file.Write(part); err != nil {
			return errors.Join(errSpoolWrite, err)
		}
		switch {
		case p.size == length, ended == io.EOF && length < 0:
			return nil
		case ended != nil:
			return bodyError(ended)
		}
		var n int
		n, ended = from.Read(buffer)
		part = buffer[:n]
	}
}

// spoolStep is by how much a body's claim on the spool grows, in bytes.
const spoolStep = 1 << 20
