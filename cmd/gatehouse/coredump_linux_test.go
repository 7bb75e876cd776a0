package main_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"testing"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
)

// nobody is the user that the server runs as where the tests run as root.
const nobody = 65534

// A running server leaves no core dump, and no other process of its user reads
// its memory: /proc says so of the real process.
func TestNoCoreDumps(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "gatehouse-coredump-") // not t.TempDir, which is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	own, data := filepath.Join(dir, "gatehouse"), filepath.Join(dir, "data")
	code, err := os.ReadFile(program(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(own, code, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	uid := os.Geteuid()
	if uid == 0 {
		uid = nobody
		for path, mode := range map[string]os.FileMode{dir: 0o755, own: 0o755} {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chown(data, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	for _, command := range []string{"serve", "dev"} {
		t.Run(command, func(t *testing.T) {
			cmd := exec.Command(own, command)
			cmd.Env = []string{"GATEHOUSE_ADDR=127.0.0.1:0", "GATEHOUSE_DATA=" + filepath.Join(data, command), "GOTRACEBACK=crash",
				"JWT_SECRET=" + gatehousetest.JWTSecret, "ENCRYPTION_KEY=" + gatehousetest.EncryptionKey}
			if os.Geteuid() == 0 {
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
			}
			if err := os.MkdirAll(filepath.Join(data, command), 0o700); err != nil {
				t.Fatal(err)
			}
			if os.Geteuid() == 0 {
				if err := os.Chown(filepath.Join(data, command), nobody, nobody); err != nil {
					t.Fatal(err)
				}
			}
			said, err := cmd.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
			if _, err := said.Read(make([]byte, 1)); err != nil { // it logs: it is past its start
				t.Fatal(err)
			}
			proc := fmt.Sprintf("/proc/%d/", cmd.Process.Pid)
			limits, err := os.ReadFile(proc + "limits")
			if err != nil || !regexp.MustCompile(`(?m)^Max core file size +0 +0 `).Match(limits) {
				t.Errorf("a core file may be written: %s, %v", bytes.TrimSpace(limits), err)
			}
			for _, name := range []string{"mem", "environ", "maps"} { // of a process that is not dumpable these are root's
				info, err := os.Stat(proc + name)
				if err != nil {
					t.Fatal(err)
				}
				if owner := info.Sys().(*syscall.Stat_t).Uid; owner != 0 {
					t.Errorf("%s%s is user %s's, who runs the server as %d", proc, name, strconv.Itoa(int(owner)), uid)
				}
			}
		})
	}
}
