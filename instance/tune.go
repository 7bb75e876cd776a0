package instance

import (
	"io"
	"log"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// How much garbage may be beside what lives, in percent of it. What lives in an
// idle instance is small, so collecting at twice its size would collect all the
// time; with hundreds of connections open it is not, and four times as much again
// would be most of the process.
const (
	mostGarbage  = 400
	leastGarbage = 100
	smallHeap    = 48 << 20 // bytes, up to which a heap may grow whatever lives in it
)

// Tune sets up the Go runtime for a process that does nothing but serve. GOGC in
// the environment has the last word on garbage. And net/http writes to the standard
// logger what an upstream sent behind its answer, which may be anything: that
// logger falls silent.
func Tune() {
	log.SetOutput(io.Discard)
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(mostGarbage)
		afterEachCollection(mostGarbage)
	}
}

// afterEachCollection fits the garbage that may be to what the collection left.
// now is what is set.
func afterEachCollection(now int) {
	// What nothing refers to is finalized after the collection that finds it.
	runtime.SetFinalizer(new([64]byte), func(*[64]byte) {
		sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(sample)
		if sample[0].Value.Kind() == metrics.KindUint64 {
			if next := garbageBeside(sample[0].Value.Uint64()); next < now*9/10 || next > now*11/10 { // to set it stops the world
				debug.SetGCPercent(next)
				now = next
			}
		}
		afterEachCollection(now)
	})
}

// garbageBeside gives the percentage for a heap in which live bytes live.
func garbageBeside(live uint64) int {
	if live == 0 || live >= smallHeap {
		return leastGarbage
	}
	return int(min(mostGarbage, max(leastGarbage, (smallHeap-live)*100/live)))
}
