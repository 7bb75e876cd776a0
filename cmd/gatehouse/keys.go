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
	"time"

	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/instance"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/masterkey"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/server"
)

type keysCommand struct {
	Status keysStatusCommand `cmd:"" help:"Show the master keys, what hangs on each, and which instances hold them."`
	Stage  keysStageCommand  `cmd:"" help:"Make the new ENCRYPTION_KEY known as a key."`
	Rotate keysRotateCommand `cmd:"" help:"Seal under the new key and move everything to it."`
	Stop   keysStopCommand   `cmd:"" help:"Stop the running rotation."`
	Verify keysVerifyCommand `cmd:"" help:"Open what is stored and name what does not open."`
	Retire keysRetireCommand `cmd:"" help:"End a key that nothing hangs on any more."`
}

// Help is printed by --help.
func (keysCommand) Help() string {
	return `Moving to another master key, with servers running all the while:

  1. start each server again with ENCRYPTION_KEY=new ENCRYPTION_KEYS_OLD=old
  2. gatehouse keys stage        with the same variables
  3. gatehouse keys rotate
  4. gatehouse keys verify
  5. gatehouse keys retire KEY
  6. start each server again without ENCRYPTION_KEYS_OLD

docs/keys.md says more, and how to move off JWT_SECRET.`
}

// withKeys opens the master keys for a command.
func withKeys(ctx context.Context, fn func(*masterkey.Keys) error) error {
	c, err := loadConfig(nil)
	if err != nil {
		return err
	}
	keys, err := instance.OpenKeys(ctx, c, os.Stderr)
	if err != nil {
		return err
	}
	return errors.Join(describe(fn(keys.Keys)), keys.Close())
}

type keysStatusCommand struct {
	JSON bool `name:"json" help:"Print it as JSON, as GET /api/keys answers."`
}

// Help is printed by --help.
func (keysStatusCommand) Help() string {
	return `Counts every value of every sealed column by the key that it hangs on. HELD BY
is the variable that this command has the key's secret from.

Examples:

  gatehouse keys status
  gatehouse keys status --json | jq '.keys[] | select(.state == "opening") | .rows'`
}

// Run shows the keys.
func (k keysStatusCommand) Run(ctx context.Context) error {
	return withKeys(ctx, func(keys *masterkey.Keys) error {
		s, err := keys.Status(ctx, commandLine())
		if err != nil {
			return err
		}
		if k.JSON {
			return json.NewEncoder(os.Stdout).Encode(server.WireKeyStatus(s))
		}
		return printKeyStatus(os.Stdout, s)
	})
}

func printKeyStatus(out io.Writer, s masterkey.Status) error {
	table := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "KEY\tSTATE\tVALUES\tHELD BY\tITERATIONS\tCREATED")
	for _, k := range s.Keys {
		source := string(k.Source)
		if source == "" {
			source = "-"
		}
		fmt.Fprintf(table, "%s\t%s\t%d\t%s\t%d\t%s\n", k.ID, k.State, k.Rows, source, k.Iterations, api.Time(k.CreatedAt))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if len(s.Instances) > 0 {
		fmt.Fprintln(out)
		fmt.Fprintln(table, "INSTANCE\tSEALS UNDER\tHOLDS\tSEEN")
		for _, in := range s.Instances {
			held := make([]string, len(in.Keys))
			for i, id := range in.Keys {
				held[i] = id.String()
			}
			seen := "live"
			if !in.Live {
				seen = "not since " + api.Time(in.SeenAt).String()
			}
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", forTerminal(in.Name), in.Sealing, strings.Join(held, " "), seen)
		}
		if err := table.Flush(); err != nil {
			return err
		}
	}
	if r := s.Rotation; r != nil {
		fmt.Fprintf(out, "\nRotation to %s: %s, %d of %d values moved", r.Key, r.State, r.Rewrapped, r.Total)
		if r.Unreadable > 0 {
			fmt.Fprintf(out, ", %d do not open", r.Unreadable)
		}
		fmt.Fprintln(out, ".")
	}
	for _, c := range s.Unknown {
		fmt.Fprintf(out, "\n%d values of %s are under no key of this database and do not open; `gatehouse keys verify` names them.\n", c.Rows, c.Column)
	}
	if len(s.Unregistered) > 0 {
		fmt.Fprintf(out, "\nThis version does not know the sealed columns %s: no key retires.\n", strings.Join(s.Unregistered, ", "))
	}
	return nil
}

type keysStageCommand struct {
	Iterations int `placeholder:"N" help:"PBKDF2 iterations of the new key; as many as the key that seals when left out."`
}

// Help is printed by --help.
func (keysStageCommand) Help() string {
	return `Run it with the variables that the servers have: ENCRYPTION_KEY is the new
secret, ENCRYPTION_KEYS_OLD the one that seals now. Nothing is sealed under the
new key yet, and running it twice changes nothing.

Examples:

  ENCRYPTION_KEY=$NEW ENCRYPTION_KEYS_OLD=$OLD gatehouse keys stage
  gatehouse keys stage --iterations 600000     # the same secret, dearer to guess`
}

// Run stages the key.
func (k keysStageCommand) Run(ctx context.Context) error {
	return withKeys(ctx, func(keys *masterkey.Keys) error {
		key, err := keys.Stage(ctx, commandLine(), k.Iterations)
		if err != nil {
			return err
		}
		switch key.State {
		case masterkey.Sealing:
			fmt.Printf("%s is made of ENCRYPTION_KEY and seals already.\n", key.ID)
		case masterkey.Staged:
			fmt.Printf("%s is staged. Once every server holds it (gatehouse keys status): gatehouse keys rotate\n", key.ID)
		default:
			fmt.Printf("%s is made of ENCRYPTION_KEY and sealed before. To go back to it: gatehouse keys rotate --key %s\n", key.ID, key.ID)
		}
		if _, held := keys.Ring().Sealing(); !held {
			fmt.Fprintln(os.Stderr, withoutSealing)
		}
		return nil
	})
}

// withoutSealing says what follows where the key that seals is not among the secrets
// that a command was given. Staging is right all the same where that one is lost.
const withoutSealing = "gatehouse: the secret of the key that seals now is not set here: with these variables no server starts, and `gatehouse keys rotate` " +
	"moves nothing that is under that key; put it into ENCRYPTION_KEYS_OLD, here and on every server"

type keysRotateCommand struct {
	Key  string `placeholder:"KEY" help:"To which key; the newest that is staged when left out, or else the one that seals."`
	Rate int    `default:"1000" placeholder:"N" help:"Move at most so many values a second (${default}); 0: as fast as it goes."`
}

// Help is printed by --help.
func (keysRotateCommand) Help() string {
	return `Seals under the new key once every running server holds it, then wraps what is
stored anew, in small batches, while reads and writes go on. It may be stopped
with Ctrl-C or "gatehouse keys stop" and goes on when it is run again; when it
is killed, a running server goes on with it within seconds. Run while another
process rotates, it shows how far that is.

Examples:

  gatehouse keys rotate
  gatehouse keys rotate --rate 200      # beside a small database that is busy
  gatehouse keys rotate --rate 0        # as fast as it goes`
}

// holdTimeout is how long rotate waits for running servers to take up a key
// that was staged a moment ago.
const holdTimeout = 6 * time.Second

// Run rotates.
func (k keysRotateCommand) Run(ctx context.Context) error {
	o := masterkey.RotateOptions{Rate: k.Rate}
	if k.Key != "" {
		var err error
		if o.Key, err = seal.ParseKeyID(k.Key); err != nil {
			return usagef("--key must be the id of a master key, as `gatehouse keys status` shows it")
		}
	}
	return withKeys(ctx, func(keys *masterkey.Keys) error {
		r, err := startRotation(ctx, keys, o)
		if err != nil {
			return err
		}
		if r.ID == "" {
			fmt.Printf("Everything is sealed under %s already.\n", r.Key)
			return nil
		}
		progress, done := showProgress("rewrapping", "values")
		r, err = keys.Work(ctx, commandLine(), func(r masterkey.Rotation) { progress(r.Rewrapped, r.Total) })
		done()
		if ctx.Err() != nil {
			stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			if _, err := keys.Stop(stop, commandLine()); err != nil {
				return err
			}
			return errors.New("stopped; `gatehouse keys rotate` goes on with the rest")
		}
		if err != nil {
			return err
		}
		return reportRotation(r)
	})
}

// startRotation starts it, and waits for servers that have not looked since the
// key was staged.
func startRotation(ctx context.Context, keys *masterkey.Keys, o masterkey.RotateOptions) (masterkey.Rotation, error) {
	for end := time.Now().Add(holdTimeout); ; {
		r, err := keys.Rotate(ctx, commandLine(), o)
		f, known := fault.As(err)
		if !known || f.Code != "key_not_everywhere" || time.Now().After(end) {
			return r, err
		}
		select {
		case <-ctx.Done():
			return r, ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

func reportRotation(r masterkey.Rotation) error {
	if r.State != masterkey.Done {
		return errors.New("the rotation was stopped; `gatehouse keys rotate` goes on with the rest")
	}
	fmt.Printf("Moved %d values to %s.\n", r.Rewrapped, r.Key)
	if r.Unreadable > 0 {
		return fmt.Errorf("%d values do not open and stayed under their keys; `gatehouse keys verify` names them", r.Unreadable)
	}
	fmt.Println("Next: gatehouse keys verify, then gatehouse keys retire with the old key's id (gatehouse keys status).")
	return nil
}

type keysStopCommand struct{}

// Help is printed by --help.
func (keysStopCommand) Help() string {
	return "What was moved stays moved, and the new key goes on sealing.\n\nExample:\n\n  gatehouse keys stop"
}

// Run stops the rotation.
func (keysStopCommand) Run(ctx context.Context) error {
	return withKeys(ctx, func(keys *masterkey.Keys) error {
		r, err := keys.Stop(ctx, commandLine())
		if err != nil {
			return err
		}
		if r.State == masterkey.Stopped {
			fmt.Printf("The rotation to %s is stopped, with %d of %d values moved.\n", r.Key, r.Rewrapped, r.Total)
		} else {
			fmt.Println("No rotation is running.")
		}
		return nil
	})
}

type keysVerifyCommand struct {
	Sample int `placeholder:"N" help:"Open so many values, spread over all; every one when left out."`
}

// Help is printed by --help.
func (keysVerifyCommand) Help() string {
	return `Opens values and throws away what they say. Each organization costs one PBKDF2
for each key, some 20 milliseconds. Exit code 1 when something does not open.

Examples:

  gatehouse keys verify
  gatehouse keys verify --sample 1000`
}

// Run verifies.
func (k keysVerifyCommand) Run(ctx context.Context) error {
	return withKeys(ctx, func(keys *masterkey.Keys) error {
		progress, done := showProgress("opening", "values")
		v, err := keys.Verify(ctx, commandLine(), masterkey.VerifyOptions{Sample: k.Sample, Progress: progress})
		done()
		if err != nil {
			return err
		}
		fmt.Printf("Opened %d of %d values.\n", v.Checked-v.Unreadable, v.Total)
		if v.Unreadable == 0 {
			return nil
		}
		table := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
		fmt.Fprintln(table, "\nCOLUMN\tROW\tREASON\tKEY")
		for _, f := range v.Findings {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", f.Column, forTerminal(f.Row), f.Reason, f.Key)
		}
		return errors.Join(table.Flush(), fmt.Errorf("%d values do not open", v.Unreadable))
	})
}

type keysRetireCommand struct {
	Key  string `arg:"" name:"KEY" help:"The key's id, as gatehouse keys status shows it."`
	Lost bool   `help:"Give up a key whose secret nobody has any more, with the values that hang on it: they stay and never open."`
}

// Help is printed by --help.
func (keysRetireCommand) Help() string {
	return `Refused while anything hangs on the key: then it says where. Afterwards its
secret can be taken out of ENCRYPTION_KEYS_OLD and destroyed, once no backup
that is sealed under it is needed any more.

Examples:

  gatehouse keys retire key_0192e0a5-7f9c-7c3e-9d6b-3a1f00c4d2e8`
}

// Run retires the key.
func (k keysRetireCommand) Run(ctx context.Context) error {
	id, err := seal.ParseKeyID(k.Key)
	if err != nil {
		return usagef("KEY must be the id of a master key, as `gatehouse keys status` shows it")
	}
	return withKeys(ctx, func(keys *masterkey.Keys) error {
		key, err := keys.Retire(ctx, commandLine(), id, k.Lost)
		if err != nil {
			return err
		}
		fmt.Printf("%s is retired.", key.ID)
		if key.Rows > 0 {
			fmt.Printf(" %d values hung on it and do not open any more.", key.Rows)
		}
		fmt.Println()
		return nil
	})
}
