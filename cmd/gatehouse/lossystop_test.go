package main_test

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
)

// TestStopThatLosesEvents stops a server whose database is away while an event waits
// for it: the stop says last what it lost, and exits with 1.
func TestStopThatLosesEvents(t *testing.T) {
	t.Parallel()
	link := gatehousetest.NewLink(t, gatehousetest.Postgres(t))
	name := filepath.Join(t.TempDir(), "log")
	log, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	cmd := exec.Command(program(t), "serve")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "GATEHOUSE_ADDR=127.0.0.1:0", "GATEHOUSE_ENV=test", "GATEHOUSE_DATA=" + t.TempDir(),
		"JWT_SECRET=" + gatehousetest.JWTSecret, "ENCRYPTION_KEY=" + gatehousetest.EncryptionKey, "DATABASE_URL=" + link.URL, "GATEHOUSE_STOP_GRACE=1s"}
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // it may be dead
	follow, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = follow.Close() })
	text := ""
	address := regexp.MustCompile(`"msg":"listening".*"address":"([^"]*)"`)
	for end := time.Now().Add(30 * time.Second); !address.MatchString(text); time.Sleep(20 * time.Millisecond) {
		more, err := io.ReadAll(follow)
		if text += string(more); err != nil || time.Now().After(end) {
			t.Fatalf("the server did not start: %v\n%s", err, text)
		}
	}
	link.Cut()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address.FindStringSubmatch(text)[1]+"/api/members", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer nonsense")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if _ = answer.Body.Close(); answer.StatusCode != http.StatusUnauthorized {
		t.Fatalf("a denial: %d", answer.StatusCode)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("the server does not stop")
	}
	all, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(all)), "\n")
	last := lines[len(lines)-1]
	if code := cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(last, "the stop lost what could not be written: audit events: 1; records of usage: 0") {
		t.Errorf("exit %d, and the last line is %s", code, last)
	}
	if strings.Contains(string(all), `"msg":"stopped"`) {
		t.Errorf("it is said that it stopped in order:\n%s", all)
	}
}
