package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/policy"
	"github.com/gatehouse-io/gatehouse/policy/compare"
	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// policyFile is a file of policies: an answer of GET /api/rate-limit/policies,
// with the environment's limits where they are not 100/1m and 1000/1h.
type policyFile struct {
	Defaults struct {
		IP           []ratelimit.Limit `json:"ip"`
		Organization []ratelimit.Limit `json:"org"`
	} `json:"defaults"`
	api.LimitPolicyList
}

// maxPolicyFile bounds a file of policies, in bytes.
const maxPolicyFile = 16 << 20

// readTrial reads a file of policies. Its mistakes are named by field, never by
// value.
func readTrial(name string) (*policy.Trial, error) {
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
	var in policyFile
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil {
		return nil, fmt.Errorf(`%s: not a JSON object of the form {"policies": [...]}, as GET /api/rate-limit/policies answers: %w`, name, err)
	}
	if dec.More() {
		return nil, fmt.Errorf("%s: there is more after the object", name)
	}
	defaults := policy.Defaults{IP: in.Defaults.IP, Organization: in.Defaults.Organization}
	if len(defaults.IP) == 0 {
		defaults.IP = []ratelimit.Limit{{Requests: 100, Window: time.Minute}}
	}
	if len(defaults.Organization) == 0 {
		defaults.Organization = []ratelimit.Limit{{Requests: 1000, Window: time.Hour}}
	}
	var stored []policy.Stored
	for _, p := range in.Policies {
		stored = append(stored, policy.Stored{Owner: p.Owner, Draft: policy.Draft{
			Effect: p.Effect, Mode: p.Mode, Subject: p.Subject, Organization: p.Organization, CIDR: p.CIDR,
			Service: p.Service, Path: p.Path, Limits: p.Limits, Reason: p.Reason, ExpiresAt: (*time.Time)(p.ExpiresAt),
		}})
	}
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

// compare plays the trace through one or two files of policies.
func (l limitsReplayCommand) compare(ctx context.Context, name string, in io.Reader, progress func(int64)) (compare.Report, error) {
	if len(l.Policies) > 2 {
		return compare.Report{}, errors.New("--policies takes one file, or two to compare")
	}
	var sets []*policy.Trial
	for _, file := range l.Policies {
		set, err := readTrial(file)
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
