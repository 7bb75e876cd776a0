package server_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// startNginx runs the configuration of docs/limits.md in front of an
// application, and gives its address.
func startNginx(t *testing.T, gatehouse, app string) string {
	t.Helper()
	program, err := exec.LookPath("nginx")
	if err != nil {
		if program, err = exec.LookPath("/usr/sbin/nginx"); err != nil {
			t.Fatal("nginx is needed and not in PATH or /usr/sbin; install it with: apt-get install nginx-light (or run tools/setup-tests.sh)")
		}
	}
	address := freeAddress(t)
	server := documentedConfig(t, "nginx", map[string]string{
		"127.0.0.1:80;":   address + ";",
		"127.0.0.1:8080/": strings.TrimPrefix(gatehouse, "http://") + "/",
		"127.0.0.1:3000;": strings.TrimPrefix(app, "http://") + ";",
	})
	dir := t.TempDir()
	config := fmt.Sprintf("daemon off; master_process off; worker_processes 1; pid %[1]s/pid; error_log %[1]s/error.log;\n"+
		"events {}\nhttp {\naccess_log off;\n", dir)
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		config += fmt.Sprintf("%s_temp_path %s/%s;\n", kind, dir, kind)
	}
	path := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(path, []byte(config+server+"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	startGateway(t, address, exec.Command(program, "-e", filepath.Join(dir, "error.log"), "-p", dir, "-c", path), filepath.Join(dir, "error.log"))
	return "http://" + address
}

// documentedConfig gives the configuration in docs/limits.md that is marked as of a
// language, with the addresses that it names replaced.
func documentedConfig(t *testing.T, language string, addresses map[string]string) string {
	t.Helper()
	document, err := os.ReadFile("../docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(document), "```"+language+"\n")
	text, _, ended := strings.Cut(rest, "```")
	if !found || !ended {
		t.Fatalf("docs/limits.md has no configuration of %s", language)
	}
	for from, to := range addresses {
		if strings.Count(text, from) != 1 {
			t.Fatalf("docs/limits.md does not name %s once", from)
		}
		text = strings.Replace(text, from, to, 1)
	}
	return text
}

func freeAddress(t *testing.T) string {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer free.Close()
	return free.Addr().String()
}

// startGateway starts a program for the time of the test and waits until it listens.
func startGateway(t *testing.T, address string, cmd *exec.Cmd, logFile string) {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(logFile)
			t.Fatalf("%s does not listen: %v\n%s", cmd.Path, err, log)
		}
	}
}

// A real nginx with the documented configuration lets pass what Gatehouse
// admits, and refuses the rest as Gatehouse does.
func TestNginx(t *testing.T) {
	var reached atomic.Int64
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reached.Add(1)
		fmt.Fprint(w, "served ", r.URL.Path)
	}))
	t.Cleanup(app.Close)
	s := instancetest.Serve(t, map[string]string{"CHAT_IP_LIMIT": "5/1h", "TRUSTED_PROXIES": "127.0.0.1"})
	as(t, s, "ops", "o", access.Operator).makePolicy(`{"effect":"block","service":"app","path":"admin/**","reason":"x"}`)
	c := as(t, s, "acme", "u", access.Developer)
	c.url = startNginx(t, s.URL, app.URL)

	nobody := anonymous(t, s)
	nobody.url = c.url
	if a := nobody.get("/messages"); a.Status != 401 {
		t.Errorf("without a token: %d %s", a.Status, a.Body)
	}
	if a := as2(c, as(t, s, "acme", "v", access.Viewer)).get("/messages"); a.Status != 403 {
		t.Errorf("without the permission: %d %s", a.Status, a.Body)
	}
	// Neither a path of the client's choice nor its address is believed.
	lies := []string{"X-Original-URI", "/harmless", "X-Forwarded-Uri", "/harmless", "X-Forwarded-For", "192.0.2.99"}
	for _, path := range []string{"/admin/users", "/adm%69n/users", "/admin//users", "/.//admin/users", "/x/../admin/users", "/admin;a=b/users", "/ADMIN/../admin/users?x=/y"} {
		if a := c.get(path, lies...); a.Status != 403 {
			t.Errorf("blocked %s: %d %s", path, a.Status, a.Body)
		}
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("%d refused requests reached the application", n)
	}
	for i := range 5 {
		a := c.do("POST", "/messages?n=1", `{"hello":"there"}`, lies...)
		if a.Status != 200 || a.Body != "served /messages" || !strings.Contains(a.Header.Get("RateLimit"), fmt.Sprintf(`"ip";r=%d;`, 4-i)) {
			t.Errorf("request %d: %d %s %v", i, a.Status, a.Body, a.Header)
		}
	}
	a := c.get("/messages", lies...)
	if a.Status != 429 || a.Header.Get("Retry-After") == "" || !strings.Contains(a.Header.Get("RateLimit"), `"ip";r=0;`) {
		t.Errorf("over the limit: %d %v %s", a.Status, a.Header, a.Body)
	}
	if n := reached.Load(); n != 5 {
		t.Errorf("%d requests reached the application, want 5", n)
	}
}

// as2 gives who's token at where's address.
func as2(where, who *client) *client {
	c := *where
	c.token = who.token
	return &c
}
