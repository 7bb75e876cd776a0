package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/gatehouse-io/gatehouse/instance"
)

type doctorCommand struct {
	JSON bool `help:"Print JSON: {findings: [{check, level, text, mend?}], failed, warned}."`
}

// Help is printed by --help.
func (doctorCommand) Help() string {
	return `Looks at the configuration, the database, the master keys (one value of each
kind is opened under each), Redis (a request is counted and removed), issuers'
keys, the clocks, file modes, ports and trusted proxies, and says what to do. It
leaves everything as it was, prints no secret, and can be run beside a running
server, with that server's environment.

Exit status: 0 nothing failed (warnings count as nothing), 1 something failed, 2
the configuration has mistakes.

Examples:

  gatehouse doctor
  gatehouse doctor --json | jq '.findings[] | select(.level != "ok")'`
}

// Run prints what was found.
func (d doctorCommand) Run(ctx context.Context) error {
	c, mistakes := instance.FromEnvironment(environment())
	if mistakes == nil {
		c, mistakes = orDev(c)
	}
	findings := instance.Diagnose(ctx, c, mistakes)
	failed, warned, configuration := 0, 0, false
	for _, f := range findings {
		switch f.Level {
		case instance.Failed:
			failed++
			configuration = configuration || f.Check == "configuration"
		case instance.Doubtful:
			warned++
		case instance.Fine:
		}
	}
	if d.JSON {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		if err := e.Encode(map[string]any{"findings": findings, "failed": failed, "warned": warned}); err != nil {
			return err
		}
	} else {
		for _, f := range findings {
			fmt.Printf("%-5s %-14s %s\n", f.Level, f.Check, f.Text)
			if f.Mend != "" {
				fmt.Printf("%20s %s\n", "->", f.Mend)
			}
		}
	}
	summary := fmt.Sprintf("%d failed, %d warnings", failed, warned)
	switch {
	case configuration:
		return usagef("%s; the configuration comes first", summary)
	case failed > 0:
		return errors.New(summary)
	}
	return nil
}
