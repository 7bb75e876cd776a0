package store_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
)

// BenchmarkRowSecurity compares one transaction with one look-up by primary key
// without row-level security, with it named in the message that begins the
// transaction, as this package does, and with it named by a statement of its own.
func BenchmarkRowSecurity(b *testing.B) {
	url := gatehousetest.Postgres(b)
	raw := rawDB(b, url)
	open(b, url)
	ctx := b.Context()
	for _, statement := range []string{
		`CREATE TABLE plain (organization TEXT NOT NULL, id TEXT NOT NULL, n BIGINT, PRIMARY KEY (organization, id))`,
		`INSERT INTO plain SELECT 'acme', 'id' || i, i FROM generate_series(1, 10000) i`,
		`CREATE TABLE guarded (organization TEXT NOT NULL, id TEXT NOT NULL, n BIGINT, PRIMARY KEY (organization, id))`,
		`INSERT INTO guarded SELECT * FROM plain`,
		`ANALYZE plain`, `ANALYZE guarded`,
	} {
		if _, err := raw.ExecContext(ctx, statement); err != nil {
			b.Fatal(err)
		}
	}
	open(b, url) // guards both
	if _, err := raw.ExecContext(ctx, `ALTER TABLE plain DISABLE ROW LEVEL SECURITY`); err != nil {
		b.Fatal(err)
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	transaction := func(table, begin, name string) {
		tx, err := conn.BeginTx(ctx, pgx.TxOptions{BeginQuery: begin})
		if err != nil {
			b.Fatal(err)
		}
		if name != "" {
			if _, err := tx.Exec(ctx, name, "acme"); err != nil {
				b.Fatal(err)
			}
		}
		var n int64
		if err := tx.QueryRow(ctx, `SELECT n FROM `+table+` WHERE organization = $1 AND id = $2`, "acme", "id5000").Scan(&n); err != nil {
			b.Fatal(err)
		}
		if err := tx.Commit(ctx); err != nil {
			b.Fatal(err)
		}
	}
	const begin = "begin isolation level repeatable read read only"
	ways := []func(){
		func() { transaction("plain", begin, "") },
		func() { transaction("guarded", begin+"; set local gatehouse.organization = 'acme'", "") },
		func() { transaction("guarded", begin, `SELECT set_config('gatehouse.organization', $1, true)`) },
	}
	var took [3]time.Duration
	for b.Loop() {
		for i, way := range ways { // in turns, so that all meet the same machine
			start := time.Now()
			way()
			took[i] += time.Since(start)
		}
	}
	b.ReportMetric(float64(took[0].Microseconds())/float64(b.N), "µs-without/op")
	b.ReportMetric(float64(took[1])/float64(took[0]), "x-same-message")
	b.ReportMetric(float64(took[2])/float64(took[0]), "x-own-statement")
}
