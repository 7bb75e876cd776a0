package vault

// VerifiedColumns gives the columns that VerifySeals opens, for the test that
// compares them with SealedColumns.
func VerifiedColumns() []SealedColumn {
	var all []SealedColumn
	for _, q := range sealedQueries() {
		all = append(all, q.column)
	}
	return all
}
