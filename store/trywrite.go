package store

import "context"

// tried is how many bytes [DB.TryWrite] writes to SQLite: past the page cache (2 MB)
// and what its log takes before it begins anew (4 MB), both of which a full disk
// leaves room in.
const tried = 8 << 20

// TryWrite says whether a change could be written to the disk of the database, by
// writing one that changes nothing. organization is that of the instance.
func (db *DB) TryWrite(ctx context.Context, organization string) error {
	if db.dialect == dialectPostgres { // whose commit waits until the log is on the disk
		return db.Update(ctx, organization, func(tx *Tx) error {
			_, err := tx.Exec(ctx, `UPDATE instance SET environment = environment`)
			return err
		})
	}
	// SQLite does not write a page that says what it said. What does not fit into its
	// cache goes to its log, and means nothing there without a commit.
	tx, err := db.write.BeginTx(ctx, nil)
	if err != nil {
		return db.mapError(err)
	}
	defer func() { _ = tx.Rollback() }() // nothing is to be left
	if _, err := tx.ExecContext(ctx, `CREATE TABLE tried (bytes BLOB)`); err != nil {
		return db.mapError(err)
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO tried VALUES (zeroblob($1))`, tried)
	return db.mapError(err)
}
