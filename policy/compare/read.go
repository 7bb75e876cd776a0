package compare

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/netip"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/policy"
	"github.com/gatehouse-io/gatehouse/ratelimit/replay"
)

// checkEvery is how many requests pass between two looks at the context.
const checkEvery = 4096

// read reads the whole file.
func read(ctx context.Context, r io.Reader, options Options) (*trace, error) {
	lines, err := replay.NewLines(r)
	if err != nil {
		return nil, err
	}
	c, err := findColumns(lines, options)
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
				options.Progress(lines.Offset())
			}
		}
		fields, err := lines.Next(c.time)
		if errors.Is(err, io.EOF) {
			return t, nil
		}
		if err != nil {
			return nil, err
		}
		if column, err := t.add(fields, c); err != nil {
			return nil, lines.Wrong(column, err)
		}
	}
}

// add takes one line, or says which column is wrong.
func (t *trace) add(fields []string, c columns) (column int, err error) {
	var q request
	if q.at, err = replay.ParseTime(fields[c.time]); err != nil {
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
		if organization = fields[c.organization]; !access.ValidOrganization(organization) {
			return c.organization, errors.New("not an organization's id")
		}
	}
	q.organization, _ = t.organizations.number(organization)
	q.service, _ = t.services.number(c.of(fields, c.service, ""))
	q.path, _ = t.paths.number(policy.PathOf(c.of(fields, c.path, "")))
	t.requests = append(t.requests, q)
	return 0, nil
}

// columns are positions in a line; -1 where the file has none.
type columns struct {
	time, ip, organization, service, path int
}

func (c *columns) of(fields []string, column int, otherwise string) string {
	if column < 0 {
		return otherwise
	}
	return fields[column]
}

func findColumns(lines *replay.Lines, options Options) (c columns, err error) {
	for _, column := range []struct {
		name string
		to   *int
	}{
		{cmp.Or(options.TimeColumn, replay.DefaultTimeColumn), &c.time}, {options.IPColumn, &c.ip},
		{options.OrganizationColumn, &c.organization}, {options.ServiceColumn, &c.service}, {options.PathColumn, &c.path},
	} {
		*column.to = -1
		if column.name == "" {
			continue
		}
		if *column.to, err = lines.Column(column.name); err != nil {
			return c, err
		}
	}
	return c, nil
}
