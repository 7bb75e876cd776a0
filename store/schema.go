package store

import "context"

// TableColumn names a column of the database.
type TableColumn struct{ Table, Column string }

// Columns gives every column of the database's own tables, in no order: of all
// tables in the schema that Gatehouse's stand in, whoever made them.
func (db *DB) Columns(ctx context.Context) ([]TableColumn, error) {
	query := `SELECT m.name, p.name FROM sqlite_master m JOIN pragma_table_info(m.name) p WHERE m.type = 'table'`
	if db.dialect == dialectPostgres {
		query = `SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = current_schema()`
	}
	rows, err := db.read.QueryContext(ctx, query)
	if err != nil {
		return nil, db.mapError(err)
	}
	defer func() { _ = rows.Close() }() // rows.Err below tells of failures
	var all []TableColumn
	for rows.Next() {
		var c TableColumn
		if err := rows.Scan(&c.Table, &c.Column); err != nil {
			return nil, db.mapError(err)
		}
		all = append(all, c)
	}
	return all, db.mapError(rows.Err())
}
