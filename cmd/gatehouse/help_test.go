package main // not main_test: the command line is a type of main's

import (
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// Whoever reads the help of one command needs no other: it has an example that
// runs this very command, and says what each flag and argument is.
func TestEveryHelpHasAnExample(t *testing.T) {
	parser, err := kong.New(&commands{}, kong.Name("gatehouse"))
	if err != nil {
		t.Fatal(err)
	}
	leaves := parser.Model.Leaves(true)
	if len(leaves) < 30 {
		t.Errorf("%d commands only", len(leaves))
	}
	for _, leaf := range leaves {
		var words []string
		for n := leaf; n != nil && n.Type == kong.CommandNode; n = n.Parent {
			words = append([]string{n.Name}, words...)
		}
		command := strings.Join(words, " ")
		_, example, found := strings.Cut(leaf.Detail, "Example")
		if runs := "gatehouse " + strings.TrimSuffix(command, " create"); command != "version" && (!found || !strings.Contains(example, runs)) {
			t.Errorf("the help of %s has no example", command)
		}
		if leaf.Help == "" {
			t.Errorf("%s does not say what it does", command)
		}
		for _, f := range leaf.Flags {
			if f.Help == "" {
				t.Errorf("%s --%s does not say what it is", command, f.Name)
			}
		}
		for _, a := range leaf.Positional {
			if a.Help == "" {
				t.Errorf("%s <%s> does not say what it is", command, a.Name)
			}
		}
	}
}
