package gatehousetest

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A RedisServer is a redis-server of one test. Its methods are for the goroutine of the test; they fail the test when
// they cannot do what they say.
type RedisServer struct {
	t       testing.TB
	binary  string
	args    []string
	dir     string
	port    int
	process *process
}

// Redis starts a redis-server with an empty keyspace that lives as long as the test. It keeps everything in memory
// (no snapshot, no append-only file) and listens on 127.0.0.1 at a port that stays its own over Kill and Restart. args
// are appended to its command line, such as "--maxmemory", "1mb". It fails the test, and says what to install, where there is
// no redis-server.
func Redis(t testing.TB, args ...string) *RedisServer {
	t.Helper()
	binary, ok := program("redis-server")
	if !ok {
		t.Fatal("gatehousetest: redis-server is needed and is not in PATH; " +
			"install it with: apt-get install redis-server (or run tools/setup-tests.sh)")
	}
	r := &RedisServer{t: t, binary: binary, args: args, dir: t.TempDir()}
	t.Cleanup(func() {
		if r.process != nil {
			r.process.stop(syscall.SIGKILL) // works on a frozen one too
		}
	})
	var err error
	for range 20 { // another process may take the port between our look and the server's bind
		if r.port, err = freePort(); err == nil {
			if err = r.start(); err == nil {
				return r
			}
		}
	}
	t.Fatalf("gatehousetest: start redis-server: %v", err)
	return nil
}

// URL is what REDIS_URL wants: redis://127.0.0.1:PORT.
func (r *RedisServer) URL() string { return "redis://" + r.Addr() }

// Addr is the server's host:port.
func (r *RedisServer) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(r.port)) }

// Freeze stops the server from running (SIGSTOP). Its connections stay open and new ones are still accepted by the kernel, but
// nothing answers: the worst way for a server to be away.
func (r *RedisServer) Freeze() { r.t.Helper(); r.signal(syscall.SIGSTOP) }

// Thaw lets a frozen server run on (SIGCONT).
func (r *RedisServer) Thaw() { r.t.Helper(); r.signal(syscall.SIGCONT) }

func (r *RedisServer) signal(sig syscall.Signal) {
	r.t.Helper()
	if r.process == nil {
		r.t.Fatalf("gatehousetest: %s to a redis-server that was killed", sig)
	}
	if err := r.process.cmd.Process.Signal(sig); err != nil {
		r.t.Fatalf("gatehousetest: %s to redis-server: %v", sig, err)
	}
}

// Kill ends the server at once (SIGKILL); connections are cut and what it held is gone.
func (r *RedisServer) Kill() {
	if r.process != nil {
		r.process.stop(syscall.SIGKILL)
		r.process = nil
	}
}

// Restart kills the server where it still runs, and starts it again, empty, on the same port.
func (r *RedisServer) Restart() {
	r.t.Helper()
	r.Kill()
	if err := r.start(); err != nil {
		r.t.Fatalf("gatehousetest: restart redis-server: %v", err)
	}
}

func (r *RedisServer) start() error {
	args := append([]string{"--port", strconv.Itoa(r.port), "--bind", "127.0.0.1", "--dir", r.dir,
		"--save", "", "--appendonly", "no", "--daemonize", "no"}, r.args...)
	cmd := exec.Command(r.binary, args...)
	cmd.Dir = r.dir
	p, err := startProcess(cmd, filepath.Join(r.dir, "log"), syscall.SIGKILL)
	if err != nil {
		return err
	}
	if err := p.ready(r.answers(cmd)); err != nil {
		p.stop(syscall.SIGKILL)
		return err
	}
	r.process = p
	return nil
}

// answers tells whether the server that answers on the port is the one just started, not a stranger that took the
// port: INFO names the process.
func (r *RedisServer) answers(cmd *exec.Cmd) func() error {
	return func() error {
		conn, err := net.DialTimeout("tcp", r.Addr(), time.Second)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
			return err
		}
		if _, err := fmt.Fprint(conn, "INFO server\r\n"); err != nil {
			return err
		}
		lines := bufio.NewScanner(conn)
		for lines.Scan() {
			if id, ok := strings.CutPrefix(lines.Text(), "process_id:"); ok {
				if id == strconv.Itoa(cmd.Process.Pid) {
					return nil
				}
				return fmt.Errorf("the port belongs to process %s", id)
			}
			if strings.HasPrefix(lines.Text(), "-") {
				break // an error reply has one line
			}
		}
		return fmt.Errorf("INFO names no process_id")
	}
}

// freePort gives a TCP port on loopback that nobody listens on, from below the range that kernels hand out to
// outgoing connections: none of those can take it while the server is down.
func freePort() (int, error) {
	var err error
	for range 50 {
		port := 20000 + rand.IntN(10000)
		var l net.Listener
		if l, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return port, l.Close()
		}
	}
	return 0, err
}
