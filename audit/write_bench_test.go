package audit_test

import (
	"context"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/store"
)

// BenchmarkWriters measures 64 writers of access events until they are durable, and
// how long the last of them took to the disk. Asked are 10,000 a second, each
// within a second.
func BenchmarkWriters(b *testing.B) {
	bench := func(b *testing.B, url string) {
		db := openStore(b, url)
		durable(b, db)
		l := audit.New(db, audit.Options{})
		ctx, cancel := context.WithCancel(b.Context())
		done := make(chan struct{})
		go func() { defer close(done); l.Run(ctx) }()
		defer func() { cancel(); <-done }()
		caller := access.NewCaller("acme", access.User, "u_1", access.Developer)
		request := audit.WithRequest(ctx, &audit.Request{ID: "req_01a20896-bf5d-70ab-8436-8383c80a02ae", Method: "POST", Route: "/api/chat/{service}/{path...}",
			IP: "203.0.113.7", UserAgent: "OpenAI/Python 1.0", Status: 200})
		const rate, seconds = 10_000, 3
		var late, full int64
		var rates []float64
		for b.Loop() {
			// As fast as the disk takes them.
			const n = 30_000
			start := time.Now()
			write(l, request, caller, n, 0, &full)
			if err := l.Flush(ctx); err != nil {
				b.Fatal(err)
			}
			rates = append(rates, n/time.Since(start).Seconds())
			// At the rate that is asked for: how long one that was handed in last waits.
			var worst time.Duration
			for range seconds {
				write(l, request, caller, rate, time.Second, &full)
				start := time.Now()
				if err := l.Flush(ctx); err != nil {
					b.Fatal(err)
				}
				worst = max(worst, time.Since(start))
			}
			late = max(late, worst.Milliseconds())
		}
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(rates[len(rates)/2], "events/s")
		b.ReportMetric(rates[len(rates)/2]/10_000, "of-10000/s")
		b.ReportMetric(float64(late), "ms-to-disk-at-10000/s")
		b.ReportMetric(float64(full), "refused")
		b.Logf("%d cores", runtime.NumCPU())
	}
	b.Run("sqlite", func(b *testing.B) { bench(b, filepath.Join(b.TempDir(), "gatehouse.db")) })
	b.Run("postgresql", func(b *testing.B) { bench(b, gatehousetest.Postgres(b)) })
}

// write hands in n events from 64 writers, over a time (0: at once).
func write(l *audit.Log, request context.Context, caller access.Caller, n int, over time.Duration, full *int64) {
	const writers = 64
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			start := time.Now()
			for i := range n / writers {
				if wait := over*time.Duration(i)/time.Duration(n/writers) - time.Since(start); wait > time.Millisecond {
					time.Sleep(wait)
				}
				slot, err := l.Reserve()
				for ; err != nil; slot, err = l.Reserve() {
					atomic.AddInt64(full, 1)
					time.Sleep(time.Millisecond)
				}
				slot.Record(request, caller, audit.Event{
					Action: audit.ChatRequest, Outcome: audit.Success, Permission: "credential:use",
					Targets: []audit.Target{{Type: "service", ID: "openai"}, {Type: "credential", ID: "cred_01a20896-bf3a-7619-a139-4d737fca75d1", Name: "Default"}},
				})
			}
		})
	}
	all.Wait()
}

// BenchmarkControlChange compares a change with its event to the same transaction
// without it, 8 writers, in turns. Asked are at most 1.5 times.
func BenchmarkControlChange(b *testing.B) {
	bench := func(b *testing.B, url string) {
		db := openStore(b, url)
		l := audit.New(db, audit.Options{})
		durable(b, db)
		exec(b, db, `CREATE TABLE things (id BIGINT PRIMARY KEY, n BIGINT NOT NULL, name TEXT NOT NULL)`)
		compareChanges(b, func(event bool, _, n int) error {
			return db.Update(b.Context(), "acme", func(tx *store.Tx) error {
				if _, err := tx.Exec(b.Context(), `INSERT INTO things (id, n, name) VALUES ($1, 1, 'a thing with a name')`, n); err != nil || !event {
					return err
				}
				return l.Append(b.Context(), tx, owner, audit.Event{Action: audit.PolicyUpdate, Outcome: audit.Success,
					Targets: []audit.Target{{Type: "policy", ID: "pol_1"}}, Request: audit.Request{IP: "192.0.2.7", UserAgent: "curl", Route: "/api/x"}})
			})
		})
	}
	b.Run("sqlite", func(b *testing.B) { bench(b, filepath.Join(b.TempDir(), "gatehouse.db")) })
	b.Run("postgresql", func(b *testing.B) { bench(b, gatehousetest.Postgres(b)) })
}

// changeWriters are how many make changes at once.
const changeWriters = 8

// compareChanges measures a change with its event and without it, in turns, and
// reports the ratio. n is another number each time.
func compareChanges(b *testing.B, change func(event bool, writer, n int) error) {
	b.Helper()
	const each = 25
	var n atomic.Int64
	round := func(event bool) (all []time.Duration) {
		var mu sync.Mutex
		var writers sync.WaitGroup
		for w := range changeWriters {
			writers.Go(func() {
				for range each {
					start := time.Now()
					if err := change(event, w, int(n.Add(1))); err != nil {
						b.Error(err)
						return
					}
					took := time.Since(start)
					mu.Lock()
					all = append(all, took)
					mu.Unlock()
				}
			})
		}
		writers.Wait()
		return all
	}
	round(true)
	round(false)
	var with, without []time.Duration
	for b.Loop() {
		without, with = append(without, round(false)...), append(with, round(true)...)
	}
	if b.Failed() {
		return
	}
	w, o := median(with), median(without) // sorts both
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(o.Microseconds()), "µs-without")
	b.ReportMetric(float64(w)/float64(o), "ratio-p50")
	b.ReportMetric(float64(with[len(with)*99/100])/float64(without[len(without)*99/100]), "ratio-p99")
}

// durable makes commits wait for the disk, as they do outside of tests: the test
// server of PostgreSQL is set up not to. It holds for sessions from now on.
func durable(b *testing.B, db *store.DB) {
	b.Helper()
	if db.Kind() == "postgresql" {
		exec(b, db, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = on', current_database()); END $$`)
		exec(b, db, `SET synchronous_commit = on`) // the session that is there
	}
}
