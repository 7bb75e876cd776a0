//go:build unix && !linux

package instance

import "golang.org/x/sys/unix"

// NoCoreDumps keeps the memory of this process, with its secrets, from being
// written to disk when it dies. Call it before anything secret is read.
func NoCoreDumps() error { return unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}) }
