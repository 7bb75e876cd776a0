package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/instance"
	"github.com/gatehouse-io/gatehouse/ledger"
	"github.com/gatehouse-io/gatehouse/server"
)

type auditCommand struct {
	Verify     auditVerifyCommand     `cmd:"" help:"Check every event, hash, block and signature of the trail."`
	Checkpoint auditCheckpointCommand `cmd:"" help:"Print the latest signed checkpoint, to keep elsewhere."`
	Keys       auditKeysCommand       `cmd:"" help:"The keys that sign checkpoints."`
	auditReading
}

// errTampered ends `gatehouse audit verify` where something was found: exit 2.
var errTampered = errors.New("the trail was tampered with")

// isAudit reports whether the command line is one of `gatehouse audit`: the exit status
// of its verify is read by machines, and 2 must mean one thing, also where verify is mistyped.
func isAudit(args []string) bool { return len(args) > 0 && args[0] == "audit" }

func withLedger(ctx context.Context, fn func(*ledger.Ledger) error) error {
	c, err := loadConfig(nil)
	if err != nil {
		return err
	}
	l, err := instance.OpenLedger(ctx, c, os.Stderr)
	if err != nil {
		return err
	}
	return errors.Join(describe(fn(l.Ledger)), l.Close())
}

type auditVerifyCommand struct {
	Org        string `placeholder:"ID" help:"One organization. Default: all, and the instance's own log."`
	Since      string `placeholder:"TIME" help:"Only events sealed since: a time such as 2026-11-23T08:41:00Z, or how long ago, such as 24h."`
	Checkpoint string `placeholder:"FILE" help:"Checkpoints that were kept elsewhere: the database must go on from each."`
	JSON       bool   `name:"json" help:"Print the report as JSON."`
}

// Help is printed by --help.
func (auditVerifyCommand) Help() string {
	return `Reads the whole trail, beside running servers, and names the first event that is
not what was sealed: altered, deleted, moved or added; blocks and whole logs that
are gone; signatures that do not hold. With --checkpoint also a database that is
older than the checkpoint, or was written anew.

Exit status: 0 clean, 2 tampered with, 1 could not be looked at.

Examples:

  gatehouse audit verify
  gatehouse audit verify --since 24h --checkpoint /mnt/worm/checkpoints
  gatehouse audit verify --org acme --json | jq '.findings[]'`
}

// Run verifies.
func (a auditVerifyCommand) Run(ctx context.Context) error {
	o := ledger.VerifyOptions{All: a.Org == ""}
	caller := commandLine()
	if a.Org != "" && a.Org != access.InstanceOrganization && !access.ValidOrganization(a.Org) {
		return usagef("--org must be the id of an organization; see gatehouse org list")
	}
	if a.Org != "" {
		o.Organization, caller = a.Org, access.NewCaller(a.Org, access.System, "command line", access.Auditor)
		if a.Org == access.InstanceOrganization {
			caller = commandLine()
		}
	}
	var err error
	if o.Since, err = sinceTime("--since", a.Since, time.Now()); err != nil {
		return err
	}
	if a.Checkpoint != "" {
		if o.Checkpoints, err = readCheckpoints(a.Checkpoint); err != nil {
			return err
		}
	}
	return withLedger(ctx, func(l *ledger.Ledger) error {
		update, done := showProgress("Verifying events", "events")
		o.Progress = update
		r, err := l.Verify(ctx, caller, o)
		done()
		if err == nil && a.Org != "" && len(r.Logs) == 0 && r.Unsealed == 0 && r.Clean() {
			err = ledger.ErrNoLog // and not "clean", whatever was typed
		}
		if err != nil {
			return err
		}
		if a.JSON {
			e := json.NewEncoder(os.Stdout)
			e.SetIndent("", "  ")
			err = e.Encode(server.WireVerification(r))
		} else {
			printVerification(os.Stdout, r)
		}
		if !r.Clean() { // also where nobody reads what was printed
			err = errors.Join(err, errTampered)
		}
		return err
	})
}

func readCheckpoints(path string) ([]string, error) {
	file, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("the checkpoints cannot be read: %w", err)
	}
	notes, torn, err := ledger.ReadCheckpoints(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if torn > 0 {
		fmt.Fprintf(os.Stderr, "%s: %d checkpoints were cut off when they were written, and are left out; those behind them vouch for the same.\n", path, torn)
	}
	return notes, nil
}

// sinceTime reads what a flag gives: a time, or how long ago it was.
func sinceTime(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	return time.Time{}, usagef("%s must be a time such as 2026-11-23T08:41:00Z, or a duration such as 24h", flag)
}

func printVerification(out io.Writer, r ledger.Report) {
	for _, f := range r.Findings {
		where := forTerminal(f.Organization + "/" + f.Class)
		if f.Index >= 0 {
			where += fmt.Sprintf(", place %d", f.Index)
		}
		if f.Event != "" {
			where += ", event " + forTerminal(f.Event)
		}
		fmt.Fprintf(out, "%s  %s: %s\n", f.Kind, where, f.Detail)
	}
	if r.More > 0 {
		fmt.Fprintf(out, "and %d more\n", r.More)
	}
	var removed, erased, logs int64
	for _, l := range r.Logs {
		removed, erased = removed+l.Removed, erased+l.Erased
		if l.Class != ledger.Class {
			logs++
		}
	}
	word := "Clean"
	if len(r.Findings) > 0 {
		word = "TAMPERED WITH"
	}
	fmt.Fprintf(out, "%s: %d events in %d logs verified in %s", word, r.Events, logs, r.Took.Round(time.Millisecond))
	if removed > 0 {
		fmt.Fprintf(out, "; %d removed by retention", removed)
	}
	if erased > 0 {
		fmt.Fprintf(out, "; %d without their personal data", erased)
	}
	if r.Unsealed > 0 {
		fmt.Fprintf(out, "; %d not sealed yet", r.Unsealed)
	}
	fmt.Fprintln(out, ".")
}

type auditCheckpointCommand struct {
	Org string `placeholder:"ID" help:"An organization's logs. Default: the instance's own log, which vouches for all."`
}

// Help is printed by --help.
func (auditCheckpointCommand) Help() string {
	return `Keep it where whoever can write to the database cannot: "audit verify
--checkpoint" shows with it that the past is still the same. It holds no data of
the trail, only sizes and hashes. Files may be put one behind the other.

Example:

  gatehouse audit checkpoint >> /mnt/worm/checkpoints`
}

// Run prints the checkpoint.
func (a auditCheckpointCommand) Run(ctx context.Context) error {
	return withLedger(ctx, func(l *ledger.Ledger) error {
		caller := commandLine()
		if a.Org != "" && a.Org != access.InstanceOrganization {
			caller = access.NewCaller(a.Org, access.System, "command line", access.Auditor)
		}
		notes, err := l.Checkpoint(ctx, caller, caller.Organization)
		if err != nil {
			return err
		}
		if a.Org == "" {
			notes = notes[:1]
		}
		for _, note := range notes {
			fmt.Println(note)
		}
		return nil
	})
}

type auditKeysCommand struct {
	List   auditKeysListCommand   `cmd:"" default:"1" help:"List the public keys."`
	Rotate auditKeysRotateCommand `cmd:"" help:"Sign with a new key from now on."`
}

type auditKeysListCommand struct{}

// Help is printed by --help.
func (auditKeysListCommand) Help() string {
	return `Each by its id, its public half (Ed25519, in hex), since when it signs and until
when it did. Whoever checks a proof offline needs them.

Example:

  gatehouse audit keys list`
}

// Run lists the keys.
func (auditKeysListCommand) Run(ctx context.Context) error {
	return withLedger(ctx, func(l *ledger.Ledger) error {
		keys, err := l.Keys(ctx)
		for _, k := range keys {
			state := "signs"
			if !k.RetiredAt.IsZero() {
				state = "retired " + k.RetiredAt.Format(time.RFC3339)
			}
			fmt.Printf("%s  %x  since %s, %s\n", k.ID, []byte(k.Public), k.CreatedAt.Format(time.RFC3339), state)
		}
		return err
	})
}

type auditKeysRotateCommand struct{}

// Help is printed by --help.
func (auditKeysRotateCommand) Help() string {
	return `Running servers sign with the new key from their next block on. The private half
of the old one is destroyed; what it signed goes on to verify.

Example:

  gatehouse audit keys rotate`
}

// Run rotates the key.
func (auditKeysRotateCommand) Run(ctx context.Context) error {
	return withLedger(ctx, func(l *ledger.Ledger) error {
		k, err := l.RotateKey(ctx, commandLine())
		if err == nil {
			fmt.Printf("Blocks are signed with the key %s now.\n", k.ID)
		}
		return err
	})
}
