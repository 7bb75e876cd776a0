package store

import (
	"context"
	"database/sql"
)

// UpdateAcrossCommitted is [DB.UpdateAcross] at READ COMMITTED on PostgreSQL: each
// statement sees what was committed before it began, and no transaction of
// somebody else is ever made to run again because of this one. It is for work that
// guards itself by writing a row of its own first, beside very many writers. fn
// is run once.
func (db *DB) UpdateAcrossCommitted(ctx context.Context, fn func(*Tx) error) error {
	db.ready.prepare(ctx, db)
	err := db.run(ctx, db.write, &sql.TxOptions{}, everyone, fn)
	db.noteFailed(err)
	return err
}
