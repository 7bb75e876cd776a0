package instance_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
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

// stopped is a configuration that waits hardly at all when it is stopped.
func stopped(t *testing.T, more map[string]string) instance.Config {
	t.Helper()
	environ := map[string]string{
		"JWT_SECRET": gatehousetest.JWTSecret, "ENCRYPTION_KEY": gatehousetest.EncryptionKey, "GATEHOUSE_ENV": "test", "GATEHOUSE_DATA": t.TempDir(),
		"GATEHOUSE_ADDR": "127.0.0.1:0", "ORGANIZATIONS_FROM_TOKENS": "true", "GATEHOUSE_STOP_GRACE": "10ms",
	}
	maps.Copy(environ, more)
	config, err := instance.FromEnvironment(environ)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// serve serves on what wrap makes of the listener, until stop is called, which returns once it does not any more.
func serve(t *testing.T, config instance.Config, logs io.Writer, wrap func(net.Listener) net.Listener) (in *instance.Instance, address string, stop func()) {
	t.Helper()
	in, err := instance.Open(t.Context(), config, logs)
	if err != nil {
		t.Fatal(err)
	}
	listeners, err := in.Listen()
	if err != nil {
		t.Fatal(err)
	}
	address = listeners[0].Addr().String()
	listeners[0].Listener = wrap(listeners[0].Listener)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- in.Serve(ctx, listeners) }()
	return in, address, func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("serving: %v", err)
		}
	}
}

// owner signs a token of an owner.
func owner(t *testing.T, config instance.Config) string {
	t.Helper()
	token, err := auth.Sign([]byte(config.JWTSecret), access.NewCaller("acme", access.User, "u_1", access.Owner),
		config.JWTIssuer, config.JWTAudience, time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return token
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
			config := stopped(t, nil)
			var logs bytes.Buffer
			in, address, stop := serve(t, config, &logs, func(l net.Listener) net.Listener { return lateConns{l, test.after} })

			conn, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			token := owner(t, config)
			if _, err := io.WriteString(conn, "POST /api/chat/openai/v1/files HTTP/1.1\r\nHost: gatehouse\r\nAuthorization: Bearer "+token+
				"\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			if answer, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || answer.StatusCode != http.StatusContinue {
				t.Fatalf("%v %v", answer, err)
			}
			stop()
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

// slowToClose are connections whose closing returns, once slow is set, some time after the other side has seen it.
type slowToClose struct {
	net.Listener
	slow *atomic.Bool
}

func (l slowToClose) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return slowClose{conn, l.slow}, err
}

type slowClose struct {
	net.Conn
	slow *atomic.Bool
}

func (c slowClose) Close() error {
	err := c.Conn.Close()
	if c.slow.Load() {
		time.Sleep(200 * time.Millisecond)
	}
	return err
}

// A request whose answer broke off over HTTP/1.0 has taken its connection from the server, which
// does not wait for it: a stop at that moment told of a loss that was none.
func TestStopWaitsForAnAnswerThatBrokeOff(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, "[1,2,")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	defer upstream.Close()
	config := stopped(t, map[string]string{"CHAT_HOSTS": "up=" + upstream.URL})
	var slow atomic.Bool
	in, address, stop := serve(t, config, io.Discard, func(l net.Listener) net.Listener { return slowToClose{l, &slow} })
	token := owner(t, config)
	c := api.Client{BaseURL: "http://" + address, Token: token, HTTP: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	if _, err := c.CreateCredential(t.Context(), api.CredentialCreate{Service: "up", Credentials: map[string]string{"apiKey": "sk-0123456789"}}); err != nil {
		t.Fatal(err)
	}
	slow.Store(true)
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "GET /api/chat/up/v1/models HTTP/1.0\r\nAuthorization: Bearer "+token+"\r\n\r\n")
	if said, err := io.ReadAll(conn); !strings.HasSuffix(string(said), "\r\n\r\n[1,2,") {
		t.Fatalf("the answer ended with %v: %q", err, said)
	}
	stop()
	if err := in.Close(); err != nil {
		t.Errorf("closing: %v", err)
	}
}
