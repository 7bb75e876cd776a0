package audit

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/store"
)

// A transaction that loses a race runs again: what the first run had in hand is in the second's too.
func TestErasureAfterALostRace(t *testing.T) {
	l := openLog(t, Options{})
	running, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.Run(running)
	}()
	defer func() {
		stop()
		<-ended
	}()
	marie := access.NewCaller("acme", access.User, "marie", access.Owner)
	const events = 5
	err := l.db.Update(t.Context(), "acme", func(tx *store.Tx) error {
		for range events {
			e := Event{Action: CredentialTest, Outcome: Success, Request: Request{IP: "192.0.2.1"}}
			if err := l.Append(t.Context(), tx, marie, e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	lost := false
	l.insert = func(ctx context.Context, tx *store.Tx, rows []row) error {
		if err := insert(ctx, tx, rows); err != nil || lost {
			return err
		}
		lost = true
		return &pgconn.PgError{Code: "40001"} // serialization_failure
	}
	n, err := l.ErasePerson(t.Context(), access.NewCaller("acme", access.User, "anna", access.Owner), "marie")
	if err != nil || n != events || !lost {
		t.Errorf("erased the data of %d events, a race was lost: %v, %v; want %d, true", n, lost, err, events)
	}
	var left int
	err = l.db.View(t.Context(), "acme", func(tx *store.Tx) error {
		return tx.Row(t.Context(), `SELECT count(*) FROM event_persons p JOIN events e ON e.organization = p.organization AND e.id = p.event_id
			WHERE e.organization = 'acme' AND e.actor_id = 'marie'`).Scan(&left)
	})
	if err != nil || left != 0 {
		t.Errorf("%d events still say where marie was, %v; want none", left, err)
	}
}
