// Package csvsafe keeps spreadsheets from running what stands in a cell of CSV.
//
//	cells = append(cells, csvsafe.Cell(name))
//
// A spreadsheet takes a cell that begins in a certain way for a formula, whoever wrote
// it, and a formula can read other cells and send them away (OWASP, CSV injection).
// Every text that somebody else may have chosen goes through [Cell]. Quoting is the
// work of encoding/csv, behind it.
package csvsafe

import (
	"strings"
	"unicode/utf8"
)

// beginnings are those of formulas, the full-width forms of some locales among them,
// and what spreadsheets pass over before one.
const beginnings = "=+-@\t\r\n＝＋－＠"

// Cell gives text as a cell that no spreadsheet takes for a formula: where it would,
// with an apostrophe before it, by which they know plain text.
func Cell(text string) string {
	if first, size := utf8.DecodeRuneInString(text); size > 0 && strings.ContainsRune(beginnings, first) {
		return "'" + text
	}
	return text
}
