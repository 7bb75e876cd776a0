package gateway_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gateway"
)

// What an upstream may say that is no answer, or more than one.
func TestUpstreamsThatAnswerNonsense(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	for name, test := range map[string]struct {
		answer string
		status int
		code   string
	}{
		"two lengths":              {ok + "Content-Length: 2\r\nContent-Length: 3\r\n\r\nok!", 502, "upstream_invalid"},
		"a length that is none":    {ok + "Content-Length: two\r\n\r\nok", 502, "upstream_invalid"},
		"a negative length":        {ok + "Content-Length: -1\r\n\r\nok", 502, "upstream_invalid"},
		"an unknown coding":        {ok + "Transfer-Encoding: xchunked\r\n\r\nok", 502, "upstream_invalid"},
		"a coding twice":           {ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 502, "upstream_invalid"},
		"a status of two digits":   {"HTTP/1.1 20 OK\r\n\r\n", 502, "upstream_invalid"},
		"a status with a sign":     {"HTTP/1.1 +20 OK\r\n\r\n", 502, "upstream_invalid"},
		"HTTP/9":                   {"HTTP/9.9.9 200 OK\r\n\r\n", 502, "upstream_invalid"},
		"a header without a colon": {ok + "nonsense\r\n\r\n", 502, "upstream_invalid"},
		"a header with a NUL":      {ok + "X-A: a\x00b\r\nContent-Length: 2\r\n\r\nok", 502, "upstream_invalid"},
		"zeros":                    {strings.Repeat("\x00", 1000), 502, "upstream_invalid"},
		"TLS":                      {"\x15\x03\x01\x00\x02\x02\x16", 502, "upstream_invalid"},
		"half a header":            {ok + "Content-Length: 2\r\nX-A", 502, "upstream_invalid"},
	} {
		f := serve(t, rawUpstream(t, test.answer))
		answer, text := f.call(t, "POST", "/api/chat/up/v1", "{}")
		if answer.StatusCode != test.status || answer.Header.Get("Gatehouse-Error") != test.code {
			t.Errorf("%s: %d %s", name, answer.StatusCode, text)
		}
		if r := f.result(t); r.Outcome != audit.Failure || r.Reason != test.code {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// An upstream that goes on for ever is given up, by size or by time.
func TestUpstreamsThatNeverEnd(t *testing.T) {
	const anyFailure = 500
	soon := func(o *gateway.Options) { o.FirstByte, o.Total = 2*time.Second, 2*time.Second }
	for name, test := range map[string]struct {
		head, again string
		status      int    // 0: the answer begins, and is cut off
		codes       string // one of them
	}{
		"endless headers":           {"HTTP/1.1 200 OK\r\n", "X-A: " + strings.Repeat("a", 1000) + "\r\n", 502, "upstream_invalid"},
		"an endless header line":    {"HTTP/1.1 200 OK\r\nX-A: ", strings.Repeat("a", 1000), 502, "upstream_invalid"},
		"an endless status line":    {"HTTP/1.1 200 ", strings.Repeat("a", 1000), 502, "upstream_invalid"},
		"endless 1xx":               {"", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 502, "upstream_invalid"},
		"endless 100":               {"", "HTTP/1.1 100 Continue\r\n\r\n", 502, "upstream_invalid"},
		"an endless error":          {"HTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\n\r\n", "5\r\nerror\r\n", 0, "upstream_too_long"},
		"an endless refusal":        {"HTTP/1.1 401 No\r\nContent-Type: application/json\r\n\r\n", strings.Repeat(" ", 1000), 0, "upstream_too_long"},
		"an endless chunk size":     {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "0", 502, "upstream_interrupted"},
		"endless chunk extensions":  {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1;" + strings.Repeat("a", 2000) + "\r\nx\r\n", 0, "upstream_interrupted"},
		"endless trailers":          {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "X-A: a\r\n", anyFailure, "upstream_interrupted upstream_too_long"},
		"an endless line of events": {eventStream, "5\r\nerror\r\n", 200, "upstream_too_long"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := serve(t, scripted(t, func(conn net.Conn) {
				_, _ = io.WriteString(conn, test.head)
				for again := []byte(strings.Repeat(test.again, 20)); ; {
					if _, err := conn.Write(again); err != nil {
						return
					}
				}
			}), soon)
			status, n := 0, int64(0)
			answer, err := http.Post(f.URL+"/api/chat/up/v1", "application/json", strings.NewReader("{}"))
			if err == nil {
				status = answer.StatusCode
				n, err = io.Copy(io.Discard, answer.Body)
				_ = answer.Body.Close()
			}
			if test.status == anyFailure && status > anyFailure {
				status = anyFailure
			}
			if test.status == 0 && err == nil || test.status != 0 && (status != test.status || err != nil) {
				t.Errorf("%d, %d bytes, %v", status, n, err)
			}
			if r := f.result(t); !strings.Contains(test.codes, r.Reason) || r.Reason == "" {
				t.Errorf("%+v", r)
			}
		})
	}
}

// What an upstream sends behind its answer is not the next caller's.
func TestAnAnswerTooMany(t *testing.T) {
	log.SetOutput(io.Discard) // net/http tells of each there, see instance.Tune
	t.Cleanup(func() { log.SetOutput(os.Stderr) })
	const poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
	for name, answer := range map[string]string{
		"behind a length":    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + poison,
		"behind chunks":      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + poison,
		"behind no content":  "HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\n" + poison,
		"behind a HEAD":      "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + poison,
		"length and chunks":  "HTTP/1.1 200 OK\r\nContent-Length: 100\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + poison,
		"length before more": "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nok" + poison,
	} {
		f := serve(t, "http://"+listen(t, func(conn net.Conn) {
			for in := bufio.NewReader(conn); ; {
				r, err := http.ReadRequest(in)
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, r.Body)
				_, _ = io.WriteString(conn, answer)
			}
		}))
		method := "POST"
		if name == "behind a HEAD" {
			method = "HEAD"
		}
		for range 20 {
			answer, text := f.call(t, method, "/api/chat/up/v1", "{}")
			ours := answer.StatusCode == http.StatusBadGateway && strings.HasPrefix(text, `{"code":"upstream_`) // rarely: see wire
			if strings.Contains(text, "poison") || !ours && len(text) > 2 {
				t.Errorf("%s: %d %q", name, answer.StatusCode, text)
			}
		}
	}
}

// Nothing here decodes: a bomb stays as small as it came, on its way to a caller
// who asked for no compression.
func TestACompressedBombStaysCompressed(t *testing.T) {
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	for range 64 {
		_, _ = z.Write(make([]byte, 1<<20))
	}
	_ = z.Close()
	for _, status := range []int{200, 400} {
		f := serve(t, rawUpstream(t, fmt.Sprintf("HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s", status, bomb.Len(), bomb.String())))
		before := heap()
		f.open(t.Context(), t, "/api/chat/up/v1")
		r := f.result(t)
		if grown := heap() - before; grown > 8<<20 {
			t.Errorf("%d: %d KiB of heap for %d bytes", status, grown>>10, bomb.Len())
		}
		if r.BytesOut > int64(bomb.Len()) {
			t.Errorf("%d: %+v", status, r)
		}
	}
}

// A redirect is never followed, wherever it leads, and not pointed at from here.
func TestRedirectsLeadNowhere(t *testing.T) {
	bystander := make(chan string, 1)
	elsewhere := listen(t, func(conn net.Conn) {
		line, _ := bufio.NewReader(conn).ReadString('\n')
		bystander <- line
	})
	for _, target := range []string{
		"http://169.254.169.254/latest/meta-data/iam", "http://[fd00:ec2::254]/", "http://" + elsewhere + "/", "//" + elsewhere + "/",
		"http://metadata.google.internal/", "file:///etc/passwd", "gopher://" + elsewhere, "http:\\\\" + elsewhere,
	} {
		for _, status := range []int{301, 302, 303, 307, 308} {
			f := serve(t, rawUpstream(t, fmt.Sprintf("HTTP/1.1 %d Moved\r\nLocation: %s\r\nRefresh: 0;url=%s\r\nContent-Length: 0\r\n\r\n", status, target, target)))
			answer, _ := f.call(t, "GET", "/api/chat/up/v1", "")
			if answer.StatusCode != status || answer.Header.Get("Location") != "" || answer.Header.Get("Refresh") != "" {
				t.Errorf("%d to %s: %d %v", status, target, answer.StatusCode, answer.Header)
			}
		}
	}
	// To itself, for ever: one request each time, and the caller is led through here.
	asked := make(chan string, 100)
	f := serve(t, "http://"+listen(t, func(conn net.Conn) {
		r, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		asked <- r.URL.Path
		_, _ = io.WriteString(conn, "HTTP/1.1 302 Found\r\nLocation: "+r.URL.Path+"\r\nContent-Length: 0\r\n\r\n")
	}))
	answer, _ := f.call(t, "GET", "/api/chat/up/v1", "")
	if answer.Header.Get("Location") != "/api/chat/up/v1" || len(asked) != 1 {
		t.Errorf("%v, asked %d times", answer.Header, len(asked))
	}
	select {
	case line := <-bystander:
		t.Errorf("the bystander saw %q", line)
	default:
	}
}

// A body that trickles is given up, however alive it looks.
func TestABodyThatTrickles(t *testing.T) {
	upstream, got := recorder(t, nil)
	f := serve(t, upstream, func(o *gateway.Options) { o.BodyTimeout = 300 * time.Millisecond })
	conn, err := net.Dial("tcp", f.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = io.WriteString(conn, "POST /api/chat/up/v1 HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n")
	done := make(chan gateway.Result, 1)
	go func() { done <- f.result(t) }()
	for giveUp := time.After(20 * time.Second); ; {
		select {
		case r := <-done:
			if r.Reason != "body_timeout" || r.Status != 400 {
				t.Errorf("%+v", r)
			}
			if len(got) != 0 {
				t.Error("the upstream was asked")
			}
			return
		case <-giveUp:
			t.Fatal(errors.New("still being read"))
		case <-time.After(5 * time.Millisecond):
			_, _ = io.WriteString(conn, "x")
		}
	}
}
