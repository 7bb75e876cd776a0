package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/signal"
	"syscall"
)

// untilStopped gives a context that ends at a signal that asks the program to stop.
// SIGHUP, which a terminal sends when it is closed, is one of them, unless the
// program was started to outlive that (nohup).
//
// From then on a pipe that nobody reads any more is an error of what is written to
// it, and no longer the end of the program: a server does not stop because its log
// has no reader, and a command writes its events first.
func untilStopped(ctx context.Context) (context.Context, context.CancelFunc) {
	signal.Ignore(syscall.SIGPIPE)
	stops := []os.Signal{syscall.SIGINT, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		stops = append(stops, syscall.SIGHUP)
	}
	return signal.NotifyContext(ctx, stops...)
}

// nobodyReads reports whether err is that standard output is a pipe whose reader has
// gone, as `| head` does when it has enough: nobody is to be told of that.
func nobodyReads(err error) bool {
	var written *fs.PathError
	return errors.As(err, &written) && written.Path == os.Stdout.Name() && errors.Is(written, syscall.EPIPE)
}
