package gatehousetest_test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/jackc/pgx/v5"
)

func TestMain(m *testing.M) {
	if os.Getenv("GATEHOUSETEST_CHILD") != "" {
		child()
	}
	gatehousetest.Main(m)
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	return conn
}

func TestPostgresGivesSeparateDatabases(t *testing.T) {
	t.Parallel()
	a, b := connect(t, gatehousetest.Postgres(t)), connect(t, gatehousetest.Postgres(t))
	for _, conn := range []*pgx.Conn{a, b} { // the second would fail in the same database
		if _, err := conn.Exec(t.Context(), "CREATE TABLE t (id BIGINT PRIMARY KEY)"); err != nil {
			t.Fatal(err)
		}
	}
	var super, fsync string
	if err := a.QueryRow(t.Context(), "SELECT current_setting('is_superuser'), current_setting('fsync')").Scan(&super, &fsync); err != nil {
		t.Fatal(err)
	}
	if super != "off" || fsync != "on" {
		t.Errorf("is_superuser %s, fsync %s; want off and on", super, fsync)
	}
	var less bool // by byte, B stands before a
	if err := a.QueryRow(t.Context(), "SELECT 'a' < 'B'").Scan(&less); err != nil {
		t.Fatal(err)
	}
	if !less && os.Getenv(gatehousetest.PostgresEnv) == "" {
		t.Error("text sorts by byte; want it to sort as en-US does")
	}
}

func TestPostgresDropsTheDatabase(t *testing.T) {
	t.Parallel()
	var url string
	t.Run("inner", func(t *testing.T) {
		url = gatehousetest.Postgres(t)
		open, err := pgx.Connect(t.Context(), url) // and left open: that does not hold the drop up
		if err != nil {
			t.Fatal(err)
		}
		if err := open.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	if conn, err := pgx.Connect(t.Context(), url); err == nil {
		_ = conn.Close(t.Context())
		t.Error("the database is there after its test has ended")
	}
}

// child is a test process that starts a server, says where, and waits to be killed.
func child() {
	server, err := gatehousetest.StartPostgres()
	if err != nil {
		panic(err)
	}
	if _, err := os.Stdout.WriteString(server.URL + "\n"); err != nil {
		panic(err)
	}
	select {}
}

func TestPostgresEndsWithItsProcess(t *testing.T) {
	t.Parallel()
	tmp, err := os.MkdirTemp("", "g") // not t.TempDir: the path of a socket must be short, and the server's user may enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(tmp) })
	if err := os.Chmod(tmp, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "GATEHOUSETEST_CHILD=1", "TMPDIR="+tmp)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	url, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	conn := connect(t, url[:len(url)-1])
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	eventually(t, "the server is gone", func() bool { return conn.Ping(t.Context()) != nil })
	eventually(t, "its directory is gone", func() bool {
		left, err := filepath.Glob(filepath.Join(tmp, "*"))
		return err == nil && len(left) == 0
	})
}

// eventually polls until ok; how long that takes is not asserted.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 3000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("waited in vain until %s", what)
}
