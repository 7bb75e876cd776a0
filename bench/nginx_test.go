package bench

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// startNginx runs nginx as a plain proxy in front of upstream, and gives it as a
// process that answers the questions of a role.
func startNginx(b *testing.B, upstream string) *process {
	b.Helper()
	program, err := exec.LookPath("nginx")
	if err != nil {
		program = "/usr/sbin/nginx"
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	address := free.Addr().String()
	_ = free.Close()
	dir := b.TempDir()
	var config strings.Builder
	_, _ = fmt.Fprintf(&config, "daemon off; master_process off; pid %[1]s/pid; error_log %[1]s/error.log;\nevents { worker_connections 4096; }\n"+
		"http {\naccess_log off; keepalive_requests 10000000;\nupstream u { server %[2]s; keepalive 256; keepalive_requests 10000000; }\n"+
		"server { listen %[3]s; location / { proxy_pass http://u; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_buffering on; } }\n", dir, upstream, address)
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		_, _ = fmt.Fprintf(&config, "%s_temp_path %s/%s;\n", kind, dir, kind)
	}
	path := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(path, []byte(config.String()+"}\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(program, "-e", filepath.Join(dir, "error.log"), "-p", dir, "-c", path)
	if err := cmd.Start(); err != nil {
		b.Fatalf("nginx is needed in PATH or /usr/sbin (tools/setup-tests.sh installs it): %v", err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
			break
		}
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(filepath.Join(dir, "error.log"))
			b.Fatalf("nginx does not listen: %v\n%s", err, log)
		}
	}
	// It has no pipe to ask through: the kernel knows its processor time.
	in, asked := io.Pipe()
	answers, out := io.Pipe()
	b.Cleanup(func() { _ = asked.Close() })
	go func() {
		for lines := bufio.NewScanner(in); lines.Scan(); {
			n := int64(0)
			if lines.Text() == "cpu" {
				n = processorTimeOf(cmd.Process.Pid)
			}
			_, _ = fmt.Fprintln(out, n)
		}
	}()
	return &process{b: b, address: address, in: asked, out: bufio.NewReader(answers)}
}

// processorTimeOf gives the microseconds that a process has spent, by
// /proc/PID/stat, which counts in hundredths of a second.
func processorTimeOf(pid int) int64 {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return (user + system) * 10_000
}
