package replay

import (
	"cmp"
	"context"
	"errors"
	"io"
	"strings"
)

// DefaultTimeColumn is the column of times where none is named.
const DefaultTimeColumn = "TIMESTAMP"

// checkEvery is how many requests pass between two looks at the context and two
// calls of Progress.
const checkEvery = 4096

// read returns the requests in the order of the file and the names of their
// keys.
func read(ctx context.Context, r io.Reader, options Options) ([]request, []string, error) {
	lines, err := NewLines(r)
	if err != nil {
		return nil, nil, err
	}
	timeColumn, err := lines.Column(cmp.Or(options.TimeColumn, DefaultTimeColumn))
	if err != nil {
		return nil, nil, err
	}
	keyColumn := -1
	if options.KeyColumn != "" {
		if keyColumn, err = lines.Column(options.KeyColumn); err != nil {
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
			progress(lines.Offset())
		}
		fields, err := lines.Next(timeColumn)
		if errors.Is(err, io.EOF) {
			progress(lines.Offset())
			return requests, names, nil
		}
		if err != nil {
			return nil, nil, err
		}
		var q request
		if q.at, err = ParseTime(fields[timeColumn]); err != nil {
			return nil, nil, lines.Wrong(timeColumn, err)
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
