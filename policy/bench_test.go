package policy_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/policy"
)

// BenchmarkDecision is a decision in memory without policies and under many.
func BenchmarkDecision(b *testing.B) {
	for _, n := range []int{0, 10, 3000} {
		b.Run(fmt.Sprint(n, "-policies"), func(b *testing.B) {
			r := newRoom(b, sqlite(b))
			for i := range n {
				d := policy.Draft{Effect: "block", CIDR: fmt.Sprintf("10.%d.%d.0/24", i/250, i%250)}
				switch i % 3 {
				case 1:
					d = policy.Draft{Effect: "limit", Subject: "org", Organization: fmt.Sprint("org", i), Limits: []string{"1000000/1ms"}}
				case 2:
					d = policy.Draft{Effect: "exempt", CIDR: fmt.Sprintf("2001:db8:%x::/48", i)}
				}
				r.make(b, operator, d)
			}
			q, caller := r.prepare(visit{"org1", "192.0.2.1", "openai", "v1/chat/completions"})
			v := policy.Visit{Addr: addrOf("192.0.2.1"), Service: "openai", Path: "v1/chat/completions"}
			now, ctx := r.now, b.Context()
			b.ReportAllocs()
			for b.Loop() {
				now = now.Add(time.Minute)
				r.Prepare(q, caller, v, now)
				if err := r.Take(ctx, caller, now, q); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
