package gatehousetest_test

import (
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
)

// ask sends one inline command on a connection of its own and gives the first line of the answer.
func ask(t *testing.T, r *gatehousetest.RedisServer, command string) (string, error) {
	t.Helper()
	conn, err := net.Dial("tcp", r.Addr())
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte(command + "\r\n")); err != nil {
		return "", err
	}
	b := make([]byte, 512)
	n, err := conn.Read(b)
	return strings.TrimSpace(string(b[:n])), err
}

func TestRedis(t *testing.T) {
	t.Parallel()
	r := gatehousetest.Redis(t, "--maxmemory", "5mb")
	if got, want := r.URL(), "redis://"+r.Addr(); got != want {
		t.Errorf("URL %s, want %s", got, want)
	}
	want := func(command, answer string) {
		t.Helper()
		if got, err := ask(t, r, command); err != nil || got != answer {
			t.Errorf("%s: %q, %v; want %q", command, got, err, answer)
		}
	}
	want("SET k v", "+OK")
	r.Freeze()
	if got, err := ask(t, r, "PING"); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a frozen server answers %q, %v; want silence", got, err)
	}
	r.Thaw()
	want("EXISTS k", ":1")
	r.Kill()
	if _, err := ask(t, r, "PING"); err == nil {
		t.Error("a killed server answers")
	}
	r.Restart()
	want("EXISTS k", ":0")
	r.Freeze() // the cleanup ends a frozen one too
}
