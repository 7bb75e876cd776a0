package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/store"
)

// lines counts what is logged as an error.
type lines struct {
	slog.Handler
	errors atomic.Int64
}

func (*lines) Enabled(context.Context, slog.Level) bool { return true }

func (h *lines) Handle(_ context.Context, r slog.Record) error {
	if r.Level >= slog.LevelError {
		h.errors.Add(1)
	}
	return nil
}

var errAway = errors.New("the database is away")

func openLog(t *testing.T, opts Options) *Log {
	db, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "gatehouse.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return New(db, opts)
}

// Whoever makes a denial a moment, each from another address, has the database asked no more
// often, and no more lines logged.
func TestDenialsWhileTheDatabaseIsAway(t *testing.T) {
	seen := &lines{Handler: slog.DiscardHandler}
	l := openLog(t, Options{Logger: slog.New(seen), FlushEvery: 50 * time.Millisecond})
	var tries atomic.Int64
	var back atomic.Bool
	l.insert = func(ctx context.Context, tx *store.Tx, rows []row) error {
		tries.Add(1)
		if back.Load() {
			return insert(ctx, tx, rows)
		}
		return errAway
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.Run(ctx)
	}()
	const denials = 300
	began := time.Now()
	for i := range denials {
		l.Security(ctx, access.Caller{}, Event{Action: AccessDeny, Reason: "token_invalid", Request: Request{IP: fmt.Sprint("198.51.100.", i)}})
		time.Sleep(time.Millisecond)
	}
	ticks := int64(time.Since(began)/(50*time.Millisecond)) + 2
	if n := tries.Load(); n > ticks {
		t.Errorf("%d denials had the database asked %d times; want at most %d, a tick each", denials, n, ticks)
	}
	if n := seen.errors.Load(); n != 1 {
		t.Errorf("%d lines of it in the log; want 1", n)
	}
	l.mu.Lock()
	waiting := l.queue.length
	l.mu.Unlock()
	if waiting != denials {
		t.Errorf("%d of %d denials wait for the database", waiting, denials)
	}
	back.Store(true)
	stop()
	<-ended
}

// An event that is refused counts once as lost, however often its batch is tried.
func TestLostIsCountedOnce(t *testing.T) {
	l := openLog(t, Options{})
	event := func(id string) Event {
		e := Event{ID: id, Organization: "acme", Class: Access, Action: ChatRequest, Outcome: Success, Actor: anonymous(), OccurredAt: time.Now()}
		return e.normal()
	}
	batch := []Event{event("evt_good"), event("evt_bad"), event("evt_last")}
	away := true
	l.insert = func(ctx context.Context, tx *store.Tx, rows []row) error {
		is := func(id string) bool {
			return slices.ContainsFunc(rows, func(r row) bool { return r.event.ID == id })
		}
		switch {
		case is("evt_bad"):
			return store.ErrRefused
		case is("evt_last") && away:
			return errAway
		}
		return insert(ctx, tx, rows)
	}
	for range 3 {
		if err := l.writeBatch(t.Context(), batch); !errors.Is(err, errAway) {
			t.Fatalf("writeBatch = %v; want %v", err, errAway)
		}
	}
	away = false
	if err := l.writeBatch(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	if _, lost := l.Backlog(); lost != 1 || l.untold["acme"] != 1 {
		t.Errorf("%d lost, %d to be told of; want 1 of each", lost, l.untold["acme"])
	}
	var written int
	err := l.db.View(t.Context(), "acme", func(tx *store.Tx) error {
		return tx.Row(t.Context(), `SELECT count(*) FROM events WHERE organization = 'acme'`).Scan(&written)
	})
	if err != nil || written != 2 {
		t.Errorf("%d events are written, %v; want 2", written, err)
	}
}
