// Package compare plays recorded traffic through sets of rate limit policies, to
// see what each would have done, side by side.
//
// The traffic is a CSV file with a header line and a request a line; columns say
// the time, the client's address, the organization, the service and its path, as
// far as the file has them. [Run] decides on every request under every set, on
// the file's own clock:
//
//	today, err := policy.NewTrial(defaults, policies)
//	tomorrow, err := policy.NewTrial(defaults, others)
//	report, err := compare.Run(ctx, file, compare.Options{OrganizationColumn: "org"}, today, tomorrow)
//
// Times are those of package replay. Lines need not be in order; the whole file is
// read first, at 24 bytes a request and what the distinct values take.
package compare

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"github.com/gatehouse-io/gatehouse/policy"
)

// MaxSubjects is how many organizations or addresses a [Report] lists.
const MaxSubjects = 1000

// Everybody is the organization of all requests where the file has neither a
// column of organizations nor one of addresses.
const Everybody = "everybody"

// Options names the columns. Those that are empty are not there; TimeColumn is
// "TIMESTAMP" when empty.
type Options struct {
	TimeColumn, IPColumn, OrganizationColumn, ServiceColumn, PathColumn string

	// Progress, unless nil, is told now and then how many bytes were read.
	Progress func(readBytes int64)
}

// Counts is what one set of policies did with some requests.
type Counts struct {
	Admitted int `json:"admitted"`
	Denied   int `json:"denied"`
	Exempt   int `json:"exempt"`
	Blocked  int `json:"blocked"`
}

// Passed is how many requests went through.
func (c Counts) Passed() int { return c.Admitted + c.Exempt }

// Report says what each set would have done.
type Report struct {
	Requests int      `json:"requests"`
	Sets     []Counts `json:"sets"` // in the order of the sets

	// OnlyPassed is, of two sets, how many requests passed under that one alone.
	OnlyPassed []int `json:"onlyPassed,omitempty"`

	// Subjects are the organizations (or the addresses, where the file names no
	// organization), those first with which the sets differ most, or which were
	// refused most: at most MaxSubjects.
	Subjects []Subject `json:"subjects"`

	OmittedSubjects int `json:"omittedSubjects,omitempty"`
	Unsorted        int `json:"unsorted,omitempty"` // lines that were earlier than one before them
}

// Subject is the part of a [Report] about one organization or address.
type Subject struct {
	Key      string   `json:"key"`
	Requests int      `json:"requests"`
	Sets     []Counts `json:"sets"`
}

// Run plays the file through the sets. Errors name the line or the column that
// is wrong, never a value.
func Run(ctx context.Context, r io.Reader, options Options, sets ...*policy.Trial) (Report, error) {
	t, err := read(ctx, r, options)
	if err != nil {
		return Report{}, err
	}
	report := Report{Requests: len(t.requests), Sets: make([]Counts, len(sets)), Unsorted: t.sort()}
	if len(sets) == 2 {
		report.OnlyPassed = make([]int, 2)
	}
	names := t.organizations.names
	if options.OrganizationColumn == "" && options.IPColumn != "" {
		names = t.addresses.names
	}
	subjects := make([]Subject, len(names))
	for i, name := range names {
		subjects[i] = Subject{Key: name, Sets: make([]Counts, len(sets))}
	}
	passed := make([]bool, len(sets))
	for i, q := range t.requests {
		if i%checkEvery == 0 && ctx.Err() != nil {
			return Report{}, context.Cause(ctx)
		}
		subject := &subjects[q.organization]
		if options.OrganizationColumn == "" && options.IPColumn != "" {
			subject = &subjects[q.address]
		}
		subject.Requests++
		visit := policy.Visit{Addr: t.parsed[q.address], Service: t.services.names[q.service], Path: t.paths.names[q.path]}
		for j, set := range sets {
			outcome, err := set.Decide(time.UnixMilli(q.at), t.organizations.names[q.organization], visit)
			if err != nil {
				return Report{}, fmt.Errorf("request %d: %w", i+1, err)
			}
			report.Sets[j].count(outcome)
			subject.Sets[j].count(outcome)
			passed[j] = outcome == policy.Admitted || outcome == policy.Exempted
		}
		if len(sets) == 2 && passed[0] != passed[1] {
			only := 0
			if passed[1] {
				only = 1
			}
			report.OnlyPassed[only]++
		}
	}
	slices.SortFunc(subjects, func(a, b Subject) int {
		return cmp.Or(cmp.Compare(b.weight(), a.weight()), cmp.Compare(a.Key, b.Key))
	})
	if len(subjects) > MaxSubjects {
		report.OmittedSubjects = len(subjects) - MaxSubjects
		subjects = slices.Clone(subjects[:MaxSubjects])
	}
	report.Subjects = subjects
	return report, nil
}

func (c *Counts) count(o policy.Outcome) {
	switch o {
	case policy.Admitted:
		c.Admitted++
	case policy.Denied:
		c.Denied++
	case policy.Exempted:
		c.Exempt++
	case policy.Blocked:
		c.Blocked++
	}
}

// weight is what puts a subject first: of two sets how much they differ, of
// one how many requests it refused.
func (s *Subject) weight() int {
	if len(s.Sets) == 2 {
		d := s.Sets[0].Passed() - s.Sets[1].Passed()
		return max(d, -d)
	}
	refused := 0
	for _, c := range s.Sets {
		refused += c.Denied + c.Blocked
	}
	return refused
}

// request is one line, as indexes of its values.
type request struct {
	at                                   int64 // milliseconds since 1970
	address, organization, service, path uint32
}

// values numbers the distinct values of a column.
type values struct {
	names []string
	index map[string]uint32
}

func (v *values) number(name string) (n uint32, isNew bool) {
	if n, known := v.index[name]; known {
		return n, false
	}
	if v.index == nil {
		v.index = make(map[string]uint32)
	}
	n = uint32(len(v.names))
	name = string([]byte(name)) // not the whole line
	v.index[name] = n
	v.names = append(v.names, name)
	return n, true
}

// trace is a file that was read.
type trace struct {
	requests                                  []request
	addresses, organizations, services, paths values
	parsed                                    []netip.Addr // by number of the address
}

// sort puts the requests in order and gives how many came too late.
func (t *trace) sort() (late int) {
	latest := int64(0)
	for _, q := range t.requests {
		if q.at < latest {
			late++
		}
		latest = max(latest, q.at)
	}
	if late > 0 {
		slices.SortStableFunc(t.requests, func(a, b request) int { return cmp.Compare(a.at, b.at) })
	}
	return late
}
