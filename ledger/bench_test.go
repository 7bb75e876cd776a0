//go:build unix

package ledger_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/ledger"
	"github.com/gatehouse-io/gatehouse/store"
)

// BenchmarkVerify measures the verification of a trail of 100,000 events with
// personal data, on both databases, and how fast they were sealed. The target is
// 200,000 events a second. Beside it stands how many are verified in a second of this
// process's processor time, which says the same of a machine that is busy with others.
func BenchmarkVerify(b *testing.B) {
	for _, kind := range []string{"sqlite", "postgresql"} {
		b.Run(kind, func(b *testing.B) {
			url := b.TempDir() + "/gatehouse.db"
			if kind == "postgresql" {
				url = gatehousetest.Postgres(b)
			}
			k := newBook(b, url, ledger.Options{})
			const events, batch = 100_000, 1000
			for i := range events / batch {
				err := k.db.Update(b.Context(), "acme", func(tx *store.Tx) error {
					for j := range batch {
						if err := k.append(tx, "acme", i*batch+j); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					b.Fatal(err)
				}
			}
			start := time.Now()
			k.sealAll(b)
			b.Logf("%s: %.0f events a second are sealed", kind, events/time.Since(start).Seconds())
			b.ResetTimer()
			before, looks := processorTime(b), 0
			for b.Loop() {
				looks++
				if r := k.verifyAll(b); !r.Clean() || r.Events < events {
					b.Fatalf("%+v", r)
				}
			}
			b.ReportMetric(float64(events)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(float64(events*looks)/(processorTime(b)-before).Seconds(), "events/cpu-s")
		})
	}
}

// processorTime gives how much of the processors this process has used.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
