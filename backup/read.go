package backup

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"filippo.io/age"

	"github.com/gatehouse-io/gatehouse/seal"
)

// A Reader reads one backup, once, by [Reader.Check] or [Reader.Restore].
type Reader struct {
	Header Header

	lines *reader
}

// The errors of [Open], beside [ErrDamaged].
var (
	ErrWrongIdentity = errors.New("the backup does not open with what was given")
	ErrNewerFormat   = errors.New("the backup was made by a newer Gatehouse; restore it with that version or a later one")
)

// Open decrypts the file and reads its header.
func Open(file io.Reader, identities []age.Identity) (*Reader, error) {
	plain, err := age.Decrypt(file, identities...)
	var noMatch *age.NoIdentityMatchError
	if errors.As(err, &noMatch) {
		return nil, fmt.Errorf("%w: %s", ErrWrongIdentity, whyNoMatch(noMatch.StanzaTypes, identities))
	}
	if err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, damaged("it was cut off")
		}
		return nil, damaged("it does not begin as an age file does")
	}
	unpacked, err := gzip.NewReader(plain)
	if errors.Is(err, gzip.ErrHeader) {
		return nil, damaged("it does not begin as a backup does")
	}
	if err != nil { // its first piece is not what was sealed
		return nil, damaged("it was cut off or altered")
	}
	return newFileReader(unpacked)
}

// whyNoMatch says why nothing of what was given opens a file that has these age stanzas.
func whyNoMatch(stanzas []string, given []age.Identity) string {
	phrases := 0
	for _, id := range given {
		if _, ok := id.(*age.ScryptIdentity); ok {
			phrases++
		}
	}
	switch made := slices.Contains(stanzas, "scrypt"); {
	case made && phrases > 0:
		return "the passphrase is wrong"
	case made:
		return "it was made with a passphrase, and needs that (--passphrase-file)"
	case phrases > 0 && phrases == len(given):
		return "it was made for age keys and not with a passphrase, and needs one of them (--identity)"
	}
	return "it is encrypted to others than the given identities"
}

func newFileReader(plain io.Reader) (*Reader, error) {
	r := &Reader{lines: newReader(plain)}
	line, _, err := r.lines.next()
	if err != nil {
		return nil, err
	}
	var which struct { // a newer format may have more members
		Format  string `json:"format"`
		Version int    `json:"version"`
	}
	if json.Unmarshal(line, &which) != nil || which.Format != formatName {
		return nil, damaged("its first line is no backup's header")
	}
	if which.Version > formatVersion {
		return nil, ErrNewerFormat
	}
	if err := r.lines.parse(line, &r.Header); err != nil {
		return nil, err
	}
	if r.Header.Version < 1 || r.Header.Migration < 1 || r.Header.Version < 2 && r.Header.Signed {
		return nil, damaged("its header is incomplete")
	}
	return r, nil
}

// nameForm is what tables and columns are called. Whatever else a file names
// never comes near a database.
var nameForm = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)

// maxColumns bounds what a line may say of a table.
const maxColumns = 200

// table is one table as the file describes it.
type table struct {
	name    string
	columns []string
	kinds   []string
}

// sink is what takes the rows of a backup; its functions may be nil.
type sink struct {
	begin func(table) error
	row   func([]cell) error
	end   func(rows int64) error
}

// each reads to the end of the file and gives what it holds to s. Without an
// error every count and the hash are right, nothing follows, and the report says what
// the given secrets tell of its signature.
func (r *Reader) each(ctx context.Context, s sink, secrets []seal.Secret, progress func(int64)) (Report, error) {
	report := Report{Header: r.Header}
	seen := make(map[string]bool)
	for {
		line, sum, err := r.lines.next()
		if err != nil {
			return report, err
		}
		if strings.HasPrefix(string(line[:min(len(line), 7)]), `{"end":`) {
			var end endLine
			if err := r.lines.parse(line, &end); err != nil {
				return report, err
			}
			if end.End != endOfBackup || end.Rows != report.Rows || end.SHA256 != sum {
				return report, damaged("the count or the hash at its end is not that of its lines")
			}
			report.SHA256 = sum
			if err := r.finished(); err != nil {
				return report, err
			}
			report.Signing, err = r.Header.signing(end.Signature, sum, secrets)
			return report, err
		}
		t, err := r.tableOf(line)
		if err != nil {
			return report, err
		}
		if seen[t.name] {
			return report, damaged("line %d begins the table %s a second time", r.lines.n, t.name)
		}
		seen[t.name] = true
		rows, err := r.rows(ctx, t, s, report.Rows, progress)
		if err != nil {
			return report, err
		}
		report.Rows += rows
		report.Tables = append(report.Tables, TableRows{t.name, rows})
	}
}

// finished makes sure that nothing follows, which also authenticates the file's
// last piece.
func (r *Reader) finished() error {
	if _, err := r.lines.r.ReadByte(); !errors.Is(err, io.EOF) {
		return damaged("something follows its end")
	}
	return nil
}

func (r *Reader) tableOf(line []byte) (table, error) {
	var l tableLine
	if err := r.lines.parse(line, &l); err != nil {
		return table{}, err
	}
	t := table{name: l.Table}
	ok := nameForm.MatchString(t.name) && len(l.Columns) > 0 && len(l.Columns) <= maxColumns
	for _, c := range l.Columns {
		name, kind, _ := strings.Cut(c, " ")
		ok = ok && nameForm.MatchString(name) && (kind == "TEXT" || kind == "BIGINT" || kind == "BOOLEAN" || kind == "BYTEA")
		t.columns, t.kinds = append(t.columns, name), append(t.kinds, kind)
	}
	if !ok {
		return table{}, damaged("line %d describes no table", r.lines.n)
	}
	return t, nil
}

// rows reads a table's rows and its end line.
func (r *Reader) rows(ctx context.Context, t table, s sink, before int64, progress func(int64)) (int64, error) {
	if s.begin != nil {
		if err := s.begin(t); err != nil {
			return 0, err
		}
	}
	var n int64
	var raw []json.RawMessage
	for {
		line, _, err := r.lines.next()
		if err != nil {
			return n, err
		}
		if len(line) > 0 && line[0] == '{' {
			var end endLine
			if err := r.lines.parse(line, &end); err != nil {
				return n, err
			}
			if end.End != t.name || end.Rows != n {
				return n, damaged("%d rows of the table %s are there, and line %d says otherwise", n, t.name, r.lines.n)
			}
			if s.end != nil {
				return n, s.end(n)
			}
			return n, nil
		}
		raw = raw[:0]
		if json.Unmarshal(line, &raw) != nil || len(raw) != len(t.kinds) {
			return n, damaged("line %d is no row of the table %s", r.lines.n, t.name)
		}
		cells := make([]cell, len(raw))
		for i := range cells {
			cells[i].kind = t.kinds[i]
			if cells[i].parse(raw[i]) != nil {
				return n, damaged("line %d: the column %s of the table %s holds something else", r.lines.n, t.columns[i], t.name)
			}
		}
		if s.row != nil {
			if err := s.row(cells); err != nil {
				return n, err
			}
		}
		if n++; (before+n)%progressEvery == 0 {
			if progress != nil {
				progress(before + n)
			}
			if err := ctx.Err(); err != nil {
				return n, err
			}
		}
	}
}

// Check reads the backup to its end and says what it holds. It changes nothing
// and needs no master key; with the one that signed it, it says that too. progress may
// be nil. Errors: [ErrDamaged], [ErrForged].
func (r *Reader) Check(ctx context.Context, secrets []seal.Secret, progress func(rows int64)) (Report, error) {
	return r.each(ctx, sink{}, secrets, progress)
}
