package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/instance"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/policy"
	"github.com/gatehouse-io/gatehouse/policy/compare"
	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// policyFile is a file of policies: an answer of GET /api/rate-limit/policies,
// with the environment's limits where they are not [instance.DefaultLimits].
type policyFile struct {
	Defaults   json.RawMessage   `json:"defaults"`
	Policies   []json.RawMessage `json:"policies"`
	NextCursor string            `json:"nextCursor"`
}

type policyDefaults struct {
	IP           []ratelimit.Limit `json:"ip"`
	Organization []ratelimit.Limit `json:"org"`
}

// decodeStrictly reads one JSON object, place being where it stands in the file. Its
// mistakes are named by the member that has them.
func decodeStrictly(place string, text []byte, into any) error {
	strict := func(text []byte, into any) error {
		dec := json.NewDecoder(bytes.NewReader(text))
		dec.DisallowUnknownFields()
		err := dec.Decode(into)
		if err == nil && dec.More() {
			err = errors.New("there is more after the object")
		}
		return err
	}
	err := strict(text, into)
	members, twice := membersOf(text)
	if twice != "" {
		return inOurWords(strings.TrimPrefix(place+"."+forTerminal(twice), "."), errors.New("is there twice"))
	}
	if err == nil || members == nil {
		return inOurWords(place, err)
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		one, _ := json.Marshal(map[string]json.RawMessage{name: members[name]}) // it was JSON
		if err := strict(one, into); err != nil {
			return inOurWords(strings.TrimPrefix(place+"."+forTerminal(name), "."), err)
		}
	}
	return inOurWords(place, err)
}

// membersOf gives the members of a JSON object, or nil where text is none, and the name of one that
// is there twice: the decoder takes the last, also of two that differ in case.
func membersOf(text []byte) (members map[string]json.RawMessage, twice string) {
	if json.Unmarshal(text, &members) != nil {
		return nil, ""
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	_, _ = dec.Token() // { of what was read whole above
	seen := make(map[string]bool, len(members))
	for dec.More() {
		token, _ := dec.Token()
		name, _ := token.(string)
		folded := strings.ToLower(strings.ToUpper(name))
		if seen[folded] {
			return members, name
		}
		seen[folded] = true
		var value json.RawMessage
		if dec.Decode(&value) != nil {
			break
		}
	}
	return members, ""
}

// inOurWords says what is wrong without the names of our types.
func inOurWords(place string, err error) error {
	var kind *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &kind):
		err = errors.New("must not be a JSON " + strings.Fields(kind.Value)[0])
	case strings.HasPrefix(err.Error(), "json: unknown field"):
		err = errors.New("is no member that is known here")
	}
	if place == "" {
		return err
	}
	return fmt.Errorf("%s: %w", place, err)
}

// maxPolicyFile bounds a file of policies, in bytes.
const maxPolicyFile = 16 << 20

// readTrial reads a file of policies. Its mistakes are named by field, never by
// value.
func (l limitsReplayCommand) readTrial(name string) (*policy.Trial, error) {
	text, err := readPolicyFile(name)
	if err != nil {
		return nil, err
	}
	var in policyFile
	if err := decodeStrictly("", text, &in); err != nil {
		return nil, fmt.Errorf(`%s: not a JSON object of the form {"policies": [...]}, as GET /api/rate-limit/policies answers: %w`, name, err)
	}
	if in.Policies == nil && in.Defaults == nil { // as of null, which a query for a member that is not there gives
		return nil, fmt.Errorf(`%s: not a JSON object of the form {"policies": [...]}, as GET /api/rate-limit/policies answers: there are neither policies nor defaults in it`, name)
	}
	if in.NextCursor != "" {
		return nil, fmt.Errorf("%s: nextCursor says that there are more policies than this page has; put those of all pages (?limit=200&cursor=...) into one object", name)
	}
	defaults, err := in.defaults()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	stored, err := in.stored()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	l.tellUnmatched(name, stored)
	trial, err := policy.NewTrial(defaults, stored)
	if wrong, ok := fault.As(err); ok {
		mistakes := []error{fmt.Errorf("%s: %s", name, wrong.Message)}
		for _, f := range wrong.Fields {
			mistakes = append(mistakes, fmt.Errorf("  %s %s", f.Name, f.Message))
		}
		return nil, errors.Join(mistakes...)
	}
	return trial, err
}

func readPolicyFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("the policies cannot be read: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	text, err := io.ReadAll(io.LimitReader(f, maxPolicyFile+1))
	if err != nil {
		return nil, fmt.Errorf("the policies cannot be read: %w", err)
	}
	if len(text) > maxPolicyFile {
		return nil, fmt.Errorf("%s: longer than %d MiB", name, maxPolicyFile>>20)
	}
	return text, nil
}

// defaults gives the limits that hold where no policy says otherwise.
func (f *policyFile) defaults() (policy.Defaults, error) {
	var given policyDefaults
	if f.Defaults != nil {
		if err := decodeStrictly("defaults", f.Defaults, &given); err != nil {
			return policy.Defaults{}, err
		}
	}
	for name, limits := range map[string][]ratelimit.Limit{"ip": given.IP, "org": given.Organization} {
		if len(limits) > ratelimit.MaxLimits {
			return policy.Defaults{}, fmt.Errorf("defaults.%s: must hold at most %d limits", name, ratelimit.MaxLimits)
		}
	}
	defaults := policy.Defaults{IP: given.IP, Organization: given.Organization}
	ip, organization := instance.DefaultLimits()
	if len(defaults.IP) == 0 {
		defaults.IP = []ratelimit.Limit{ip}
	}
	if len(defaults.Organization) == 0 {
		defaults.Organization = []ratelimit.Limit{organization}
	}
	return defaults, nil
}

func (f *policyFile) stored() (stored []policy.Stored, err error) {
	for i, text := range f.Policies {
		var p api.LimitPolicy
		if err := decodeStrictly(fmt.Sprintf("policies[%d]", i), text, &p); err != nil {
			return nil, err
		}
		stored = append(stored, policy.Stored{Owner: p.Owner, Draft: policy.Draft{
			Effect: p.Effect, Mode: p.Mode, Subject: p.Subject, Organization: p.Organization, CIDR: p.CIDR,
			Service: p.Service, Path: p.Path, Limits: p.Limits, Reason: p.Reason, ExpiresAt: (*time.Time)(p.ExpiresAt),
		}})
	}
	return stored, nil
}

// tellUnmatched says how many policies are about what the trace has no column for.
func (l limitsReplayCommand) tellUnmatched(name string, stored []policy.Stored) {
	services, paths := 0, 0
	for _, s := range stored {
		if s.Service != "" {
			services++
		}
		if s.Path != "" {
			paths++
		}
	}
	tell := func(policies int, what, flag, column string) {
		if policies > 0 && column == "" {
			fmt.Fprintf(os.Stderr, "%s: %d policies are about a %s and match nothing here: no %s says which a request is for.\n", name, policies, what, flag)
		}
	}
	tell(services, "service", "--service-column", l.ServiceColumn)
	tell(paths, "path", "--path-column", l.PathColumn)
}

// compare plays the trace through one or two files of policies.
func (l limitsReplayCommand) compare(ctx context.Context, name string, in io.Reader, progress func(int64)) (compare.Report, error) {
	if len(l.Policies) > 2 {
		return compare.Report{}, errors.New("--policies takes one file, or two to compare")
	}
	var sets []*policy.Trial
	for _, file := range l.Policies {
		set, err := l.readTrial(file)
		if err != nil {
			return compare.Report{}, err
		}
		sets = append(sets, set)
	}
	report, err := untilInterrupted(ctx, func() (compare.Report, error) {
		return compare.Run(ctx, in, compare.Options{
			TimeColumn: l.TimeColumn, IPColumn: l.IPColumn, OrganizationColumn: l.OrganizationColumn,
			ServiceColumn: l.ServiceColumn, PathColumn: l.PathColumn, Progress: progress,
		}, sets...)
	})
	if err != nil {
		return report, fmt.Errorf("%s: %w", name, err)
	}
	return report, nil
}

func printComparison(out io.Writer, name string, l limitsReplayCommand, r compare.Report) error {
	fmt.Fprintf(out, "%s: %d requests\n\n", name, r.Requests)
	table := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "POLICIES\tADMITTED\tDENIED\tEXEMPT\tBLOCKED\tPASSED")
	for i, c := range r.Sets {
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%s\n", forTerminal(l.Policies[i]), c.Admitted, c.Denied, c.Exempt, c.Blocked, percent(c.Passed(), r.Requests))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if len(r.OnlyPassed) == 2 {
		fmt.Fprintf(out, "\n%d requests passed under the first alone, %d under the second alone.\n", r.OnlyPassed[0], r.OnlyPassed[1])
	}
	if r.Unsorted > 0 {
		fmt.Fprintf(out, "%d lines were earlier than one before them; they were sorted first.\n", r.Unsorted)
	}
	shown := r.Subjects[:min(worstKeys, len(r.Subjects))]
	if len(shown) == 0 {
		return nil
	}
	fmt.Fprintf(out, "\n%d of %d subjects, the most affected first:\n\n", len(shown), len(r.Subjects)+r.OmittedSubjects)
	table = tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintf(table, "SUBJECT\tREQUESTS")
	for i := range r.Sets {
		fmt.Fprintf(table, "\tPASSED %d", i+1)
	}
	fmt.Fprintln(table)
	for _, s := range shown {
		fmt.Fprintf(table, "%s\t%d", forTerminal(s.Key), s.Requests)
		for _, c := range s.Sets {
			fmt.Fprintf(table, "\t%d", c.Passed())
		}
		fmt.Fprintln(table)
	}
	return table.Flush()
}
