package audit_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/store"
)

func visit(t testing.TB, l *audit.Log, reason string) {
	t.Helper()
	slot, err := l.Reserve()
	if err != nil {
		t.Fatal(err)
	}
	slot.Record(context.Background(), owner, audit.Event{Action: audit.ChatRequest, Outcome: audit.Success, Reason: reason})
}

func reasons(events []audit.Event) (all []string) {
	for _, e := range events {
		all = append(all, e.Reason)
	}
	return all
}

func inOrder(t testing.TB, events []audit.Event, n int) {
	t.Helper()
	if len(events) != n {
		t.Fatalf("%d events are stored, want %d", len(events), n)
	}
	for i, e := range events {
		if e.Reason != fmt.Sprint("n", i) || e.Class != audit.Access {
			t.Fatalf("event %d is %q of class %s; all: %v", i, e.Reason, e.Class, reasons(events))
		}
	}
}

func TestFullSpool(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db := openStore(t, url)
		l := audit.New(db, audit.Options{Spool: 3})
		visit(t, l, "n0")
		visit(t, l, "n1")
		slot, err := l.Reserve()
		if err != nil {
			t.Fatal(err)
		}
		_, err = l.Reserve()
		if !errors.Is(err, audit.ErrFull) || fault.KindOf(err) != fault.Unavailable {
			t.Errorf("a fourth place of three: %v", err)
		}
		slot.Release()
		visit(t, l, "n2") // the place that was given back
		if _, err := l.Reserve(); !errors.Is(err, audit.ErrFull) {
			t.Errorf("a place beside a full spool: %v", err)
		}
		run(t, l)
		flush(t, l)
		if _, err := l.Reserve(); err != nil {
			t.Errorf("once the spool is written: %v", err)
		}
		inOrder(t, stored(t, db, "acme"), 3)
	})
}

// More than one transaction and one statement take, in the order of arrival.
func TestOrderAndBatches(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db := openStore(t, url)
		l := audit.New(db, audit.Options{})
		const n = 2500
		for i := range n {
			visit(t, l, fmt.Sprint("n", i))
		}
		run(t, l)
		flush(t, l)
		inOrder(t, stored(t, db, "acme"), n)
		if waiting, lost := l.Backlog(); waiting != 0 || lost != 0 {
			t.Errorf("Backlog = %d, %d", waiting, lost)
		}
	})
}

func TestFinalFlush(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db := openStore(t, url)
		l := audit.New(db, audit.Options{FlushEvery: time.Hour})
		stop := run(t, l)
		for i := range 10 {
			visit(t, l, fmt.Sprint("n", i))
		}
		stop()
		inOrder(t, stored(t, db, "acme"), 10)
	})
}

// Whatever keeps the events from being written, they wait, in order, and a
// Flush that was called meanwhile is answered once they are written.
func TestNothingIsLostMeanwhile(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db := openStore(t, url)
		l := audit.New(db, audit.Options{FlushEvery: 5 * time.Millisecond})
		exec(t, db, `ALTER TABLE events RENAME TO events_elsewhere`)
		run(t, l)
		const n = 100
		for i := range n {
			visit(t, l, fmt.Sprint("n", i))
		}
		flushed := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			flushed <- l.Flush(ctx)
		}()
		short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := l.Flush(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Flush while nothing can be written: %v", err)
		}
		if waiting, lost := l.Backlog(); waiting != n || lost != 0 {
			t.Fatalf("%d events wait and %d are lost, want %d and none", waiting, lost, n)
		}
		exec(t, db, `ALTER TABLE events_elsewhere RENAME TO events`)
		if err := <-flushed; err != nil {
			t.Errorf("the Flush from before: %v", err)
		}
		inOrder(t, stored(t, db, "acme"), n)
	})
}

// PostgreSQL is shut for everybody, with every session ended, and comes back.
func TestPostgresAway(t *testing.T) {
	address := gatehousetest.Postgres(t)
	db := openStore(t, address)
	l := audit.New(db, audit.Options{FlushEvery: 5 * time.Millisecond})
	run(t, l)
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	name := u.Path[1:]
	u.Path = "/postgres"
	admin, err := sql.Open("pgx", u.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = admin.Close() }()
	do := func(statement string) {
		if _, err := admin.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	const n = 200
	for i := range n {
		if i == n/4 {
			do(`ALTER DATABASE ` + name + ` ALLOW_CONNECTIONS false`)
		}
		if i == n/4 || i == n/2 {
			do(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '` + name + `'`)
		}
		visit(t, l, fmt.Sprint("n", i))
	}
	if waiting, lost := l.Backlog(); waiting == 0 || lost != 0 {
		t.Errorf("while the database is away %d wait and %d are lost", waiting, lost)
	}
	do(`ALTER DATABASE ` + name + ` ALLOW_CONNECTIONS true`)
	flush(t, l)
	inOrder(t, stored(t, db, "acme"), n)
}

// A write whose answer was lost is repeated and stands once.
func TestRepeatedWrite(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db := openStore(t, url)
		l := audit.New(db, audit.Options{})
		id := store.NewID("evt")
		for range 2 {
			slot, err := l.Reserve()
			if err != nil {
				t.Fatal(err)
			}
			slot.Record(t.Context(), owner, audit.Event{ID: id, Action: audit.ChatRequest, Outcome: audit.Success, Request: audit.Request{IP: "192.0.2.1"}})
		}
		visit(t, l, "after")
		run(t, l)
		flush(t, l)
		if events := stored(t, db, "acme"); len(events) != 2 {
			t.Errorf("stored: %v", reasons(events))
		}
		if _, lost := l.Backlog(); lost != 0 {
			t.Errorf("%d lost", lost)
		}
	})
}

// An event that the database will never take holds up no other, and is told of.
func TestEventThatIsRefused(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db := openStore(t, url)
		l := audit.New(db, audit.Options{})
		refuse := []string{`CREATE TRIGGER refuse BEFORE INSERT ON events WHEN NEW.actor_id = 'nobody' BEGIN SELECT RAISE(ABORT, 'no'); END`}
		if db.Kind() == "postgresql" {
			refuse = []string{`ALTER TABLE events ADD CONSTRAINT refuse CHECK (actor_id <> 'nobody')`}
		}
		exec(t, db, refuse...)
		visit(t, l, "n0")
		slot, _ := l.Reserve()
		slot.Record(t.Context(), access.NewCaller("acme", access.User, "nobody"), audit.Event{Action: audit.ChatRequest, Outcome: audit.Success})
		visit(t, l, "n1")
		run(t, l)
		flush(t, l)
		events := stored(t, db, "acme")
		inOrder(t, slices.DeleteFunc(slices.Clone(events), func(e audit.Event) bool { return e.Action == audit.AuditLose }), 2)
		told := events[len(events)-1]
		if told.Action != audit.AuditLose || told.Class != audit.System || told.Outcome != audit.Failure || told.Count > 1 || len(events) != 3 {
			t.Errorf("the trail does not tell of the lost one: %+v", told)
		}
		if _, lost := l.Backlog(); lost != 1 {
			t.Errorf("%d events are said to be lost, want 1", lost)
		}
	})
}

func TestManyWriters(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db := openStore(t, url)
		const spool = 64
		l := audit.New(db, audit.Options{Spool: spool, FlushEvery: time.Millisecond})
		run(t, l)
		var wg sync.WaitGroup
		var mu sync.Mutex
		taken := 0
		for range 8 {
			wg.Go(func() {
				for range 100 {
					slot, err := l.Reserve()
					if errors.Is(err, audit.ErrFull) {
						continue
					}
					slot.Record(t.Context(), owner, audit.Event{Action: audit.ChatRequest, Outcome: audit.Success})
					mu.Lock()
					taken++
					mu.Unlock()
					if waiting, _ := l.Backlog(); waiting > spool {
						t.Errorf("%d events wait in a spool of %d", waiting, spool)
					}
				}
			})
		}
		wg.Wait()
		flush(t, l)
		if n := len(stored(t, db, "acme")); n != taken {
			t.Errorf("%d visits were let in and %d are on disk", taken, n)
		}
	})
}

// A stop in the middle of a write loses nothing: what is under way is written to its end.
func TestStopWhileItWrites(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db := openStore(t, url)
		text := strings.Repeat("x", 1000)
		const rounds, each = 15, 1000
		for round := range rounds {
			l := audit.New(db, audit.Options{FlushEvery: time.Millisecond})
			stop := run(t, l)
			for range each {
				slot, err := l.Reserve()
				if err != nil {
					t.Fatal(err)
				}
				slot.Record(t.Context(), owner, audit.Event{Action: audit.ChatRequest, Outcome: audit.Success, Metadata: map[string]any{"a": text, "b": text, "c": text}})
			}
			time.Sleep(time.Duration(round) * 2 * time.Millisecond)
			stop()
			if waiting, lost := l.Backlog(); waiting != 0 || lost != 0 {
				t.Fatalf("%d wait and %d are lost after the stop", waiting, lost)
			}
		}
		if n := len(stored(t, db, "acme")); n != rounds*each {
			t.Errorf("%d of %d are there", n, rounds*each)
		}
	})
}
