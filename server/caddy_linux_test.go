package server_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// startCaddy runs the configuration of docs/limits.md in front of an application,
// and gives its address.
func startCaddy(t *testing.T, gatehouse, app string) string {
	t.Helper()
	program, err := exec.LookPath("caddy")
	if err != nil {
		t.Skip("caddy is not in PATH; install it with: apt-get install caddy (or run tools/setup-tests.sh)")
	}
	address, dir := freeAddress(t), t.TempDir()
	site := documentedConfig(t, "caddyfile", map[string]string{
		"example.com {":          "http://" + address + " {\n\tbind 127.0.0.1",
		"127.0.0.1:8080 {":       strings.TrimPrefix(gatehouse, "http://") + " {",
		"proxy 127.0.0.1:3000\n": "proxy " + strings.TrimPrefix(app, "http://") + "\n",
	})
	path, logFile := filepath.Join(dir, "Caddyfile"), filepath.Join(dir, "log")
	if err := os.WriteFile(path, []byte("{\n\tadmin off\n}\n"+site), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(logFile)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(program, "run", "--config", path, "--adapter", "caddyfile")
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	cmd.Stdout, cmd.Stderr = log, log
	startGateway(t, address, cmd, logFile)
	return "http://" + address
}

// A real Caddy with the documented configuration lets pass what Gatehouse admits,
// and hands on what it refuses.
func TestCaddy(t *testing.T) {
	var reached atomic.Int64
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reached.Add(1)
		fmt.Fprint(w, "served ", r.URL.Path)
	}))
	t.Cleanup(app.Close)
	s := instancetest.Serve(t, map[string]string{"CHAT_IP_LIMIT": "5/1h", "TRUSTED_PROXIES": "127.0.0.1"})
	as(t, s, "ops", "o", access.Operator).makePolicy(`{"effect":"block","service":"app","path":"admin/**","reason":"x"}`)
	c := as(t, s, "acme", "u", access.Developer)
	c.url = startCaddy(t, s.URL, app.URL)

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
	for _, path := range []string{"/admin/users", "/adm%69n/users", "/admin//users", "/.//admin/users", "/x/../admin/users", "/admin;a=b/users"} {
		if a := c.get(path, lies...); a.Status != 403 || !strings.Contains(a.Body, `"code":"blocked"`) {
			t.Errorf("blocked %s: %d %s", path, a.Status, a.Body)
		}
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("%d refused requests reached the application", n)
	}
	for i := range 5 {
		if a := c.do("POST", "/messages?n=1", `{"hello":"there"}`, lies...); a.Status != 200 || a.Body != "served /messages" {
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
