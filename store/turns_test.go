package store

import (
	"context"
	"errors"
	"sync"
	"testing"
)

func TestTurns(t *testing.T) {
	var (
		turns  turns
		having int // of organization "a": guarded by its turn, so that the race detector looks too
		wg     sync.WaitGroup
	)
	for range 50 {
		wg.Go(func() {
			done, err := turns.take(t.Context(), "a")
			if err != nil {
				t.Error(err)
				return
			}
			defer done()
			if having++; having != 1 {
				t.Errorf("%d have the turn", having)
			}
			having--
		})
	}
	wg.Wait()

	done, err := turns.take(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	another, err := turns.take(t.Context(), "b")
	if err != nil {
		t.Fatal("one organization waits for another:", err)
	}
	another()
	gone, leave := context.WithCancel(t.Context())
	leave()
	if _, err := turns.take(gone, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting for a turn after its caller left gave %v", err)
	}
	done()
	if len(turns.queues) != 0 {
		t.Errorf("%d queues are kept when nobody waits", len(turns.queues))
	}
}
