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

// work is how a benchmark is cut into turns. Short ones are better on a machine
// that others use: more of them pass undisturbed.
type work struct {
	goroutines int
	turn       int  // operations in one turn of one side
	rounds     int  // in one iteration of the benchmark; in each, every side has one turn
	allocs     bool // whether allocations are counted

	// ready, where there is one, is called before a turn of the i-th side with the
	// number of operations, and not measured.
	ready func(i, n int)
}

// outcome is what the rounds gave for one side, one entry for each round.
type outcome struct {
	ns     []float64 // wall time of a turn by its operations
	allocs []float64 // of the whole process, by operation
}

// compare gives all sides their turns and reports the medians as NAME-ns/op and,
// where allocations are counted, NAME-allocs/op.
func compare(b *testing.B, w work, sides []side) []outcome {
	b.Helper()
	outcomes := make([]outcome, len(sides))
	round := 0
	for b.Loop() {
		for range w.rounds {
			for i := range sides {
				s := (round + i) % len(sides)
				if w.ready != nil {
					w.ready(s, w.turn)
				}
				outcomes[s].turn(w, sides[s])
			}
			round++
		}
	}
	b.ReportMetric(0, "ns/op") // the sum of all sides says nothing
	for i, s := range sides {
		b.ReportMetric(median(outcomes[i].ns), s.name+"-ns/op")
		if w.allocs {
			b.ReportMetric(median(outcomes[i].allocs), s.name+"-allocs/op")
		}
	}
	return outcomes
}

// turn measures one turn of s.
func (o *outcome) turn(w work, s side) {
	var before, after runtime.MemStats
	if w.allocs {
		runtime.ReadMemStats(&before)
	}
	begin := time.Now()
	s.run(w.goroutines, w.turn)
	spent := time.Since(begin)
	if w.allocs {
		runtime.ReadMemStats(&after)
	}
	o.ns = append(o.ns, float64(spent.Nanoseconds())/float64(w.turn))
	o.allocs = append(o.allocs, float64(after.Mallocs-before.Mallocs)/float64(w.turn))
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
