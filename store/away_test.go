package store_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/store"
)

// A session that the server ends in the middle of a transaction is a database
// that is away, nothing of the transaction is there, and the next one works.
func TestKilledSession(t *testing.T) {
	url := gatehousetest.Postgres(t)
	db, killer := open(t, url), open(t, url)
	counter(t, db)
	err := db.Update(t.Context(), organization, func(tx *store.Tx) error {
		var pid int64
		if err := tx.Row(t.Context(), `SELECT pg_backend_pid()`).Scan(&pid); err != nil {
			return err
		}
		if _, err := tx.Exec(t.Context(), `UPDATE things SET n = 7 WHERE id = 'a'`); err != nil {
			return err
		}
		number(t, killer, `SELECT count(*) FROM (SELECT pg_terminate_backend($1)) AS killed`, pid)
		_, err := tx.Exec(t.Context(), `UPDATE things SET n = 8 WHERE id = 'a'`)
		return err
	})
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a killed session gave %v", err)
	}
	if n := number(t, db, `SELECT n FROM things WHERE id = 'a'`); n != 0 {
		t.Errorf("half a transaction is there: n = %d", n)
	}
	if err := add(t, db); err != nil {
		t.Errorf("the transaction after a killed one: %v", err)
	}
}

// The network cuts every connection, then lets none through, then works again.
func TestCutConnections(t *testing.T) {
	address := gatehousetest.Postgres(t)
	wire := newWire(t, address)
	db := open(t, wire.url)
	counter(t, db)

	err := db.Update(t.Context(), organization, func(tx *store.Tx) error {
		if _, err := tx.Exec(t.Context(), `UPDATE things SET n = 7 WHERE id = 'a'`); err != nil {
			return err
		}
		wire.cut()
		_, err := tx.Exec(t.Context(), `UPDATE things SET n = 8 WHERE id = 'a'`)
		return err
	})
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a connection cut inside a transaction gave %v", err)
	}
	err = db.Update(t.Context(), organization, func(*store.Tx) error { wire.cut(); return nil })
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a connection cut before the commit gave %v", err)
	}
	for what, err := range map[string]error{
		"Ping": db.Ping(t.Context()), "Update": add(t, db),
		"View": db.View(t.Context(), organization, func(*store.Tx) error { return nil }),
	} {
		if !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s while nothing gets through: %v", what, err)
		}
	}
	if _, err := store.Open(t.Context(), wire.url, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a database that is away was opened")
	}
	wire.mend()
	if err := db.Ping(t.Context()); err != nil {
		t.Errorf("Ping once the network is back: %v", err)
	}
	if err := add(t, db); err != nil {
		t.Errorf("Update once the network is back: %v", err)
	}
	if n := number(t, db, `SELECT n FROM things WHERE id = 'a'`); n != 1 {
		t.Errorf("n = %d, want 1", n)
	}
}

// Sessions that were opened while the database took no writes do not outlive that for long.
func TestReadOnlyForAWhile(t *testing.T) {
	address := gatehousetest.Postgres(t)
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	name := u.Path[1:]
	u.Path = "/postgres"
	admin := rawPostgres(t, u.String())
	cut := func() {
		admin(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '` + name + `'`)
	}
	db := open(t, address)
	counter(t, db)
	admin(`ALTER DATABASE ` + name + ` SET default_transaction_read_only = on`)
	cut()
	_ = db.Ping(t.Context()) // an ended session may be found out here
	if err := add(t, db); !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("a change while nothing can be written: %v", err)
	}
	if n := number(t, db, `SELECT n FROM things WHERE id = 'a'`); n != 0 {
		t.Fatalf("n = %d, want 0", n)
	}
	admin(`ALTER DATABASE ` + name + ` RESET default_transaction_read_only`)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		err := add(t, db) // which keeps the session busy all the time
		if err == nil {
			break
		}
		if !errors.Is(err, store.ErrUnavailable) || time.Now().After(deadline) {
			t.Fatalf("long after the database takes writes again: %v", err)
		}
	}
}

// A password that is the user's name hides no error; another does where it would be told.
func TestWithoutPassword(t *testing.T) {
	err := errors.New("failed to connect to user=postgres database=gatehouse: connection refused")
	if got := store.WithoutPassword(err, "postgres", "postgres", "gatehouse"); got != err {
		t.Errorf("a password that is the user's name: %v", got)
	}
	if got := store.WithoutPassword(err, "refused", "postgres", "gatehouse"); got == err {
		t.Errorf("a password in the text: %v", got)
	}
}

func TestNobodyElseMayConnect(t *testing.T) {
	address := gatehousetest.Postgres(t)
	db := open(t, address)
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	name := u.Path[1:]
	u.Path = "/postgres"
	admin := rawPostgres(t, u.String())
	admin(`ALTER DATABASE ` + name + ` ALLOW_CONNECTIONS false`)
	admin(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '` + name + `'`)
	_ = db.Ping(t.Context()) // an ended session may be found out here
	if err := db.Ping(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a server that lets nobody in gave %v", err)
	}
	admin(`ALTER DATABASE ` + name + ` ALLOW_CONNECTIONS true`)
	if err := db.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

// Another process that sits on the write lock makes SQLite unavailable for
// writers, whose context decides how long they wait; readers go on.
func TestSQLiteWriteLockIsTaken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gatehouse.db")
	db, other := open(t, path), open(t, path)
	counter(t, db)
	err := other.Update(t.Context(), organization, func(*store.Tx) error {
		if n := number(t, db, `SELECT n FROM things`); n != 0 {
			t.Errorf("a reader got %d", n)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		return db.Update(ctx, organization, func(*store.Tx) error { return errors.New("two writers at once") })
	})
	if !errors.Is(err, store.ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a taken write lock gave %v", err)
	}
	if err := add(t, db); err != nil {
		t.Errorf("once the lock is free: %v", err)
	}
}

func TestClosed(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db := open(t, url)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if db.Ping(t.Context()) == nil || add(t, db) == nil {
			t.Error("a closed database answers")
		}
	})
}

// wire is a network between the store and PostgreSQL that can be cut.
type wire struct {
	url     string
	network string
	address string

	mu    sync.Mutex
	open  []net.Conn
	isCut bool
}

func newWire(t *testing.T, address string) *wire {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{network: "tcp", address: u.Host}
	query := u.Query()
	if host := query.Get("host"); host != "" {
		w.network, w.address = "unix", filepath.Join(host, ".s.PGSQL.5432")
		query.Del("host")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close(); w.cut() })
	query.Set("sslmode", "disable")
	u.Host, u.RawQuery = l.Addr().String(), query.Encode()
	w.url = u.String()
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			go w.carry(near)
		}
	}()
	return w
}

func (w *wire) carry(near net.Conn) {
	defer func() { _ = near.Close() }()
	far, err := net.Dial(w.network, w.address)
	if err != nil {
		return
	}
	defer func() { _ = far.Close() }()
	w.mu.Lock()
	refuse := w.isCut
	w.open = append(w.open, near, far)
	w.mu.Unlock()
	if refuse {
		return
	}
	go func() { _, _ = io.Copy(far, near); _ = far.Close() }()
	_, _ = io.Copy(near, far)
}

func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.isCut = true
	for _, c := range w.open {
		_ = c.Close()
	}
	w.open = nil
}

func (w *wire) mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.isCut = false
}
