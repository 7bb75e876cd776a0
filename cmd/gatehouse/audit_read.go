package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/org"
	"github.com/gatehouse-io/gatehouse/store"
)

// auditReading is the part of the command audit that gives events out.
type auditReading struct {
	Export auditExportCommand `cmd:"" help:"Write events as NDJSON or CSV, with a manifest."`
	Tail   auditTailCommand   `cmd:"" help:"Print events as they come."`
}

// auditPick is what events are picked by.
type auditPick struct {
	Org     string `required:"" placeholder:"ID" help:"The organization; _instance for what belongs to no tenant."`
	Class   string `placeholder:"CLASS" help:"control, access, security or system."`
	Action  string `placeholder:"ACTION" help:"An action, or how it begins and *, such as 'credential.*'."`
	Actor   string `placeholder:"ID" help:"An actor's id, or how it begins and *."`
	Target  string `placeholder:"ID" help:"The id of something it was done to, or how it begins and *."`
	Outcome string `placeholder:"OUTCOME" help:"success, denied, failure or partial."`
	From    string `placeholder:"TIME" help:"At or after this time, such as 2026-11-23T08:41:00Z, or how long ago, such as 24h."`
	To      string `placeholder:"TIME" help:"Before this time."`
}

func (p auditPick) filter() (audit.Filter, error) {
	f := audit.Filter{Organization: p.Org, Class: p.Class, Action: p.Action, Actor: p.Actor, Target: p.Target, Outcome: p.Outcome}
	now := time.Now()
	var err error
	if f.From, err = sinceTime("--from", p.From, now); err == nil {
		f.To, err = sinceTime("--to", p.To, now)
	}
	return f, err
}

// caller is the command line in the organization: who can run it has the database.
func (p auditPick) caller() access.Caller {
	return access.NewCaller(p.Org, access.System, "command line", access.Auditor)
}

type auditExportCommand struct {
	auditPick
	Format   string `default:"ndjson" enum:"ndjson,csv" help:"ndjson or csv."`
	Manifest string `placeholder:"FILE" help:"Write the manifest there, and not as the last line."`
}

// Help is printed by --help.
func (auditExportCommand) Help() string {
	return `The events go to standard output, newest first. The last line is the manifest:
how many there are, the first and the last, and the SHA-256 of everything before
it. An export without one was cut off. It works on the database, also beside a
running server, and is itself an event.

Examples:

  gatehouse audit export --org acme > events.ndjson
  gatehouse audit export --org acme --format csv --manifest events.json > events.csv
  gatehouse audit export --org acme --action 'credential.*' --from 2026-11-01T00:00:00Z | jq .action`
}

// Run exports.
func (c auditExportCommand) Run(ctx context.Context) error {
	filter, err := c.filter()
	if err != nil {
		return err
	}
	return withTrail(ctx, c.Org, func(trail *audit.Log) error {
		x, err := trail.StartExport(ctx, c.caller(), filter, audit.Format(c.Format))
		if err != nil {
			return describe(err)
		}
		x.WithoutTrailer = c.Manifest != ""
		manifest, err := x.Write(ctx, os.Stdout)
		if err != nil {
			return describe(err)
		}
		if c.Manifest == "" {
			return nil
		}
		text, err := json.MarshalIndent(manifest, "", "  ")
		if err != nil {
			return err
		}
		return os.WriteFile(c.Manifest, append(text, '\n'), 0o600)
	})
}

type auditTailCommand struct {
	auditPick
	JSON bool `name:"json" help:"Print each event as a line of JSON."`
}

// Help is printed by --help.
func (auditTailCommand) Help() string {
	return `Prints events as they are sealed, about a second after they happen, until it is
interrupted. It works on the database, beside a running server, which seals.

Examples:

  gatehouse audit tail --org acme
  gatehouse audit tail --org acme --outcome denied --json`
}

// Run follows the trail.
func (c auditTailCommand) Run(ctx context.Context) error {
	filter, err := c.filter()
	if err != nil {
		return err
	}
	return withTrail(ctx, c.Org, func(trail *audit.Log) error {
		picks, err := filter.Matcher()
		if err != nil {
			return describe(err)
		}
		follower, err := trail.Follow(ctx, c.caller(), c.Org, nil)
		if err != nil {
			return describe(err)
		}
		defer follower.Close()
		out := bufio.NewWriter(os.Stdout)
		for {
			some, err := follower.Next(ctx)
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				return describe(err)
			}
			for i := range some {
				if e := &some[i].Event; picks(e) {
					if err := printEvent(out, e, c.JSON); err != nil {
						return err
					}
				}
			}
			if err := out.Flush(); err != nil {
				return err
			}
		}
	})
}

func printEvent(out io.Writer, e *audit.Event, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(out).Encode(e)
	}
	target := "-"
	if len(e.Targets) > 0 {
		target = e.Targets[0].Type + ":" + e.Targets[0].ID
	}
	note := ""
	if e.Reason != "" {
		note = "  " + forTerminal(e.Reason)
	}
	if e.Count > 1 {
		note += fmt.Sprintf("  x%d", e.Count)
	}
	if e.Damaged {
		note += "  DAMAGED"
	}
	_, err := fmt.Fprintf(out, "%s  %-8s  %-20s  %-7s  %s  %s%s\n", api.Time(e.OccurredAt), e.Class, e.Action, e.Outcome,
		forTerminal(e.Actor.ID), forTerminal(target), note)
	return err
}

// withTrail opens the database for a command that reads the trail.
func withTrail(ctx context.Context, organization string, fn func(*audit.Log) error) error {
	c, err := readConfig()
	if err != nil {
		return err
	}
	if err := c.CheckDatabaseFile(); err != nil {
		return err
	}
	db, err := store.Open(ctx, c.Database(), slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	if err := org.Known(ctx, db, organization); err != nil {
		return errors.Join(describe(err), db.Close())
	}
	trail := audit.New(db, audit.Options{})
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() { defer close(done); trail.Run(running) }()
	err = fn(trail)
	stop()
	<-done // what the command did is in the trail
	return errors.Join(err, db.Close())
}
