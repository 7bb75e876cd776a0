package gatehouse_test

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/gatehouse-io/gatehouse"

// arrows says which rooms each room may import. A room that is missing here
// may import none.
var arrows = map[string][]string{
	// Leaves: none of them knows another. The one exception is the prober, which
	// is the network side of the catalogue.
	"access": {}, "seal": {"seal/internal/stretch"}, "seal/internal/stretch": {}, "catalog": {}, "ratelimit": {}, "ratelimit/replay": {"ratelimit"}, "api": {"internal/wiretime"},
	"internal/csvsafe": {}, "internal/dotenv": {}, "internal/fault": {}, "internal/telemetry": {}, "internal/recheck": {"internal/bounded"}, "internal/bounded": {}, "internal/netguard": {}, "internal/bearer": {}, "internal/wiretime": {},
	"internal/probe": {"catalog", "internal/netguard", "internal/wiretime"},

	"gatehousetest": {}, "gatehousetest/withpostgres": {"gatehousetest"}, // so that a room's tests are not built with all the others

	"store":          {},
	"internal/lease": {"access", "store"},
	"audit":          {"access", "store", "internal/csvsafe", "internal/fault", "internal/wiretime"},
	"masterkey":      {"access", "audit", "seal", "store", "internal/fault"},
	"ledger":         {"access", "audit", "masterkey", "seal", "store", "internal/fault", "internal/lease"},
	"org":            {"access", "audit", "store", "internal/fault", "internal/recheck"},
	"auth":           {"access", "audit", "org", "store", "internal/bearer", "internal/bounded", "internal/fault", "internal/recheck"},
	"webhook":        {"access", "audit", "masterkey", "seal", "store", "internal/fault", "internal/netguard", "internal/wiretime"},
	"vault":          {"access", "audit", "catalog", "masterkey", "seal", "store", "webhook", "internal/fault", "internal/recheck", "internal/wiretime"},
	"policy":         {"access", "audit", "ratelimit", "store", "internal/fault", "internal/recheck"},
	"policy/compare": {"access", "policy", "ratelimit/replay"},

	// Events leave their log with what the ledger signs.
	"retention": {"access", "audit", "ledger", "store", "internal/fault", "internal/lease", "internal/wiretime"},

	"backup":       {"access", "audit", "masterkey", "seal", "store"},
	"usage/tokens": {},
	"usage":        {"access", "store", "usage/tokens", "internal/fault"},

	"envoy":   {"access", "audit", "policy", "internal/fault", "internal/wiretime"},
	"gateway": {"access", "audit", "catalog", "usage/tokens", "internal/bearer", "internal/fault", "internal/wiretime"},
	"server": {"access", "api", "audit", "auth", "catalog", "gateway", "ledger", "masterkey", "org", "policy", "ratelimit", "retention", "seal", "store", "usage", "usage/tokens", "vault",
		"webhook", "internal/bearer", "internal/csvsafe", "internal/fault", "internal/telemetry"},
	"instance": {"access", "audit", "auth", "catalog", "envoy", "gateway", "ledger", "masterkey", "org", "policy", "ratelimit", "retention", "seal", "server", "store", "usage", "usage/tokens", "vault",
		"webhook", "internal/fault", "internal/netguard", "internal/probe", "internal/telemetry"},
}

// anything lists the rooms that may import all others: the two ends.
var anything = []string{"cmd/gatehouse", "gatehousetest/instancetest"}

// TestArrows holds the imports between rooms to the table above.
func TestArrows(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	seen := 0
	for {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		room := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		if room == "" || slices.Contains(anything, room) {
			continue
		}
		seen++
		allowed, known := arrows[room]
		if !known {
			t.Errorf("%s is not in the table of arrows; say what it may import", room)
		}
		for _, path := range p.Imports {
			other, ours := strings.CutPrefix(path, module+"/")
			if ours && !slices.Contains(allowed, other) {
				t.Errorf("%s imports %s, which the house does not allow", room, other)
			}
		}
	}
	if seen != len(arrows) {
		t.Errorf("the table names %d rooms, the module has %d", len(arrows), seen)
	}
}

// TestEveryRoomIsNamed holds the package's own list of rooms, and AGENTS.md, to
// the rooms that there are.
func TestEveryRoomIsNamed(t *testing.T) {
	list, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	table, err := os.ReadFile("AGENTS.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, room := range slices.Concat(slices.Collect(maps.Keys(arrows)), anything) {
		inside := strings.Contains(room, "internal/") || strings.HasPrefix(room, "gatehousetest/") // those are named together
		if !inside && !strings.Contains(string(list), "//\t"+room+" ") {
			t.Errorf("doc.go does not name %s", room)
		}
		if !regexp.MustCompile("[`/]" + regexp.QuoteMeta(room) + "[`/]").Match(table) {
			t.Errorf("AGENTS.md does not say when to go to %s", room)
		}
	}
}

// TestOnlyTheEndsImportServer is the rule of the house that matters most.
func TestOnlyTheEndsImportServer(t *testing.T) {
	for room, allowed := range arrows {
		if slices.Contains(allowed, "server") && room != "instance" {
			t.Errorf("%s may import server", room)
		}
	}
}
