package policy_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/gatehouse-io/gatehouse/policy"
	"github.com/gatehouse-io/gatehouse/store"
)

// Decisions go on while policies change, each under one whole state.
func TestDecisionsWhilePoliciesChange(t *testing.T) {
	r := newRoom(t, sqlite(t))
	p := r.make(t, operator, policy.Draft{Effect: "limit", Subject: "org", Organization: "acme", Limits: []string{"100/1s", "100/1h"}})
	stop := make(chan struct{})
	var deciders sync.WaitGroup
	for range 4 {
		deciders.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				got := r.holding(visit{"acme", "192.0.2.1", "openai", "v1/chat"})["org"]
				var a, b int
				if len(got) == 2 {
					_, _ = fmt.Sscanf(got[0], "%d/1s", &a)
					_, _ = fmt.Sscanf(got[1], "%d/1h", &b)
				}
				if a == 0 || a != b {
					t.Errorf("half of a policy: %q", got)
					return
				}
			}
		})
	}
	for i := range 40 {
		n := 101 + i
		_, err := r.UpdatePolicy(t.Context(), operator, p.ID, store.MatchOf(int64(i+1)), policy.Draft{
			Effect: "limit", Subject: "org", Organization: "acme", Limits: []string{fmt.Sprintf("%d/1s", n), fmt.Sprintf("%d/1h", n)}, Reason: "x",
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	deciders.Wait()
}

// Of changes meant for the same state one succeeds, on both databases alike.
func TestChangesRace(t *testing.T) {
	databases(t, func(t *testing.T, r *room) {
		p := r.make(t, operator, policy.Draft{Effect: "limit", Subject: "org", Limits: []string{"1/1h"}})
		var racers sync.WaitGroup
		var mu sync.Mutex
		done := 0
		for i := range 8 {
			racers.Go(func() {
				_, err := r.UpdatePolicy(t.Context(), operator, p.ID, store.MatchOf(1), policy.Draft{
					Effect: "limit", Subject: "org", Limits: []string{fmt.Sprintf("%d/1h", i+2)}, Reason: "x",
				})
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					done++
				}
			})
		}
		racers.Wait()
		all, err := r.Revisions(t.Context(), operator, p.ID)
		if err != nil || done != 1 || len(all) != 2 {
			t.Errorf("%d of 8 changes of one state were made, with %d revisions, %v", done, len(all), err)
		}
	})
}
