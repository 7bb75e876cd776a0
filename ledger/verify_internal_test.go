package ledger

import (
	"log/slog"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/store"
)

// A verification that ends early leaves nobody behind who reads the database.
func TestVerifyWaitsForItsReaders(t *testing.T) {
	db, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "gatehouse.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	v := &verification{ledger: New(db, nil, nil, Options{Environment: "test"})}
	for range 20 {
		// The first event is gone with its hash, and more is read ahead meanwhile.
		err := v.events(t.Context(), logID{"acme", "control"}, &logState{}, []mark{{size: 20 * chunkSize}}, &LogReport{})
		if err != nil {
			t.Fatal(err)
		}
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		if strings.Contains(string(stacks), "(*verification).chunk") || strings.Contains(string(stacks), "(*verification).events.func") {
			t.Fatalf("left behind:\n%s", stacks)
		}
	}
}
