// Command gatehouse keeps organizations' third-party API keys, limits their
// chat traffic, puts the right key on each request, and keeps the trail.
//
// Settings come from the environment; `gatehouse serve --help` lists them.
// Terminal rules: answers go to standard output, everything else to standard
// error; exit 0 is done, 1 is failed, 2 is a mistake in the command line or in
// the configuration. A command whose output nobody reads any more ends with 1 and
// says nothing.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
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

// usageError is a mistake in the command line or in the configuration: exit 2.
type usageError string

// Error implements error.
func (e usageError) Error() string { return string(e) }

func usagef(format string, args ...any) error { return usageError(fmt.Sprintf(format, args...)) }

func main() {
	syscall.Umask(0o077) // whatever is written is for this user alone
	if err := instance.NoCoreDumps(); err != nil {
		fmt.Fprintln(os.Stderr, "gatehouse: core dumps could not be switched off:", err)
	}
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	ctx, stop := untilStopped(context.Background())
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
		fmt.Fprintf(os.Stderr, "gatehouse: %v\nRun `%s --help` to see what there is.\n", err, commandOf(err))
		if isAudit(args) {
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
	case nobodyReads(err):
		return 1
	}
	fmt.Fprintln(os.Stderr, "gatehouse:", err)
	var usage usageError
	if errors.As(err, &usage) && !isAudit(args) { // whose 2 says something else
		return 2
	}
	return 1
}

// commandOf gives the command that a mistake was made in, as far as it was understood.
func commandOf(err error) string {
	var parse *kong.ParseError
	if errors.As(err, &parse) && parse.Context != nil {
		if node := parse.Context.Selected(); node != nil {
			return "gatehouse " + strings.TrimSpace(node.Path())
		}
	}
	return "gatehouse"
}
