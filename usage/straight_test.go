package usage_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/usage"
)

// becomes waits until the meter is ready, or is not.
func becomes(t *testing.T, m *usage.Meter, ready bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); (m.Ready() == nil) != ready; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("ready: %v for good", !ready)
		}
	}
}

// A disk that refuses one write refuses visits until it takes one again, and says so
// once. What runs meanwhile is in the database, past the disk, at a stop too. A folder
// that is gone stands for the disk: permissions do not bind root.
func TestDiskAway(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db, dir := openStore(t, url), filepath.Join(t.TempDir(), "spool")
		var log gatehousetest.Buffer
		m, stop := start(t, db, dir, func(o *usage.Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		m.Record(visit("m", 1, 1))
		becomes(t, m, false)
		for range 5000 { // more than goes in one transaction
			m.Record(visit("m", 1, 1))
		}
		if got := requests(t, m); got != 5001 { // waits until they are in the database
			t.Errorf("%d requests are counted past the disk, want 5001", got)
		}
		if b := m.Backlog(); b != (usage.Backlog{Refused: true}) {
			t.Errorf("%+v", b)
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		becomes(t, m, true) // although there is nothing to write
		recorded := int64(5001)
		for seen := false; !seen; { // what is in the database already is no longer in the spool
			m.Record(visit("m", 1, 1))
			flush(t, m)
			recorded++
			if seen = len(spools(t, dir)) == 1; !seen && recorded == 5101 {
				t.Fatalf("the spool holds %q", spools(t, dir))
			}
		}
		if n := strings.Count(log.String(), "level=ERROR"); n != 1 || strings.Count(log.String(), "usage goes to the disk again") != 1 {
			t.Errorf("%d errors for one outage:\n%s", n, log.String())
		}
		stop()
		m, stop = start(t, db, dir, func(o *usage.Options) { o.WriteEvery, o.ApplyEvery = time.Hour, time.Hour })
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		m.Record(visit("m", 1, 1))
		stop()
		if m.Unwritten() != 0 {
			t.Errorf("%d records are lost", m.Unwritten())
		}
		m, _ = start(t, db, dir)
		if got := requests(t, m); got != recorded+1 {
			t.Errorf("%d requests are counted in the end, want %d", got, recorded+1)
		}
	})
}

// While neither disk nor database take anything it stays in memory, goes to whichever
// comes back first, and is counted once. What a stop gives up is told.
func TestDiskAndDatabaseAway(t *testing.T) {
	link := gatehousetest.NewLink(t, gatehousetest.Postgres(t))
	db, dir := openStore(t, link.URL), filepath.Join(t.TempDir(), "spool")
	var log gatehousetest.Buffer
	m, stop := start(t, db, dir, func(o *usage.Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	away := func() {
		t.Helper()
		link.Cut()
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		m.Record(visit("m", 1, 1))
		becomes(t, m, false)
		soon, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if err := m.Flush(soon); err == nil {
			t.Error("a record that is only in memory is said to be in the database")
		}
	}
	away()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	becomes(t, m, true)
	for end := time.Now().Add(20 * time.Second); m.Backlog().Queued > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("what the database did not take does not go to the disk")
		}
	}
	link.Mend()
	if got := requests(t, m); got != 1 {
		t.Errorf("%d requests are counted, want 1", got)
	}
	stop()
	m, stop = start(t, db, dir)
	away()
	m.Record(visit("m", 1, 1))
	stop()
	if m.Unwritten() != 2 {
		t.Errorf("%d records are said to be lost, want 2", m.Unwritten())
	}
}
