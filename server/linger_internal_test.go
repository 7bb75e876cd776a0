package server

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// Whoever sends slowly, or without end, is read on for no longer than the bound, and so are only so many at once.
func TestLingerIsBounded(t *testing.T) {
	const bound = 300 * time.Millisecond
	l := linger{slots: make(chan struct{}, 1), time: bound, silence: bound, bytes: 1 << 20}
	over := make(chan time.Duration, 16)
	hs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		begin := time.Now()
		l.after(w, r, http.StatusRequestEntityTooLarge)
		over <- time.Since(begin)
	}))
	t.Cleanup(hs.Close) // after the connections
	dial := func(header string) net.Conn {
		conn, err := net.Dial("tcp", hs.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_, _ = fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: h\r\n%s\r\n\r\n", header)
		return conn
	}

	slow := dial("Content-Length: 10000000")
	go func() {
		for { // a byte now and then does not make it longer
			if _, err := slow.Write([]byte("a")); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	time.Sleep(bound / 3)
	dial("Content-Length: 10000000") // there is one slot
	if took := <-over; took > bound/3 {
		t.Errorf("without a slot it took %v", took)
	}
	if took := <-over; took < bound*9/10 || took > bound*3 {
		t.Errorf("a slow client was read for %v", took)
	}

	endless := dial("Transfer-Encoding: chunked")
	go func() {
		chunk := append(append([]byte("10000\r\n"), make([]byte, 64<<10)...), "\r\n"...)
		for {
			if _, err := endless.Write(chunk); err != nil {
				return
			}
		}
	}()
	if took := <-over; took > bound {
		t.Errorf("past the bound of bytes a client was read for %v", took)
	}

	for _, header := range []string{"Content-Length: 100", "Content-Length: 10000000\r\nExpect: 100-continue"} {
		dial(header)
		if took := <-over; took > bound/3 {
			t.Errorf("%q: it took %v", header, took)
		}
	}
	_, _ = io.Copy(io.Discard, slow)
}
