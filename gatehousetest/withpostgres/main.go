// Withpostgres starts a private PostgreSQL, runs a command that finds its URL in GATEHOUSE_TEST_POSTGRES, stops the
// server and ends with the command's exit code. It lets the tests of many packages share one server:
//
//	go run ./gatehousetest/withpostgres go test ./...
//
// Where the variable is set already, the command simply runs.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: withpostgres COMMAND [ARGUMENT...]")
		os.Exit(2)
	}
	code, err := run(os.Args[1], os.Args[2:]...)
	if err != nil {
		fmt.Fprintln(os.Stderr, "withpostgres:", err)
	}
	os.Exit(code)
}

func run(name string, args ...string) (int, error) {
	// An interrupt reaches the command too; it ends, and then so do we, with the server stopped.
	signal.Notify(make(chan os.Signal, 1), os.Interrupt, syscall.SIGTERM)
	cmd := exec.Command(name, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if os.Getenv(gatehousetest.PostgresEnv) == "" {
		server, err := gatehousetest.StartPostgres()
		if err != nil {
			return 1, err
		}
		defer server.Stop()
		cmd.Env = append(os.Environ(), gatehousetest.PostgresEnv+"="+server.URL)
	}
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil // -1 where a signal ended it
	}
	if err != nil {
		return 1, err
	}
	return 0, nil
}
