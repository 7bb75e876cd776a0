package vault_test

import (
	"database/sql"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/instance"
	"github.com/gatehouse-io/gatehouse/vault"
)

// A start reads no row of any credential, by PostgreSQL's own count, however many
// there are.
func TestStartReadsNoCredential(t *testing.T) {
	url := gatehousetest.Postgres(t)
	h := newHouse(t, url, vault.Options{})
	h.fill(t, "acme", 1500)
	if err := h.db.Close(); err != nil { // its sessions report what they read when they end
		t.Fatal(err)
	}
	raw, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = raw.Close() }()
	reads := func() (n int64) {
		t.Helper()
		if _, err := raw.ExecContext(t.Context(), `SELECT pg_stat_clear_snapshot()`); err != nil {
			t.Fatal(err)
		}
		// seq_tup_read and idx_tup_fetch count rows; a look by an index that finds none counts nothing.
		err := raw.QueryRowContext(t.Context(), `SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))
			FROM pg_stat_user_tables WHERE relname LIKE 'credential%'`).Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	settled := func() int64 {
		last := int64(-1)
		for n := reads(); n != last; n = reads() { // until the sessions that ended have reported
			last = n
			time.Sleep(300 * time.Millisecond)
		}
		return last
	}
	before := settled()
	config, err := instance.FromEnvironment(map[string]string{
		"JWT_SECRET": gatehousetest.JWTSecret, "ENCRYPTION_KEY": gatehousetest.EncryptionKey, "GATEHOUSE_ENV": "test",
		"GATEHOUSE_DATA": t.TempDir(), "DATABASE_URL": url,
	})
	if err != nil {
		t.Fatal(err)
	}
	in, err := instance.Open(t.Context(), config, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Vault.DestroyDue(t.Context()); err != nil { // the timer's first turn
		t.Fatal(err)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if read := settled() - before; read != 0 {
		t.Errorf("a start read %d rows of credentials", read)
	}
	// The count counts: listing a page reads its rows.
	h = &house{clock: h.clock}
	h.open(t, url, vault.Options{})
	if _, err := h.List(t.Context(), owner, vault.Filter{}); err != nil {
		t.Fatal(err)
	}
	if err := h.db.Close(); err != nil {
		t.Fatal(err)
	}
	if read := settled() - before; read < 50 {
		t.Errorf("a page read %d rows: this test proves nothing", read)
	}
}
