package lease_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/internal/lease"
	"github.com/gatehouse-io/gatehouse/store"
)

const length = 10 * time.Second

func TestMain(m *testing.M) { gatehousetest.Main(m) }

func onEach(t *testing.T, test func(t *testing.T, db *store.DB, table lease.Table)) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db, err := store.Open(t.Context(), url, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		for _, table := range []lease.Table{lease.Sealer, lease.Sweeper} {
			test(t, db, table)
		}
	})
}

func take(t *testing.T, l *lease.Lease, want bool, when string) {
	t.Helper()
	if held, err := l.Take(t.Context()); held != want || err != nil {
		t.Errorf("%s: %t, %v; want %t", when, held, err, want)
	}
}

func TestOneHolds(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB, table lease.Table) {
		now := time.Now()
		clock := func() time.Time { return now }
		a := lease.New(db, lease.Options{Table: table, For: length, Now: clock})
		b := lease.New(db, lease.Options{Table: table, For: length, Now: clock})
		take(t, a, true, "the first")
		take(t, b, false, "beside the first")
		take(t, a, true, "the first again")
		now = now.Add(6 * time.Second)
		take(t, a, true, "holding on")
		now = now.Add(6 * time.Second)
		take(t, b, false, "beside one that held on")
		now = now.Add(5 * time.Second)
		take(t, b, true, "after its end")
		a.Release(t.Context())
		take(t, a, false, "a release of what is another's")
		ended, end := context.WithCancel(t.Context())
		end()
		b.Release(ended)
		take(t, a, true, "after the release")
		now = now.Add(-time.Hour)
		take(t, b, true, "beside a lease of a clock that was wrong")
	})
}

// One that is not fit does not take the lease, nor hold on to it.
func TestMay(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB, table lease.Table) {
		now, fit := time.Now(), true
		away := errors.New("away")
		var failed error
		l := lease.New(db, lease.Options{Table: table, For: length, Now: func() time.Time { return now },
			May: func(context.Context, time.Time) (bool, error) { return fit, failed }})
		take(t, l, true, "fit")
		fit = false
		take(t, l, true, "with more than half left")
		now = now.Add(6 * time.Second)
		take(t, l, false, "not fit any more")
		fit, failed = true, away
		if held, err := l.Take(t.Context()); held || !errors.Is(err, away) {
			t.Errorf("%t, %v", held, err)
		}
	})
}

func TestManyAtOnce(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB, table lease.Table) {
		var all sync.WaitGroup
		var holders atomic.Int32
		for range 8 {
			all.Go(func() {
				if held, _ := lease.New(db, lease.Options{Table: table, For: length, Now: time.Now}).Take(t.Context()); held {
					holders.Add(1)
				}
			})
		}
		all.Wait()
		if n := holders.Load(); n != 1 {
			t.Errorf("%d hold it", n)
		}
	})
}

// What failed is noted whatever it says: PostgreSQL refuses text that is none.
func TestNote(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB, table lease.Table) {
		name := map[lease.Table]string{lease.Sealer: "ledger_sealer", lease.Sweeper: "retention_sweeper"}[table]
		l := lease.New(db, lease.Options{Table: table, For: length, Now: time.Now})
		for _, text := range []string{"away", strings.Repeat("x", 999) + "é", "a\xff\x00b"} {
			l.Note(t.Context(), errors.New(text))
			var noted string
			err := db.View(t.Context(), access.InstanceOrganization, func(tx *store.Tx) error {
				return tx.Row(t.Context(), `SELECT last_error FROM `+name+` WHERE organization = $1`, access.InstanceOrganization).Scan(&noted)
			})
			if err != nil || len(noted) > 1000 || !utf8.ValidString(noted) || noted[:1] != text[:1] {
				t.Errorf("of %.10q... it keeps %.10q..., %d bytes: %v", text, noted, len(noted), err)
			}
		}
	})
}
