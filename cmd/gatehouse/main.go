// Command gatehouse keeps organizations' third-party API keys, limits their
// chat traffic, puts the right key on each request, and keeps the trail.
//
// Settings come from the environment; `gatehouse serve --help` lists them.
// Terminal rules: answers go to standard output, everything else to standard
// error; exit 0 is done, 1 is failed, 2 is a mistake in the command line or in
// the configuration.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/gatehouse-io/gatehouse/instance"
)

// commands is the command line.
type commands struct {
	Dev         devCommand         `cmd:"" help:"Run for trying out: needs nothing, binds to loopback only."`
	Serve       serveCommand       `cmd:"" help:"Run in production."`
	Token       tokenCommand       `cmd:"" help:"Sign a token, as your application would."`
	Tokens      tokensCommand      `cmd:"" help:"Make, list and revoke service tokens."`
	Org         orgCommand         `cmd:"" help:"Make, list and delete organizations."`
	Member      memberCommand      `cmd:"" help:"Disable members and let them in again."`
	Credentials credentialsCommand `cmd:"" help:"Import credentials from environment variables."`
	Keys        keysCommand        `cmd:"" help:"Move to another master key: stage, rotate, verify, retire."`
	Audit       auditCommand       `cmd:"" help:"Verify the audit trail, export and follow it, keep its checkpoints."`
	Limits      limitsCommand      `cmd:"" help:"See what a rate limit would do."`
	Retention   retentionCommand   `cmd:"" help:"See and remove what is past its time."`
	Doctor      doctorCommand      `cmd:"" help:"Check everything that Gatehouse stands on, and say what to do."`
	Backup      backupCommand      `cmd:"" help:"Back the database up into an encrypted file, and verify one."`
	Restore     restoreCommand     `cmd:"" help:"Restore a backup into an empty database."`
	Version     versionCommand     `cmd:"" help:"Print the version; so does --version."`
}

// errUsage marks mistakes in the configuration: exit 2.
var errUsage = errors.New("configuration")

func main() {
	syscall.Umask(0o077) // whatever is written is for this user alone
	if err := instance.NoCoreDumps(); err != nil {
		fmt.Fprintln(os.Stderr, "gatehouse: core dumps could not be switched off:", err)
	}
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if slices.Equal(args, []string{"--version"}) { // as a flag of kong's it would stand in every command's help
		args = []string{"version"}
	}
	var c commands
	exit := -1
	parser, err := kong.New(&c, kong.Name("gatehouse"),
		kong.Description("Keeps your customers' API keys, limits their chat traffic, and keeps the trail."),
		kong.UsageOnError(), kong.BindTo(ctx, (*context.Context)(nil)), kong.Exit(func(code int) { exit = code }))
	if err != nil {
		fmt.Fprintln(os.Stderr, "gatehouse:", err)
		return 1
	}
	k, err := parser.Parse(args)
	if exit >= 0 { // --help
		return exit
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "gatehouse: %v\nRun `gatehouse --help` to see what there is.\n", err)
		if isVerify(args) {
			return 1
		}
		return 2
	}
	err = k.Run()
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errTampered):
		return 2
	case errors.Is(err, errUsage) && isVerify(args): // where 2 says something else
		fmt.Fprintln(os.Stderr, strings.TrimPrefix(err.Error(), errUsage.Error()+": "))
		return 1
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, strings.TrimPrefix(err.Error(), errUsage.Error()+": "))
		return 2
	default:
		fmt.Fprintln(os.Stderr, "gatehouse:", err)
		return 1
	}
}

// environment gives the process's variables as a map.
func environment() map[string]string {
	all := make(map[string]string)
	for _, entry := range os.Environ() {
		name, value, _ := strings.Cut(entry, "=")
		all[name] = value
	}
	return all
}

// loadConfig reads the environment, turns it by change where that is given, and
// lists every mistake at once.
func loadConfig(change func(instance.Config) (instance.Config, error)) (instance.Config, error) {
	c, err := instance.FromEnvironment(environment())
	if err == nil && change != nil {
		c, err = change(c)
	}
	if err == nil {
		err = c.Check()
	} else if check := c.Check(); change == nil && check != nil {
		err = errors.Join(err, check)
	}
	if err != nil {
		return c, fmt.Errorf("%w: %s", errUsage, listMistakes(err))
	}
	return c, nil
}

func listMistakes(err error) string {
	lines := strings.Split(err.Error(), "\n")
	if len(lines) == 1 {
		return "gatehouse: the configuration has a mistake:\n  - " + lines[0]
	}
	return fmt.Sprintf("gatehouse: the configuration has %d mistakes:\n  - %s", len(lines), strings.Join(lines, "\n  - "))
}
