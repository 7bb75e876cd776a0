package usage_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/usage"
)

// blocked keeps the disk from being tried with success.
func blocked(t *testing.T, dir string) (free func()) {
	t.Helper()
	name := filepath.Join(dir, "try.tmp")
	if err := os.MkdirAll(filepath.Join(name, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.RemoveAll(name); err != nil {
			t.Fatal(err)
		}
	}
}

// Lines that stay in a file although the disk refused them are counted once, past the disk
// and by whoever finds the file.
func TestLinesThatStay(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db, dir := openStore(t, url), t.TempDir()
		m, stop := start(t, db, dir)
		m.Record(visit("m", 1, 1))
		flush(t, m)
		m.Stick()
		free := blocked(t, dir)
		for range 3 {
			m.Record(visit("m", 1, 1))
		}
		becomes(t, m, false)
		name := spools(t, dir)[0]
		left, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		m.Record(visit("m", 1, 1))
		if got := requests(t, m); got != 5 {
			t.Errorf("%d requests are counted past the disk, want 5", got)
		}
		if b := m.Backlog(); b != (usage.Backlog{Refused: true}) {
			t.Errorf("%+v", b)
		}
		stop()
		free()
		if m.Unwritten() != 0 {
			t.Errorf("%d records are lost", m.Unwritten())
		}
		if err := os.WriteFile(name, left, 0o600); err != nil { // as a process that was killed leaves it
			t.Fatal(err)
		}
		m, _ = start(t, db, dir)
		flush(t, m)
		if got := requests(t, m); got != 5 {
			t.Errorf("%d requests are counted in the end, want 5", got)
		}
	})
}

// While the database is away too, they wait in memory for a disk that takes them, and a stop
// says that it gave them up.
func TestLinesThatStayWithoutADatabase(t *testing.T) {
	link := gatehousetest.NewLink(t, gatehousetest.Postgres(t))
	db, dir := openStore(t, link.URL), t.TempDir()
	m, stop := start(t, db, dir)
	stuck := func() func() {
		t.Helper()
		m.Record(visit("m", 1, 1))
		flush(t, m)
		mend := m.Stick()
		free := blocked(t, dir)
		link.Cut()
		m.Record(visit("m", 1, 1))
		m.Record(visit("m", 1, 1))
		becomes(t, m, false)
		return func() { mend(); free() }
	}
	mend := stuck()
	mend()
	becomes(t, m, true)
	stop()
	if m.Unwritten() != 0 {
		t.Errorf("%d records are said to be lost of a disk that took them", m.Unwritten())
	}
	link.Mend()
	m, stop = start(t, db, dir)
	if got := requests(t, m); got != 3 {
		t.Errorf("%d requests are counted, want 3", got)
	}
	mend = stuck()
	stop()
	mend()
	if n := m.Unwritten(); n != 2 {
		t.Errorf("%d records are said to be lost, want 2", n)
	}
}

// A disk that goes on refusing is left alone for longer and longer.
func TestRefusedDiskIsLeftAlone(t *testing.T) {
	db, dir := openStore(t, filepath.Join(t.TempDir(), "gatehouse.db")), filepath.Join(t.TempDir(), "spool")
	m, _ := start(t, db, dir)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	m.Record(visit("m", 1, 1))
	becomes(t, m, false)
	for end := time.Now().Add(10 * time.Second); m.Pause() < time.Second; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it is tried every %v", m.Pause())
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	becomes(t, m, true)
	if m.Pause() != 0 {
		t.Errorf("the next that is refused is left alone for %v", m.Pause())
	}
}
