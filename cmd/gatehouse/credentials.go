package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

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
	EnvFile      string `placeholder:"FILE" xor:"source" help:"Read the variables from this .env file; from the process environment when left out."`
	JSON         string `name:"json" placeholder:"FILE" xor:"source" help:"Read the variables from this JSON object of names to values, as secret managers export it."`
	DryRun       bool   `help:"Say what would be done and store nothing."`
	Test         bool   `help:"Ask the provider about each key first. What it does not accept is not stored."`
	Only         string `placeholder:"SERVICE" help:"Import this service alone, such as openai."`
}

// Help is printed by --help.
func (credentialsImportCommand) Help() string {
	return `Stores one credential named Default for each service whose variables are set,
reads each back and compares it, and says which variables can be deleted. What
is stored already stays, so that a second run changes nothing. Placeholders
such as your_api_key_here are skipped. No value is ever printed, so the report
can be pasted in a ticket. Works on the database, also beside a running server.

With --test each key is tried at its provider first: what is invalid is not
stored, what could not be told is, with a remark. ${NAME} in a value is never
expanded: a password with a $ in it has to come out as it went in.

Gatehouse's own settings (JWT_SECRET, ENCRYPTION_KEY, DATABASE_URL, ...) come
from the process environment, never from the file.

Examples:

  gatehouse credentials import acme --env-file .env --dry-run
  gatehouse credentials import acme --env-file .env
  gatehouse credentials import acme --only stripe      # from the environment
  gatehouse credentials import acme --json secrets.json --test

Exit status: 0 also when something was skipped or incomplete, 1 when a value was
invalid, a key was refused or a credential could not be stored.

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
	if from = cmp.Or(i.EnvFile, i.JSON, from); i.EnvFile != "" || i.JSON != "" {
		parse := dotenv.Parse
		if i.JSON != "" {
			parse = dotenv.ParseJSON
		}
		var err error
		if variables, err = readVariables(from, parse); err != nil {
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
		Variables: variables, Only: i.Only, DryRun: i.DryRun, Test: i.Test,
		Progress: func(n, total int) { progress(int64(n), int64(total)) },
	})
	done()
	err = errors.Join(err, offline.Close())
	if fault.KindOf(err) == fault.Invalid { // --only
		return usagef("--%v", describe(err))
	}
	if err != nil {
		return describe(err)
	}
	if err := printImport(os.Stdout, report, from, i.DryRun); err != nil {
		return err
	}
	if n := report.Count(vault.ImportInvalid, vault.ImportRefused, vault.ImportFailed); n > 0 {
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

func readVariables(path string, parse func(io.Reader) (map[string]string, error)) (map[string]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("the variables cannot be read: %w", err)
	}
	variables, err := parse(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("%s: %w; nothing was imported", path, err)
	}
	return variables, nil
}
