package gateway_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/gateway"
)

// A question of 1 KiB and a JSON answer of 1 KiB.
func BenchmarkJSON1K(b *testing.B) {
	versusBare(b, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Request-Id: req_0123456789\r\n"+
		"Date: Mon, 23 Nov 2026 12:00:00 GMT\r\nContent-Length: 1024\r\n\r\n"+strings.Repeat("a", 1024))
}

// A question of 1 KiB and an answer of 200 server-sent events, each a chunk and
// a write of its own.
func BenchmarkStream200(b *testing.B) {
	answer := []string{"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nDate: Mon, 23 Nov 2026 12:00:00 GMT\r\nTransfer-Encoding: chunked\r\n\r\n"}
	const event = `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1795423260,"model":"m","choices":[{"index":0,"delta":{"content":"word"},"finish_reason":null}]}` + "\n\n"
	for range 200 {
		answer = append(answer, strconv.FormatInt(int64(len(event)), 16)+"\r\n"+event+"\r\n")
	}
	versusBare(b, append(answer, "0\r\n\r\n")...)
}

// A question of 1 KiB and an answer of 4 MiB with its length.
func BenchmarkLong4M(b *testing.B) {
	versusBare(b, "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nDate: Mon, 23 Nov 2026 12:00:00 GMT\r\nContent-Length: 4194304\r\n\r\n"+
		strings.Repeat("a", 4<<20))
}

// versusBare measures the gateway against a bare httputil.ReverseProxy in front
// of the same upstream, by turns, and reports how many times the proxy's
// requests per second the gateway reaches as x_bare. Client and upstream are
// cheap, so that what is measured is what stands between them.
func versusBare(b *testing.B, answer ...string) {
	address := listen(b, func(conn net.Conn) { answerForever(conn, answer) })
	upstream, err := url.Parse("http://" + address)
	if err != nil {
		b.Fatal(err)
	}
	services, err := catalog.New(catalog.Options{ChatHosts: map[string]string{"up": upstream.String()}})
	if err != nil {
		b.Fatal(err)
	}
	service, _ := services.Service("up")
	in, err := service.Prepare(map[string]string{"apiKey": injectedKey})
	if err != nil {
		b.Fatal(err)
	}
	g, err := gateway.New(gateway.Options{
		Catalog: services, Problem: writeProblem,
		Opener: one{gateway.Credential{ID: "cred_1", Name: "Default", Version: 1, Injection: in}},
	})
	if err != nil {
		b.Fatal(err)
	}
	defer g.Close()
	caller := access.NewCaller("acme", access.User, "u_1", access.Owner)
	ours := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		service, path, _ := gateway.SplitPath(r, gateway.Chat)
		g.Serve(w, r, gateway.Visit{Route: gateway.Chat, Caller: caller, RequestID: "req_1", Service: service, Path: path})
	}))
	defer ours.Close()
	transport := &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true}
	defer transport.CloseIdleConnections()
	bare := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(upstream) },
		Transport: transport,
		ErrorLog:  log.New(io.Discard, "", 0), // it cuts a stream now and then
	})
	defer bare.Close()

	clients := [2][]*benchClient{dial(b, bare.Listener.Addr().String()), dial(b, ours.Listener.Addr().String())}
	var cut [2]int64
	var ratios []float64
	b.ReportAllocs()
	for turn, left := 0, b.N; left > 0; turn++ {
		n := min(left, 500)
		left -= n
		var spent [2]time.Duration
		for i := range 2 {
			side := (turn + i) % 2
			if side == 0 {
				b.StopTimer()
			}
			begin := time.Now()
			cut[side] += run(clients[side], n)
			spent[side] = time.Since(begin)
			if side == 0 {
				b.StartTimer()
			}
		}
		ratios = append(ratios, float64(spent[0])/float64(spent[1]))
	}
	slices.Sort(ratios) // the median: another process may have had the machine for a turn
	b.ReportMetric(ratios[len(ratios)/2], "x_bare")
	b.ReportMetric(float64(cut[0]), "cut_by_bare")
	if cut[1] > 0 {
		b.Errorf("%d answers were cut", cut[1])
	}
}

type one struct{ credential gateway.Credential }

func (o one) OpenForUse(context.Context, access.Caller, *catalog.Service, string, bool) (gateway.Credential, error) {
	return o.credential, nil
}

// answerForever gives the same answer to every request of a connection,
// one write for each piece.
func answerForever(conn net.Conn, answer []string) {
	in := bufio.NewReaderSize(conn, 16<<10)
	pieces := make([][]byte, len(answer))
	for i, text := range answer {
		pieces[i] = []byte(text)
	}
	for {
		length := 0
		for {
			line, err := in.ReadSlice('\n')
			if err != nil {
				return
			}
			if len(line) == 2 {
				break
			}
			if value, ok := strings.CutPrefix(string(line), "Content-Length: "); ok {
				length, _ = strconv.Atoi(strings.TrimSpace(value))
			}
		}
		if _, err := in.Discard(length); err != nil {
			return
		}
		for _, piece := range pieces {
			if _, err := conn.Write(piece); err != nil {
				return
			}
		}
	}
}

// benchClient is a connection that is kept alive.
type benchClient struct {
	address string
	conn    net.Conn
	in      *bufio.Reader
}

func dial(b *testing.B, address string) []*benchClient {
	clients := make([]*benchClient, 32)
	for i := range clients {
		clients[i] = &benchClient{address: address}
		b.Cleanup(clients[i].close)
	}
	return clients
}

func (c *benchClient) close() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

// run sends n requests over all clients at once and gives how many were not
// answered whole.
func run(clients []*benchClient, n int) int64 {
	request := []byte("POST /api/chat/up/v1/chat/completions HTTP/1.1\r\nHost: gatehouse.example\r\nAuthorization: Bearer " + callerToken +
		"\r\nContent-Type: application/json\r\nAccept: application/json\r\nUser-Agent: OpenAI/Go 3.0\r\nX-Stainless-Lang: go\r\n" +
		"X-Stainless-Os: Linux\r\nX-Stainless-Arch: x64\r\nX-Stainless-Runtime: go\r\nX-Stainless-Retry-Count: 0\r\n" +
		"Content-Length: 1024\r\n\r\n" + strings.Repeat("q", 1024))
	var left, failed atomic.Int64
	left.Store(int64(n))
	var wg sync.WaitGroup
	for _, c := range clients {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := c.do(request); err != nil {
					failed.Add(1)
					c.close()
				}
			}
		})
	}
	wg.Wait()
	return failed.Load()
}

func (c *benchClient) do(request []byte) error {
	if c.conn == nil {
		conn, err := net.Dial("tcp", c.address)
		if err != nil {
			return err
		}
		c.conn, c.in = conn, bufio.NewReaderSize(conn, 16<<10)
	}
	if _, err := c.conn.Write(request); err != nil {
		return err
	}
	answer, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return errors.New(answer.Status)
	}
	_, err = io.Copy(io.Discard, answer.Body)
	return err
}
