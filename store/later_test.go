package store_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/store"
)

// Statements that nobody waits for are run before what follows them, stand or fall
// with their transaction, and leave nothing for the next one of the same session.
func TestExecLater(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db := open(t, url)
		const insert = `INSERT INTO organizations (id, name, created_at) VALUES ($1, $2, $3)`
		count := func() (n int) {
			t.Helper()
			err := db.ViewAcross(t.Context(), func(tx *store.Tx) error {
				return tx.Row(t.Context(), `SELECT count(*) FROM organizations WHERE id LIKE 'org-%'`).Scan(&n)
			})
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		add := func(tx *store.Tx, ids ...string) (err error) {
			args := make([]any, 3)
			for _, id := range ids {
				copy(args, []any{id, "name", store.At(time.Unix(1, 0))}) // a list that is used again
				err = errors.Join(err, tx.ExecLater(t.Context(), insert, args...))
			}
			return err
		}
		update := func(fn func(*store.Tx) error) error { return db.UpdateAcross(t.Context(), fn) }

		var many []string
		for i := range 300 {
			many = append(many, fmt.Sprintf("org-%03d", i))
		}
		if err := update(func(tx *store.Tx) error { return add(tx, many...) }); err != nil || count() != 300 {
			t.Errorf("%d are kept, %v", count(), err)
		}
		err := update(func(tx *store.Tx) error {
			if err := add(tx, "org-seen"); err != nil {
				return err
			}
			var name string
			if err := tx.Row(t.Context(), `SELECT name FROM organizations WHERE id = 'org-seen'`).Scan(&name); err != nil || name != "name" {
				t.Errorf("a query after it sees %q, %v", name, err)
			}
			if err := add(tx, "org-changed"); err != nil {
				return err
			}
			n, err := tx.Exec(t.Context(), `UPDATE organizations SET name = 'other' WHERE id = 'org-changed'`)
			if n != 1 {
				t.Errorf("a statement after it changes %d rows, %v", n, err)
			}
			return err
		})
		if err != nil || count() != 302 {
			t.Errorf("%d are kept, %v", count(), err)
		}

		for name, fn := range map[string]func(*store.Tx) error{
			"twice":               func(tx *store.Tx) error { return add(tx, "org-new", "org-000", "org-newer") },
			"twice, and a look":   func(tx *store.Tx) error { return errors.Join(add(tx, "org-new", "org-000"), look(t, tx)) },
			"swallowed":           func(tx *store.Tx) error { _ = add(tx, "org-new", "org-000"); return nil },
			"swallowed, a look":   func(tx *store.Tx) error { _ = add(tx, "org-new", "org-000"); _ = look(t, tx); return nil },
			"after a failed one":  func(tx *store.Tx) error { _ = add(tx, "org-000"); _ = look(t, tx); return add(tx, "org-new") },
			"taken back":          func(tx *store.Tx) error { return errors.Join(add(tx, "org-new"), errors.New("taken back")) },
			"on no table":         func(tx *store.Tx) error { return tx.ExecLater(t.Context(), `INSERT INTO nowhere VALUES ($1)`, 1) },
			"of what it is not":   func(tx *store.Tx) error { return tx.ExecLater(t.Context(), insert, "org-new", nil, nil) },
			"too few":             func(tx *store.Tx) error { return tx.ExecLater(t.Context(), insert, "org-new") },
			"of an ended context": func(tx *store.Tx) error { return ended(tx, insert) },
		} {
			err := update(fn)
			if err == nil || count() != 302 {
				t.Errorf("%s: %v, and %d are kept", name, err, count())
			}
			if name == "twice" && !errors.Is(err, store.ErrExists) {
				t.Errorf("%s: %v", name, err)
			}
			if err := update(func(tx *store.Tx) error { return look(t, tx) }); err != nil { // the session is whole
				t.Errorf("after %s: %v", name, err)
			}
		}
	})
}

func look(t *testing.T, tx *store.Tx) error {
	var n int
	return tx.Row(t.Context(), `SELECT 1`).Scan(&n)
}

// ended runs a statement in the name of somebody who has left.
func ended(tx *store.Tx, insert string) error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return errors.Join(tx.ExecLater(ctx, insert, "org-new", "name", store.At(time.Unix(1, 0))), ctx.Err())
}
