package store

// Remembered gives how many queries are kept in the dialect's form.
func (db *DB) Remembered() (n int) {
	db.bound.Range(func(any, any) bool { n++; return true })
	return n
}

// Foreign names a file of the database that is not the user's.
var Foreign = foreign
