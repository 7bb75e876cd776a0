package gateway_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gatehouse-io/gatehouse/gateway"
)

// A long answer with a length passes on as it comes, too: its header alone, each piece before the
// next is made, and what came of one that is cut.
func TestLongAnswersPassAsTheyCome(t *testing.T) {
	const size, pieces = 1000, 40
	for _, all := range []bool{true, false} {
		t.Run(fmt.Sprintf("whole %v", all), func(t *testing.T) {
			next := make(chan struct{})
			f := serve(t, scripted(t, func(conn net.Conn) {
				_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n", size*pieces)
				for i := range pieces {
					<-next
					if !all && i == pieces/2 {
						return
					}
					_, _ = io.WriteString(conn, strings.Repeat(string(rune('a'+i%26)), size))
				}
			}))
			answer := f.open(t.Context(), t, "/api/chat/up/v1")
			for i := range pieces {
				next <- struct{}{}
				if !all && i == pieces/2 {
					break
				}
				got := make([]byte, size)
				if _, err := io.ReadFull(answer.Body, got); err != nil || got[0] != byte('a'+i%26) || got[size-1] != got[0] {
					t.Fatalf("piece %d: %.20q... %v", i, got, err)
				}
			}
			rest, err := io.ReadAll(answer.Body)
			if (err == nil) != all || len(rest) != 0 {
				t.Errorf("the rest: %d bytes, %v", len(rest), err)
			}
			if r := f.result(t); r.Abort == all {
				t.Errorf("%+v", r)
			}
		})
	}
}

// A fast long answer takes no more writes than it took reads, but for the header's.
func TestLongAnswersCostNoWriteMore(t *testing.T) {
	const size = 8 << 20
	upstream, _ := recorder(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(size))
		_, _ = w.Write(bytes.Repeat([]byte("a"), size))
	})
	var reads, writes atomic.Int64
	f := serve(t, upstream, func(o *gateway.Options) {
		o.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			return counted{Conn: conn, reads: &reads}, err
		}
	})
	server := httptest.NewUnstartedServer(f.Config.Handler)
	server.Listener = countedListener{server.Listener, &writes}
	server.Start()
	t.Cleanup(server.Close)
	answer, err := http.Get(server.URL + "/api/chat/up/v1")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	if n, err := io.Copy(io.Discard, answer.Body); n != size || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if r, w := reads.Load(), writes.Load(); w > r+1 || r == 0 {
		t.Errorf("%d writes for %d reads", w, r)
	}
}

// counted counts the calls of a connection; either may be nil.
type counted struct {
	net.Conn
	reads, writes *atomic.Int64
}

func (c counted) Read(b []byte) (int, error) {
	if c.reads != nil {
		c.reads.Add(1)
	}
	return c.Conn.Read(b)
}

func (c counted) Write(b []byte) (int, error) {
	if c.writes != nil {
		c.writes.Add(1)
	}
	return c.Conn.Write(b)
}

type countedListener struct {
	net.Listener
	writes *atomic.Int64
}

func (l countedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return counted{Conn: conn, writes: l.writes}, err
}
