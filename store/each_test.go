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

// A statement that is run for many lists of arguments does what it would do one
// by one: it counts what it changed, keeps the order and the types, and stops the
// whole transaction at the first that fails.
func TestExecEach(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db := open(t, url)
		const insert = `INSERT INTO organizations (id, name, created_at) VALUES ($1, $2, $3)`
		const rename = `UPDATE organizations SET name = $2 WHERE id = $1 AND name <> $3`
		count := func(where string) (n int) {
			t.Helper()
			err := db.ViewAcross(t.Context(), func(tx *store.Tx) error {
				return tx.Row(t.Context(), `SELECT count(*) FROM organizations WHERE `+where).Scan(&n)
			})
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		each := func(ctx context.Context, statement string, all [][]any) (n int64, err error) {
			err = db.UpdateAcross(ctx, func(tx *store.Tx) (err error) {
				n, err = tx.ExecEach(ctx, statement, all)
				return err
			})
			return n, err
		}
		var made, renamed [][]any
		for i := range 700 { // more than a message's buffers hold
			id := fmt.Sprintf("org-%03d", i)
			made = append(made, []any{id, "name", store.At(time.UnixMicro(int64(i + 1)))})
			renamed = append(renamed, []any{id, "first", "x"}, []any{id, "second", "x"})
			if i%7 == 0 {
				renamed = append(renamed, []any{id, "third", "second"}, []any{"nobody-" + id, "third", "x"}) // change nothing
			}
		}
		if n, err := each(t.Context(), insert, made); err != nil || n != 700 || count(`id LIKE 'org-%' AND created_at > 0`) != 700 {
			t.Errorf("%d inserted, %v", n, err)
		}
		if n, err := each(t.Context(), rename, renamed); err != nil || n != 1400 || count(`name = 'second'`) != 700 {
			t.Errorf("%d renamed, %d to the last name, %v", n, count(`name = 'second'`), err)
		}
		if n, err := each(t.Context(), insert, nil); err != nil || n != 0 {
			t.Errorf("of nothing: %d, %v", n, err)
		}

		twice := [][]any{{"new-1", "n", store.At(time.UnixMicro(1))}, {"org-000", "n", store.At(time.UnixMicro(1))}, {"new-2", "n", store.At(time.UnixMicro(1))}}
		if _, err := each(t.Context(), insert, twice); !errors.Is(err, store.ErrExists) || count(`id LIKE 'new-%'`) != 0 {
			t.Errorf("one that is there: %v, %d kept", err, count(`id LIKE 'new-%'`))
		}
		if _, err := each(t.Context(), `UPDATE nowhere SET a = $1`, [][]any{{1}, {2}}); err == nil {
			t.Error("a statement on no table was taken")
		}
		ended, cancel := context.WithCancel(t.Context())
		err := db.UpdateAcross(ended, func(tx *store.Tx) error {
			cancel()
			_, err := tx.ExecEach(ended, rename, renamed)
			return err
		})
		if !errors.Is(err, context.Canceled) || count(`name = 'second'`) != 700 {
			t.Errorf("after it was canceled: %v", err)
		}
		if n, err := each(t.Context(), rename, renamed[:2]); err != nil || n != 2 { // the session is whole
			t.Errorf("afterwards: %d, %v", n, err)
		}
		if db.Kind() != "postgresql" {
			return
		}
		var n int64
		err = db.Update(t.Context(), "org-001", func(tx *store.Tx) (err error) { // row-level security holds for each
			n, err = tx.ExecEach(t.Context(), rename, renamed)
			return err
		})
		if err != nil || n != 2 {
			t.Errorf("in one organization's name: %d changed, %v", n, err)
		}
	})
}
