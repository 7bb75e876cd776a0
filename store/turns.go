package store

import (
	"context"
	"sync"
)

// turns lets the transactions that lost a race be run again one at a time for
// each organization: together they would make each other lose once more, and
// on a busy machine some of them would lose every time. The zero value is ready.
type turns struct {
	mu     sync.Mutex
	queues map[string]*turn // of the organizations for which somebody waits
}

type turn struct {
	free chan struct{} // holds one token while it is nobody's turn
	in   int           // how many have the turn or wait for it
}

// take waits for the turn of organization and gives what hands it on, which is to
// be called once. The error is that of ctx.
func (t *turns) take(ctx context.Context, organization string) (done func(), err error) {
	t.mu.Lock()
	if t.queues == nil {
		t.queues = make(map[string]*turn)
	}
	q := t.queues[organization]
	if q == nil {
		q = &turn{free: make(chan struct{}, 1)}
		q.free <- struct{}{}
		t.queues[organization] = q
	}
	q.in++
	t.mu.Unlock()

	select {
	case <-q.free:
		return func() { q.free <- struct{}{}; t.leave(organization, q) }, nil
	case <-ctx.Done():
		t.leave(organization, q)
		return nil, ctx.Err()
	}
}

func (t *turns) leave(organization string, q *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if q.in--; q.in == 0 {
		delete(t.queues, organization)
	}
}
