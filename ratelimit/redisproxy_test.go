package ratelimit_test

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// redisProxy stands before a Redis: it can be gone, see what is sent, and hold answers back.
type redisProxy struct {
	addr   string
	gone   atomic.Bool
	sees   atomic.Pointer[func(sent []byte) (goesOn bool)]
	holdTo atomic.Int64 // until when answers are held back, Unix milliseconds

	mu    sync.Mutex
	conns []net.Conn
}

func startProxy(t *testing.T, target string) *redisProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	p := &redisProxy{addr: l.Addr().String()}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", target)
			if err != nil || p.gone.Load() {
				_ = client.Close()
				if err == nil {
					_ = server.Close()
				}
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, client, server)
			p.mu.Unlock()
			go pump(client, server, func(b []byte) bool {
				sees := p.sees.Load()
				return sees == nil || (*sees)(b)
			})
			go pump(server, client, func([]byte) bool {
				time.Sleep(time.Until(time.UnixMilli(p.holdTo.Load())))
				return true
			})
		}
	}()
	return p
}

// pump passes on what comes while goesOn says so.
func pump(from, to net.Conn, goesOn func([]byte) bool) {
	defer func() { _ = from.Close() }()
	defer func() { _ = to.Close() }()
	b := make([]byte, 1<<20)
	for {
		n, err := from.Read(b)
		if err != nil || !goesOn(b[:n]) {
			return
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

// see has fn look at what is sent from now on.
func (p *redisProxy) see(fn func(sent []byte) (goesOn bool)) { p.sees.Store(&fn) }

// leave is gone, with all connections.
func (p *redisProxy) leave() {
	p.gone.Store(true)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

func (p *redisProxy) comeBack() { p.gone.Store(false) }

// holdFor holds answers back for some time from now on.
func (p *redisProxy) holdFor(d time.Duration) { p.holdTo.Store(time.Now().Add(d).UnixMilli()) }
