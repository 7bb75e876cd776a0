package server_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

const wirePath = "/api/chat/up/v1/chat/completions"

// What a caller may do to a request's framing, connection and target: each line is
// answered, and the provider sees one whole request with the key, or none.
func TestHostileRequestsOnTheWire(t *testing.T) {
	p := tap(t)
	smuggled := "GET /api/chat/up/v1/smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
	evil := p.bystander.Addr().String()
	for _, test := range []struct {
		name   string
		rest   string // after Host and Authorization
		status []int  // of the answers, in order
		sent   int    // requests that the provider sees
	}{
		// Lengths that two servers could read in two ways.
		{"two lengths", "Content-Length: 2\r\nContent-Length: 4\r\n\r\n{}" + smuggled, []int{400}, 0},
		{"two lengths in a line", "Content-Length: 2, 4\r\n\r\n{}" + smuggled, []int{400}, 0},
		{"a length twice in a line", "Content-Length: 2, 2\r\n\r\n{}" + smuggled, []int{400}, 0},
		{"a length with a sign", "Content-Length: +2\r\n\r\n{}", []int{400}, 0},
		{"a negative length", "Content-Length: -2\r\n\r\n{}", []int{400}, 0},
		{"a length in hex", "Content-Length: 0x2\r\n\r\n{}", []int{400}, 0},
		{"a length past 64 bits", "Content-Length: 18446744073709551618\r\n\r\n{}", []int{400}, 0},
		{"an empty length", "Content-Length:\r\n\r\n" + smuggled, []int{400}, 0},
		{"a length after a NUL", "Content-Length: \x002\r\n\r\n{}", []int{400}, 0},
		{"a length under another name", "Content-Length\x00: 2\r\n\r\n{}", []int{400}, 0},
		{"a space before the colon", "Content-Length : 2\r\n\r\n{}", []int{400}, 0},

		// Transfer codings: what is not exactly "chunked" is refused.
		{"length and chunks", "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n" + smuggled, []int{200}, 1},
		{"chunked twice in a line", "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n" + smuggled, []int{501}, 0},
		{"chunked in two lines", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled, []int{501}, 0},
		{"chunked and identity", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + smuggled, []int{501}, 0},
		{"xchunked", "Transfer-Encoding: xchunked\r\nContent-Length: 2\r\n\r\n{}" + smuggled, []int{501}, 0},
		{"identity", "Transfer-Encoding: identity\r\nContent-Length: 2\r\n\r\n{}", []int{501}, 0},
		{"gzip before chunked", "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", []int{501}, 0},
		{"chunked in quotes", "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", []int{501}, 0},
		{"a vertical tab", "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", []int{400}, 0},
		{"a folded coding", "Transfer-Encoding:\r\n chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", []int{200}, 1},
		{"a coding with a parameter", "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n", []int{501}, 0},
		{"an empty coding", "Transfer-Encoding:\r\nContent-Length: 2\r\n\r\n{}" + smuggled, []int{501}, 0},

		// Chunks.
		{"a chunk of a negative size", "Transfer-Encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n", []int{400}, 0},
		{"a chunk size as 0x", "Transfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n", []int{400}, 0},
		{"a chunk size that overflows", "Transfer-Encoding: chunked\r\n\r\n10000000000000002\r\n{}\r\n0\r\n\r\n", []int{400}, 0},
		{"no size at all", "Transfer-Encoding: chunked\r\n\r\n\r\n{}\r\n0\r\n\r\n", []int{400}, 0},
		{"a chunk that is too long", "Transfer-Encoding: chunked\r\n\r\n2\r\n{}x\r\n0\r\n\r\n", []int{400}, 0},
		{"a chunk without its end", "Transfer-Encoding: chunked\r\n\r\n2\r\n{}0\r\n\r\n", []int{400}, 0},
		{"a short extension", "Transfer-Encoding: chunked\r\n\r\n2;a=b\r\n{}\r\n0\r\n\r\n", []int{200}, 1},
		{"a huge extension", "Transfer-Encoding: chunked\r\n\r\n2;" + strings.Repeat("a", 10<<10) + "\r\n{}\r\n0\r\n\r\n", []int{400}, 0},
		{"many extensions", "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1;"+strings.Repeat("a", 2000)+"\r\nx\r\n", 100) + "0\r\n\r\n", []int{400}, 0},
		{"half of the chunks", "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", []int{400}, 0},
		{"half a body", "Content-Length: 10\r\n\r\n{}", []int{400}, 0},

		// Trailers say nothing here and go nowhere.
		{"trailers", "Trailer: Authorization, X-Evil\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nAuthorization: Bearer evil\r\nX-Evil: evil\r\n\r\n", []int{200}, 1},
		{"trailers that were not named", "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nContent-Length: 9\r\nHost: evil\r\n\r\n", []int{200}, 1},
		{"half a trailer", "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX-Evil: " + strings.Repeat("a", 64<<10), []int{400}, 0},

		// Connection and Upgrade take nothing off and open nothing.
		{"Connection: Authorization", "Connection: Authorization\r\nContent-Length: 2\r\n\r\n{}", []int{200}, 1},
		{"Connection: close, X-Api-Key", "Connection: close, X-Api-Key, Authorization, Host, Content-Type\r\nContent-Length: 2\r\n\r\n{}", []int{200}, 1},
		{"Connection: Content-Length", "Connection: Content-Length, Transfer-Encoding\r\nContent-Length: 2\r\n\r\n{}", []int{200}, 1},
		{"a WebSocket", "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: eA==\r\nSec-WebSocket-Version: 13\r\nContent-Length: 0\r\n\r\n", []int{400}, 0},
		{"HTTP/2 in the clear", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nContent-Length: 2\r\n\r\n{}", []int{200}, 1},

		// Header lines.
		{"a folded line", "X-A: 1\r\n Content-Length: 100\r\nContent-Length: 2\r\n\r\n{}", []int{200}, 1},
		{"a line folded onto the token", " X-A: evil\r\nContent-Length: 2\r\n\r\n{}", []int{401}, 0},
		{"a bare CR", "X-A: 1\rX-Evil: 2\r\nContent-Length: 2\r\n\r\n{}", []int{400}, 0},
		{"a line without a colon", "nonsense\r\nContent-Length: 2\r\n\r\n{}", []int{400}, 0},
		{"an empty name", ": x\r\nContent-Length: 2\r\n\r\n{}", []int{400}, 0},
		{"a second host", "Host: " + evil + "\r\nContent-Length: 2\r\n\r\n{}", []int{400}, 0},
		{"other words for a host", "X-Forwarded-Host: " + evil + "\r\nForwarded: host=" + evil + "\r\nX-Original-Url: http://" + evil + "/\r\nContent-Length: 2\r\n\r\n{}", []int{200}, 1},
		{"a second token", "X-Api-Key: another-token-0123456789abcdef\r\nContent-Length: 2\r\n\r\n{}", []int{400}, 0},
		{"a flood of lines", strings.Repeat("X-A: b\r\n", 20_000) + "Content-Length: 2\r\n\r\n{}", []int{431}, 0},
		{"a huge line", "X-A: " + strings.Repeat("a", 64<<10) + "\r\nContent-Length: 2\r\n\r\n{}", []int{431}, 0},
		{"half a header", "X-A: " + strings.Repeat("a", 64<<10), []int{431}, 0},
		{"another expectation", "Expect: 200-ok\r\nContent-Length: 2\r\n\r\n{}", []int{417}, 0},

		// Two requests at once are two requests, each with a token of its own.
		{"a second request behind", "Content-Length: 2\r\n\r\n{}" + smuggled, []int{200, 401}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			statuses, said := p.send(t, p.request(wirePath, test.rest), strings.HasPrefix(test.name, "half"))
			if !slices.Equal(statuses, test.status) {
				t.Errorf("answered %v, want %v: %.300q", statuses, test.status, said)
			}
			p.check(t, test.sent, said)
		})
	}
	// After all that it serves.
	if statuses, said := p.send(t, p.request(wirePath, "Content-Length: 2\r\n\r\n{}"), false); !slices.Equal(statuses, []int{200}) {
		t.Errorf("answered %v: %s", statuses, said)
	}
}

// A Transfer-Encoding of HTTP/1.0 says nothing to us and may say something to a proxy
// before us: whatever follows on the connection is not read as a request.
func TestHTTP10EndsTheConnection(t *testing.T) {
	p := tap(t)
	smuggled := p.request("/api/chat/up/v1/smuggled", "\r\n")
	for _, rest := range []string{"Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n", "Connection: keep-alive\r\nContent-Length: 2\r\n\r\n{}"} {
		first := strings.Replace(p.request(wirePath, rest), "HTTP/1.1", "HTTP/1.0", 1)
		statuses, said := p.send(t, first+smuggled, false)
		if !slices.Equal(statuses, []int{200}) {
			t.Errorf("answered %v: %.300q", statuses, said)
		}
		p.check(t, 1, said)
	}
}

// An answer that breaks off does not look whole over HTTP/1.0 either, where its end is that of
// the connection: nginx asks so by default, and would pass it on as whole.
func TestACutAnswerOverHTTP10(t *testing.T) {
	upstream, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = upstream.Close() })
	var whole atomic.Bool
	go func() {
		for {
			conn, err := upstream.Accept()
			if err != nil {
				return
			}
			_, _ = http.ReadRequest(bufio.NewReader(conn))
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n7\r\n[1,2,3,\r\n")
			if whole.Load() {
				_, _ = io.WriteString(conn, "2\r\n4]\r\n0\r\n\r\n")
			}
			_ = conn.Close()
		}
	}()
	s := instancetest.Serve(t, map[string]string{"CHAT_HOSTS": "up=http://" + upstream.Addr().String()})
	c := as(t, s, "acme", "u1", access.Owner)
	c.store("up", map[string]string{"apiKey": tappedKey})
	ask := func() (string, error) {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		_, _ = fmt.Fprintf(conn, "GET /api/chat/up/v1/models HTTP/1.0\r\nAuthorization: Bearer %s\r\n\r\n", c.token)
		said, err := io.ReadAll(conn)
		return string(said), err
	}
	if said, err := ask(); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a cut answer ended with %v: %q", err, said)
	}
	whole.Store(true)
	if said, err := ask(); err != nil || !strings.HasSuffix(said, "\r\n\r\n[1,2,3,4]") {
		t.Errorf("a whole answer ended with %v: %q", err, said)
	}
}

// Whatever stands on the request line, the key goes to the pinned host and path or
// nowhere.
func TestHostileTargetsOnTheWire(t *testing.T) {
	p := tap(t)
	evil := p.bystander.Addr().String()
	for target, status := range map[string]int{
		wirePath:                                      200,
		"/api/chat/up/../../api-keys":                 400,
		"/api/chat/up/%2e%2e/x":                       400,
		"/api/chat/up/%2E%2E%2fx":                     400,
		"/api/chat/up/%252e%252e/x":                   400,
		"/api/chat/up/..;/x":                          400,
		"/api/chat/up/;/../x":                         400,
		"/api/chat/up//" + evil + "/x":                400,
		`/api/chat/up/\` + evil:                       400,
		`/api/chat/up/..\x`:                           400,
		"/api/chat/up/%5c" + evil:                     400,
		"/api/chat/up/a%2fb":                          400,
		"/api/chat/up/a%00b":                          400,
		"/api/chat/up/http://" + evil:                 400,
		"/api/chat/up/a%0d%0aX-Evil:%20":              400,
		"/api/chat/up@" + evil + "/x":                 404,
		"/api/chat/up:80@" + evil + "/x":              404,
		"/api/chat/%75p/x":                            404,
		"/api/chat/UP/x":                              404,
		"/api/chat//up/x":                             404,
		"/api/proxy/up/x":                             404,
		"/api/chat/../chat/up/x":                      404,
		"/api//chat/up/x":                             404,
		`\api\chat\up\x`:                              400,
		"api/chat/up/x":                               400,
		"http://" + evil + wirePath:                   404,
		"http://gatehouse.example" + wirePath:         404,
		"http://u:p@" + evil + wirePath:               404,
		"//" + evil + wirePath:                        404,
		"*":                                           400,
		evil:                                          400,
		"/api/chat/up/" + strings.Repeat("a/", 5<<10): 400,
		"/api/chat/up/v1\tHTTP/1.1":                   400,
	} {
		want := 0
		if status == 200 {
			want = 1
		}
		statuses, said := p.send(t, p.request(target, "Connection: close\r\nContent-Length: 2\r\n\r\n{}"), false)
		if len(statuses) != 1 || statuses[0] != status {
			t.Errorf("%.80s: answered %v, want %d: %.200q", target, statuses, status, said)
		}
		p.check(t, want, said)
	}
	for line, status := range map[string]int{
		"CONNECT " + evil + " HTTP/1.1":              404,
		"CONNECT " + wirePath + " HTTP/1.1":          400,
		"TRACE " + wirePath + " HTTP/1.1":            400,
		"PRI * HTTP/2.0":                             400,
		"FOO " + wirePath + " HTTP/1.1":              400,
		"GET " + wirePath + " HTTP/3.0":              505,
		"GET " + wirePath + " HTTP/1.1 HTTP/1.1":     400,
		"GET  " + wirePath + " HTTP/1.1":             400,
		"GET " + wirePath + "\x00 HTTP/1.1":          400,
		"OPTIONS * HTTP/1.1":                         200,
		"GET http://169.254.169.254/latest HTTP/1.1": 404,
	} {
		statuses, said := p.send(t, line+"\r\nHost: h\r\nConnection: close\r\nAuthorization: Bearer "+p.token+"\r\n\r\n", false)
		if len(statuses) != 1 || statuses[0] != status {
			t.Errorf("%.80q: answered %v, want %d: %.200q", line, statuses, status, said)
		}
		p.check(t, 0, said)
	}
}

// A body is asked for only from who may send it.
func TestExpectContinue(t *testing.T) {
	p := tap(t)
	for name, test := range map[string]struct {
		head      string
		continues bool
		status    int
	}{
		"a caller": {p.request(wirePath, "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"), true, 200},
		"nobody":   {"POST " + wirePath + " HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n", false, 401},
		"too much": {p.request(wirePath, fmt.Sprintf("Expect: 100-continue\r\nContent-Length: %d\r\n\r\n", 513<<20)), false, 413},
		"no path":  {p.request("/api/chat/up/%2e%2e/x", "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"), false, 400},
		"no chat":  {p.request("/api/chat/nope/x", "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"), false, 404},
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, test.head)
		in := bufio.NewReader(conn)
		_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		answer, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if continues := answer.StatusCode == http.StatusContinue; continues != test.continues {
			t.Errorf("%s: the first answer is %d", name, answer.StatusCode)
		}
		if answer.StatusCode == http.StatusContinue {
			_, _ = io.WriteString(conn, "{}")
			if answer, err = http.ReadResponse(in, nil); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if answer.StatusCode != test.status {
			t.Errorf("%s: %d, want %d", name, answer.StatusCode, test.status)
		}
		_ = conn.Close()
	}
	p.check(t, 1, "")
}

// A header that comes one byte at a time has ten seconds, whatever comes.
func TestSlowHeader(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes ten seconds")
	}
	p := tap(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ended := make(chan string)
	go func() {
		said, _ := io.ReadAll(conn)
		ended <- string(said)
	}()
	_, _ = io.WriteString(conn, p.request(wirePath, "X-Slow: "))
	for giveUp := time.After(time.Minute); ; {
		select {
		case said := <-ended:
			p.check(t, 0, said)
			return
		case <-giveUp:
			t.Fatal("the connection is still open after a minute")
		case <-time.After(100 * time.Millisecond):
			_, _ = io.WriteString(conn, "a")
		}
	}
}
