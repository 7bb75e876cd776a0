package store_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/store"
)

// A transaction whose context ends between two statements says that, and not that it is over.
func TestOutOfTimeBetweenStatements(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db := open(t, url)
		for name, do := range map[string]func(context.Context, string, func(*store.Tx) error) error{"View": db.View, "Update": db.Update} {
			ctx, cancel := context.WithCancel(t.Context())
			end := time.Now().Add(10 * time.Second)
			err := do(ctx, "acme", func(tx *store.Tx) error {
				cancel()
				for time.Now().Before(end) {
					var one int64
					if err := tx.Row(t.Context(), `SELECT 1`).Scan(&one); errors.Is(err, sql.ErrTxDone) {
						return err
					}
					time.Sleep(time.Millisecond)
				}
				return errors.New("it was not rolled back")
			})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}
