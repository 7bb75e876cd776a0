package gateway_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"

	"github.com/gatehouse-io/gatehouse/gateway"
)

// Over HTTP/2 a request that was refused before it was looked at is sent again at once, whatever
// it is, and no more than twice: net/http alone goes on for a minute. That is no retry of ours.
func TestARefusedStreamIsSentAgainTwice(t *testing.T) {
	for _, test := range []struct {
		method, body          string
		refused, sent, status int
		retries, retried      int
	}{
		{"GET", "", 2, 3, 200, 0, 0},
		{"POST", "{}", 2, 3, 200, 0, 0},
		{"POST", strings.Repeat("x", 100<<10), 2, 3, 200, 0, 0},
		{"POST", strings.Repeat("x", 100<<10), 1000, 3, 502, 0, 0},
		{"GET", "", 1000, 3, 502, 0, 0},
		{"POST", "{}", 1000, 3, 502, 1, 0},
		{"GET", "", 4, 5, 200, 1, 1},
		{"GET", "", 1000, 6, 502, 1, 1},
	} {
		t.Run(fmt.Sprintf("%s of %d bytes refused %d times with %d retries", test.method, len(test.body), test.refused, test.retries), func(t *testing.T) {
			upstream, asked, secured := refusing(t, test.refused)
			f := serve(t, upstream, func(o *gateway.Options) { o.TLS, o.Retries = secured, test.retries })
			answer, text := f.call(t, test.method, "/api/chat/up/v1", test.body)
			if answer.StatusCode != test.status || answer.StatusCode != 200 && answer.Header.Get("Gatehouse-Error") != "upstream_interrupted" {
				t.Errorf("%d %s", answer.StatusCode, text)
			}
			if r := f.result(t); r.Retries != test.retried {
				t.Errorf("%+v", r)
			}
			if n := asked.Load(); n != int64(test.sent) {
				t.Errorf("it was sent %d times, want %d", n, test.sent)
			}
			given(t, f)
		})
	}
}

// refusing is an upstream that speaks HTTP/2 and refuses the first requests.
func refusing(t *testing.T, refused int) (origin string, asked *atomic.Int64, client *tls.Config) {
	t.Helper()
	asked = new(atomic.Int64)
	origin, client = framed(t, func(frames *http2.Framer, frame http2.Frame) {
		if frame.Header().Type != http2.FrameHeaders {
			return
		}
		stream := frame.Header().StreamID
		if asked.Add(1) <= int64(refused) {
			_ = frames.WriteRSTStream(stream, http2.ErrCodeRefusedStream)
			return
		}
		headers(frames, stream, true, ":status", "200")
		_ = frames.WriteRSTStream(stream, http2.ErrCodeNo) // what it has not read of a body is not needed
	})
	return origin, asked, client
}

// listenTLS serves each connection with serve and closes it after.
func listenTLS(t *testing.T, config *tls.Config, serve func(*tls.Conn)) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	return accept(t, l, func(conn net.Conn) { serve(conn.(*tls.Conn)) })
}
