package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/instance"
	"github.com/gatehouse-io/gatehouse/org"
	"github.com/gatehouse-io/gatehouse/retention"
	"github.com/gatehouse-io/gatehouse/server"
)

type retentionCommand struct {
	Preview retentionPreviewCommand `cmd:"" help:"Show what a sweep would remove of an organization."`
	Sweep   retentionSweepCommand   `cmd:"" help:"Remove what is past its time now."`
	Status  retentionStatusCommand  `cmd:"" help:"Show how the sweeper does."`
}

func withRetention(ctx context.Context, fn func(*instance.OfflineRetention) error) error {
	c, err := loadConfig(nil)
	if err != nil {
		return err
	}
	r, err := instance.OpenRetention(ctx, c, os.Stderr)
	if err != nil {
		return err
	}
	return errors.Join(describe(fn(r)), r.Close())
}

// retentionCaller is who the command line is to an organization.
func retentionCaller(organization string) access.Caller {
	if organization == access.InstanceOrganization {
		return commandLine()
	}
	return access.NewCaller(organization, access.System, "command line", access.Owner)
}

type retentionPreviewCommand struct {
	Org    string `required:"" placeholder:"ID" help:"The organization; _instance is the instance's own."`
	Preset string `placeholder:"NAME" help:"As if the policy were this preset."`
	JSON   bool   `name:"json" help:"Print it as JSON."`
}

// Help is printed by --help.
func (retentionPreviewCommand) Help() string {
	return `Runs the query of the sweep without the deletion, beside running servers.

Examples:

  gatehouse retention preview --org acme
  gatehouse retention preview --org acme --preset gdpr --json`
}

// Run previews.
func (p retentionPreviewCommand) Run(ctx context.Context) error {
	return withRetention(ctx, func(r *instance.OfflineRetention) error {
		var draft *retention.Draft
		if p.Preset != "" {
			draft = &retention.Draft{Preset: p.Preset}
		}
		if err := org.Known(ctx, r.DB, p.Org); err != nil {
			return err
		}
		all, err := r.Preview(ctx, retentionCaller(p.Org), p.Org, draft)
		if err != nil {
			return err
		}
		if p.JSON {
			return json.NewEncoder(os.Stdout).Encode(server.WireRetentionPreview(all))
		}
		w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
		fmt.Fprintln(w, "CLASS\tKEPT\tBECAUSE\tDUE\tHELD\tOLDEST\tNEWEST")
		for _, c := range all {
			more := ""
			if c.Capped {
				more = "+"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%d%s\t%d\t%s\t%s\n", c.Class, c.Keep, c.Because, c.Due, more, c.Held, timeOrDash(c.Oldest), timeOrDash(c.Newest))
		}
		return w.Flush()
	})
}

func timeOrDash(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return api.Time(t).String()
}

type retentionSweepCommand struct {
	Org         string `placeholder:"ID" help:"One organization. Default: all."`
	AcceptClock bool   `help:"This machine's clock is right although it came forward by more than a week since the last sweep."`
}

// Help is printed by --help.
func (retentionSweepCommand) Help() string {
	return `Removes what is past its time, as servers do each hour by themselves. It works
beside running servers; while one of them sweeps all organizations, this does not.

Examples:

  gatehouse retention sweep
  gatehouse retention sweep --org acme
  gatehouse retention sweep --accept-clock     # after a long time without a server`
}

// Run sweeps.
func (s retentionSweepCommand) Run(ctx context.Context) error {
	return withRetention(ctx, func(r *instance.OfflineRetention) error {
		if s.AcceptClock {
			if err := r.AcceptClock(ctx, commandLine()); err != nil {
				return err
			}
		}
		var n int64
		var err error
		if s.Org != "" {
			if err := org.Known(ctx, r.DB, s.Org); err != nil {
				return err
			}
			n, err = r.SweepOne(ctx, retentionCaller(s.Org), s.Org)
		} else {
			n, err = r.Sweep(ctx)
		}
		fmt.Printf("Removed %d rows.\n", n)
		return err
	})
}

type retentionStatusCommand struct {
	JSON bool `name:"json" help:"Print it as JSON."`
}

// Help is printed by --help.
func (retentionStatusCommand) Help() string {
	return `When all organizations were swept last, the last error, sweeps that broke off, and
whether the machine's clock is doubted. Times are UTC.

Examples:

  gatehouse retention status
  gatehouse retention status --json | jq .lastError`
}

// Run shows the sweeper's health.
func (s retentionStatusCommand) Run(ctx context.Context) error {
	return withRetention(ctx, func(r *instance.OfflineRetention) error {
		h, err := retention.ReadHealth(ctx, r.DB)
		if err != nil {
			return err
		}
		if s.JSON {
			return json.NewEncoder(os.Stdout).Encode(map[string]any{
				"sweptAt": api.At(h.SweptAt), "lastError": h.LastError, "clockDoubtedSince": api.At(h.DoubtedSince), "brokenOff": h.Open, "setAside": h.Held,
			})
		}
		fmt.Printf("Last sweep: %s\nBroken off: %d\nEvents set aside by legal holds: %d\n", timeOrDash(h.SweptAt), h.Open, h.Held)
		if h.LastError != "" {
			fmt.Printf("Last error: %s\n", forTerminal(h.LastError))
		}
		if !h.DoubtedSince.IsZero() {
			fmt.Printf("The clock is doubted since %s; where it is right: gatehouse retention sweep --accept-clock\n", api.Time(h.DoubtedSince))
		}
		return nil
	})
}
