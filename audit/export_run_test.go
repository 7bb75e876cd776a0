package audit_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/internal/fault"
)

func export(t testing.TB, l *audit.Log, f audit.Filter, format audit.Format) ([]byte, audit.Manifest) {
	t.Helper()
	x, err := l.StartExport(t.Context(), owner, f, format)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	m, err := x.Write(t.Context(), &b)
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), m
}

func TestExport(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db := openStore(t, url)
		l := audit.New(db, audit.Options{FlushEvery: time.Millisecond})
		run(t, l)
		var want []string
		for i := range 1203 { // more than two pages
			put(t, db, l, audit.Event{Action: audit.PolicyUpdate, Outcome: audit.Success, OccurredAt: noon.Add(-time.Duration(i) * time.Second), Reason: fmt.Sprint("n", i),
				Request: audit.Request{UserAgent: "=cmd|'/C calc'!A0", IP: "192.0.2.7"}, Targets: []audit.Target{{Type: "policy", ID: "@pol", Name: "x"}}})
			want = append(want, fmt.Sprint("n", i))
		}
		put(t, db, l, audit.Event{Organization: "globex", Action: audit.PolicyUpdate, Outcome: audit.Success, OccurredAt: noon})

		body, m := export(t, l, audit.Filter{Action: "policy.*"}, audit.NDJSON)
		lines := strings.Split(strings.TrimSuffix(string(body), "\n"), "\n")
		var got []string
		for _, line := range lines[:len(lines)-1] {
			var e struct{ Reason, Organization, Severity string }
			if err := json.Unmarshal([]byte(line), &e); err != nil || e.Organization != "acme" || e.Severity != "notice" {
				t.Fatal(line, err)
			}
			got = append(got, e.Reason)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		last := lines[len(lines)-1]
		sum := sha256.Sum256(body[:len(body)-len(last)-1])
		var trailer struct{ Manifest audit.Manifest }
		if err := json.Unmarshal([]byte(last), &trailer); err != nil || trailer.Manifest.SHA256 != hex.EncodeToString(sum[:]) || trailer.Manifest.Events != 1203 {
			t.Errorf("the last line is %s, %v", last, err)
		}
		if diff := cmp.Diff(m, trailer.Manifest); diff != "" || m.Filter["action"] != "policy.*" || m.Organization != "acme" {
			t.Errorf("the manifest (-given +written):\n%s", diff)
		}

		body, _ = export(t, l, audit.Filter{Action: "policy.*"}, audit.CSV)
		rows, err := csv.NewReader(bytes.NewReader(body)).ReadAll()
		if err != nil || len(rows) != 1+1203+1 || rows[len(rows)-1][0] != "#manifest" {
			t.Fatalf("%d rows, %v", len(rows), err)
		}
		for _, cell := range slices.Concat(rows[1 : len(rows)-1]...) {
			if cell != "" && strings.ContainsAny(cell[:1], "=+-@\t\r") {
				t.Fatalf("a spreadsheet would run %q", cell)
			}
		}
		if rows[1][slices.Index(rows[0], "targets")] != "policy:@pol" || rows[1][slices.Index(rows[0], "userAgent")] != "'=cmd|'/C calc'!A0" {
			t.Errorf("the first row is %q", rows[1])
		}

		// Each export is in the trail, as what began and what ended.
		flush(t, l)
		page, err := l.Events(t.Context(), owner, audit.Filter{Action: "audit.export"})
		if diff := cmp.Diff([]string{"export_ended", "export_begun", "export_ended", "export_begun"}, reasons(page.Events)); diff != "" || err != nil {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	})
}

// breaking fails after n bytes, as the connection of a client that left.
type breaking struct{ n int }

func (b *breaking) Write(p []byte) (int, error) {
	if b.n -= len(p); b.n < 0 {
		return 0, io.ErrClosedPipe
	}
	return len(p), nil
}

// A client that leaves ends the reading, frees the place, and is told of.
func TestExportCutOff(t *testing.T) {
	db := openStore(t, t.TempDir()+"/gatehouse.db")
	l := audit.New(db, audit.Options{FlushEvery: time.Millisecond})
	run(t, l)
	for i := range 50 {
		put(t, db, l, slices.Repeat([]audit.Event{{Action: audit.PolicyUpdate, Outcome: audit.Success, OccurredAt: noon.Add(time.Duration(i) * time.Second)}}, 20)...)
	}
	var open []*audit.Export
	for range audit.MaxExports {
		x, err := l.StartExport(t.Context(), owner, audit.Filter{}, audit.NDJSON)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, x)
	}
	if _, err := l.StartExport(t.Context(), owner, audit.Filter{}, audit.NDJSON); !errors.Is(err, audit.ErrExports) {
		t.Errorf("one more: %v", err)
	}
	if m, err := open[0].Write(t.Context(), &breaking{100_000}); !errors.Is(err, io.ErrClosedPipe) || m.Events == 1000 {
		t.Errorf("a client that left: %d events, %v", m.Events, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := open[1].Write(ctx, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that ended: %v", err)
	}
	export(t, l, audit.Filter{}, audit.CSV)
	flush(t, l)
	page, err := l.Events(t.Context(), owner, audit.Filter{Action: "audit.export", Outcome: "partial"})
	if err != nil || len(page.Events) != 2 {
		t.Errorf("%d cut exports are told of, %v", len(page.Events), err)
	}
}

func TestWhoExports(t *testing.T) {
	l := audit.New(openStore(t, t.TempDir()+"/gatehouse.db"), audit.Options{FlushEvery: time.Millisecond})
	run(t, l)
	for role, organization := range map[access.Role]string{access.Developer: "", access.Viewer: "", access.Owner: "globex", access.Operator: "acme"} {
		var denied *access.DeniedError
		if _, err := l.StartExport(t.Context(), access.NewCaller("acme", access.User, "u", role), audit.Filter{Organization: organization}, audit.CSV); !errors.As(err, &denied) {
			t.Errorf("%s on %q: %v", role, organization, err)
		}
	}
	if _, err := l.StartExport(t.Context(), owner, audit.Filter{}, "xml"); fault.KindOf(err) != fault.Invalid {
		t.Errorf("another format: %v", err)
	}
}

// peak notes how large the heap gets while it is written to.
type peak struct {
	n, heap uint64
}

func (p *peak) Write(b []byte) (int, error) {
	if p.n++; p.n%64 == 0 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		p.heap = max(p.heap, m.HeapAlloc)
	}
	return len(b), nil
}

// 200,000 events, about 100 MB, go through a few megabytes of memory. `make test` runs it without the race detector,
// whose own memory is none of an export's.
func TestExportInFlatMemory(t *testing.T) {
	if raced {
		t.Skip("without the race detector: go test -run TestExportInFlatMemory ./audit")
	}
	db := openStore(t, t.TempDir()+"/gatehouse.db")
	l := audit.New(db, audit.Options{FlushEvery: time.Millisecond})
	run(t, l)
	const n = 200_000
	fill(t, db, "acme", n)
	var before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	x, err := l.StartExport(t.Context(), owner, audit.Filter{}, audit.NDJSON)
	if err != nil {
		t.Fatal(err)
	}
	var p peak
	m, err := x.Write(t.Context(), &p)
	if err != nil || m.Events < n {
		t.Fatalf("%d events, %v", m.Events, err)
	}
	grown := float64(p.heap) - float64(before.HeapAlloc)
	t.Logf("%d events, the heap grew by %.1f MB", m.Events, grown/(1<<20))
	if grown > 16<<20 {
		t.Errorf("the heap grew by %.1f MB, want at most 16", grown/(1<<20))
	}
}
