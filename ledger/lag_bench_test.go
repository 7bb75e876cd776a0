package ledger_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/ledger"
	"github.com/gatehouse-io/gatehouse/store"
)

// BenchmarkSealingLag measures how long after it was handed to the database an event
// is sealed, with 64 writers that write so many events a second for ten seconds. The
// issue asks for less than two seconds at the 99th of 100.
func BenchmarkSealingLag(b *testing.B) {
	for _, kind := range []string{"sqlite", "postgresql"} {
		for _, rate := range []int{1000, 10_000} {
			b.Run(fmt.Sprintf("%s/%d", kind, rate), func(b *testing.B) {
				url := b.TempDir() + "/gatehouse.db"
				if kind == "postgresql" {
					url = gatehousetest.Postgres(b)
				}
				k := newBook(b, url, ledger.Options{})
				k.visit(b, "acme", 0)
				k.flush(b)
				k.sealAll(b)
				running, stop := context.WithCancel(b.Context())
				var sealer sync.WaitGroup
				sealer.Go(func() { k.Run(running) })
				defer func() { stop(); sealer.Wait() }()
				var lags []time.Duration
				for b.Loop() {
					lags = append(lags, k.lags(b, rate, 10*time.Second)...)
				}
				slices.Sort(lags)
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(float64(lags[len(lags)/2].Milliseconds()), "ms-p50")
				b.ReportMetric(float64(lags[len(lags)*99/100].Milliseconds()), "ms-p99")
			})
		}
	}
}

// lags writes access events, and gives how long each waited for its seal, to what
// looking each 20 ms tells.
func (b *book) lags(tb *testing.B, rate int, over time.Duration) (all []time.Duration) {
	type look struct {
		at   time.Time
		size int64
	}
	var looks []look
	var first, size int64
	read := `SELECT size FROM ledger_logs WHERE organization = 'acme' AND class = 'access'`
	b.scan(tb, &first, read)
	end := first + int64(rate)*int64(over/time.Second)/64*64
	const writers = 64
	var writing sync.WaitGroup
	for range writers {
		writing.Go(func() {
			start, n := time.Now(), rate*int(over/time.Second)/writers
			for i := range n {
				if wait := over*time.Duration(i)/time.Duration(n) - time.Since(start); wait > time.Millisecond {
					time.Sleep(wait)
				}
				slot, err := b.trail.Reserve()
				for ; err != nil; slot, err = b.trail.Reserve() {
					time.Sleep(time.Millisecond)
				}
				slot.Record(tb.Context(), ownerOf("acme"), audit.Event{Action: audit.ChatRequest, Outcome: audit.Success,
					Targets: []audit.Target{{Type: "service", ID: "openai"}, {Type: "credential", ID: "cred_1", Name: "Default"}},
					Request: audit.Request{Method: "POST", Route: "/api/chat/{service}/{path...}", IP: "203.0.113.7", UserAgent: "OpenAI/Python 1.0", Status: 200}})
			}
		})
	}
	for size < end {
		if b.scan(tb, &size, read); len(looks) == 0 || looks[len(looks)-1].size < size {
			looks = append(looks, look{time.Now(), size})
		}
		time.Sleep(20 * time.Millisecond)
	}
	writing.Wait()
	next := 0
	err := b.db.View(tb.Context(), "acme", func(tx *store.Tx) error {
		return tx.Each(tb.Context(), func(scan func(...any) error) error {
			var index int64
			var recorded store.Time
			if err := scan(&index, &recorded); err != nil {
				return err
			}
			for looks[next].size <= index {
				next++
			}
			all = append(all, looks[next].at.Sub(recorded.Time))
			return nil
		}, `SELECT log_index, recorded_at FROM events WHERE organization = 'acme' AND class = 'access' AND log_index >= $1 AND log_index < $2 ORDER BY log_index`, first, end)
	})
	if err != nil {
		tb.Fatal(err)
	}
	return all
}
