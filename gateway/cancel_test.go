package gateway_test

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/gateway"
)

// BenchmarkCancel measures from the instant at which a caller closes its
// connection, inside a silent stream and before an answer, to that at which the
// upstream finds its own connection closed; beside it a bare
// httputil.ReverseProxy.
func BenchmarkCancel(b *testing.B) {
	for name, head := range map[string]string{"inside a stream": eventStream + "9\r\ndata: 1\n\n\r\n", "before the answer": ""} {
		b.Run(name, func(b *testing.B) {
			asked, gone := make(chan struct{}), make(chan time.Time)
			upstream := "http://" + listen(b, func(conn net.Conn) {
				r, err := http.ReadRequest(bufio.NewReader(conn))
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, r.Body)
				_, _ = io.WriteString(conn, head)
				asked <- struct{}{}
				_, _ = io.Copy(io.Discard, conn)
				gone <- time.Now()
			})
			f := serve(b, upstream, func(o *gateway.Options) { o.Logger = slog.New(slog.DiscardHandler) })
			go func() {
				for range f.results {
				}
			}()
			target, err := url.Parse(upstream)
			if err != nil {
				b.Fatal(err)
			}
			bare := httptest.NewServer(&httputil.ReverseProxy{
				Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }, ErrorLog: f.Config.ErrorLog,
			})
			defer bare.Close()
			leave := func(address string) time.Duration {
				conn, err := net.Dial("tcp", address)
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.WriteString(conn, "POST /api/chat/up/v1 HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}")
				<-asked
				if head != "" {
					if _, err := bufio.NewReader(conn).ReadString(':'); err != nil {
						b.Fatal(err)
					}
				}
				left := time.Now()
				_ = conn.Close()
				return (<-gone).Sub(left)
			}
			var ours, theirs []time.Duration
			for b.Loop() {
				ours = append(ours, leave(f.Listener.Addr().String()))
				theirs = append(theirs, leave(bare.Listener.Addr().String()))
			}
			slices.Sort(ours)
			slices.Sort(theirs)
			b.ReportMetric(0, "ns/op")
			for _, q := range []struct {
				name string
				at   int
			}{{"p50", 50}, {"p99", 99}} {
				mine, other := ours[len(ours)*q.at/100], theirs[len(theirs)*q.at/100]
				b.ReportMetric(float64(mine.Microseconds()), q.name+"-us")
				b.ReportMetric(float64(other.Microseconds()), q.name+"-bare-us")
				b.ReportMetric(float64(other)/float64(mine), q.name+"-x_bare")
			}
		})
	}
}
