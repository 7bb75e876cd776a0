package gateway_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/gateway"
)

// What a caller that does not read may make the process hold, and how far an
// upstream may get ahead of it, beside what the kernel keeps in its sockets.
const (
	heldHTTP1 = 160 << 10 // the buffers of both connections and of the copy
	heldHTTP2 = 512 << 10 // and the window of its stream, which the runtime's sizes of slices round up
)

// 64 callers of endless streams, each reading one event a while, make the process
// hold no more than the stated memory, and the upstream wait.
func TestSlowReadersOfEndlessStreams(t *testing.T) {
	const readers, socket = 64, 32 << 10
	event := []byte("data: " + strings.Repeat("x", 1<<10) + "\n\n")
	var sent, left atomic.Int64
	endless := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer left.Add(1)
		w.Header().Set("Content-Type", "text/event-stream")
		for {
			n, err := w.Write(event)
			sent.Add(int64(n))
			if err != nil || r.Context().Err() != nil {
				return
			}
		}
	})
	for name, held := range map[string]int64{"HTTP/1": heldHTTP1, "HTTP/2": heldHTTP2} {
		t.Run(name, func(t *testing.T) {
			sent.Store(0)
			left.Store(0)
			upstream := httptest.NewUnstartedServer(endless)
			// Small sockets: what the kernel holds of a stream is not what is measured.
			small := func(conn net.Conn, state http.ConnState) {
				if tcp, ok := conn.(*net.TCPConn); ok && state == http.StateNew {
					_ = tcp.SetWriteBuffer(socket)
				}
			}
			upstream.Config.ConnState = small
			change := []func(*gateway.Options){func(o *gateway.Options) {
				o.WriteTimeout = 10 * time.Minute
				o.DialContext = smallSockets(socket)
			}}
			if name == "HTTP/2" {
				upstream.EnableHTTP2 = true
				upstream.StartTLS()
				pool := x509.NewCertPool()
				pool.AddCert(upstream.Certificate())
				change = append(change, func(o *gateway.Options) { o.TLS = &tls.Config{RootCAs: pool} })
			} else {
				upstream.Start()
			}
			t.Cleanup(upstream.Close)
			f := serve(t, upstream.URL, change...)
			server := httptest.NewUnstartedServer(f.Config.Handler)
			server.Config.ConnState, server.Config.ErrorLog = small, f.Config.ErrorLog
			server.Start()
			t.Cleanup(server.Close)
			before := heap()
			var conns []net.Conn
			var ins []*bufio.Reader
			for range readers {
				conn, err := net.Dial("tcp", server.Listener.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = conn.Close() }()
				_ = conn.(*net.TCPConn).SetReadBuffer(socket)
				_, _ = io.WriteString(conn, "POST /api/chat/up/v1 HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}")
				conns, ins = append(conns, conn), append(ins, bufio.NewReaderSize(conn, 1<<10))
			}
			for range 3 { // a few events each, now and then
				for _, in := range ins {
					for range 8 {
						if _, err := in.ReadSlice('\n'); err != nil && err != bufio.ErrBufferFull {
							t.Fatal(err)
						}
					}
				}
			}
			ahead := settled(&sent)
			grown := heap() - before
			t.Logf("%s: %d KiB of heap and %d KiB read ahead for each of %d streams", name, grown>>10/readers, ahead>>10/readers, readers)
			if grown > readers*held {
				t.Errorf("%d KiB of heap for each stream, stated are %d", grown>>10/readers, held>>10)
			}
			// And four sockets, which the kernel makes twice as large and more.
			if most := int64(readers) * (held + 4*8*socket); ahead > most {
				t.Errorf("the upstream could send %d KiB, want no more than %d", ahead>>10, most>>10)
			}
			for _, conn := range conns {
				_ = conn.Close()
			}
			for range readers {
				f.result(t)
			}
		})
	}
}

func smallSockets(size int) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetReadBuffer(size)
		}
		return conn, err
	}
}

// settled waits until n no longer grows, and gives it.
func settled(n *atomic.Int64) int64 {
	for last, same := int64(-1), 0; ; {
		time.Sleep(50 * time.Millisecond)
		now := n.Load()
		if now != last {
			last, same = now, 0
			continue
		}
		if same++; same == 10 {
			return now
		}
	}
}

// heap gives the bytes that are in use once garbage is gone.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what pools held goes with the second
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
