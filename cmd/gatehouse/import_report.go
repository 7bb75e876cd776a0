package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/vault"
)

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
	if len(absent) == 1 && len(report.Services) == 1 { // --only
		what := "None of its variables"
		if missing := report.Services[0].Missing; len(missing) > 0 {
			what = strings.Join(missing, ", ")
		}
		_, err := fmt.Fprintf(out, "%s: %s is not set in %s, and nothing was imported.\n", absent[0], what, from)
		return err
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
	if s.Test != nil && s.Test.Result != catalog.Valid {
		add("tested: %s", s.Test.Result)
		add("%s", strings.TrimSuffix(s.Test.Detail, "."))
	} else if s.Test != nil {
		add("tested: valid")
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
		if slices.Contains(s.References, name) {
			add("%s holds a reference, not the key; resolve it first", name)
			continue
		}
		add("%s holds a placeholder", name)
	}
	for _, name := range s.Unexpanded {
		add("%s holds ${...} or $(...), which was not expanded", name)
	}
	for _, name := range s.Unread {
		add("%s holds something else and was not read", name)
	}
	for _, p := range s.Warnings {
		add("%s %s", p.Variable, p.Message)
	}
	return why
}
