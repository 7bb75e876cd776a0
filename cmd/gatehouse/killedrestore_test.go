package main_test

import (
	"context"
	"database/sql"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/store"
)

// TestKilledRestore kills restores with SIGKILL at random moments, into both
// databases: the next attempt restores everything, or says that the one before
// had done so.
func TestKilledRestore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program := program(t)
	run := func(ctx context.Context, environ []string, args ...string) (string, error) {
		cmd := exec.CommandContext(ctx, program, args...)
		cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "GATEHOUSE_ENV=test", "JWT_SECRET=" + gatehousetest.JWTSecret,
			"ENCRYPTION_KEY=" + gatehousetest.EncryptionKey, "STRIPE_SECRET_KEY=sk_test_51HxYzAbCdEfGh"}, environ...)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	must := func(t *testing.T, environ []string, args ...string) string {
		t.Helper()
		out, err := run(t.Context(), environ, args...)
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		return out
	}

	const rows = 20_000
	source := []string{"GATEHOUSE_DATA=" + filepath.Join(dir, "source")}
	must(t, source, "org", "create", "acme")
	must(t, source, "credentials", "import", "acme")
	db, err := sql.Open("sqlite", filepath.Join(dir, "source", "gatehouse.db"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.ExecContext(t.Context(), `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1)
		INSERT INTO event_persons (organization, event_id, salt, data) SELECT 'acme', 'evt_' || i, x'00', '{}' FROM n`, rows)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	key, file := filepath.Join(dir, "key"), filepath.Join(dir, "backup.age")
	recipient := strings.Fields(must(t, nil, "backup", "keygen", key))
	must(t, source, "backup", "--recipient", recipient[len(recipient)-1], file)
	restore := []string{"restore", file, "--identity", key}

	for _, kind := range []string{"SQLite", "PostgreSQL"} {
		t.Run(kind, func(t *testing.T) {
			fresh := func() (environ []string, url string) {
				data := filepath.Join(t.TempDir(), "data")
				if kind == "SQLite" {
					return []string{"GATEHOUSE_DATA=" + data}, filepath.Join(data, "gatehouse.db")
				}
				url = gatehousetest.Postgres(t)
				return []string{"GATEHOUSE_DATA=" + data, "DATABASE_URL=" + url}, url
			}
			environ, _ := fresh()
			begin := time.Now()
			must(t, environ, restore...)
			whole := time.Since(begin)
			killed, complete := 0, 0
			for range 6 {
				environ, url := fresh()
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.Int64N(int64(whole))))
				_, err := run(ctx, environ, restore...) // cancelling kills
				cancel()
				if err != nil {
					killed++
				}
				out, err := run(t.Context(), environ, restore...)
				if err != nil && strings.Contains(out, "not empty") {
					complete++
				} else if err != nil {
					t.Fatalf("after a kill: %v\n%s", err, out)
				}
				restored, err := store.Open(t.Context(), url, slog.New(slog.DiscardHandler))
				if err != nil {
					t.Fatal(err)
				}
				var n int
				err = restored.View(t.Context(), "acme", func(tx *store.Tx) error {
					return tx.Row(t.Context(), `SELECT count(*) FROM event_persons WHERE organization = 'acme'`).Scan(&n)
				})
				if err != nil || n < rows {
					t.Errorf("%d rows of %d, %v", n, rows, err)
				}
				if err := restored.Close(); err != nil {
					t.Error(err)
				}
				if out := must(t, environ, "doctor"); !strings.Contains(out, "seals and opens: 2 of its 2") {
					t.Errorf("doctor: %s", out)
				}
			}
			t.Logf("%d restores killed, %d of all had ended before the second attempt", killed, complete)
		})
	}
}
