package catalog_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/catalog"
)

// The table of docs/services.md says what the catalogue says.
func TestTableOfTheManual(t *testing.T) {
	page, err := os.ReadFile("../docs/services.md")
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	want.WriteString("| service | routes | goes to | fields | variables |\n| --- | --- | --- | --- | --- |\n")
	for _, s := range newCatalog(t, catalog.Options{}).Services() {
		var fields, variables []string
		for _, f := range s.Fields {
			text := "`" + f.Name + "`"
			if f.Secret {
				text += "*"
			}
			if !f.Required && !s.Needs(f.Name) {
				text = "(" + text + ")"
			}
			fields = append(fields, text)
			variables = append(variables, "`"+f.Env[0]+"`")
		}
		var ways []string
		for _, way := range s.Alternatives {
			ways = append(ways, strings.Join(way, " + "))
		}
		list := strings.Join(fields, ", ")
		if len(ways) > 0 {
			list += "; either " + strings.Join(ways, " or ")
		}
		route, hosts := "none", "the field `host`"
		if p := s.PathPrefix(); p != "" {
			route, hosts = "`"+p+"`", "`"+strings.Join(s.Hosts(), "`, `")+"`"
		}
		fmt.Fprintf(&want, "| [%s](%s) | %s | %s | %s | %s |\n", s.Name, s.Docs, route, hosts, list, strings.Join(variables, ", "))
	}
	text := strings.ReplaceAll(want.String(), "[smtp]()", "smtp")
	if !strings.Contains(string(page), text) {
		t.Errorf("the table of docs/services.md is not the catalogue's, which is:\n%s", text)
	}
	// Every format that a file may use is explained.
	for _, format := range []catalog.Format{catalog.Token, catalog.Text, catalog.Choice, catalog.Email, catalog.Segment} {
		if !slices.Contains(strings.Fields(string(page)), "`"+format.String()+"`") {
			t.Errorf("docs/services.md does not explain the format %s", format)
		}
	}
}
