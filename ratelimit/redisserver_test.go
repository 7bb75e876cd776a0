package ratelimit_test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// redisServer is a real Redis of the test's own, on a free port of loopback and
// in a folder of its own.
type redisServer struct {
	t    testing.TB
	dir  string
	addr string
	args []string
	env  []string // beside that of this process
	cmd  *exec.Cmd
}

func startRedis(t testing.TB) *redisServer { return startRedisWith(t) }

func startRedisWith(t testing.TB, arguments ...string) *redisServer {
	t.Helper()
	return startRedisIn(t, nil, arguments...)
}

// startRedisIn is startRedisWith in an environment.
func startRedisIn(t testing.TB, env []string, arguments ...string) *redisServer {
	t.Helper()
	s := newRedisServer(t)
	s.env = env
	s.args = append(s.listen(), append([]string{"--save", "", "--appendonly", "no"}, arguments...)...)
	s.start()
	return s
}

// newRedisServer finds an address for a server that is not started yet.
func newRedisServer(t testing.TB) *redisServer {
	t.Helper()
	s := &redisServer{t: t, dir: t.TempDir()}
	for s.addr == "" {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if l.Addr().(*net.TCPAddr).Port < 55_000 { // a cluster's nodes listen 10,000 higher too
			s.addr = l.Addr().String()
		}
		_ = l.Close()
	}
	t.Cleanup(s.kill)
	return s
}

func (s *redisServer) listen() []string {
	host, port, _ := net.SplitHostPort(s.addr)
	return []string{"--bind", host, "--port", port, "--dir", s.dir}
}

func (s *redisServer) start() {
	s.t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		s.t.Fatal("these tests need redis-server in PATH: install Redis 5 or later")
	}
	s.cmd = exec.Command(path, s.args...)
	s.cmd.Env = append(os.Environ(), s.env...)
	s.cmd.Stderr = os.Stderr
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	for range 500 {
		if s.do("PING") == "+PONG" {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.t.Fatal("redis-server did not come up")
}

func (s *redisServer) kill() {
	if s.cmd != nil && s.cmd.ProcessState == nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	}
}

func (s *redisServer) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

func (s *redisServer) freeze() { s.signal(syscall.SIGSTOP) }
func (s *redisServer) thaw()   { s.signal(syscall.SIGCONT) }

// do sends one command on a connection of its own and returns the first line of
// the answer, "" if there is none.
func (s *redisServer) do(words ...string) string {
	conn, err := net.DialTimeout("tcp", s.addr, time.Second)
	if err != nil {
		return ""
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := fmt.Fprintln(conn, strings.Join(words, " ")); err != nil {
		return ""
	}
	line, _ := bufio.NewReader(conn).ReadString('\n')
	return strings.TrimSpace(line)
}

// commands is how many commands the server has processed so far.
func (s *redisServer) commands() int { return s.info("stats", "total_commands_processed:") }

// calls is how often a command was called so far.
func (s *redisServer) calls(command string) int {
	return s.info("commandstats", "cmdstat_"+command+":calls=")
}

// info is a number that follows some text in a section of INFO.
func (s *redisServer) info(section, text string) int {
	s.t.Helper()
	conn, err := net.DialTimeout("tcp", s.addr, time.Second)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	_, _ = fmt.Fprintln(conn, "INFO", section)
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		if count, ok := strings.CutPrefix(lines.Text(), text); ok {
			count, _, _ = strings.Cut(count, ",")
			n, err := strconv.Atoi(count)
			if err != nil {
				s.t.Fatal(err)
			}
			return n
		}
	}
	s.t.Fatalf("Redis does not say %s", text)
	return 0
}

func (s *redisServer) open(options ratelimit.RedisOptions) *ratelimit.Redis {
	return openRedis(s.t, s.addr, options)
}

func openRedis(t testing.TB, addr string, options ratelimit.RedisOptions) *ratelimit.Redis {
	r := ratelimit.OpenRedis(rueidis.ClientOption{InitAddress: []string{addr}}, options)
	t.Cleanup(r.Close)
	return r
}
