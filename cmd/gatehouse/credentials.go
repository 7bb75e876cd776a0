package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/instance"
	"github.com/gatehouse-io/gatehouse/internal/dotenv"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/vault"
)

type credentialsCommand struct {
	Import credentialsImportCommand `cmd:"" help:"Take keys out of environment variables into the vault."`
}

type credentialsImportCommand struct {
	Organization string `arg:"" name:"organizationId" help:"The organization that the keys belong to."`
	EnvFile      string `placeholder:"FILE" help:"Read the variables from this .env file; from the process environment when left out."`
	DryRun       bool   `help:"Say what would be done and change nothing."`
	Only         string `placeholder:"SERVICE" help:"Import this service alone, such as openai."`
}

// Help is printed by --help.
func (credentialsImportCommand) Help() string {
	return `Stores one credential named Default for each service whose variables are set,
reads each back and compares it, and says which variables can be deleted. What
is stored already stays, so that a second run changes nothing. Placeholders
such as your_api_key_here are skipped. No value is ever printed. Works on the
database, also beside a running server.

Gatehouse's own settings (JWT_SECRET, ENCRYPTION_KEY, DATABASE_URL, ...) come
from the process environment, never from the file.

Examples:

  gatehouse credentials import acme --env-file .env --dry-run
  gatehouse credentials import acme --env-file .env
  gatehouse credentials import acme --only stripe      # from the environment

Exit status: 0 also when something was skipped or incomplete, 1 when a value was
invalid or a credential could not be stored.

The variables of each service:

` + importVariables()
}

// importVariables lists what import reads, for --help.
func importVariables() string {
	services, err := catalog.New(catalog.Options{})
	if err != nil { // the compiled-in services alone are never refused
		return ""
	}
	var b strings.Builder
	for _, s := range services.Services() {
		fmt.Fprintf(&b, "  %s\n", s.Name)
		for _, f := range s.Fields {
			fmt.Fprintf(&b, "      %s", strings.Join(f.Env, " or "))
			if f.Required {
				b.WriteString(" (required)")
			}
			b.WriteString("\n")
		}
	}
	b.WriteString("  a service of CHAT_HOSTS, such as my-llm\n      MY_LLM_API_KEY (required)")
	return b.String()
}

// Run imports and reports.
func (i credentialsImportCommand) Run(ctx context.Context) error {
	variables, from := environment(), "the environment"
	if i.EnvFile != "" {
		from = i.EnvFile
		var err error
		if variables, err = readEnvFile(i.EnvFile); err != nil {
			return err
		}
	}
	c, err := loadConfig(orDev)
	if err != nil {
		return err
	}
	offline, err := instance.OpenOffline(ctx, c, os.Stderr, i.Organization, i.DryRun)
	if err != nil {
		return describe(err)
	}
	caller := access.NewCaller(i.Organization, access.System, "command line", access.Owner)
	progress, done := showProgress("importing", "services")
	report, err := offline.Vault.Import(ctx, caller, vault.ImportOptions{
		Variables: variables, Only: i.Only, DryRun: i.DryRun,
		Progress: func(n, total int) { progress(int64(n), int64(total)) },
	})
	done()
	err = errors.Join(err, offline.Close())
	if fault.KindOf(err) == fault.Invalid { // --only
		return fmt.Errorf("%w: gatehouse: --%w", errUsage, describe(err))
	}
	if err != nil {
		return describe(err)
	}
	if err := printImport(os.Stdout, report, from, i.DryRun); err != nil {
		return err
	}
	if n := report.Count(vault.ImportInvalid, vault.ImportFailed); n > 0 {
		return fmt.Errorf("%d of the services could not be imported; mend what the table says and run this again", n)
	}
	return nil
}

// orDev takes dev mode's secrets where only those are there, so that commands
// work beside `gatehouse dev`.
func orDev(c instance.Config) (instance.Config, error) {
	if c.JWTSecret == "" && c.IsDevData() {
		return c.ForDev()
	}
	return c, nil
}

func readEnvFile(path string) (map[string]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("the variables cannot be read: %w", err)
	}
	variables, err := dotenv.Parse(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("%s: %w; nothing was imported", path, err)
	}
	return variables, nil
}

// showProgress gives a bar on standard error when that is a terminal. update
// takes a total of -1 where it is not known; done takes the bar away.
func showProgress(what, unit string) (update func(n, total int64), done func()) {
	if !term.IsTerminal(int(os.Stderr.Fd())) {
		return func(int64, int64) {}, func() {}
	}
	bar := progressbar.NewOptions64(-1, progressbar.OptionSetWriter(os.Stderr), progressbar.OptionSetDescription(what),
		progressbar.OptionShowBytes(unit == "bytes"), progressbar.OptionClearOnFinish())
	return func(n, total int64) {
		if total > 0 && bar.GetMax64() != total {
			bar.ChangeMax64(total)
		}
		_ = bar.Set64(n) // a bar that cannot be drawn stops nothing
	}, func() { _ = bar.Finish() }
}

// printImport writes the table and what can be deleted.
func printImport(out io.Writer, report vault.ImportReport, from string, dryRun bool) error {
	var deletable, absent []string
	table := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "SERVICE\tFIELDS\tRESULT\tWHY")
	for _, s := range report.Services {
		switch s.Result {
		case vault.ImportAbsent:
			absent = append(absent, s.Service)
			continue
		case vault.ImportDone, vault.ImportSame:
			deletable = append(deletable, s.Variables...)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", s.Service, cmp.Or(strings.Join(s.Fields, ", "), "-"),
			resultWord(s.Result, dryRun), cmp.Or(strings.Join(reasons(s), "; "), "-"))
	}
	if len(absent) == len(report.Services) {
		_, err := fmt.Fprintf(out, "No variable of any service is set in %s; gatehouse credentials import --help lists them.\n", from)
		return err
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if len(absent) > 0 {
		fmt.Fprintf(out, "\nNot set in %s: the variables of %s.\n", from, strings.Join(absent, ", "))
	}
	if dryRun {
		fmt.Fprintln(out, "\nThis was a dry run: nothing was changed.")
	}
	if len(deletable) > 0 {
		slices.Sort(deletable)
		lead := "These are in Gatehouse now and can be deleted from %s\nonce your application no longer reads them itself:\n\n"
		if dryRun {
			lead = "After an import these could be deleted from %s:\n\n"
		}
		fmt.Fprintf(out, "\n"+lead, from)
		for _, name := range deletable {
			fmt.Fprintf(out, "  %s\n", name)
		}
	}
	return nil
}

func resultWord(r vault.ImportResult, dryRun bool) string {
	switch {
	case r == vault.ImportDone && dryRun:
		return "would import"
	case r == vault.ImportSame, r == vault.ImportDifferent:
		return "skipped"
	}
	return string(r)
}

// reasons says why a service's result is what it is.
func reasons(s vault.ServiceImport) []string {
	var why []string
	add := func(format string, args ...any) { why = append(why, fmt.Sprintf(format, args...)) }
	switch s.Result {
	case vault.ImportSame:
		add("stored already, with the same values")
	case vault.ImportDifferent:
		add("stored already, with different values, which stay; rotate it to change them")
	case vault.ImportFailed:
		add("%v", describe(s.Err))
	case vault.ImportSkipped:
		if len(s.Placeholders) == 0 {
			add("%s alone is not a credential", strings.Join(s.Variables, ", "))
		}
	}
	if s.Status == vault.Disabled || s.Status == vault.Expired {
		add("the stored credential is %s", s.Status)
	}
	for _, p := range s.Problems {
		add("%s %s", p.Variable, p.Message)
	}
	if s.Result == vault.ImportIncomplete {
		for _, name := range s.Missing {
			if !slices.Contains(s.Placeholders, name) {
				add("%s is not set", name)
			}
		}
	}
	for _, name := range s.Placeholders {
		add("%s holds a placeholder", name)
	}
	for _, name := range s.Unread {
		add("%s holds something else and was not read", name)
	}
	for _, p := range s.Warnings {
		add("%s %s", p.Variable, p.Message)
	}
	return why
}
