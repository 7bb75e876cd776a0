package usage_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/usage"
	"github.com/gatehouse-io/gatehouse/usage/tokens"
)

// spools gives the files of a spool.
func spools(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.spool"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// While the database is away nothing is lost, within the bound, and after it
// nothing is counted twice.
func TestDatabaseAway(t *testing.T) {
	link := gatehousetest.NewLink(t, gatehousetest.Postgres(t))
	db, dir := openStore(t, link.URL), t.TempDir()
	var log gatehousetest.Buffer
	m, stop := start(t, db, dir, func(o *usage.Options) {
		o.MaxSpool = 50_000
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	m.Record(visit("m", 1, 1))
	flush(t, m)
	link.Cut()
	sent := int64(1)
	for m.Ready() == nil {
		m.Record(visit("m", 1, 1))
		sent++
		if sent > 10_000 {
			t.Fatal("the spool is never full")
		}
	}
	m.Record(visit("m", 1, 1)) // one that ran already
	sent++
	if sent < 100 {
		t.Errorf("full after %d records", sent)
	}
	for end := time.Now().Add(10 * time.Second); m.Backlog().Queued > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the records do not reach the disk")
		}
	}
	if n := strings.Count(log.String(), "usage waits for the database"); n > 1 {
		t.Errorf("the log says %d times that the database is away", n)
	}
	// The process ends, the next one starts, and the database comes back.
	stop()
	if len(spools(t, dir)) == 0 {
		t.Fatal("no spool is left")
	}
	for _, name := range spools(t, dir) {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v %v", info.Mode(), err)
		}
	}
	link.Mend()
	m, _ = start(t, db, dir, func(o *usage.Options) { o.MaxSpool = 50_000 })
	flush(t, m)
	if got := requests(t, m); got != sent {
		t.Errorf("%d requests are counted, want %d", got, sent)
	}
	if b := m.Backlog(); b != (usage.Backlog{}) || m.Ready() != nil || len(spools(t, dir)) != 0 {
		t.Errorf("%+v in %q, %v", b, spools(t, dir), m.Ready())
	}
}

// A file that comes back after it was applied, as the answer to a commit that
// was lost would make of it, or a backup, adds nothing.
func TestReplayCountsOnce(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db, dir := openStore(t, url), t.TempDir()
		m, stop := start(t, db, dir, func(o *usage.Options) { o.ApplyEvery = time.Hour })
		for range 100 {
			m.Record(visit("m", 2, 3))
		}
		for end := time.Now().Add(10 * time.Second); m.Backlog().Queued > 0; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the records do not reach the disk")
			}
		}
		name := spools(t, dir)[0]
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		stop() // applies and deletes
		if len(spools(t, dir)) != 0 {
			t.Fatal("the file is still there")
		}
		for range 3 {
			// Later visits behind it are new.
			more, err := usage.AppendLine(nil, visit("m", 2, 3))
			if err != nil {
				t.Fatal(err)
			}
			text = append(text, more...)
			if err := os.WriteFile(name, text, 0o600); err != nil {
				t.Fatal(err)
			}
			m, stop := start(t, db, dir)
			flush(t, m)
			stop()
		}
		m, _ = start(t, db, dir)
		if row := ask(t, m, owner, usage.Query{})[0]; row.Requests != 103 || row.InputTokens != 206 || row.OutputTokens != 309 {
			t.Errorf("%+v", row)
		}
	})
}

// A file that a killed process left is counted once, however long nobody started
// after it: what was applied of it is not forgotten while it is there.
func TestStartAfterALongTime(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db, dir := openStore(t, url), t.TempDir()
		m, stop := start(t, db, dir)
		m.Record(visit("m", 1, 1))
		flush(t, m) // applied, and too small to be deleted yet
		names := spools(t, dir)
		if len(names) != 1 {
			t.Fatalf("files %q", names)
		}
		text, err := os.ReadFile(names[0])
		if err != nil {
			t.Fatal(err)
		}
		stop() // in order, so that the file goes; a killed process leaves it
		if err := os.WriteFile(names[0], text, 0o600); err != nil {
			t.Fatal(err)
		}
		later := func(o *usage.Options) {
			now := o.Now
			o.Now = func() time.Time { return now().Add(31 * 24 * time.Hour) }
		}
		m, stop = start(t, db, dir, later)
		flush(t, m)
		from := usage.Query{From: noon, To: noon.Add(time.Hour)}
		if row := ask(t, m, owner, from)[0]; row.Requests != 1 {
			t.Errorf("%d requests are counted, want 1", row.Requests)
		}
		stop()
		// It is gone now, and the next start forgets it.
		m, _ = start(t, db, dir, later)
		flush(t, m)
		var marks int64
		err = db.View(t.Context(), access.InstanceOrganization, func(tx *store.Tx) error {
			return tx.Row(t.Context(), `SELECT count(*) FROM usage_spools WHERE organization = $1`, access.InstanceOrganization).Scan(&marks)
		})
		if err != nil || marks != 0 {
			t.Errorf("%d marks of files that are gone are kept, %v", marks, err)
		}
	})
}

// A crash in the middle of a line, and a disk that changes bytes, cost the lines
// they hit and no other.
func TestDamagedSpool(t *testing.T) {
	db, dir := openStore(t, filepath.Join(t.TempDir(), "g.db")), t.TempDir()
	var text []byte
	for i := range 5 {
		var err error
		if text, err = usage.AppendLine(text, visit(fmt.Sprint("m", i), 1, 1)); err != nil {
			t.Fatal(err)
		}
	}
	text = bytes.Replace(text, []byte(`"m2"`), []byte(`"m3"`), 1)            // another model: the checksum tells
	text = append(text, "\x00\x00\n00000000 {}\nnonsense\n\n"...)            // nothing
	text = append(text, text[:bytes.IndexByte(text, '\n')-5]...)             // the first line, cut
	name := filepath.Join(dir, "0197c3f2-0000-7000-8000-000000000001.spool") // left by a dead process
	foreign := filepath.Join(dir, "notes.spool")                             // not a file of ours
	for file, text := range map[string][]byte{name: text, foreign: []byte("x")} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m, _ := start(t, db, dir)
	flush(t, m)
	var models []string
	for _, row := range ask(t, m, owner, usage.Query{GroupBy: []usage.Dimension{usage.Model}}) {
		models = append(models, row.Model)
	}
	if diff := cmp.Diff([]string{"m0", "m1", "m3", "m4"}, models); diff != "" {
		t.Error(diff)
	}
	if b := m.Backlog(); b.Lost != 6 || b.Bytes != 0 {
		t.Errorf("%+v", b)
	}
	if diff := cmp.Diff([]string{foreign}, spools(t, dir)); diff != "" {
		t.Error(diff)
	}
}

// Two processes with one folder and one database take nothing from each other.
func TestTwoMetersOneFolder(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db, dir := openStore(t, url), t.TempDir()
		one, _ := start(t, db, dir)
		one.Record(visit("m", 1, 1))
		flush(t, one)
		two, _ := start(t, db, dir)
		var both sync.WaitGroup
		for _, m := range []*usage.Meter{one, two} {
			both.Go(func() {
				for i := range 500 {
					m.Record(visit(fmt.Sprint("m", i%7), 1, 1))
					if i%100 == 0 {
						_ = m.Flush(t.Context())
					}
				}
			})
		}
		both.Wait()
		flush(t, one)
		flush(t, two)
		if got := requests(t, one); got != 1001 {
			t.Errorf("%d requests are counted, want 1001", got)
		}
	})
}

// FuzzSpoolLine reads hostile lines: what is read is bounded and comes back the
// same.
func FuzzSpoolLine(f *testing.F) {
	line, err := usage.AppendLine(nil, visit("gpt", 1, 2))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line[:len(line)-1])
	f.Add([]byte("00000000 "))
	f.Add([]byte("e3069283 {\"organization\":\"a\"}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := usage.ParseLine(b)
		if err != nil {
			return
		}
		again, err := usage.AppendLine(nil, r)
		if err != nil {
			t.Fatal(err)
		}
		back, err := usage.ParseLine(again[:len(again)-1])
		if diff := cmp.Diff(r, back); err != nil || diff != "" {
			t.Errorf("%v\n%s", err, diff)
		}
		if len(r.Member) > 300 || len(r.Model) > tokens.MaxModel {
			t.Errorf("unbounded: %+v", r)
		}
	})
}

// A damaged line is one loss, however often the database was away when it was
// read.
func TestDamageIsToldOnce(t *testing.T) {
	link := gatehousetest.NewLink(t, gatehousetest.Postgres(t))
	db, dir := openStore(t, link.URL), t.TempDir()
	text, err := usage.AppendLine([]byte("nonsense\n"), visit("m", 1, 1))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "0197c3f2-0000-7000-8000-000000000001.spool"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	link.Cut()
	var log gatehousetest.Buffer
	m, _ := start(t, db, dir, func(o *usage.Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	for end := time.Now().Add(10 * time.Second); !strings.Contains(log.String(), "usage waits for the database"); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the database is not missed")
		}
	}
	time.Sleep(200 * time.Millisecond) // some further tries
	link.Mend()
	if got := requests(t, m); got != 1 {
		t.Errorf("%d requests are counted, want 1", got)
	}
	if lost := m.Backlog().Lost; lost != 1 {
		t.Errorf("%d losses for one damaged line", lost)
	}
}
