package audit_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/store"
)

// TestReadingIsComplete denies a request five times and reads the trail at
// once: all five are in it, though four of them wait to be written together.
func TestReadingIsComplete(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db, err := store.Open(t.Context(), url, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		log := audit.New(db, audit.Options{Coalesce: time.Hour})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { log.Run(ctx); close(done) }()
		t.Cleanup(func() { cancel(); <-done })

		caller := access.NewCaller("acme", access.User, "u_1", access.Owner)
		other := access.NewCaller("other", access.User, "u_1", access.Owner)
		for range 5 {
			log.Security(ctx, caller, audit.Event{Action: audit.LimitExceed, Reason: "limit_exceeded"})
			log.Security(ctx, other, audit.Event{Action: audit.LimitExceed, Reason: "limit_exceeded"})
		}
		read := func() (lines int, denials int64) {
			page, err := log.Events(ctx, caller, audit.Filter{Action: string(audit.LimitExceed)})
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range page.Events {
				denials += max(e.Count, 1)
			}
			return len(page.Events), denials
		}
		if lines, denials := read(); lines != 2 || denials != 5 {
			t.Errorf("%d lines for %d denials, want 2 for 5", lines, denials)
		}
		if lines, denials := read(); lines != 2 || denials != 5 {
			t.Errorf("read again: %d lines for %d denials, want 2 for 5", lines, denials)
		}
		var stored int
		err = db.View(ctx, "other", func(tx *store.Tx) error {
			return tx.Row(ctx, `SELECT COUNT(*) FROM events WHERE organization = $1`, "other").Scan(&stored)
		})
		if err != nil || stored != 1 {
			t.Errorf("another organization's repeats were written too: %d lines, %v", stored, err)
		}
	})
}
