package server

import (
	"crypto/tls"
	"net"
	"net/http"
)

// cut sees to it that an answer that broke off does not look whole. Where the end of the
// connection is the end of the answer, as over HTTP/1.0 without a length, only a reset tells the
// two apart; nginx asks so unless it is told otherwise (proxy_http_version). Everywhere else
// the panic with [http.ErrAbortHandler] that follows does.
func cut(w http.ResponseWriter, r *http.Request) {
	if r.ProtoAtLeast(1, 1) || w.Header().Get("Content-Length") != "" {
		return
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	below := conn
	if secured, ok := conn.(*tls.Conn); ok {
		below = secured.NetConn()
	}
	if tcp, ok := below.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = below.Close()
}
