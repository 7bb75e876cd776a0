package store

import (
	"context"
	"database/sql/driver"
	"runtime"

	"github.com/jackc/pgx/v5"
)

// rows is the one argument of a statement that PostgreSQL runs once for each.
type rows [][]any

// ExecEach runs a statement once for each list of arguments, in order, and gives
// how many rows were changed in all. It is for many runs of one statement in a
// row: on PostgreSQL they go in one message and are waited for once, on SQLite
// the statement is parsed once. After an error the transaction is to be given up.
func (tx *Tx) ExecEach(ctx context.Context, query string, all [][]any) (changed int64, err error) {
	if len(all) == 0 {
		return 0, nil
	}
	if tx.db.dialect == dialectPostgres {
		return tx.Exec(ctx, query, rows(all))
	}
	statement, err := tx.tx.PrepareContext(ctx, tx.db.bind(query))
	if err != nil {
		return 0, tx.db.mapError(err)
	}
	defer func() { _ = statement.Close() }() // it ends with the transaction
	// The driver starts a goroutine for each statement that can be canceled, which
	// costs as much as a small statement itself.
	whole := context.WithoutCancel(ctx)
	for _, args := range all {
		if err := ctx.Err(); err != nil {
			return changed, err
		}
		result, err := statement.ExecContext(whole, args...)
		if err != nil {
			return changed, tx.db.mapError(err)
		}
		n, err := result.RowsAffected()
		if err != nil {
			return changed, err
		}
		changed += n
		runtime.Gosched() // requests go first
	}
	return changed, nil
}

func (c *tenantConn) execEach(ctx context.Context, query string, all rows) (driver.Result, error) {
	session := c.Conn.Conn()
	if session.IsClosed() {
		return nil, driver.ErrBadConn
	}
	batch := new(pgx.Batch)
	for _, args := range all {
		batch.Queue(query, args...)
	}
	results := session.SendBatch(ctx, batch)
	changed := int64(0)
	for range all {
		tag, err := results.Exec()
		if err != nil {
			_ = results.Close() // err is the first that went wrong
			return nil, err
		}
		changed += tag.RowsAffected()
	}
	return driver.RowsAffected(changed), results.Close()
}
