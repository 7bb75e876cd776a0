package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"
)

// later is the one argument of a statement that PostgreSQL need not answer at once.
type later []any

// ExecLater is [Tx.ExecPrepared] for a statement whose outcome nobody looks at, but
// that the transaction must not be committed without. On PostgreSQL it goes in one
// message with others like it and the commit, or before the next statement of
// another kind, so that it costs no round trip; what is wrong with it is then that
// one's error. On SQLite it runs at once, and after an error the transaction is not
// committed, whatever becomes of the error.
func (tx *Tx) ExecLater(ctx context.Context, query string, args ...any) error {
	if tx.db.dialect == dialectPostgres {
		tx.wrote = true
		_, err := tx.Exec(ctx, query, later(slices.Clone(args))) // the caller's list may be used again before it is sent
		return err
	}
	_, err := tx.ExecPrepared(ctx, query, args...)
	return err
}

// queue keeps a statement for the next message.
func (c *tenantConn) queue(query string, args later) (driver.Result, error) {
	if c.waiting == nil {
		c.waiting = new(pgx.Batch)
	}
	c.waiting.Queue(query, args...)
	return driver.RowsAffected(0), nil
}

// send runs what waits, and then the statements given.
func (c *tenantConn) send(ctx context.Context, then ...string) error {
	batch := c.waiting
	if c.waiting = nil; batch == nil {
		return nil
	}
	for _, query := range then {
		batch.Queue(query)
	}
	session := c.Conn.Conn()
	if session.IsClosed() {
		return driver.ErrBadConn
	}
	results := session.SendBatch(ctx, batch)
	for range batch.Len() {
		if _, err := results.Exec(); err != nil { // nothing after it was run
			_ = results.Close() // err says it
			return err
		}
	}
	return results.Close()
}

// ExecContext implements [driver.ExecerContext].
func (c *tenantConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if len(args) == 1 {
		if one, is := args[0].Value.(later); is {
			return c.queue(query, one)
		}
	}
	if err := c.send(ctx); err != nil {
		return nil, err
	}
	if len(args) == 1 {
		if all, is := args[0].Value.(rows); is {
			return c.execEach(ctx, query, all)
		}
	}
	return c.Conn.ExecContext(ctx, query, args)
}

// QueryContext implements [driver.QueryerContext].
func (c *tenantConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if err := c.send(ctx); err != nil {
		return nil, err
	}
	return c.Conn.QueryContext(ctx, query, args)
}

// PrepareContext implements [driver.ConnPrepareContext].
func (c *tenantConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	if err := c.send(ctx); err != nil {
		return nil, err
	}
	return c.Conn.PrepareContext(ctx, query)
}

// Commit implements [driver.Tx].
func (t tenantTx) Commit() error {
	if t.conn.waiting == nil {
		return t.tx.Commit(t.ctx)
	}
	err := t.conn.send(t.ctx, "commit") // which is not run after an error
	if err == nil {
		return nil
	}
	return errors.Join(err, t.Rollback())
}

// Rollback implements [driver.Tx].
func (t tenantTx) Rollback() error {
	t.conn.waiting = nil
	return t.tx.Rollback(t.ctx)
}
