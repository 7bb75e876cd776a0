package usage_test

import (
	"bytes"
	"context"
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

func TestMain(m *testing.M) { gatehousetest.Main(m) }

// noon is when everything in these tests happens.
var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

var (
	owner    = access.NewCaller("acme", access.User, "u-1", access.Owner)
	operator = access.NewCaller("acme", access.User, "u-1", access.Operator)
)

func openStore(t testing.TB, url string) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), url, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// start makes a meter over dir and runs it until the function it gives is
// called, or the test ends.
func start(t testing.TB, db *store.DB, dir string, change ...func(*usage.Options)) (m *usage.Meter, stop func()) {
	t.Helper()
	o := usage.Options{Dir: dir, WriteEvery: 5 * time.Millisecond, ApplyEvery: 20 * time.Millisecond,
		Now: func() time.Time { return noon.Add(30 * time.Minute) }}
	for _, c := range change {
		c(&o)
	}
	m, err := usage.New(db, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); m.Run(ctx) }()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	return m, stop
}

func flush(t testing.TB, m *usage.Meter) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := m.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

// ask gives the rows of a query.
func ask(t testing.TB, m *usage.Meter, caller access.Caller, q usage.Query) []usage.Row {
	t.Helper()
	page, err := m.Query(t.Context(), caller, q)
	if err != nil {
		t.Fatal(err)
	}
	return page.Rows
}

// requests gives how many requests acme made in all.
func requests(t testing.TB, m *usage.Meter) int64 {
	t.Helper()
	return ask(t, m, owner, usage.Query{})[0].Requests
}

// visit is a counted request of acme's.
func visit(model string, input, output int64) usage.Record {
	return usage.Record{At: noon, Organization: "acme", Service: "openai", Model: model, Credential: "cred_1", Member: "u-1", Expected: true,
		Tokens: tokens.Counts{Input: tokens.Of(input), Output: tokens.Of(output)}, BytesIn: 10, BytesOut: 100}
}

func TestRecordAndQuery(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		m, _ := start(t, openStore(t, url), t.TempDir())
		m.Record(visit("gpt-a", 7, 3))
		m.Record(visit("gpt-a", 1, 1))
		b := visit("gpt-b", 0, 0)
		b.Member, b.At = "u-2", noon.Add(-time.Hour)
		b.Tokens.CacheRead, b.Tokens.CacheWrite, b.Tokens.Reasoning = tokens.Of(4), tokens.Of(5), tokens.Of(6)
		m.Record(b)
		left := visit("gpt-a", 0, 0)
		left.Tokens, left.Partial = tokens.Counts{}, true
		m.Record(left)
		failed := left
		failed.Partial, failed.Failed = false, true
		m.Record(failed)
		m.Record(usage.Record{At: noon.Add(20 * time.Minute), Organization: "acme", Service: "stripe", Member: "u-2", BytesIn: -5})
		other := visit("gpt-a", 1000, 1000)
		other.Organization = "globex"
		m.Record(other)
		old := visit("gpt-a", 500, 500)
		old.At = noon.Add(-48 * time.Hour)
		m.Record(old)

		for name, test := range map[string]struct {
			caller access.Caller
			query  usage.Query
			want   []usage.Row
		}{
			"everything of a day": {owner, usage.Query{}, []usage.Row{{Requests: 6, Failed: 1, Partial: 1, Counted: 3, Uncounted: 1,
				InputTokens: 8, OutputTokens: 4, CacheReadTokens: 4, CacheWriteTokens: 5, ReasoningTokens: 6, BytesIn: 50, BytesOut: 500}}},
			"by service and model": {owner, usage.Query{GroupBy: []usage.Dimension{usage.Model, usage.Service}}, []usage.Row{
				{Service: "openai", Model: "gpt-a", Requests: 4, Failed: 1, Partial: 1, Counted: 2, Uncounted: 1, InputTokens: 8, OutputTokens: 4, BytesIn: 40, BytesOut: 400},
				{Service: "openai", Model: "gpt-b", Requests: 1, Counted: 1, CacheReadTokens: 4, CacheWriteTokens: 5, ReasoningTokens: 6, BytesIn: 10, BytesOut: 100},
				{Service: "stripe", Requests: 1}}},
			"by hour": {owner, usage.Query{GroupBy: []usage.Dimension{usage.Hour}, Service: "openai", Model: "gpt-b"}, []usage.Row{
				{Hour: noon.Add(-time.Hour), Requests: 1, Counted: 1, CacheReadTokens: 4, CacheWriteTokens: 5, ReasoningTokens: 6, BytesIn: 10, BytesOut: 100}}},
			"one member":           {owner, usage.Query{Member: "u-2", Service: "stripe"}, []usage.Row{{Requests: 1}}},
			"one credential":       {owner, usage.Query{Credential: "cred_2"}, []usage.Row{{}}},
			"a time without usage": {owner, usage.Query{From: noon.Add(time.Hour), To: noon.Add(2 * time.Hour), GroupBy: []usage.Dimension{usage.Hour}}, nil},
			"an older day": {owner, usage.Query{From: noon.Add(-72 * time.Hour), To: noon.Add(-47 * time.Hour)}, []usage.Row{{Requests: 1, Counted: 1, InputTokens: 500,
				OutputTokens: 500, BytesIn: 10, BytesOut: 100}}},
			"by organization": {operator, usage.Query{Organization: usage.AllOrganizations, GroupBy: []usage.Dimension{usage.Organization}, Service: "openai", Model: "gpt-a"}, []usage.Row{
				{Organization: "acme", Requests: 4, Failed: 1, Partial: 1, Counted: 2, Uncounted: 1, InputTokens: 8, OutputTokens: 4, BytesIn: 40, BytesOut: 400},
				{Organization: "globex", Requests: 1, Counted: 1, InputTokens: 1000, OutputTokens: 1000, BytesIn: 10, BytesOut: 100}}},
			"another organization": {operator, usage.Query{Organization: "globex", GroupBy: []usage.Dimension{usage.Member}}, []usage.Row{
				{Member: "u-1", Requests: 1, Counted: 1, InputTokens: 1000, OutputTokens: 1000, BytesIn: 10, BytesOut: 100}}},
			"a developer's own": {access.NewCaller("acme", access.User, "u-2", access.Developer), usage.Query{GroupBy: []usage.Dimension{usage.Service}}, []usage.Row{
				{Service: "openai", Requests: 1, Counted: 1, CacheReadTokens: 4, CacheWriteTokens: 5, ReasoningTokens: 6, BytesIn: 10, BytesOut: 100},
				{Service: "stripe", Requests: 1}}},
		} {
			if diff := cmp.Diff(test.want, ask(t, m, test.caller, test.query)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
		// Every page size gives the same rows in all.
		all := usage.Query{Organization: "*", From: noon.Add(-90 * time.Hour), GroupBy: usage.Dimensions()}
		want := ask(t, m, operator, all)
		for size := 1; size <= len(want)+1; size++ {
			q, got := all, []usage.Row(nil)
			q.Limit = size
			for {
				page, err := m.Query(t.Context(), operator, q)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, page.Rows...)
				if q.Cursor = page.NextCursor; q.Cursor == "" {
					break
				}
			}
			if diff := cmp.Diff(want, got); diff != "" || len(want) != 5 {
				t.Errorf("pages of %d (-want +got):\n%s", size, diff)
			}
		}
	})
}

func TestWhoMayQuery(t *testing.T) {
	m, _ := start(t, openStore(t, filepath.Join(t.TempDir(), "g.db")), t.TempDir())
	as := func(roles ...access.Role) access.Caller {
		return access.NewCaller("acme", access.User, "u-2", roles...)
	}
	for _, test := range []struct {
		caller access.Caller
		query  usage.Query
		may    bool
	}{
		{as(access.Owner), usage.Query{}, true},
		{as(access.Auditor), usage.Query{Member: "u-1"}, true},
		{as(access.Developer), usage.Query{Member: "u-2"}, true},
		{as(access.Developer), usage.Query{Member: "u-1"}, false},
		{as(access.ServiceRole), usage.Query{}, true},
		{as(access.Viewer), usage.Query{}, false},
		{as(), usage.Query{}, false},
		{as(access.Owner), usage.Query{Organization: "globex"}, false},
		{as(access.Developer), usage.Query{Organization: "globex", Member: "u-2"}, false},
		{as(access.Owner), usage.Query{Organization: "*"}, false},
		{as(access.Owner), usage.Query{Organization: "_instance"}, false},
		{as(access.Operator), usage.Query{Organization: "globex"}, true},
		{as(access.Operator), usage.Query{Organization: "*"}, true},
	} {
		if _, err := m.Query(t.Context(), test.caller, test.query); (err == nil) != test.may {
			t.Errorf("%v %+v: %v", test.caller.Roles, test.query, err)
		}
	}
}

func TestMistakesInQueries(t *testing.T) {
	m, _ := start(t, openStore(t, filepath.Join(t.TempDir(), "g.db")), t.TempDir())
	for i := range 3 {
		m.Record(visit(fmt.Sprint("m", i), 1, 1))
	}
	page, err := m.Query(t.Context(), owner, usage.Query{GroupBy: []usage.Dimension{usage.Model}, Limit: 1})
	if err != nil || page.NextCursor == "" {
		t.Fatal(page, err)
	}
	for name, q := range map[string]usage.Query{
		"order":            {From: noon, To: noon.Add(-time.Hour)},
		"nothing between":  {From: noon, To: noon},
		"too long":         {From: noon.Add(-401 * 24 * time.Hour), To: noon},
		"before the epoch": {From: time.Unix(-7200, 0), To: time.Unix(0, 0)},
		"limit":            {Limit: usage.MaxLimit + 1},
		"negative limit":   {Limit: -1},
		"a column":         {GroupBy: []usage.Dimension{"requests"}},
		"SQL":              {GroupBy: []usage.Dimension{"hour; DROP TABLE usage_hours"}},
		"no cursor":        {GroupBy: []usage.Dimension{usage.Model}, Cursor: "x"},
		"other groups":     {GroupBy: []usage.Dimension{usage.Service}, Cursor: page.NextCursor},
		"no groups":        {Cursor: page.NextCursor},
	} {
		_, err := m.Query(t.Context(), owner, q)
		if err == nil || strings.Contains(err.Error(), "DROP") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is hostile is bounded, and does not keep anything else from the table.
func TestHostileRecords(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db, dir := openStore(t, url), t.TempDir()
		m, stop := start(t, db, dir)
		for i := range 3 * usage.MaxModels {
			m.Record(visit(fmt.Sprintf("made-up-%d", i), 1, 0))
		}
		r := visit("a\x00b\xff\n", 1, 0)
		r.Member = strings.Repeat("ü\x00\xff", 1000)
		r.Credential, r.Service = "\x00", "\xff\xfe"
		m.Record(r)
		byModel := usage.Query{GroupBy: []usage.Dimension{usage.Model}, Limit: 1000}
		check := func(m *usage.Meter, want int64) {
			t.Helper()
			rows := ask(t, m, owner, byModel)
			var all, other int64
			for _, row := range rows {
				all += row.InputTokens
				if row.Model == tokens.OtherModel {
					other = row.InputTokens
				}
			}
			if all != want || len(rows) != usage.MaxModels+1 || other != want-usage.MaxModels {
				t.Errorf("%d models with %d tokens, %d of them of others; want %d of %d", len(rows), all, other, want-usage.MaxModels, want)
			}
		}
		check(m, 3*usage.MaxModels+1)
		stop()
		// The bound is the table's, not the process's.
		m, _ = start(t, db, dir)
		m.Record(visit("one-more", 1, 0))
		check(m, 3*usage.MaxModels+2)
		for _, row := range ask(t, m, owner, usage.Query{GroupBy: []usage.Dimension{usage.Member}}) {
			if len(row.Member) > 256 {
				t.Errorf("a member of %d bytes", len(row.Member))
			}
		}
		if b := m.Backlog(); b.Lost != 0 || b.Bytes != 0 || b.Queued != 0 {
			t.Errorf("%+v", b)
		}
	})
}

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
	if n := strings.Count(log.String(), "usage waits in the spool"); n > 1 {
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

// A folder that cannot be written keeps visits in memory, says so, and lets none
// be lost that runs.
func TestDiskAway(t *testing.T) {
	if os.Getuid() == 0 {
		// Permissions do not bind root; a folder that is gone does.
		t.Log("as root, by removing the folder")
	}
	db, dir := openStore(t, filepath.Join(t.TempDir(), "g.db")), filepath.Join(t.TempDir(), "spool")
	m, _ := start(t, db, dir, func(o *usage.Options) { o.MaxSpool = 100 * 256 })
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	sent := int64(0)
	for m.Ready() == nil {
		m.Record(visit("m", 1, 1))
		sent++
	}
	if sent != 100 {
		t.Errorf("full after %d", sent)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); m.Ready() != nil; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("full for good")
		}
	}
	flush(t, m)
	if got := requests(t, m); got != sent {
		t.Errorf("%d requests are counted, want %d", got, sent)
	}
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
