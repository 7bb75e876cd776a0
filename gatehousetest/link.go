package gatehousetest

import (
	"io"
	"net"
	"net/url"
	"path/filepath"
	"sync"
	"testing"
)

// Link is a connection to a PostgreSQL database that a test can cut and mend, as a network does.
type Link struct {
	URL string // of the database, through the link

	upstream string // path of the server's socket

	mu    sync.Mutex
	down  bool
	conns map[net.Conn]struct{}
}

// NewLink gives a link to the database at databaseURL, which [Postgres] gave with a private server.
func NewLink(t testing.TB, databaseURL string) *Link {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil || u.Query().Get("host") == "" {
		t.Fatal("gatehousetest: a link needs the URL of a private PostgreSQL")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &Link{upstream: filepath.Join(u.Query().Get("host"), ".s.PGSQL.5432"), conns: make(map[net.Conn]struct{})}
	u.Host, u.RawQuery = listener.Addr().String(), "sslmode=disable"
	l.URL = u.String()
	t.Cleanup(func() {
		_ = listener.Close() // the test is over
		l.Cut()
	})
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go l.join(c)
		}
	}()
	return l
}

func (l *Link) join(c net.Conn) {
	defer func() { _ = c.Close() }()
	server, err := net.Dial("unix", l.upstream)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	l.mu.Lock()
	if l.down {
		l.mu.Unlock()
		return
	}
	l.conns[c], l.conns[server] = struct{}{}, struct{}{}
	l.mu.Unlock()
	go func() { _, _ = io.Copy(server, c); _ = server.Close() }()
	_, _ = io.Copy(c, server) // ends when either side does
	l.mu.Lock()
	delete(l.conns, c)
	delete(l.conns, server)
	l.mu.Unlock()
}

// Cut breaks every connection and lets no new one through.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = true
	for c := range l.conns {
		_ = c.Close()
	}
}

// Mend lets connections through again.
func (l *Link) Mend() {
	l.mu.Lock()
	l.down = false
	l.mu.Unlock()
}
