package compare

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-io/gatehouse/policy"
)

// checkEvery is how many requests pass between two looks at the context.
const checkEvery = 4096

// read reads the whole file.
func read(ctx context.Context, r io.Reader, options Options) (*trace, error) {
	lines := csv.NewReader(r)
	lines.ReuseRecord = true
	header, err := lines.Read()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("the file is empty: want a header line with the names of the columns")
	}
	if err != nil {
		return nil, lineError(err)
	}
	c, err := findColumns(slices.Clone(header), options)
	if err != nil {
		return nil, err
	}
	t := new(trace)
	for {
		if len(t.requests)%checkEvery == 0 {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			if options.Progress != nil {
				options.Progress(lines.InputOffset())
			}
		}
		fields, err := lines.Read()
		if errors.Is(err, io.EOF) {
			return t, nil
		}
		if err != nil {
			return nil, lineError(err)
		}
		if column, err := t.add(fields, c); err != nil {
			line, _ := lines.FieldPos(column)
			return nil, fmt.Errorf("line %d: column %q: %w", line, c.names[column], err)
		}
	}
}

// add takes one line, or says which column is wrong.
func (t *trace) add(fields []string, c columns) (column int, err error) {
	var q request
	if q.at, err = parseTime(fields[c.time]); err != nil {
		return c.time, err
	}
	address, isNew := t.addresses.number(c.of(fields, c.ip, ""))
	if isNew {
		addr := netip.Addr{}
		if c.ip >= 0 {
			if addr, err = netip.ParseAddr(fields[c.ip]); err != nil {
				return c.ip, errors.New("not an IPv4 or IPv6 address")
			}
		}
		t.parsed = append(t.parsed, addr)
	}
	q.address = address
	organization := ""
	if c.ip < 0 {
		organization = Everybody
	}
	if c.organization >= 0 {
		if organization = fields[c.organization]; !policy.ValidOrganization(organization) {
			return c.organization, errors.New("not an organization's id")
		}
	}
	q.organization, _ = t.organizations.number(organization)
	q.service, _ = t.services.number(c.of(fields, c.service, ""))
	q.path, _ = t.paths.number(strings.TrimPrefix(c.of(fields, c.path, ""), "/"))
	t.requests = append(t.requests, q)
	return 0, nil
}

// columns are positions in a line; -1 where the file has none.
type columns struct {
	names                                 []string
	time, ip, organization, service, path int
}

func (c *columns) of(fields []string, column int, otherwise string) string {
	if column < 0 {
		return otherwise
	}
	return fields[column]
}

func findColumns(names []string, options Options) (c columns, err error) {
	names[0] = strings.TrimPrefix(names[0], "\ufeff")
	if options.TimeColumn == "" {
		options.TimeColumn = "TIMESTAMP"
	}
	c.names = names
	for _, column := range []struct {
		name string
		to   *int
	}{
		{options.TimeColumn, &c.time}, {options.IPColumn, &c.ip}, {options.OrganizationColumn, &c.organization},
		{options.ServiceColumn, &c.service}, {options.PathColumn, &c.path},
	} {
		*column.to = -1
		if column.name == "" {
			continue
		}
		if *column.to = slices.Index(names, column.name); *column.to < 0 {
			return c, fmt.Errorf("there is no column %q; the columns are %.500q", column.name, names[:min(20, len(names))])
		}
	}
	return c, nil
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

// parseTime reads a time as package replay does, in milliseconds since 1970.
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
	n, err := strconv.ParseUint(whole, 10, 63)
	if err != nil || strings.Trim(whole+fraction, "0123456789") != "" {
		return 0, errTime
	}
	switch {
	case n < 1e11: // seconds
		ms, _ := strconv.ParseUint((fraction + "000")[:3], 10, 64) // digits alone
		return int64(n*1000 + ms), nil
	case n < 1e14:
		return int64(n), nil
	case n < 1e17:
		return int64(n / 1000), nil
	}
	return 0, errTime
}
