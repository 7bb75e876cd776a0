package bench

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
)

// clients are connections to one proxy. They spend little time of their own, so
// that what is measured is what stands between them and the upstream.
type clients struct {
	path   string
	length int64              // of an answer's body
	token  func(i int) string // of the i-th request
	each   []*client
}

type client struct {
	address string
	conn    net.Conn
	in      *bufio.Reader
}

func newClients(connections int, address, path string, length int64, token func(int) string) *clients {
	c := &clients{path: path, length: length, token: token}
	for range connections {
		c.each = append(c.each, &client{address: address})
	}
	return c
}

// at makes all connections go to address.
func (c *clients) at(address string) {
	for _, one := range c.each {
		one.address = address
	}
}

// request gives a POST with a body of 1 KB and the headers of OpenAI's Go SDK.
func (c *clients) request(token string) []byte {
	const before, after = `{"model":"m","messages":[{"role":"user","content":"`, `"}]}`
	body := before + strings.Repeat("q", 1024-len(before)-len(after)) + after
	return []byte("POST " + c.path + " HTTP/1.1\r\nHost: gatehouse.example\r\nAuthorization: Bearer " + token +
		"\r\nContent-Type: application/json\r\nAccept: application/json\r\nUser-Agent: OpenAI/Go 3.0\r\nX-Stainless-Lang: go\r\n" +
		"X-Stainless-Os: Linux\r\nX-Stainless-Arch: x64\r\nX-Stainless-Runtime: go\r\nX-Stainless-Retry-Count: 0\r\n" +
		"Content-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body)
}

// prepare makes n requests, so that run spends no time on it.
func (c *clients) prepare(n int) [][]byte {
	requests := make([][]byte, n)
	known := make(map[string][]byte)
	for i := range requests {
		token := c.token(i)
		if known[token] == nil {
			known[token] = c.request(token)
		}
		requests[i] = known[token]
	}
	return requests
}

// run sends the requests and gives how many were not answered whole, with the
// reasons.
func (c *clients) run(requests [][]byte) (cut int64, why error) {
	var next, failed atomic.Int64
	errs := make([]error, len(c.each))
	spread(len(c.each), len(requests), func(worker, _ int) {
		for {
			i := int(next.Add(1)) - 1
			if i >= len(requests) {
				return
			}
			if err := c.each[worker].do(requests[i], c.length); err != nil {
				failed.Add(1)
				errs[worker] = err
				c.each[worker].close()
			}
		}
	})
	return failed.Load(), errors.Join(errs...)
}

func (c *clients) close() {
	for _, one := range c.each {
		one.close()
	}
}

func (c *client) close() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

func (c *client) do(request []byte, length int64) error {
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
	n, err := io.Copy(io.Discard, answer.Body)
	if err == nil && n != length {
		err = fmt.Errorf("%d bytes of %d", n, length)
	}
	return err
}
