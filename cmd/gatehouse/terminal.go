package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"unicode"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/gatehouse-io/gatehouse/access"
)

// commandLine is the caller behind commands: who can run them has the database.
func commandLine() access.Caller {
	return access.NewCaller(access.InstanceOrganization, access.System, "command line", access.Operator)
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

func percent(part, whole int) string {
	if whole == 0 {
		return "-"
	}
	return fmt.Sprintf("%5.1f %%", 100*float64(part)/float64(whole))
}

// forTerminal quotes text out of a file that could steer a terminal or break a
// table.
func forTerminal(s string) string {
	const longest = 80
	if runes := []rune(s); len(runes) > longest {
		s = string(runes[:longest]) + "..."
	}
	if s == "" || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}
