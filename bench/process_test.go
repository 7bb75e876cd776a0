package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/instance"
	"github.com/gatehouse-io/gatehouse/store"
)

// The benchmark of the whole server runs what it compares in processes of their
// own: this test binary, started again with a role. The processor time of each is
// then its own.
const (
	roleVariable     = "GATEHOUSE_BENCH_ROLE"
	upstreamVariable = "GATEHOUSE_BENCH_UPSTREAM"
	profileVariable  = "GATEHOUSE_BENCH_PROFILE"
)

// TestMain plays the role that the environment names, or runs the benchmarks.
func TestMain(m *testing.M) {
	play, ok := map[string]func() error{
		"upstream": playUpstream, "bare": playBare, "gatehouse": playGatehouse,
	}[os.Getenv(roleVariable)]
	if !ok {
		os.Exit(m.Run())
	}
	if err := play(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// A role says where it listens, in one line, and then answers one line with one
// line until its input ends: "cpu" with the microseconds of processor time spent,
// "rss" with the KiB of memory that it holds, "least" with those without any garbage, "settle" with nothing once no work is left over, "events" with how many events
// are on disk.
type role struct {
	settle func(context.Context) error
	events func(context.Context) (int, error)
}

func (r role) play(address string) error {
	fmt.Println(address)
	ctx := context.Background()
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var answer int64
		var err error
		switch in.Text() {
		case "cpu":
			answer, err = processorTime()
		case "rss":
			answer, err = residentMemory()
		case "least":
			debug.FreeOSMemory()
			answer, err = residentMemory()
		case "settle":
			if r.settle != nil {
				err = r.settle(ctx)
			}
		case "events":
			var n int
			n, err = r.events(ctx)
			answer = int64(n)
		}
		if err != nil {
			return err
		}
		fmt.Println(answer)
	}
	return nil
}

func processorTime() (int64, error) {
	var u syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return (u.Utime.Nano() + u.Stime.Nano()) / 1000, err
}

// residentMemory gives VmRSS in KiB.
func residentMemory() (int64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	number, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	return strconv.ParseInt(number, 10, 64)
}

// playHandler serves a handler with net/http's own server.
func playHandler(h http.Handler) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() { _ = http.Serve(l, h) }() // ends with the process
	return role{}.play(l.Addr().String())
}

// playGatehouse runs an instance as the command line does, configured by the
// environment. It logs to standard error.
func playGatehouse() error {
	environ := make(map[string]string)
	for _, variable := range os.Environ() {
		name, value, _ := strings.Cut(variable, "=")
		environ[name] = value
	}
	config, err := instance.FromEnvironment(environ)
	if err != nil {
		return err
	}
	instance.Tune()
	in, err := instance.Open(context.Background(), config, os.Stderr)
	if err != nil {
		return err
	}
	listeners, err := in.Listen()
	if err != nil {
		return err
	}
	endProfile, err := profile(environ[profileVariable])
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	served := make(chan error, 1)
	go func() { served <- in.Serve(ctx, listeners) }()
	err = role{
		settle: in.Audit.Flush,
		events: func(ctx context.Context) (n int, err error) {
			err = in.DB.View(ctx, access.InstanceOrganization, func(tx *store.Tx) error {
				return tx.Row(ctx, `SELECT count(*) FROM events WHERE action = $1`, "chat.request").Scan(&n)
			})
			return n, err
		},
	}.play(listeners[0].Addr().String())
	endProfile()
	stop()
	return errors.Join(err, <-served, in.Close())
}

// profile writes a CPU profile and allocations to path until the function that it
// gives is called; with no path it does nothing.
func profile(path string) (func(), error) {
	if path == "" {
		return func() {}, nil
	}
	cpu, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	allocs, err := os.Create(path + ".allocs")
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(cpu); err != nil {
		return nil, err
	}
	return func() {
		pprof.StopCPUProfile()
		if err := pprof.Lookup("allocs").WriteTo(allocs, 0); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		_ = cpu.Close()
		_ = allocs.Close()
	}, nil
}

// process is a role that runs.
type process struct {
	b       *testing.B
	address string
	in      io.Writer
	out     *bufio.Reader
	log     string
}

// start runs a role with the variables, and nothing else but PATH and the variable
// that asks for a profile, in its environment. It ends with the benchmark.
func start(b *testing.B, name string, variables map[string]string) *process {
	b.Helper()
	binary, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(binary)
	cmd.Env = []string{roleVariable + "=" + name, "PATH=" + os.Getenv("PATH"), profileVariable + "=" + os.Getenv(profileVariable)}
	for variable, value := range variables {
		cmd.Env = append(cmd.Env, variable+"="+value)
	}
	p := &process{b: b, log: filepath.Join(b.TempDir(), name+".log")}
	log, err := os.Create(p.log)
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close() // the process has its own
	cmd.Stderr = log
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = in.Close() // it ends when its input does
		kill := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		if err := cmd.Wait(); err != nil {
			b.Errorf("%s: %v", name, err)
		}
	})
	p.in, p.out = in, bufio.NewReader(out)
	p.address = p.line()
	return p
}

// ask gives the answer to a line.
func (p *process) ask(question string) int64 {
	p.b.Helper()
	if _, err := io.WriteString(p.in, question+"\n"); err != nil {
		p.b.Fatal(err)
	}
	n, err := strconv.ParseInt(p.line(), 10, 64)
	if err != nil {
		p.b.Fatal(err)
	}
	return n
}

func (p *process) line() string {
	p.b.Helper()
	line, err := p.out.ReadString('\n')
	if err != nil {
		wrote, _ := os.ReadFile(p.log)
		p.b.Fatalf("%v; it wrote:\n%s", err, wrote[max(0, len(wrote)-2000):])
	}
	return strings.TrimSpace(line)
}
