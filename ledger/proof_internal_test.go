package ledger

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/gatehouse-io/gatehouse/store"
)

// Only what was read and is not as it was signed is called tampering: not a log that
// cannot be read at the moment.
func TestWhatCannotBeReadIsNotAltered(t *testing.T) {
	db, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "gatehouse.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	l := New(db, nil, nil, Options{Environment: "test"})
	prove := func(ctx context.Context) error {
		return db.View(t.Context(), "acme", func(tx *store.Tx) error {
			return l.prove(ctx, tx, &Proof{Organization: "acme", Class: "control"}, nil)
		})
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel() // the caller left between two statements
	if err := prove(gone); !errors.Is(err, context.Canceled) || errors.Is(err, ErrAltered) {
		t.Errorf("of a caller who left: %v", err)
	}
	if err := prove(t.Context()); !errors.Is(err, ErrAltered) {
		t.Errorf("of a log whose head is gone: %v", err)
	}
}
