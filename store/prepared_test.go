package store_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/store"
)

// A prepared statement does what the plain one does: on its first use and
// later, from many transactions at once, when it fails, and in a transaction that
// is taken back.
func TestPreparedStatements(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db := open(t, url)
		const insert = `INSERT INTO organizations (id, name, created_at) VALUES ($1, $2, $3)`
		add := func(id string, after error) error {
			return db.Update(t.Context(), id, func(tx *store.Tx) error {
				n, err := tx.ExecPrepared(t.Context(), insert, id, "name", store.At(time.Unix(1, 0)))
				if err == nil && n != 1 {
					t.Errorf("%d rows", n)
				}
				return errors.Join(err, after)
			})
		}
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				id := "org-" + string(rune('a'+i))
				if err := add(id, nil); err != nil {
					t.Error(err)
				}
				if err := add(id, nil); !errors.Is(err, store.ErrExists) {
					t.Errorf("a second time: %v", err)
				}
				if err := add(id+"-back", errors.New("taken back")); err == nil {
					t.Error("no error")
				}
			})
		}
		all.Wait()
		var count int
		err := db.ViewAcross(t.Context(), func(tx *store.Tx) error {
			return tx.Row(t.Context(), `SELECT count(*) FROM organizations WHERE id LIKE 'org-%'`).Scan(&count)
		})
		if err != nil || count != 20 {
			t.Errorf("%d organizations, %v", count, err)
		}
		err = db.Update(t.Context(), "acme", func(tx *store.Tx) error {
			_, err := tx.ExecPrepared(t.Context(), `INSERT INTO nowhere VALUES ($1)`, 1)
			return err
		})
		if err == nil {
			t.Error("a statement on no table was taken")
		}
		if err := add("org-last", nil); err != nil {
			t.Errorf("after one that cannot be prepared: %v", err)
		}
	})
}

// A statement of many rows that fails at one of them leaves none of the others, nor
// anything else of its transaction, even where its caller goes on as if nothing had
// been: on its first use too.
func TestPreparedStatementThatFails(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db := open(t, url)
		for i := range 5 { // prepared from the second on
			err := db.UpdateAcross(t.Context(), func(tx *store.Tx) error {
				if _, err := tx.Exec(t.Context(), `INSERT INTO organizations (id, name, created_at) VALUES ('org-before', 'a', 1)`); err != nil {
					t.Error(err)
				}
				_, err := tx.ExecPrepared(t.Context(), `INSERT INTO organizations (id, name, created_at) VALUES ($1, 'a', $3), ($2, 'b', $3), ($1, 'c', $3)`,
					"org-first", "org-second", store.At(time.Unix(1, 0)))
				if err == nil {
					t.Error("the same row was taken twice")
				}
				return nil // swallowed
			})
			var left int
			counted := db.ViewAcross(t.Context(), func(tx *store.Tx) error {
				return tx.Row(t.Context(), `SELECT count(*) FROM organizations WHERE id LIKE 'org-%'`).Scan(&left)
			})
			if left != 0 || counted != nil || err == nil {
				t.Fatalf("time %d: %d rows are left (%v), and the transaction says %v", i, left, counted, err)
			}
		}
	})
}
