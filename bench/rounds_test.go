package bench

import (
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
)

// side is one of the things that a benchmark compares. run does n operations,
// spread over that many goroutines, and comes back when all are done.
type side struct {
	name string
	run  func(goroutines, n int)
}

// outcome is what the rounds gave for one side, one entry for each round.
type outcome struct {
	ns     []float64 // wall time of a turn by its operations
	allocs []float64 // of the whole process, by operation
}

// compare gives every side one turn of n operations in each iteration of b, and
// reports the medians as NAME-ns/op and, where allocs is set, NAME-allocs/op.
func compare(b *testing.B, goroutines, n int, allocs bool, sides []side) []outcome {
	b.Helper()
	outcomes := make([]outcome, len(sides))
	round := 0
	for b.Loop() {
		for i := range sides {
			s := (round + i) % len(sides)
			var before, after runtime.MemStats
			if allocs {
				runtime.ReadMemStats(&before)
			}
			begin := time.Now()
			sides[s].run(goroutines, n)
			spent := time.Since(begin)
			if allocs {
				runtime.ReadMemStats(&after)
			}
			outcomes[s].ns = append(outcomes[s].ns, float64(spent.Nanoseconds())/float64(n))
			outcomes[s].allocs = append(outcomes[s].allocs, float64(after.Mallocs-before.Mallocs)/float64(n))
		}
		round++
	}
	b.ReportMetric(0, "ns/op") // the sum of all sides says nothing
	for i, s := range sides {
		b.ReportMetric(median(outcomes[i].ns), s.name+"-ns/op")
		if allocs {
			b.ReportMetric(median(outcomes[i].allocs), s.name+"-allocs/op")
		}
	}
	return outcomes
}

// ratio gives the median of a over b, round by round.
func ratio(a, b []float64) float64 {
	ratios := make([]float64, len(a))
	for i := range a {
		ratios[i] = a[i] / b[i]
	}
	return median(ratios)
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// spread runs work in as many goroutines, each with its share of n, and waits.
func spread(goroutines, n int, work func(worker, n int)) {
	var all sync.WaitGroup
	for worker := range goroutines {
		all.Go(func() { work(worker, n/goroutines) })
	}
	all.Wait()
}
