package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/gatehouse-io/gatehouse/ratelimit"
	"github.com/gatehouse-io/gatehouse/ratelimit/replay"
)

type limitsCommand struct {
	Replay limitsReplayCommand `cmd:"" help:"Play recorded traffic through a limit, to see what it would have done."`
}

type limitsReplayCommand struct {
	Trace      string          `arg:"" name:"TRACE.csv" help:"The recorded requests, one a line, under a header line; - reads standard input."`
	Limit      ratelimit.Limit `xor:"what" placeholder:"100/1m" help:"Requests and the window that they fall into, such as 100/1m or 1000/1h. This or --policies."`
	Policies   []string        `xor:"what" placeholder:"FILE.json" help:"Policies instead of one limit, as GET /api/rate-limit/policies answers them. Given twice, the two are compared."`
	TimeColumn string          `default:"TIMESTAMP" placeholder:"NAME" help:"The column with the time of a request (${default})."`
	KeyColumn  string          `placeholder:"NAME" help:"The column that says who asks: each value has the limit to itself. All share one when left out."`
	JSON       bool            `name:"json" help:"Print the result as JSON."`

	IPColumn           string `name:"ip-column" placeholder:"NAME" help:"With --policies: the column with the client's address."`
	OrganizationColumn string `placeholder:"NAME" help:"With --policies: the column with the organization. All are of one when left out, and --ip-column too."`
	ServiceColumn      string `placeholder:"NAME" help:"With --policies: the column with the service."`
	PathColumn         string `placeholder:"NAME" help:"With --policies: the column with the path of the service."`
}

// Help is printed by --help.
func (limitsReplayCommand) Help() string {
	return `The requests go through the limiter that serves real traffic, on the clock of
the file. It needs no configuration and no server.

A time is RFC 3339, "2006-01-02 15:04:05.999" (UTC), or a number since 1970 in
seconds, milliseconds or microseconds. Lines need not be in order.

Examples:

  gatehouse limits replay trace.csv --limit 100/1m
  gatehouse limits replay access.csv --limit 1000/1h --time-column time --key-column organization
  zcat trace.csv.gz | gatehouse limits replay - --limit 100/1m --json | jq .denied
  gatehouse limits replay access.csv --policies now.json --policies next.json --time-column time --organization-column org --ip-column client`
}

// Validate refuses flags that would say nothing. One of the first two is required,
// and is not marked so: the usage line would show both.
func (l limitsReplayCommand) Validate() error {
	if len(l.Policies) == 0 && l.Limit == (ratelimit.Limit{}) {
		return errors.New("missing flags: --limit=100/1m or --policies=FILE.json")
	}
	if len(l.Policies) > 0 && l.KeyColumn != "" {
		return errors.New("--key-column is for --limit; with --policies say --organization-column and --ip-column")
	}
	if len(l.Policies) == 0 && l.IPColumn+l.OrganizationColumn+l.ServiceColumn+l.PathColumn != "" {
		return errors.New("--ip-column, --organization-column, --service-column and --path-column are for --policies; with --limit say --key-column")
	}
	return nil
}

// Run replays the file and prints what the limit would have done.
func (l limitsReplayCommand) Run(ctx context.Context) error {
	name, size := "standard input", int64(-1)
	in := os.Stdin
	if l.Trace != "-" {
		name = l.Trace
		f, err := os.Open(l.Trace)
		if err != nil {
			return fmt.Errorf("the requests cannot be read: %w", err)
		}
		defer func() { _ = f.Close() }() // it was only read
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			size = info.Size()
		}
		in = f
	}
	progress, done := showProgress("reading", "bytes")
	if len(l.Policies) > 0 {
		report, err := l.compare(ctx, name, in, func(n int64) { progress(n, size) })
		done()
		switch {
		case err != nil:
			return err
		case l.JSON:
			return json.NewEncoder(os.Stdout).Encode(report)
		}
		return printComparison(os.Stdout, name, l, report)
	}
	report, err := replayOrStop(ctx, in, replay.Options{
		Limit: l.Limit, TimeColumn: l.TimeColumn, KeyColumn: l.KeyColumn,
		Progress: func(n int64) { progress(n, size) },
	})
	done()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if l.JSON {
		return json.NewEncoder(os.Stdout).Encode(report)
	}
	return printReplay(os.Stdout, name, l, report)
}

// replayOrStop replays in.
func replayOrStop(ctx context.Context, in io.Reader, options replay.Options) (replay.Report, error) {
	return untilInterrupted(ctx, func() (replay.Report, error) { return replay.Run(ctx, in, options) })
}

// untilInterrupted runs work, and returns when ctx ends even where a read from a
// pipe or terminal hangs; the process ends then, and the read with it.
func untilInterrupted[T any](ctx context.Context, work func() (T, error)) (T, error) {
	finished := make(chan struct{})
	var result, nothing T
	var failed error
	go func() {
		defer close(finished)
		result, failed = work()
	}()
	select {
	case <-finished:
		return result, failed
	case <-ctx.Done():
		return nothing, errors.New("interrupted")
	}
}

// worstKeys is how many keys the summary for people lists.
const worstKeys = 10

func printReplay(out io.Writer, name string, l limitsReplayCommand, r replay.Report) error {
	fmt.Fprintf(out, "%s at %s\n\n", name, l.Limit)
	fmt.Fprintf(out, "requests  %9d\n", r.Requests)
	fmt.Fprintf(out, "admitted  %9d  %s\n", r.Admitted, percent(r.Admitted, r.Requests))
	fmt.Fprintf(out, "denied    %9d  %s\n", r.Denied, percent(r.Denied, r.Requests))
	_, window, _ := strings.Cut(l.Limit.String(), "/")
	fmt.Fprintf(out, "\nAt most %d requests of one key were admitted in any %s.\n", r.MaxInWindow, window)
	if r.Unsorted > 0 {
		fmt.Fprintf(out, "Lines earlier than one before them, sorted first: %d.\n", r.Unsorted)
	}
	if l.KeyColumn == "" {
		_, err := fmt.Fprintln(out, "All requests shared one key; --key-column NAME gives each value of a column its own.")
		return err
	}
	return printKeys(out, l.KeyColumn, r)
}

// printKeys lists the keys with the most denied requests, which r has first.
func printKeys(out io.Writer, column string, r replay.Report) error {
	if r.Denied == 0 {
		_, err := fmt.Fprintf(out, "No key of the column %s was denied a request.\n", forTerminal(column))
		return err
	}
	shown := r.Keys[:min(worstKeys, len(r.Keys))]
	fmt.Fprintf(out, "\nKeys of the column %s with the most denied requests, %d of %d:\n\n", forTerminal(column), len(shown), len(r.Keys)+r.OmittedKeys)
	table := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "KEY\tREQUESTS\tADMITTED\tDENIED\t\tMOST IN A WINDOW")
	for _, k := range shown {
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%s\t%d\n", forTerminal(k.Key), k.Requests, k.Admitted, k.Denied, percent(k.Denied, k.Requests), k.MaxInWindow)
	}
	return table.Flush()
}
