package instance_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/instance"
)

// docs/configuration.md names every setting of serve --help, with its default, and
// no setting that is none.
func TestPageOfTheConfiguration(t *testing.T) {
	b, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	page, help := string(b), instance.Describe()
	setting := regexp.MustCompile(`\b[A-Z][A-Z0-9]*(_[A-Z0-9]+)+\b`)
	rows := make(map[string]string) // by a setting's name: its row
	for line := range strings.Lines(page) {
		if cells := strings.Split(line, " | "); strings.HasPrefix(line, "| `") && len(cells) == 3 {
			for _, name := range setting.FindAllString(cells[0], -1) {
				rows[name] = cells[1]
			}
		}
	}
	heads := 0
	for line := range strings.Lines(help) {
		if !strings.HasPrefix(line, "  ") || strings.HasPrefix(line, "   ") {
			continue
		}
		heads++
		for head := range strings.SplitSeq(strings.TrimSpace(line), ", ") {
			name, value, _ := strings.Cut(head, "=")
			row, found := rows[name]
			if !found {
				t.Errorf("the page has no row for %s", name)
			} else if !strings.Contains(row, "`"+value+"`") && value != "" {
				t.Errorf("the page says of %s that its default is %s, and it is %s", name, row, value)
			}
		}
	}
	if heads < 60 {
		t.Errorf("the help has %d settings only", heads)
	}
	// A bound or an address of one service stands for all of its kind; this one is of another command.
	of := regexp.MustCompile(`^GATEHOUSE_(BOUNDS|LISTEN)_[A-Z_]+$`)
	known := append(setting.FindAllString(help, -1), "GATEHOUSE_BACKUP_PASSPHRASE", "JWT_SECRET_FILE", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")
	for _, name := range setting.FindAllString(page, -1) {
		if !slices.Contains(known, name) && !of.MatchString(name) {
			t.Errorf("the page names %s, which is no setting", name)
		}
	}
}
