package replay

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Lines reads a recorded traffic file: CSV with a header line. Its errors name
// the line, counted from 1, and what it should be.
type Lines struct {
	csv     *csv.Reader
	columns []string
	end     *endReader

	// How many digits the last field has of the line just read and of the one before; 0 where
	// it is no whole number.
	digits, before int
	line           int
}

// endReader keeps the last byte that was read.
type endReader struct {
	io.Reader
	last byte
}

// Read implements [io.Reader].
func (r *endReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	if n > 0 {
		r.last = b[n-1]
	}
	return n, err
}

// NewLines reads the header of a file.
func NewLines(r io.Reader) (*Lines, error) {
	end := &endReader{Reader: r}
	l := &Lines{csv: csv.NewReader(end), end: end}
	l.csv.ReuseRecord = true
	header, err := l.csv.Read()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("the file is empty: want a header line with the names of the columns")
	}
	if err != nil {
		return nil, lineError(err)
	}
	l.columns = slices.Clone(header)
	l.columns[0] = strings.TrimPrefix(l.columns[0], "\ufeff")
	return l, nil
}

// Column gives the position of the column of that name; where there is none, of
// the first that differs in letter case only. Otherwise its error lists the
// columns that there are. Which of two columns of one name is meant it does not guess.
func (l *Lines) Column(name string) (int, error) {
	if i := slices.Index(l.columns, name); i >= 0 {
		if slices.Contains(l.columns[i+1:], name) {
			return 0, fmt.Errorf("there are several columns %q", name)
		}
		return i, nil
	}
	if i := slices.IndexFunc(l.columns, func(column string) bool { return strings.EqualFold(column, name) }); i >= 0 {
		return i, nil
	}
	shown := l.columns
	if len(shown) > 20 {
		shown = shown[:20]
	}
	list := fmt.Sprintf("%q", shown)
	if len(list) > 500 {
		list = list[:500] + "..."
	}
	return 0, fmt.Errorf("there is no column %q; the columns are %s", name, list)
}

// Next gives the fields of the next line, good until the next call, or io.EOF. times is the
// column of times: where it is the last one, a file that was cut off in it would end with a
// request of another year.
func (l *Lines) Next(times int) ([]string, error) {
	fields, err := l.csv.Read()
	switch {
	case errors.Is(err, io.EOF):
		if times == len(l.columns)-1 && l.end.last != '\n' && l.digits < l.before {
			return nil, fmt.Errorf("line %d: column %q: the file is cut off there: the time has %d digits and the one before %d", l.line, l.columns[times], l.digits, l.before)
		}
		return nil, err
	case err != nil:
		return nil, lineError(err)
	}
	l.line, _ = l.csv.FieldPos(times)
	l.before, l.digits = l.digits, 0
	if last := fields[len(fields)-1]; digits(last) {
		l.digits = len(last)
	}
	return fields, nil
}

// Wrong says that the field in a column of the line just read is not what it
// should be.
func (l *Lines) Wrong(column int, err error) error {
	line, _ := l.csv.FieldPos(column)
	return fmt.Errorf("line %d: column %q: %w", line, l.columns[column], err)
}

// Offset is how many bytes have been read.
func (l *Lines) Offset() int64 { return l.csv.InputOffset() }

// lineError names the line of a broken record.
func lineError(err error) error {
	if parse := new(csv.ParseError); errors.As(err, &parse) {
		if errors.Is(parse.Err, csv.ErrFieldCount) {
			return fmt.Errorf("line %d: not as many fields as the header has", parse.Line)
		}
		if parse.Line > parse.StartLine { // a quote without its end takes in all lines that follow
			return fmt.Errorf("line %d: a quoted field does not end as it should: %w", parse.StartLine, parse.Err)
		}
		return fmt.Errorf("line %d: %w", parse.Line, parse.Err)
	}
	return err
}

var errTime = errors.New("not a time: want RFC 3339, 2006-01-02 15:04:05 or a number since 1970")

// ParseTime reads a time as the package comment lists them, in milliseconds
// since 1970.
func ParseTime(s string) (int64, error) {
	s = strings.TrimSpace(s)
	if len(s) > 10 && s[4] == '-' {
		layout := time.RFC3339
		if s[10] == ' ' {
			layout = time.DateTime
		}
		t, err := time.Parse(layout, s)
		if err != nil || t.UnixMilli() < 0 {
			return 0, errTime
		}
		return t.UnixMilli(), nil
	}
	whole, fraction, _ := strings.Cut(s, ".")
	if len(whole) > 18 || !digits(whole) || !digits(fraction) || whole == "" {
		return 0, errTime
	}
	n, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return 0, errTime
	}
	switch {
	case n < 1e11: // seconds
		ms, _ := strconv.ParseInt((fraction + "000")[:3], 10, 64) // digits alone
		return n*1000 + ms, nil
	case n < 1e14:
		return n, nil
	case n < 1e17:
		return n / 1000, nil
	}
	return 0, errTime
}

func digits(s string) bool {
	return strings.Trim(s, "0123456789") == ""
}
