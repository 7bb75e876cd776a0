package usage_test

import (
	"context"
	"fmt"
	"log/slog"
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
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := m.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

// ask gives the rows of a query.
func ask(t testing.TB, m *usage.Meter, caller access.Caller, q usage.Query) []usage.Row {
	t.Helper()
	flush(t, m) // Query itself waits for a second at most
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
	flush(t, m)
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

// What is below 0 in the options is a default, and no panic of a ticker.
func TestOptionsBelowZero(t *testing.T) {
	db := openStore(t, t.TempDir()+"/gatehouse.db")
	m, _ := start(t, db, t.TempDir(), func(o *usage.Options) { o.WriteEvery, o.ApplyEvery, o.MaxSpool = -1, -time.Second, -1 })
	if err := m.Ready(); err != nil {
		t.Error(err)
	}
	m.Record(usage.Record{Organization: "acme", Service: "openai", Member: "u1"})
	flush(t, m)
}
