package ratelimit_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// The limits of a chat route. BenchmarkMemoryTake asks for an IP and an
// organization at once, as each request does; its clock moves by what one
// decision a microsecond would, so that it admits and denies.
var benchLimits = [2][]ratelimit.Limit{
	{{Requests: 100, Window: time.Minute}},
	{{Requests: 1000, Window: time.Hour}},
}

func benchPair(i int) []ratelimit.Subject {
	return []ratelimit.Subject{
		{Type: "ip", Key: fmt.Sprintf("10.%d.%d.%d", i>>16&255, i>>8&255, i&255), Limits: benchLimits[0]},
		{Type: "organization", Key: "org_" + strconv.Itoa(i), Limits: benchLimits[1]},
	}
}

func BenchmarkMemoryTake(b *testing.B) {
	b.Run("hot pair", func(b *testing.B) {
		m := ratelimit.NewMemory(ratelimit.MemoryOptions{})
		benchTake(b, m, [][]ratelimit.Subject{benchPair(0)}, time.Microsecond)
	})
	// Every decision is admitted: the window slides by one request each time.
	b.Run("hot pair admitted", func(b *testing.B) {
		m := ratelimit.NewMemory(ratelimit.MemoryOptions{})
		benchTake(b, m, [][]ratelimit.Subject{benchPair(0)}, 4*time.Second)
	})
	// Limits of more than MaxExact requests, which are counted in sub-buckets.
	b.Run("hot pair of large limits", func(b *testing.B) {
		m := ratelimit.NewMemory(ratelimit.MemoryOptions{})
		pair := []ratelimit.Subject{subject("ip", "203.0.113.7", "1000000/1s"), subject("organization", "acme", "1000000/1m")}
		benchTake(b, m, [][]ratelimit.Subject{pair}, 100*time.Microsecond)
	})
	b.Run("hot pair parallel", func(b *testing.B) {
		m := ratelimit.NewMemory(ratelimit.MemoryOptions{})
		benchTakeParallel(b, m, [][]ratelimit.Subject{benchPair(0)})
	})

	b.Run("a million pairs", func(b *testing.B) {
		pairs := millionPairs()
		benchTake(b, filled(b, pairs), pairs, time.Microsecond)
	})
	b.Run("a million pairs parallel", func(b *testing.B) {
		pairs := millionPairs()
		benchTakeParallel(b, filled(b, pairs), pairs)
	})
}

// millionPairs are in an order that has nothing to do with how they are stored.
func millionPairs() [][]ratelimit.Subject {
	pairs := make([][]ratelimit.Subject, 1_000_000)
	for i := range pairs {
		pairs[(i*7919)%len(pairs)] = benchPair(i)
	}
	return pairs
}

// filled holds every pair with one request counted.
func filled(b *testing.B, pairs [][]ratelimit.Subject) *ratelimit.Memory {
	m := ratelimit.NewMemory(ratelimit.MemoryOptions{MaxKeys: 3 * len(pairs)})
	var d ratelimit.Decision
	for _, pair := range pairs {
		if err := m.Take(b.Context(), epoch, pair, &d); err != nil {
			b.Fatal(err)
		}
	}
	runtime.GC()
	return m
}

func benchTake(b *testing.B, m *ratelimit.Memory, pairs [][]ratelimit.Subject, tick time.Duration) {
	var d ratelimit.Decision
	ctx, now, i := b.Context(), epoch, 0
	if err := m.Take(ctx, now, pairs[0], &d); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := m.Take(ctx, now, pairs[i], &d); err != nil {
			b.Fatal(err)
		}
		now = now.Add(tick)
		if i++; i == len(pairs) {
			i = 0
		}
	}
}

func benchTakeParallel(b *testing.B, m *ratelimit.Memory, pairs [][]ratelimit.Subject) {
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		var d ratelimit.Decision
		ctx, now, i := b.Context(), epoch, rand.IntN(len(pairs))
		for pb.Next() {
			if err := m.Take(ctx, now, pairs[i], &d); err != nil {
				b.Error(err)
				return
			}
			now = now.Add(time.Microsecond)
			if i += 31; i >= len(pairs) {
				i %= len(pairs)
			}
		}
	})
}

// BenchmarkMemoryBytes reports what a key costs with few and many requests
// counted.
func BenchmarkMemoryBytes(b *testing.B) {
	for _, counted := range []int{1, 10, 100} {
		b.Run(strconv.Itoa(counted)+" counted", func(b *testing.B) {
			const keys = 100_000
			names := make([]string, keys)
			for i := range names {
				names[i] = fmt.Sprintf("10.%d.%d.%d", i>>16&255, i>>8&255, i&255)
			}
			for b.Loop() {
				before := heap()
				m := ratelimit.NewMemory(ratelimit.MemoryOptions{})
				subjects := []ratelimit.Subject{{Type: "ip", Limits: benchLimits[0]}}
				var d ratelimit.Decision
				for range counted {
					for i := range names {
						subjects[0].Key = names[i]
						if err := m.Take(b.Context(), epoch, subjects, &d); err != nil {
							b.Fatal(err)
						}
					}
				}
				perKey := float64(heap()-before) / keys
				b.ReportMetric(perKey, "B/key")
				b.ReportMetric(perKey-8*float64(counted), "B/key-beyond-8-a-request")
				runtime.KeepAlive(m)
			}
		})
	}
}

func heap() int64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}

// BenchmarkRedisTake is a decision on a Redis of this machine.
func BenchmarkRedisTake(b *testing.B) {
	server := startRedis(b)
	r := server.open(ratelimit.RedisOptions{Timeout: patient, MaxDenials: -1})
	for _, name := range []string{"admitted", "denied"} {
		b.Run(name, func(b *testing.B) {
			pair := []ratelimit.Subject{subject("ip", name, "1000/100ms"), subject("organization", name, "1000/1h")}
			if name == "admitted" {
				pair[1] = subject("organization", name, "1000000/1h")
			}
			var d ratelimit.Decision
			for b.Loop() {
				if err := r.Take(b.Context(), epoch, pair, &d); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
