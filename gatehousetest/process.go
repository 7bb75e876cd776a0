package gatehousetest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// startTimeout bounds how long a server may take to answer for the first time; a loaded machine needs seconds at most.
const startTimeout = 30 * time.Second

// process is a server that this test process started. It does not outlive it: on Linux the kernel signals it when the
// parent dies, however it dies, and a watching shell removes its directory (elsewhere the shell does both).
type process struct {
	cmd    *exec.Cmd
	log    string        // file that holds its output
	exited chan struct{} // closed once it has been waited for
	err    error         // what Wait gave; read after exited
}

// startProcess starts cmd with its output in the file log. death is the signal that ends it at once and cleanly
// enough to leave no child of its own behind.
func startProcess(cmd *exec.Cmd, log string, death syscall.Signal) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = out.Close() }() // the child has its own copy
	cmd.Stdout, cmd.Stderr = out, out
	dieWithParent(cmd, death)
	p := &process{cmd: cmd, log: log, exited: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel counts the death of the thread that started the child as the death of its parent, so that
		// thread waits with it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.exited)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// ready calls try until it gives nil, and fails when the process ends first or [startTimeout] has passed.
func (p *process) ready(try func() error) error {
	deadline := time.Now().Add(startTimeout)
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-p.exited:
			return fmt.Errorf("it ended at once (%w); it wrote:\n%s", errors.Join(p.err, err), p.tail())
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("no answer in %s (%w); it wrote:\n%s", startTimeout, err, p.tail())
		}
	}
}

// stop sends sig and waits until the process is gone; it kills what does not go within ten seconds.
func (p *process) stop(sig syscall.Signal) {
	_ = p.cmd.Process.Signal(sig) // an error says that it is gone already
	select {
	case <-p.exited:
	case <-time.After(10 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
}

// tail is the end of what the process wrote, for an error text.
func (p *process) tail() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	if len(b) > 2000 {
		b = b[len(b)-2000:]
	}
	return strings.TrimSpace(string(b))
}

// removeAfterExit removes dir once this process has ended, and stops the server that pidFile names first. A shell
// waits for the end of a pipe that only this process holds open, which works for a panic, os.Exit and SIGKILL alike.
// It gives the function that lets the shell do so now and waits for it.
func removeAfterExit(dir, pidFile string, sig syscall.Signal) (func(), error) {
	const script = `trap '' INT TERM HUP
read -r _
read -r pid < "$1/$2" && kill -"$3" "$pid"
n=0
while kill -0 "$pid" && [ "$n" -lt 100 ]; do sleep 0.1; n=$((n + 1)); done
rm -rf -- "$1"`
	cmd := exec.Command("/bin/sh", "-c", script, "sh", dir, pidFile, fmt.Sprint(int(sig)))
	cmd.Dir = "/"
	w, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() {
		_ = w.Close()
		_ = cmd.Wait() // its exit status only says whether the server was gone already
	}, nil
}

// program finds name in PATH or in one of the further directories (globs; the last match wins, which is the newest
// version where the path holds one).
func program(name string, further ...string) (string, bool) {
	if path, err := exec.LookPath(name); err == nil {
		return path, true
	}
	for _, pattern := range further {
		matches, _ := filepath.Glob(filepath.Join(pattern, name)) // the patterns are constants
		for i := len(matches) - 1; i >= 0; i-- {
			if path, err := exec.LookPath(matches[i]); err == nil {
				return path, true
			}
		}
	}
	return "", false
}
