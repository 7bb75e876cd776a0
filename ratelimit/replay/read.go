package replay

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// checkEvery is how many requests pass between two looks at the context and two
// calls of Progress.
const checkEvery = 4096

// read returns the requests in the order of the file and the names of their
// keys.
func read(ctx context.Context, r io.Reader, options Options) ([]request, []string, error) {
	lines := csv.NewReader(r)
	lines.ReuseRecord = true
	header, err := lines.Read()
	if errors.Is(err, io.EOF) {
		return nil, nil, errors.New("the file is empty: want a header line with the names of the columns")
	}
	if err != nil {
		return nil, nil, lineError(err)
	}
	columns := slices.Clone(header)
	columns[0] = strings.TrimPrefix(columns[0], "\ufeff")
	timeColumn, err := findColumn(columns, defaultTo(options.TimeColumn, "TIMESTAMP"))
	if err != nil {
		return nil, nil, err
	}
	keyColumn := -1
	if options.KeyColumn != "" {
		if keyColumn, err = findColumn(columns, options.KeyColumn); err != nil {
			return nil, nil, err
		}
	}

	progress := options.Progress
	if progress == nil {
		progress = func(int64) {}
	}
	var requests []request
	var names []string
	index := map[string]int{}
	if keyColumn < 0 {
		names = []string{""}
	}
	for {
		if len(requests)%checkEvery == 0 {
			if ctx.Err() != nil {
				return nil, nil, context.Cause(ctx)
			}
			progress(lines.InputOffset())
		}
		fields, err := lines.Read()
		if errors.Is(err, io.EOF) {
			progress(lines.InputOffset())
			return requests, names, nil
		}
		if err != nil {
			return nil, nil, lineError(err)
		}
		var q request
		if q.at, err = parseTime(fields[timeColumn]); err != nil {
			line, _ := lines.FieldPos(timeColumn)
			return nil, nil, fmt.Errorf("line %d: column %q: %w", line, columns[timeColumn], err)
		}
		if keyColumn >= 0 {
			known := false
			if q.key, known = index[fields[keyColumn]]; !known {
				name := strings.Clone(fields[keyColumn]) // not the whole line
				q.key = len(names)
				index[name] = q.key
				names = append(names, name)
			}
		}
		requests = append(requests, q)
	}
}

func defaultTo(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func findColumn(columns []string, name string) (int, error) {
	if i := slices.Index(columns, name); i >= 0 {
		return i, nil
	}
	shown := columns
	if len(shown) > 20 {
		shown = shown[:20]
	}
	list := fmt.Sprintf("%q", shown)
	if len(list) > 500 {
		list = list[:500] + "..."
	}
	return 0, fmt.Errorf("there is no column %q; the columns are %s", name, list)
}

// lineError names the line of a broken record.
func lineError(err error) error {
	if parse := new(csv.ParseError); errors.As(err, &parse) {
		if errors.Is(parse.Err, csv.ErrFieldCount) {
			return fmt.Errorf("line %d: not as many fields as the header has", parse.Line)
		}
		return fmt.Errorf("line %d: %w", parse.Line, parse.Err)
	}
	return err
}

var errTime = errors.New("not a time: want RFC 3339, 2006-01-02 15:04:05 or a number since 1970")

// parseTime reads a time as the package comment lists them, in milliseconds
// since 1970.
func parseTime(s string) (int64, error) {
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
