package backup

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
)

// The format that this package writes, and the newest that it reads. Backups of
// version 1 differ in nothing but that none is signed.
const (
	formatName    = "gatehouse-backup"
	formatVersion = 2
)

// maxLine bounds a line, and so the memory that a row takes: a sealed value of a
// mebibyte in base64 is well below it.
const maxLine = 16 << 20

// Header is the first line of a backup.
type Header struct {
	Format      string    `json:"format"`
	Version     int       `json:"version"`
	ID          string    `json:"id"`                   // bak_..., as the trail has it
	MadeAt      time.Time `json:"madeAt"`               // when the state was read
	Gatehouse   string    `json:"gatehouse"`            // the program's version
	Database    string    `json:"database"`             // the kind it was read from
	Migration   int64     `json:"migration"`            // the last that the database had had
	Environment string    `json:"environment"`          // empty: nothing was ever sealed
	SealingKey  string    `json:"sealingKey,omitempty"` // the id of the key that seals
	Keys        []Key     `json:"keys,omitempty"`       // what recognises the master keys
	Signed      bool      `json:"signed,omitempty"`     // its end is signed with the key that seals
}

// Key is the record of a master key: what tells whether a secret is the right
// one, nothing that opens a value.
type Key struct {
	ID         seal.KeyID `json:"id"`
	Salt       []byte     `json:"salt"`
	Iterations int        `json:"iterations"`
	Check      []byte     `json:"check"`
}

func (k Key) record() seal.KeyRecord {
	return seal.KeyRecord{ID: k.ID, Salt: k.Salt, Iterations: k.Iterations, Check: k.Check}
}

// TableRows says how many rows a table has.
type TableRows struct {
	Table string `json:"table"`
	Rows  int64  `json:"rows"`
}

// ErrDamaged is what every fault of a file wraps: it was cut off, altered, or is
// no backup. The text says where.
var ErrDamaged = errors.New("the backup cannot be read to its end")

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
}

type tableLine struct {
	Table   string   `json:"table"`
	Columns []string `json:"columns"`
}

type endLine struct {
	End       string     `json:"end"`
	Rows      int64      `json:"rows"`
	SHA256    string     `json:"sha256,omitempty"`
	Signature *signature `json:"signature,omitempty"`
}

const endOfBackup = "backup"

// writer writes lines and keeps their hash.
type writer struct {
	w    io.Writer
	hash hash.Hash
	line []byte
}

func newWriter(w io.Writer) *writer { return &writer{w: w, hash: sha256.New()} }

func (w *writer) object(v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return w.write(append(line, '\n'))
}

func (w *writer) write(line []byte) error {
	w.hash.Write(line)
	_, err := w.w.Write(line)
	return err
}

func (w *writer) sum() string { return hex.EncodeToString(w.hash.Sum(nil)) }

// row writes one row; values are as [cell] gives them.
func (w *writer) row(values []cell) error {
	b := append(w.line[:0], '[')
	for i := range values {
		if i > 0 {
			b = append(b, ',')
		}
		var err error
		if b, err = values[i].append(b); err != nil {
			return err
		}
	}
	w.line = append(b, ']', '\n')
	if len(w.line) > maxLine {
		return fmt.Errorf("a row takes %d bytes, more than the %d that a backup holds", len(w.line), maxLine)
	}
	return w.write(w.line)
}

// cell is one value of a row, on its way from or to a database.
type cell struct {
	kind string // the column's type
	null bool
	text string
	n    int64
	flag bool
	b    []byte
}

// Scan implements [database/sql.Scanner].
func (c *cell) Scan(src any) error {
	c.null = src == nil
	if c.null {
		return nil
	}
	var ok bool
	switch c.kind {
	case "TEXT":
		if b, isBytes := src.([]byte); isBytes {
			c.text, ok = string(b), true
		} else {
			c.text, ok = src.(string)
		}
	case "BIGINT":
		c.n, ok = src.(int64)
	case "BOOLEAN":
		if n, isNumber := src.(int64); isNumber {
			c.flag, ok = n != 0, n == 0 || n == 1
		} else {
			c.flag, ok = src.(bool)
		}
	case "BYTEA":
		var b []byte
		if b, ok = src.([]byte); ok {
			c.b = append(c.b[:0], b...)
		}
	}
	if !ok {
		return fmt.Errorf("a column of the type %s held %T", c.kind, src)
	}
	return nil
}

// value gives what is put into the database.
func (c *cell) value() any {
	switch {
	case c.null:
		return nil
	case c.kind == "TEXT":
		return c.text
	case c.kind == "BIGINT":
		return c.n
	case c.kind == "BOOLEAN":
		return c.flag
	}
	return c.b
}

// append gives the value as JSON.
func (c *cell) append(b []byte) ([]byte, error) {
	switch {
	case c.null:
		return append(b, "null"...), nil
	case c.kind == "BIGINT":
		return strconv.AppendInt(b, c.n, 10), nil
	case c.kind == "BOOLEAN":
		return strconv.AppendBool(b, c.flag), nil
	case c.kind == "BYTEA":
		b = append(b, '"')
		b = base64.StdEncoding.AppendEncode(b, c.b)
		return append(b, '"'), nil
	case !utf8.ValidString(c.text):
		b = append(b, `{"base64":"`...)
		b = base64.StdEncoding.AppendEncode(b, []byte(c.text))
		return append(b, `"}`...), nil
	}
	text, err := json.Marshal(c.text)
	return append(b, text...), err
}

// parse reads the value from JSON.
func (c *cell) parse(raw json.RawMessage) error {
	if c.null = bytes.Equal(raw, []byte("null")); c.null {
		return nil
	}
	switch c.kind {
	case "TEXT":
		if raw[0] == '{' {
			var t struct {
				Base64 *[]byte `json:"base64"`
			}
			if err := json.Unmarshal(raw, &t); err != nil || t.Base64 == nil {
				return errors.New("a text is malformed")
			}
			c.text = string(*t.Base64)
			return nil
		}
		return json.Unmarshal(raw, &c.text)
	case "BIGINT":
		return json.Unmarshal(raw, &c.n)
	case "BOOLEAN":
		return json.Unmarshal(raw, &c.flag)
	}
	c.b = nil
	return json.Unmarshal(raw, &c.b)
}

func columnsOf(t store.Table) ([]string, error) {
	var all []string
	for _, c := range t.Columns {
		if !strings.Contains(" TEXT BIGINT BOOLEAN BYTEA ", " "+c.Type+" ") {
			return nil, fmt.Errorf("the column %s.%s has a type that is not Gatehouse's own; a backup cannot hold it", t.Name, c.Name)
		}
		all = append(all, c.Name+" "+c.Type)
	}
	return all, nil
}

// reader reads lines, each bounded, and keeps their hash.
type reader struct {
	r    *bufio.Reader
	hash hash.Hash
	line []byte
	n    int64 // lines read
}

func newReader(r io.Reader) *reader {
	return &reader{r: bufio.NewReaderSize(r, 64<<10), hash: sha256.New()}
}

// next gives the next line without its newline; it is good until the call after.
// sum is the hash of everything before the line.
func (r *reader) next() (line []byte, sum string, err error) {
	sum = hex.EncodeToString(r.hash.Sum(nil))
	r.line = r.line[:0]
	for {
		piece, err := r.r.ReadSlice('\n')
		r.line = append(r.line, piece...)
		if len(r.line) > maxLine {
			return nil, "", damaged("line %d is longer than %d bytes", r.n+1, maxLine)
		}
		if err == nil {
			break
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, "", fmt.Errorf("%w: after line %d: %w", ErrDamaged, r.n, err)
		}
	}
	r.n++
	r.hash.Write(r.line)
	return r.line[:len(r.line)-1], sum, nil
}

// parse reads the line into v, which must name every member of it.
func (r *reader) parse(line []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil || d.InputOffset() != int64(len(line)) {
		return damaged("line %d is not what should stand there", r.n)
	}
	return nil
}

// quoted gives a name as both databases take it. It is a name out of a database
// of ours, or has been compared with one.
func quoted(name string) string { return `"` + name + `"` }
