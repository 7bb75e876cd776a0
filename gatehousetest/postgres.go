package gatehousetest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// PostgresEnv names the environment variable that holds the URL of a PostgreSQL superuser. Where it is set, [Postgres]
// makes its databases on that server and starts none of its own.
const PostgresEnv = "GATEHOUSE_TEST_POSTGRES"

// postgresRole owns every database that Postgres makes. It is no superuser, as in production: a superuser walks past
// row-level security, and a test under one would prove nothing about it. (A table's owner walks past it too, unless
// the table says FORCE ROW LEVEL SECURITY.)
const postgresRole = "gatehouse"

// Postgres gives the URL of a new, empty PostgreSQL database, owned by the ordinary role that the URL names, and drops
// the database when the test ends. The server is started by the first call in a test process and serves all further ones
// (or is the one that [PostgresEnv] names). It fails the test, and says what to install, where there is no PostgreSQL.
//
// The private server needs PostgreSQL 15 or newer. Its databases are UTF-8 and sort as en-US does, not by byte, as most
// databases in production: a query that leans on the order of text must say COLLATE. It listens on a unix socket in a directory
// that only its own user may enter, which is this user, or postgres or nobody under root, since PostgreSQL refuses to run as root.
//
// Settings that differ from the defaults, all of them about speed: full_page_writes and synchronous_commit are off, and
// checkpoints are rare. fsync stays on. Nothing that a test can see depends on the three, short of a power cut: what one
// session commits, the next one reads, and a client that dies takes no commit with it.
func Postgres(t testing.TB) string {
	t.Helper()
	admin := superuser(t)
	name := "gatehouse_" + strings.ToLower(rand.Text()[:16])
	if err := asAdmin(admin, createRole, "CREATE DATABASE "+name+" OWNER "+postgresRole+" TEMPLATE template0"); err != nil {
		t.Fatalf("gatehousetest: make a database: %v", err)
	}
	t.Cleanup(func() {
		if err := asAdmin(admin, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)"); err != nil {
			t.Errorf("gatehousetest: drop a database: %v", err)
		}
	})
	u, err := url.Parse(admin)
	if err != nil {
		t.Fatalf("gatehousetest: %s is not a URL", PostgresEnv) // not err: it would print the password
	}
	u.User = url.UserPassword(postgresRole, postgresRole)
	u.Path = "/" + name
	return u.String()
}

// superuser gives the URL of the superuser.
func superuser(t testing.TB) string {
	t.Helper()
	if admin := os.Getenv(PostgresEnv); admin != "" {
		return admin
	}
	server, err := privatePostgres()
	if err != nil {
		t.Fatalf("gatehousetest: %v", err)
	}
	return server.URL
}

// AsSuperuser runs statements in a database that [Postgres] made, as somebody else than its owner.
func AsSuperuser(t testing.TB, databaseURL string, statements ...string) {
	t.Helper()
	admin, err := url.Parse(superuser(t))
	database, databaseErr := url.Parse(databaseURL)
	if err != nil || databaseErr != nil {
		t.Fatal("gatehousetest: not the URL of a database") // not err: it would print the password
	}
	admin.Path = database.Path
	if err := asAdmin(admin.String(), statements...); err != nil {
		t.Fatal(err)
	}
}

// createRole makes postgresRole; two processes may do so at the same instant, and one of them then finds it made.
const createRole = `DO $$ BEGIN
	CREATE ROLE ` + postgresRole + ` LOGIN PASSWORD '` + postgresRole + `';
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$`

// asAdmin runs statements, each on its own, as the superuser.
func asAdmin(admin string, statements ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, admin)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// private is the one server of this test process. It is a variable of the package because "one for each process" is what it
// is; nothing but privatePostgres and Main touches it.
var private struct {
	sync.Mutex
	server *PostgresServer
	err    error
}

func privatePostgres() (*PostgresServer, error) {
	private.Lock()
	defer private.Unlock()
	if private.server == nil && private.err == nil {
		private.server, private.err = StartPostgres()
	}
	return private.server, private.err
}

// Main runs the tests of a package, stops the PostgreSQL that they started, waits until it is gone, and ends the process
// with the tests' exit code. A package needs it only where that order matters: a server ends with its process in any case.
func Main(m *testing.M) {
	code := m.Run()
	private.Lock()
	defer private.Unlock()
	if private.server != nil {
		private.server.Stop()
	}
	os.Exit(code)
}

// A PostgresServer is a private PostgreSQL with a data directory of its own.
type PostgresServer struct {
	URL string // of the superuser, on the database postgres

	process *process
	remove  func()
}

// StartPostgres starts a PostgreSQL that ends with this process or at Stop, whichever is first. Tests call [Postgres];
// this is for a program that runs many test processes beside one server.
func StartPostgres() (*PostgresServer, error) {
	initdb, ok := program("initdb", "/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")
	if !ok {
		return nil, errors.New("PostgreSQL is needed and initdb is neither in PATH nor in /usr/lib/postgresql/*/bin; " +
			"install it with: apt-get install postgresql (or run tools/setup-tests.sh)")
	}
	if real, err := filepath.EvalSymlinks(initdb); err == nil {
		initdb = real // a link in PATH does not lead to the postgres beside the real one
	}
	dir, err := os.MkdirTemp("", "gatehouse-postgres-") // 0700
	if err != nil {
		return nil, err
	}
	remove, err := removeAfterExit(dir, "data/postmaster.pid", syscall.SIGQUIT)
	if err != nil {
		return nil, err
	}
	s, err := startPostgres(dir, filepath.Dir(initdb))
	if err != nil {
		remove()
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	s.remove = remove
	return s, nil
}

func startPostgres(dir, bin string) (*PostgresServer, error) {
	attr, err := unprivileged(dir)
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	command := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(bin, name), args...)
		cmd.Dir = dir // the other user may not enter ours
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "TZ=UTC"}
		cmd.SysProcAttr = attr()
		return cmd
	}
	out, err := command("initdb", "--pgdata="+data, "--username=postgres", "--auth=trust", "--encoding=UTF8",
		"--locale-provider=icu", "--icu-locale=en-US", "--locale=C.UTF-8", "--no-sync", "--no-instructions").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("initdb (PostgreSQL 15 or newer is needed): %w:\n%s", err, out)
	}
	cmd := command("postgres", "-D", data, "-k", dir,
		"-c", "listen_addresses=", "-c", "max_connections=200",
		"-c", "full_page_writes=off", "-c", "synchronous_commit=off",
		"-c", "checkpoint_timeout=1h", "-c", "max_wal_size=2GB", "-c", "wal_level=minimal", "-c", "max_wal_senders=0")
	log := filepath.Join(dir, "log")
	p, err := startProcess(cmd, log, syscall.SIGQUIT)
	if err != nil {
		return nil, err
	}
	s := &PostgresServer{process: p}
	s.URL = (&url.URL{Scheme: "postgres", User: url.User("postgres"), Path: "/postgres",
		RawQuery: url.Values{"host": {dir}}.Encode()}).String()
	err = p.ready(func() error {
		err := asAdmin(s.URL, "SELECT 1")
		var refused *pgconn.PgError
		if errors.As(err, &refused) && refused.Code != "57P03" { // cannot_connect_now: still starting
			return fmt.Errorf("it refuses its own superuser: %w", err)
		}
		return err
	})
	if err != nil {
		p.stop(syscall.SIGQUIT)
		return nil, err
	}
	return s, nil
}

// Stop ends the server and removes its directory. Sessions are cut.
func (s *PostgresServer) Stop() {
	s.process.stop(syscall.SIGQUIT)
	s.remove()
}

// unprivileged gives the process attributes under which PostgreSQL agrees to run, and hands dir to that user: this
// user, or, as root, postgres or nobody.
func unprivileged(dir string) (func() *syscall.SysProcAttr, error) {
	if os.Geteuid() != 0 {
		return func() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, err
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, err
		}
		if err := os.Chown(dir, int(uid), int(gid)); err != nil {
			return nil, err
		}
		return func() *syscall.SysProcAttr {
			return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		}, nil
	}
	return nil, errors.New("PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody to run it as")
}
