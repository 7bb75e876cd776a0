package instance_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/auth"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
	"github.com/gatehouse-io/gatehouse/instance"
)

// lateConns are connections whose reads know no deadline, and end some time after the
// connection is closed: after is done then.
type lateConns struct {
	net.Listener
	after func(release func())
}

func (l lateConns) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return &lateConn{Conn: conn, after: l.after, released: make(chan struct{})}, err
}

type lateConn struct {
	net.Conn
	after    func(release func())
	released chan struct{}
}

func (c *lateConn) SetReadDeadline(time.Time) error { return nil }

func (c *lateConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil {
		<-c.released
	}
	return n, err
}

func (c *lateConn) Close() error {
	err := c.Conn.Close()
	if err == nil { // the first time
		c.after(func() { close(c.released) })
	}
	return err
}

// A request that still runs when its connection is closed is waited for and recorded. One
// that does not end then is told.
func TestStopWaitsForRequestsWithoutAConnection(t *testing.T) {
	stuck := make(chan struct{})
	for name, test := range map[string]struct {
		after func(release func())
		lost  bool
	}{
		"a moment": {func(release func()) { time.AfterFunc(50*time.Millisecond, release) }, false},
		"for good": {func(release func()) { go func() { <-stuck; release() }() }, true},
	} {
		t.Run(name, func(t *testing.T) {
			config, err := instance.FromEnvironment(map[string]string{
				"JWT_SECRET": gatehousetest.JWTSecret, "ENCRYPTION_KEY": gatehousetest.EncryptionKey, "GATEHOUSE_ENV": "test", "GATEHOUSE_DATA": t.TempDir(),
				"GATEHOUSE_ADDR": "127.0.0.1:0", "ORGANIZATIONS_FROM_TOKENS": "true", "GATEHOUSE_STOP_GRACE": "10ms",
			})
			if err != nil {
				t.Fatal(err)
			}
			var logs bytes.Buffer
			in, err := instance.Open(t.Context(), config, &logs)
			if err != nil {
				t.Fatal(err)
			}
			listeners, err := in.Listen()
			if err != nil {
				t.Fatal(err)
			}
			address := listeners[0].Addr().String()
			listeners[0].Listener = lateConns{listeners[0].Listener, test.after}
			ctx, stop := context.WithCancel(t.Context())
			served := make(chan error, 1)
			go func() { served <- in.Serve(ctx, listeners) }()

			conn, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			token, err := auth.Sign([]byte(config.JWTSecret), access.NewCaller("acme", access.User, "u_1", access.Owner),
				config.JWTIssuer, config.JWTAudience, time.Now(), time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(conn, "POST /api/chat/openai/v1/files HTTP/1.1\r\nHost: gatehouse\r\nAuthorization: Bearer "+token+
				"\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			if answer, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || answer.StatusCode != http.StatusContinue {
				t.Fatalf("%v %v", answer, err)
			}
			stop()
			if err := <-served; err != nil {
				t.Errorf("serving: %v", err)
			}
			err = in.Close()
			last := strings.TrimSpace(logs.String())
			last = last[strings.LastIndex(last, "\n")+1:]
			if test.lost {
				if err == nil || !strings.Contains(err.Error(), "requests that did not end") || !strings.Contains(last, "requests that did not end") {
					t.Errorf("%v, and the last line is %s", err, last)
				}
				close(stuck)
				return
			}
			if err != nil || !strings.Contains(last, `"msg":"stopped"`) {
				t.Errorf("%v, and the last line is %s", err, last)
			}
			c := api.Client{BaseURL: instancetest.ServeConfig(t, config).URL, Token: token}
			found, err := c.ListEvents(t.Context(), url.Values{"action": {"chat.request"}})
			if err != nil || len(found.Events) != 1 || found.Events[0].Reason != "server_stopping" {
				t.Errorf("the trail tells %+v, %v", found.Events, err)
			}
			if used, err := c.GetUsage(t.Context(), nil); err != nil || len(used.Rows) != 1 || used.Rows[0].Requests != 1 {
				t.Errorf("the usage is %+v, %v", used.Rows, err)
			}
		})
	}
}
