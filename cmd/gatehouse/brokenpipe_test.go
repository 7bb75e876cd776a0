package main_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/auth"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
)

// piped starts a server whose standard output and standard error are one pipe, and
// gives its addresses and the pipe's end that is read.
func piped(t *testing.T, cmd *exec.Cmd, environ []string) (address, metrics string, log *os.File) {
	t.Helper()
	log, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Env, cmd.Stdout, cmd.Stderr = append(environ, "GATEHOUSE_METRICS_ADDR=127.0.0.1:0"), w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait(); _ = log.Close() }) // it has ended where the test passes
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(log)
	for metrics == "" && lines.Scan() {
		var line struct{ Msg, Address string }
		_ = json.Unmarshal(lines.Bytes(), &line)
		switch line.Msg {
		case "listening":
			address = line.Address
		case "listening also":
			metrics = line.Address
		}
	}
	if metrics == "" {
		t.Fatal("the server did not start")
	}
	return address, metrics, log
}

// exitCode waits for the end of cmd, at most ten seconds.
func exitCode(t *testing.T, cmd *exec.Cmd) int {
	t.Helper()
	kill := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode()
}

// A server goes on when nobody reads what it logs and prints, tells that checkpoints
// do not go out, and ends in order when its terminal is closed.
func TestServerWithoutAReader(t *testing.T) {
	t.Parallel()
	program := program(t)
	environ := []string{"GATEHOUSE_DATA=" + t.TempDir(), "GATEHOUSE_ADDR=127.0.0.1:0", "JWT_SECRET=" + gatehousetest.JWTSecret,
		"ENCRYPTION_KEY=" + gatehousetest.EncryptionKey, "ORGANIZATIONS_FROM_TOKENS=true", "AUDIT_CHECKPOINTS=stdout", "AUDIT_CHECKPOINT_EVERY=1s"}
	// The tests may have been started with SIGHUP ignored (nohup), which a program would inherit.
	handled := make(chan os.Signal, 1)
	signal.Notify(handled, syscall.SIGHUP)
	defer signal.Stop(handled)
	server := exec.Command(program, "serve")
	address, metrics, log := piped(t, server, environ)
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}

	caller := access.NewCaller("acme", access.User, "u_1", access.Viewer)
	token, err := auth.Sign([]byte(gatehousetest.JWTSecret), caller, "", "", time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	get := func(method, url string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatalf("the server does not answer: %v", err)
		}
		defer func() { _ = answer.Body.Close() }()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(body)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if status, _ := get(http.MethodDelete, address+"/api/members/u_2"); status != http.StatusForbidden {
			t.Fatalf("a viewer deletes a member: %d", status)
		}
		if _, all := get(http.MethodGet, metrics+"/metrics"); strings.Contains(all, "\ngatehouse_audit_checkpoint_failing 1\n") {
			break
		}
		if time.Now().After(end) {
			t.Fatal("a checkpoint that nobody read is not told as failed")
		}
	}
	if err := server.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if code := exitCode(t, server); code != 0 {
		t.Errorf("ended by SIGHUP with %d", code)
	}
	export := exec.Command(program, "audit", "export", "--org", "acme", "--action", "access.deny")
	export.Env = environ
	if out, err := export.Output(); err != nil || !strings.Contains(string(out), "permission_denied") {
		t.Errorf("the trail has no denial: %s, %v", out, err)
	}

	// What was started to outlive its terminal does.
	server = exec.Command("/bin/sh", "-c", `trap '' HUP; exec "$0" serve`, program)
	address, _, log = piped(t, server, environ)
	go func() { _, _ = io.Copy(io.Discard, log) }()
	if err := server.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond)
	if status, _ := get(http.MethodGet, address+"/readyz"); status != http.StatusOK {
		t.Errorf("after a SIGHUP that was ignored: %d", status)
	}
	if err := server.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := exitCode(t, server); code != 0 {
		t.Errorf("ended by SIGTERM with %d", code)
	}
}

// An export that nobody reads to its end says nothing, fails, and is in the trail as partial.
func TestExportWithoutAReader(t *testing.T) {
	t.Parallel()
	program := program(t)
	environ := []string{"GATEHOUSE_DATA=" + t.TempDir(), "GATEHOUSE_ADDR=127.0.0.1:0", "JWT_SECRET=" + gatehousetest.JWTSecret,
		"ENCRYPTION_KEY=" + gatehousetest.EncryptionKey}
	server := exec.Command(program, "serve") // makes the database
	_, _, log := piped(t, server, environ)
	go func() { _, _ = io.Copy(io.Discard, log) }()
	run := func(out io.Writer, args ...string) (int, string) {
		cmd := exec.Command(program, args...)
		var told strings.Builder
		cmd.Env, cmd.Stdout, cmd.Stderr = environ, out, &told
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return exitCode(t, cmd), told.String()
	}
	if code, told := run(nil, "org", "create", "acme"); code != 0 {
		t.Fatal(told)
	}
	r, nobody, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nobody.Close() }()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"audit", "export", "--org", "acme"}, {"org", "list"}} {
		if code, told := run(nobody, args...); code != 1 || told != "" {
			t.Errorf("%v without a reader: exit %d, %q", args, code, told)
		}
	}
	var out strings.Builder
	if code, told := run(&out, "audit", "export", "--org", "acme", "--action", "audit.export", "--manifest", os.DevNull); code != 0 {
		t.Fatal(told)
	}
	var outcomes []string
	for line := range strings.Lines(out.String()) {
		var e struct{ Reason, Outcome string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		outcomes = append(outcomes, e.Reason+" "+e.Outcome)
	}
	// The newest first; the export that reads them may find its own beginning.
	if all := strings.Join(outcomes, ", "); !strings.HasSuffix(all, "export_ended partial, export_begun success") {
		t.Errorf("the events of the export: %s", all)
	}
}
