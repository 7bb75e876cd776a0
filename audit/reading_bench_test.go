package audit_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/store"
)

// BenchmarkPages compares pages of a large trail with pages of a thousand events, in
// one process, at both ends of the time range, and prints ratios. The large trail has
// 1,000,000 events; GATEHOUSE_BENCH_EVENTS changes that.
func BenchmarkPages(b *testing.B) {
	large := 1_000_000
	if n, err := strconv.Atoi(os.Getenv("GATEHOUSE_BENCH_EVENTS")); err == nil {
		large = n
	}
	pages := func(b *testing.B, url string) {
		db := openStore(b, url)
		l := audit.New(db, audit.Options{FlushEvery: time.Millisecond})
		ctx, cancel := context.WithCancel(b.Context())
		defer cancel()
		go l.Run(ctx)
		fill(b, db, "acme", 1000)
		fill(b, db, "globex", large)
		if db.Kind() == "postgresql" {
			if err := db.UpdateAcross(ctx, func(tx *store.Tx) error { _, err := tx.Exec(ctx, "ANALYZE"); return err }); err != nil {
				b.Fatal(err)
			}
		}
		for _, bench := range []struct {
			name   string
			filter audit.Filter
		}{
			{"all", audit.Filter{}},
			{"class", audit.Filter{Class: "access"}},
			{"action", audit.Filter{Action: "chat.request"}},
			{"action prefix", audit.Filter{Action: "chat.*"}},
			{"actor", audit.Filter{Actor: "usr_07", Limit: 5}},
			{"actor prefix", audit.Filter{Actor: "usr_0*", Limit: 50}},
			{"wide prefix", audit.Filter{Actor: "usr_*"}},
			{"target", audit.Filter{Target: "cred_7"}},
			{"target and outcome", audit.Filter{Target: "cred_0", Outcome: "failure", Limit: 4}},
			{"rare target prefix", audit.Filter{Target: "cred_rare_*", Limit: 1}},
			{"rare action", audit.Filter{Action: "credential.*", Limit: 1}},
		} {
			for _, end := range []string{"newest", "oldest"} {
				b.Run(bench.name+"/"+end, func(b *testing.B) {
					cost := func(organization string, n int) time.Duration {
						caller := access.NewCaller(organization, access.User, "u-1", access.Auditor)
						f := bench.filter
						if end == "oldest" {
							f.To = noon.Add(-time.Duration(n) * time.Second).Add(500 * time.Second)
						}
						return timeOf(b, l, caller, f)
					}
					var small, big []time.Duration
					for b.Loop() {
						small, big = append(small, cost("acme", 1000)), append(big, cost("globex", large))
					}
					s, g := median(small), median(big)
					b.ReportMetric(0, "ns/op")
					b.ReportMetric(float64(s.Microseconds()), "µs-thousand")
					b.ReportMetric(float64(g.Microseconds()), "µs-"+fmt.Sprint(large))
					b.ReportMetric(float64(g)/float64(s), "ratio")
				})
			}
		}
	}
	b.Run("sqlite", func(b *testing.B) { pages(b, filepath.Join(b.TempDir(), "gatehouse.db")) })
	b.Run("postgresql", func(b *testing.B) { pages(b, gatehousetest.Postgres(b)) })
}

func timeOf(b *testing.B, l *audit.Log, caller access.Caller, f audit.Filter) time.Duration {
	start := time.Now()
	page, err := l.Events(b.Context(), caller, f)
	if err != nil || len(page.Events) == 0 {
		b.Fatalf("%d events, %v", len(page.Events), err)
	}
	return time.Since(start)
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}
