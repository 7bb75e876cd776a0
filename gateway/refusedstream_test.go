package gateway_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/gatehouse-io/gatehouse/gateway"
)

// Over HTTP/2 a request that was refused before it was looked at is sent again by net/http, and
// is no resend on kept connections.
func TestARefusedStreamIsNoResend(t *testing.T) {
	const refused = 2
	certified := httptest.NewUnstartedServer(nil)
	certified.StartTLS()
	defer certified.Close()
	secured := &tls.Config{Certificates: certified.TLS.Certificates, NextProtos: []string{"h2"}}
	address := listenTLS(t, secured, func(conn *tls.Conn) {
		if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		frames := http2.NewFramer(conn, conn)
		_ = frames.WriteSettings()
		for asked := 0; ; {
			frame, err := frames.ReadFrame()
			if err != nil {
				return
			}
			if _, ok := frame.(*http2.HeadersFrame); !ok {
				continue
			}
			if asked++; asked <= refused {
				_ = frames.WriteRSTStream(frame.Header().StreamID, http2.ErrCodeRefusedStream)
				continue
			}
			var header bytes.Buffer
			_ = hpack.NewEncoder(&header).WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
			_ = frames.WriteHeaders(http2.HeadersFrameParam{StreamID: frame.Header().StreamID, BlockFragment: header.Bytes(), EndHeaders: true, EndStream: true})
		}
	})
	roots := certified.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	f := serve(t, "https://"+address, func(o *gateway.Options) { o.TLS = &tls.Config{RootCAs: roots} })
	if answer, text := f.call(t, "GET", "/api/chat/up/v1", ""); answer.StatusCode != 200 {
		t.Errorf("%d %s", answer.StatusCode, text)
	}
	if r := f.result(t); r.Retries != 0 {
		t.Errorf("%+v", r)
	}
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
